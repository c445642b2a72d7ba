// Sends photos to /v1/twins, questions to /v1/ask, and dropped documents to /v1/documents.
// Nothing is stored in the browser, except an API key for the session.

import { call, element, loadPicture } from "./api.js";

const $ = (id) => document.getElementById(id);
let photo = null;
let search = 0;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

const pictureOf = (twin) => `/v1/twins/${encodeURIComponent(twin.id)}/picture`;
const score = (twin) => `similarity ${twin.similarity.toFixed(3)}, distance ${twin.distance.toFixed(3)}`;

function show(twins) {
  const [best, ...others] = twins;
  $("twin").hidden = false;
  loadPicture($("twin"), pictureOf(best));
  $("twin").alt = best.title;
  $("twin-name").replaceChildren(element("strong", best.title), element("br"), score(best));
  $("others").replaceChildren(...others.map((twin) => {
    const item = element("li");
    const picture = element("img", "", { alt: "" });
    loadPicture(picture, pictureOf(twin));
    item.append(
      picture,
      element("div", twin.title),
      element("div", twin.similarity.toFixed(3), { className: "meta" }),
    );
    return item;
  }));
}

async function find() {
  if (!photo) return;
  const mine = ++search;
  const metric = document.querySelector("[name=metric]:checked").value;
  say("Searching …");
  try {
    const { body } = await call(`/v1/twins?metric=${metric}&limit=6`, {
      method: "POST",
      headers: { "Content-Type": photo.type || "application/octet-stream" },
      body: photo,
    });
    if (mine !== search) return;
    if (!body.twins.length) return say("No memes are loaded yet. Run make up, or memetwin load FOLDER.");
    show(body.twins);
    const milliseconds = (body.timings.total * 1000).toFixed(0);
    say(`Found by ${metric} in ${milliseconds} ms. Your photo was not stored.`);
  } catch (error) {
    if (mine === search) say(error.message, true);
  }
}

function take(blob) {
  photo = blob;
  URL.revokeObjectURL($("photo").src);
  $("photo").src = URL.createObjectURL(blob);
  $("photo").hidden = false;
  find();
}

function stopCamera() {
  $("video").srcObject?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
  $("video").hidden = $("shoot").hidden = true;
}

$("file").addEventListener("change", (event) => {
  stopCamera();
  if (event.target.files[0]) take(event.target.files[0]);
});
$("metric").addEventListener("change", find);

$("camera").addEventListener("click", async () => {
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    $("video").hidden = $("shoot").hidden = false;
    $("photo").hidden = true;
  } catch {
    say("The browser has no access to a camera. Choose a photo instead.", true);
  }
});

$("shoot").addEventListener("click", () => {
  const { videoWidth: width, videoHeight: height } = $("video");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  stopCamera();
  canvas.toBlob(take, "image/jpeg", 0.9);
});

const COLLECTION = "memes";
const DOCUMENT = /\.(txt|text|md|markdown|html?|pdf)$/i;

async function takeIn(files) {
  const form = new FormData();
  form.append("collection", COLLECTION);
  for (const file of files) form.append("file", file);
  const told = (receipt) => `${receipt.id}: ${receipt.reason ? receipt.message : `${receipt.chunks} ${receipt.chunks === 1 ? "passage" : "passages"} stored`}`;
  $("answer").replaceChildren(element("p", "Reading …", { className: "meta" }));
  const show = (receipts) => $("answer").replaceChildren(...receipts.map((receipt) =>
    element("p", told(receipt), { className: receipt.reason ? "error" : "" })));
  try {
    const { body } = await call("/v1/documents", { method: "POST", body: form });
    show(body.receipts);
  } catch (error) {
    if (error.body?.receipts) show(error.body.receipts); // every document has failed
    else $("answer").replaceChildren(element("p", error.message, { className: "error" }));
  }
}

for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
}
addEventListener("dragleave", () => document.body.classList.remove("dragging"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const files = [...event.dataTransfer.files];
  const documents = files.filter((file) => DOCUMENT.test(file.name));
  if (documents.length) takeIn(documents);
  else if (files[0]) take(files[0]);
});

const ORIGIN = {
  "hit-exact": "from the cache, the same question",
  "hit-semantic": "from the cache, a question that means the same",
  miss: "new answer",
};

function answerNodes({ body, headers }, seconds) {
  const origin = ORIGIN[headers.get("X-Memetwin-Cache")] || "new answer";
  const nodes = [];
  if (body.refusal) {
    const best = body.refusal.best_score.toFixed(2);
    const why = body.refusal.reason === "REFUSAL_REASON_UNREADABLE"
      ? "The text model cannot read this question. Ask it in another language."
      : `No document answers that. The best passage scores ${best}.`;
    nodes.push(element("p", why));
  } else if (body.writer === "WRITER_EXTRACTIVE") {
    nodes.push(element("p", "No language model is set; these sentences answer best:"));
    nodes.push(...body.citations.map((citation) => {
      const quote = element("blockquote", citation.quote);
      quote.append(element("div", citation.document, { className: "meta" }));
      return quote;
    }));
  } else {
    nodes.push(element("p", body.answer));
    const sources = [...new Set(body.citations.map((citation) => citation.document))];
    if (sources.length) nodes.push(element("p", `Sources: ${sources.join(", ")}`, { className: "meta" }));
  }
  nodes.push(element("span", `${origin}, ${(seconds * 1000).toFixed(0)} ms`, { className: "badge" }));
  return nodes;
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const started = performance.now();
  $("answer").replaceChildren(element("p", "Searching …", { className: "meta" }));
  try {
    const reply = await call("/v1/ask", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ collection: COLLECTION, question: $("question").value }),
    });
    $("answer").replaceChildren(...answerNodes(reply, (performance.now() - started) / 1000));
  } catch (error) {
    $("answer").replaceChildren(element("p", error.message, { className: "error" }));
  }
});
