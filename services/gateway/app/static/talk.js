// The page that explains how memetwin works. Each step starts when it comes near the screen.

import { call, element, loadPicture } from "./api.js";
import { Camera, prepare } from "./photo.js";
import * as axes from "./talk-axes.js";
import * as caching from "./talk-caching.js";
import * as convolution from "./talk-convolution.js";
import * as data from "./talk-data.js";
import * as distance from "./talk-distance.js";
import * as index from "./talk-index.js";
import * as network from "./talk-network.js";
import * as neuron from "./talk-neuron.js";
import * as numbers from "./talk-numbers.js";
import * as retrieval from "./talk-retrieval.js";
import * as search from "./talk-search.js";
import { $, debounce, subject } from "./talk-tools.js";
import { fileOf, pictureOf } from "./wall.js";

const STEPS = { data, numbers, axes, distance, index, search, caching, retrieval, neuron, convolution, network };
const SAMPLES = 4;

function say(text, isError = false) {
  $("subject-status").textContent = text;
  $("subject-status").classList.toggle("error", isError);
}

async function take(file, name) {
  try {
    subject.photo = await prepare(file);
  } catch (error) {
    return say(error.message, true);
  }
  const url = URL.createObjectURL(subject.photo);
  $("subject-photo").addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  $("subject-photo").src = url;
  say(`The steps use this text and ${name}. The server does not store them.`);
  subject.dispatchEvent(new Event("photo"));
}

async function takeMeme(twin) {
  try {
    await take(await fileOf(twin), `the meme “${twin.title}”`);
  } catch (error) {
    say(error.message, true);
  }
}

// A picture for a wall without memes: a face of two dots and a line.
async function drawnFace() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 256 });
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffd54a";
  context.fillRect(0, 0, 256, 256);
  context.fillStyle = "#1a1920";
  for (const [x, y, width, height] of [[70, 80, 28, 40], [158, 80, 28, 40], [80, 170, 96, 14]]) context.fillRect(x, y, width, height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

async function load() {
  let twins = [];
  try {
    ({ twins } = (await call("/v1/twins/map")).body);
  } catch (error) {
    say(error.message, true);
  }
  if (!twins.length) return take(await drawnFace(), "a drawn face");
  const shown = twins.filter((_, at) => at % Math.ceil(twins.length / SAMPLES) === 0).slice(0, SAMPLES);
  $("subject-samples").replaceChildren(...shown.map((twin) => {
    const button = element("button", "", { type: "button", onclick: () => takeMeme(twin) });
    const image = element("img", "", { alt: twin.title });
    loadPicture(image, pictureOf(twin));
    button.append(image);
    return button;
  }));
  if (!subject.photo) await takeMeme(shown[0]);
}

const camera = new Camera((photo) => take(photo, "your photo"), () => $("camera").focus());
$("camera").addEventListener("click", async () => {
  try {
    await camera.open();
  } catch (error) {
    say(error.message, true);
  }
});
$("subject-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) take(file, "your photo");
  event.target.value = "";
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (file) take(file, "your photo");
});
for (const kind of ["dragover", "drop"]) {
  addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (kind === "drop") take(event.dataTransfer.files[0], "your photo");
  });
}
subject.text = $("subject-text").value;
$("subject-text").addEventListener("input", debounce(() => {
  subject.text = $("subject-text").value.trim() || $("subject-text").defaultValue;
  subject.dispatchEvent(new Event("text"));
}));

const sections = Object.keys(STEPS).map($);
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    STEPS[target.id].start();
  }
}, { rootMargin: "300px" });
sections.forEach((section) => near.observe(section));

// Marks the step that is being read in the table of contents.
const reading = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    const link = document.querySelector(`.contents a[href="#${target.id}"]`);
    if (isIntersecting) link.setAttribute("aria-current", "step");
    else link.removeAttribute("aria-current");
    if (isIntersecting) {
      const list = link.closest("ol");
      list.scrollLeft = link.offsetLeft - list.clientWidth / 3;
    }
  }
}, { rootMargin: "-45% 0px -54% 0px" });
sections.forEach((section) => reading.observe(section));

load();
