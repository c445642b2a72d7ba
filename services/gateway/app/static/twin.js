// Finds the twin of a photo and shows it. Nothing is stored in the browser, except an API key for
// the session.

import { call, element, loadPicture } from "./api.js";
import { METRICS, explain, likeness, verdict } from "./likeness.js";
import { onDrop } from "./dropped.js";
import { MemeMap } from "./map.js";
import { downloadPair } from "./pair.js";
import { Camera, prepare } from "./photo.js";
import { Wall, fileOf, picture, pictureOf } from "./wall.js";
import { drawHeat, explainLikeness, wherePart } from "./why.js";

const SHOWN = 8; // memes in the list of the nearest
const $ = (id) => document.getElementById(id);
const state = { photo: null, self: "", results: null, chosen: null, typical: 0, round: 0 };

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

const metric = () => document.querySelector("[name=metric]:checked").value;
const ranked = () => state.results[metric()].slice(0, SHOWN);
const cosineOf = (twin) => state.results.cosine.find((one) => one.id === twin.id)?.similarity;

// Hides what belongs to an earlier photo.
function reset() {
  state.round++;
  Object.assign(state, { photo: null, self: "", results: null, chosen: null });
  $("result").hidden = true;
  $("start").hidden = false;
  stopWhy();
  map.land(null, null, null);
}

async function nearest(photo, by) {
  const path = `/v1/twins?metric=${by}&limit=100`;
  const { body } = await call(path, { method: "POST", headers: { "Content-Type": photo.type }, body: photo });
  return body;
}

// Finds the twins of a photo; of a meme, all but itself.
async function find(photo, self = "") {
  reset();
  const round = state.round;
  Object.assign(state, { photo, self });
  say("Looking for your twin …");
  try {
    const replies = await Promise.all(Object.keys(METRICS).map((by) => nearest(photo, by)));
    if (round !== state.round) return;
    const lists = replies.map((reply) => reply.twins.filter((twin) => twin.id !== self));
    state.results = Object.fromEntries(Object.keys(METRICS).map((by, at) => [by, lists[at]]));
    state.seconds = replies[0].timings.total;
    if (!lists[0].length) return say("No memes are loaded yet. Add one below, or run: memetwin load FOLDER", true);
    await show();
    const place = await call("/v1/twins/map", { method: "POST", headers: { "Content-Type": photo.type }, body: photo });
    if (round !== state.round) return;
    map.land($("photo"), place.body.place, state.chosen.id);
  } catch (error) {
    if (round === state.round) {
      reset();
      say(error.message, true);
    }
  }
}

async function show() {
  URL.revokeObjectURL($("photo").src);
  $("photo").src = URL.createObjectURL(state.photo);
  document.querySelector(".you figcaption").textContent = state.self ? "This meme" : "You";
  $("start").hidden = true;
  $("result").hidden = false;
  say("");
  choose(ranked()[0]);
  drawOthers();
  await $("photo").decode().catch(() => {});
  $("twin-name").focus({ preventScroll: true });
  $("result").scrollIntoView({ block: "start", behavior: "smooth" });
}

// Shows one of the nearest memes beside the photo.
function choose(twin) {
  stopWhy();
  state.chosen = twin;
  const share = likeness(cosineOf(twin) ?? -1, state.typical);
  $("result").classList.remove("fresh");
  void $("result").offsetWidth; // starts the animation anew
  $("result").classList.add("fresh");
  $("twin").removeAttribute("src");
  loadPicture($("twin"), pictureOf(twin));
  $("twin").alt = twin.title;
  $("twin-name").textContent = twin.title;
  $("verdict").textContent = verdict(share);
  $("percent").textContent = `${Math.round(100 * share)} % alike.`;
  $("gauge").style.width = `${100 * share}%`;
  const rank = ranked().findIndex((one) => one.id === twin.id) + 1;
  $("rank-text").textContent = rank === 1 ? "Your twin" : `Number ${rank}`;
  const facts = Object.entries(METRICS).map(([by, name]) => {
    const found = state.results[by].find((one) => one.id === twin.id);
    return [name, found ? (by === "l2" ? found.distance : found.similarity).toFixed(3) : "not among the nearest 100"];
  });
  facts.push(["time to find it", `${Math.round(state.seconds * 1000)} ms`]);
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  map.twinId = twin.id;
  map.draw();
}

