// Step 11: what each layer of the image network computes from the visitor's photo.

import { call, element } from "./api.js";
import { $, latest, onScheme, scale, subject } from "./talk-tools.js";

const CHANNELS = 16;
const columns = () => matchMedia("(max-width: 40rem)").matches ? 4 : 8;
const KINDS = {
  convolution: ["Convolution", "Each map is the result of one kernel, which has slid over all maps of the layer before. Red cells are positive, and blue ones negative."],
  relu: ["ReLU", "Negative numbers become zero. Only the places remain where the kernel has found its pattern."],
  sigmoid: ["Sigmoid", "Each number becomes a number between 0 and 1."],
  tanh: ["tanh", "Each number becomes a number between −1 and 1."],
  linear: ["Linear", "The numbers stay as they are."],
  "pooling-max": ["Max pooling", "The largest of each few cells remains, so the maps shrink."],
  "pooling-average": ["Average pooling", "The average of each few cells remains, so the maps shrink."],
  "global_pooling-max": ["Global max pooling", "The largest number of each map remains."],
  "global_pooling-average": ["Global average pooling", "The average of each map remains."],
  flatten: ["Flattening", "The rows of all maps are put one after another into a single list."],
  dense: ["Dense layer", "Each number is the weighted sum of all numbers of the layer before, like the neuron of step 9."],
};
const GAP = 1;
let layers = [];
let chosen = 0;

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

const numbers = (layer) => new Int8Array(bytes(layer.values).buffer);

// Draws codes as a picture of `side` columns.
function tile(codes, side, paint) {
  const rows = Math.ceil(codes.length / side);
  const image = new ImageData(side, rows);
  codes.forEach((code, at) => image.data.set([...paint(code), 255], 4 * at));
  return image;
}

// Returns the colours of a layer, on one scale for all its maps.
function painter(codes) {
  const sorted = codes.map(Math.abs).sort();
  return scale(Math.max(1, sorted[Math.floor(sorted.length * 0.985)]));
}

function drawMaps(layer) {
  const codes = numbers(layer);
  const paint = painter(codes);
  const canvas = $("network-maps");
  const isList = !layer.channels;
  canvas.classList.toggle("list", isList);
  if (isList) {
    const width = codes.length > 512 ? 64 : 32;
    const image = tile(codes, width, paint);
    Object.assign(canvas, { width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return;
  }
  const { side } = layer;
  const across = columns();
  canvas.width = across * (side + GAP) - GAP;
  canvas.height = Math.ceil(layer.channels / across) * (side + GAP) - GAP;
  for (let channel = 0; channel < layer.channels; channel++) {
    const image = tile(codes.subarray(channel * side * side, (channel + 1) * side * side), side, paint);
    canvas.getContext("2d").putImageData(image, (channel % across) * (side + GAP), Math.floor(channel / across) * (side + GAP));
  }
}

// Draws the colour kernels of the first layer in the order of its maps.
function drawFilters(layer) {
  $("network-filters").replaceChildren();
  if (!layer.weights) return;
  const { kernel } = layer;
  const across = columns();
  const weights = new Float32Array(bytes(layer.weights).buffer);
  const area = kernel * kernel;
  const canvas = element("canvas", "", { width: across * (kernel + GAP), height: Math.ceil(layer.channels / across) * (kernel + GAP) });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The ${layer.channels} kernels of these maps, in colour`);
  const context = canvas.getContext("2d");
  for (let channel = 0; channel < layer.channels; channel++) {
    const own = weights.subarray(channel * 3 * area, (channel + 1) * 3 * area);
    const largest = Math.max(...own.map(Math.abs)) || 1;
    const image = new ImageData(kernel, kernel);
    for (let at = 0; at < area; at++) image.data.set([...[0, 1, 2].map((part) => 127.5 * (1 + own[part * area + at] / largest)), 255], 4 * at);
    context.putImageData(image, (channel % across) * (kernel + GAP), Math.floor(channel / across) * (kernel + GAP));
  }
  $("network-filters").append(element("h3", "The kernels of these maps"), canvas, element("p", "Each kernel has nine weights for red, nine for green and nine for blue. Grey is zero, brighter is positive, and darker is negative.", { className: "meta" }));
}

function show(at) {
  chosen = at;
  const layer = layers[at];
  const [name, about] = KINDS[layer.kind] ?? [layer.kind, ""];
  const isLast = at === layers.length - 1;
  $("network-name").textContent = `Layer ${at + 1} of ${layers.length}: ${name}`;
  const size = layer.channels
    ? `${layer.shape[0]} maps of ${layer.shape[1]} × ${layer.shape[2]} numbers${layer.channels < layer.shape[0] ? `, of which you see ${layer.channels}` : ""}.`
    : `A list of ${layer.shape[0].toLocaleString("en")} numbers.`;
  const end = isLast ? " This is the embedding of the photo. memetwin also embeds the mirrored photo, and takes the mean of both." : "";
  $("network-about").textContent = `${size} ${about}${end}`;
  $("network-maps").setAttribute("aria-label", `The output of layer ${at + 1}, ${name}`);
  drawMaps(layer);
  drawFilters(layer);
  [...$("network-layers").children].forEach((button, other) => button.setAttribute("aria-pressed", String(other === at)));
  const button = $("network-layers").children[at];
  $("network-layers").scrollLeft = button.offsetLeft - $("network-layers").offsetLeft - $("network-layers").clientWidth / 2 + button.clientWidth / 2;
  $("network-back").disabled = at === 0;
  $("network-next").disabled = isLast;
}

function chip(layer, at) {
  const codes = numbers(layer);
  const side = layer.side || Math.ceil(Math.sqrt(codes.length));
  const button = element("button", "", { type: "button", onclick: () => show(at) });
  const image = tile(layer.side ? codes.subarray(0, side * side) : codes, side, painter(codes));
  const canvas = element("canvas", "", { width: side, height: image.height });
  canvas.setAttribute("aria-hidden", "true");
  canvas.getContext("2d").putImageData(image, 0, 0);
  button.append(canvas, element("span", `${at + 1} ${(KINDS[layer.kind] ?? [layer.kind])[0]}`));
  return button;
}

function draw() {
  $("network-layers").replaceChildren(...layers.map(chip));
  show(Math.min(chosen, layers.length - 1));
}

const run = latest($("network-status"), async (isLast) => {
  const photo = subject.photo;
  if (!photo) return;
  const { body } = await call(`/v1/twins/layers?channels=${CHANNELS}`, { method: "POST", headers: { "Content-Type": photo.type }, body: photo });
  if (!isLast()) return;
  const pixels = bytes(body.pixels);
  const image = new ImageData(body.side, body.side);
  for (let at = 0; at < body.side ** 2; at++) image.data.set([pixels[3 * at], pixels[3 * at + 1], pixels[3 * at + 2], 255], 4 * at);
  Object.assign($("network-input"), { width: body.side, height: body.side });
  $("network-input").getContext("2d").putImageData(image, 0, 0);
  ({ layers } = body);
  $("network-status").textContent = `The network sees your photo as ${body.side} × ${body.side} pixels of red, green and blue. It has ${layers.length} layers. Choose one.`;
  draw();
});

export function start() {
  $("network-back").addEventListener("click", () => show(chosen - 1));
  $("network-next").addEventListener("click", () => show(chosen + 1));
  subject.addEventListener("photo", () => run());
  onScheme(() => { if (layers.length) draw(); });
  run();
}
