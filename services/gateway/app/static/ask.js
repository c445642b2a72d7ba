// A conversation about documents that shows each step of each answer.

import { answerNodes, promptText, refusalNodes } from "./answer.js";
import { call, element } from "./api.js";
import { onDrop } from "./dropped.js";
import { events } from "./events.js";
import { Steps } from "./steps.js";
import { VisitorDocuments } from "./visitor.js";

const COLLECTION = "memes";
const SAMPLES = [
  "Can you explain to me what a dank meme is?",
  "Where was the house of Disaster Girl burned?",
  "Which dog became famous for a sideways look?",
  "Who posed for Hide the Pain Harold?",
];
const REMEMBERED = 6; // messages of the conversation that a question is sent with
const $ = (id) => document.getElementById(id);
const history = [];
const visitor = new VisitorDocuments();
let running = null;

const collections = () => visitor.documents.length ? [COLLECTION, visitor.collection] : [COLLECTION];

function button(text, onclick, properties = {}) {
  return element("button", text, { type: "button", onclick, ...properties });
}

function setStarted(isStarted) {
  $("welcome").hidden = isStarted;
  $("title").classList.toggle("hidden", isStarted); // still a heading for screen readers
  $("clear").hidden = !isStarted;
}

// Shows a turn of the conversation; returns what is filled in while it is answered.
function addTurn(question) {
  const turn = element("article", "", { className: "turn" });
  const steps = new Steps();
  const answer = element("div", "", { className: "answer writing" });
  const rest = element("div");
  turn.append(element("p", question, { className: "asked" }), steps.node, answer, rest);
  $("turns").append(turn);
  setStarted(true);
  turn.scrollIntoView({ block: "start", behavior: "smooth" });
  return { turn, steps, answer, rest };
}

function earlierQuestion({ decision }) {
  if (decision.kind !== "DECISION_KIND_SEMANTIC" || !decision.entry?.prompt) return [];
  const sure = decision.probability_correct;
  const text = element("p", "", { className: "earlier" });
  text.append("This was the answer to ", element("strong", `“${decision.entry.prompt}”`), ". ",
    element("span", `Their cosine is ${decision.similarity.toFixed(2)}${sure == null ? "" : `, and ${Math.round(100 * sure)} of 100 such answers are right`}.`, { className: "meta" }));
  return [text];
}

function thumbs({ decision }, question) {
  if (!decision.entry?.id) return [];
  const said = element("span", "", { className: "meta", role: "status" });
  const judge = (correct) => async () => {
    try {
      const body = JSON.stringify({ entry_id: decision.entry.id, correct, prompt: question });
      await call("/v1/feedback", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      said.textContent = correct ? "Thank you." : "Thank you. The cache serves it less readily now.";
    } catch (error) {
      said.textContent = error.message;
    }
  };
  return [button("Right", judge(true)), button("Wrong", judge(false)), said];
}

// The prompt is not sent again for an answer of the cache, but it is what the answer was made from.
function promptTool(reply, question, rest) {
  if (!reply.passages.length) return [];
  const shown = element("pre", promptText(reply, question), { className: "prompt", hidden: true, tabIndex: 0 });
  rest.append(shown);
  const toggle = button("Show the prompt", () => {
    shown.hidden = !shown.hidden;
    toggle.textContent = shown.hidden ? "Show the prompt" : "Hide the prompt";
  });
  return [toggle];
}

function showReply(reply, question, { steps, answer, rest }, asked) {
  steps.finish(reply);
  answer.classList.remove("writing");
  const tools = element("div", "", { className: "tools" });
  if (reply.refusal) {
    answer.replaceChildren(...refusalNodes(reply));
  } else {
    const { nodes, sources } = answerNodes(reply, asked);
    answer.replaceChildren(...nodes);
    if (sources.length) rest.append(element("p", `Sources: ${sources.join(", ")}. Click a sentence to see its source.`, { className: "meta" }));
  }
  rest.prepend(...earlierQuestion(reply));
  rest.append(tools);
  tools.append(...thumbs(reply, question), ...promptTool(reply, question, rest), element("small", `${Math.round(reply.timings.total * 1000) || "under 1"} ms in total`));
}

async function ask(question) {
  running?.abort();
  const abort = running = new AbortController();
  const turn = addTurn(question);
  const asked = collections();
  $("send").hidden = true;
  $("cancel").hidden = false;
  let text = "";
  try {
    const body = {
      collection: asked[0], additional_collections: asked.slice(1), question,
      history: history.slice(-REMEMBERED),
    };
    let final = null;
    for await (const { name, data } of events("/v1/ask", body, abort.signal)) {
      if (name === "retrieval") turn.steps.retrieved(data.passages.length);
      if (name === "delta") turn.answer.textContent = text += data;
      if (name === "error") throw new Error(data.message);
      if (name === "final") final = data;
    }
    if (!final) throw new Error("The answer was cut off. Ask again.");
    showReply(final, question, turn, asked);
    history.push({ role: "user", content: question }, { role: "assistant", content: final.answer || "The documents do not answer that." });
  } catch (error) {
    turn.steps.fail();
    turn.answer.classList.remove("writing");
    const stopped = error.name === "AbortError";
    turn.rest.append(element("p", stopped ? "Stopped." : error.message, { className: stopped ? "meta" : "error" }));
    if (!stopped) turn.rest.append(button("Try again", () => { turn.turn.remove(); ask(question); }));
  } finally {
    if (running === abort) {
      running = null;
      $("send").hidden = false;
      $("cancel").hidden = true;
    }
  }
}

function submit() {
  const question = $("question").value.trim();
  if (!question) return;
  $("question").value = "";
  ask(question);
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
$("cancel").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  history.length = 0;
  $("turns").replaceChildren();
  setStarted(false);
  $("question").focus();
});
$("samples").append(...SAMPLES.map((text) => button(text, () => ask(text))));

onDrop((files) => visitor.add(files));