// Draws the ranks, and moves those that change their place.
function drawOthers(before = null) {
  const places = new Map([...$("others").children].map((item) => [item.dataset.id, item.getBoundingClientRect()]));
  $("others").replaceChildren(...ranked().map((twin, at) => {
    const item = element("li");
    item.dataset.id = twin.id;
    const button = element("button", "", { type: "button", onclick: () => { choose(twin); mark(); } });
    const frame = element("div", "", { className: "frame" });
    frame.append(picture(twin), element("span", `${at + 1}`, { className: "rank" }));
    const earlier = before?.findIndex((one) => one.id === twin.id) ?? at;
    if (earlier !== at) {
      const text = earlier < 0 ? "new" : `${earlier > at ? "↑" : "↓"} ${Math.abs(earlier - at)}`;
      frame.append(element("span", text, { className: "moved" }));
    }
    const text = element("div", twin.title, { className: "text" });
    text.append(element("small", `${Math.round(100 * likeness(cosineOf(twin) ?? -1, state.typical))} % alike`));
    button.append(frame, text);
    item.append(button);
    return item;
  }));
  mark();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const item of $("others").children) {
    const [from, to] = [places.get(item.dataset.id), item.getBoundingClientRect()];
    if (!from) continue;
    item.animate([{ transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` }, { transform: "none" }], { duration: 500, easing: "ease-in-out" });
  }
}

function mark() {
  for (const item of $("others").children) {
    item.firstChild.setAttribute("aria-pressed", String(item.dataset.id === state.chosen.id));
  }
}

let lastMetric = "cosine";
$("metric").addEventListener("change", () => {
  $("metric-text").textContent = state.results ? explain(metric(), state.results) : "";
  if (!state.results) return;
  const before = state.results[lastMetric].slice(0, SHOWN);
  lastMetric = metric();
  choose(ranked()[0]);
  drawOthers(before);
});

function stopWhy() {
  $("heat").hidden = true;
  $("why").setAttribute("aria-pressed", "false");
  $("why-text").textContent = "";
}

$("why").addEventListener("click", async () => {
  if ($("why").getAttribute("aria-pressed") === "true") return stopWhy();
  const { chosen, round, photo } = state;
  $("why").disabled = true;
  $("why-text").textContent = "Covering each part of the photo in turn …";
  try {
    const { losses, whole } = await explainLikeness(photo, chosen);
    if (round !== state.round || chosen !== state.chosen) return;
    drawHeat($("heat"), losses);
    $("heat").hidden = false;
    $("why").setAttribute("aria-pressed", "true");
    const most = Math.max(...losses);
    $("why-text").textContent = most > 0
      ? `The bright parts matter. The ${wherePart(losses)} matters most: without it, the cosine falls from ${whole.toFixed(2)} to ${(whole - most).toFixed(2)}.`
      : "No single part makes them alike.";
  } catch (error) {
    $("why-text").textContent = error.message;
  } finally {
    $("why").disabled = false;
  }
});

$("download").addEventListener("click", () => downloadPair($("photo"), $("twin"), {
  title: state.chosen.title,
  words: $("verdict").textContent,
  share: $("percent").textContent.replace(".", ""),
}));

// Reads a file that was chosen, dropped or pasted.
async function take(file) {
  if (!file) return;
  camera.close();
  reset();
  const round = state.round;
  say("Reading the picture …");
  try {
    const photo = await prepare(file);
    if (round === state.round) await find(photo);
  } catch (error) {
    if (round === state.round) say(error.message, true);
  }
}

async function takeMeme(twin) {
  try {
    await find(await prepare(await fileOf(twin)), twin.id);
  } catch (error) {
    say(error.message, true);
  }
}

const map = new MemeMap($("map"), { pick: takeMeme, say: (text) => { $("map-text").textContent = text; } });
const wall = new Wall(takeMeme, load);
const camera = new Camera(find, () => { $("start").hidden = Boolean(state.results); });

$("camera").addEventListener("click", async () => {
  reset();
  say("");
  try {
    await camera.open();
    $("start").hidden = true;
  } catch (error) {
    say(error.message, true);
  }
});
$("again").addEventListener("click", () => { reset(); say(""); $("camera").focus(); scrollTo({ top: 0 }); });
$("file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
$("zoom-in").addEventListener("click", () => map.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => map.zoomBy(1 / 1.5));

onDrop(([file]) => take(file));
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (file) take(file);
});

// Memes spread over the whole list, so that each visit shows the same ones.
const spread = (twins, count) => twins.filter((_, at) => Math.floor((at * count) / twins.length) !== Math.floor(((at - 1) * count) / twins.length));

async function load() {
  try {
    const { body } = await call("/v1/twins/map");
    state.typical = body.typical_similarity;
    map.setPlaces(body.twins);
    wall.setAll(body.twins);
    $("map-text").textContent = body.twins.length
      ? `${body.twins.length} ${body.twins.length === 1 ? "meme" : "memes"}. Click one to find its twin.`
      : "No memes are loaded yet. Add one below.";
    $("collage").replaceChildren(...spread(body.twins, 12).map((twin, at) => {
      const image = picture(twin);
      image.style.animationDelay = `${at * 40}ms`;
      return image;
    }));
    $("samples").hidden = !body.twins.length;
    $("sample-list").replaceChildren(...spread(body.twins, 5).map((twin) => {
      const button = element("button", "", { type: "button", onclick: () => takeMeme(twin) });
      button.setAttribute("aria-label", `Find the twin of ${twin.title}`);
      button.append(picture(twin));
      return button;
    }));
  } catch (error) {
    say(error.message, true);
  }
}

$("metric-text").textContent = explain("cosine", { cosine: [{}] });
load();
