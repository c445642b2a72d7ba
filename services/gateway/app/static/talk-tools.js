// What the steps of the talk share: the visitor's text and picture, embeddings, and drawing.

import { call } from "./api.js";

export const $ = (id) => document.getElementById(id);

// The visitor's text and picture. Steps listen for "text" and "photo".
export const subject = Object.assign(new EventTarget(), { text: "", photo: null });

export function debounce(run, milliseconds = 250) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), milliseconds);
  };
}

// Returns a function that runs `work`. Of several overlapping runs, only the last one `isLast`.
// Failures are shown in the element `status`.
export function latest(status, work) {
  let round = 0;
  return async (...values) => {
    const own = ++round;
    const isLast = () => own === round;
    try {
      if (status.classList.contains("error")) status.textContent = "";
      status.classList.remove("error");
      await work(isLast, ...values);
    } catch (error) {
      if (!isLast()) return;
      status.textContent = error.message;
      status.classList.add("error");
    }
  };
}

const known = new Map();

// Returns the embeddings of texts. Each has length 1. Known texts are not sent again.
export async function embed(texts) {
  const wanted = [...new Set(texts)].filter((text) => !known.has(text));
  if (wanted.length) {
    const { body } = await call("/v1/embeddings", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ input: wanted }),
    });
    body.data.forEach((item, at) => known.set(wanted[at], Float32Array.from(item.embedding)));
  }
  return texts.map((text) => known.get(text));
}

export async function post(path, value) {
  const { body } = await call(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value),
  });
  return body;
}

export async function embedPhoto(photo) {
  const { body } = await call("/v1/twins/vector", { method: "POST", headers: { "Content-Type": photo.type }, body: photo });
  return Float32Array.from(body.vector);
}

export function dot(one, other) {
  let sum = 0;
  for (let at = 0; at < one.length; at++) sum += one[at] * other[at];
  return sum;
}

export const norm = (vector) => Math.sqrt(dot(vector, vector));
export const cosine = (one, other) => dot(one, other) / (norm(one) * norm(other) || 1);
export const minus = (one, other) => one.map((value, at) => value - other[at]);

// Writes a number with a real minus sign.
export function number(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Returns an SVG drawing with a text for screen readers.
export function drawing(width, height, label, ...children) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);
}

const mixer = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

// Returns a colour of the design as [red, green, blue].
export function colour(name) {
  mixer.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
  mixer.fillRect(0, 0, 1, 1);
  return [...mixer.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

// Returns a function from a number to its colour: red above zero, blue below, pale near zero.
export function scale(largest) {
  const [zero, above, below] = [colour("--cell"), colour("--accent"), colour("--you")];
  return (value) => {
    const share = Math.min(1, Math.abs(value) / (largest || 1)) ** 0.8;
    const end = value < 0 ? below : above;
    return zero.map((from, at) => Math.round(from + (end[at] - from) * share));
  };
}

// Calls `redraw` when the page changes between light and dark.
export function onScheme(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => requestAnimationFrame(redraw));
}

// Shows a vector as coloured cells. Pointing at a cell, or moving with the arrow keys, reads it.
export class Strip {
  constructor(canvas, out, columns) {
    Object.assign(this, { canvas, out, columns, values: [], at: -1, rest: "" });
    canvas.addEventListener("pointermove", (event) => {
      const side = canvas.clientWidth / columns;
      this.read(Math.floor(event.offsetY / side) * columns + Math.min(columns - 1, Math.floor(event.offsetX / side)));
    });
    canvas.addEventListener("pointerleave", () => this.read(-1));
    canvas.addEventListener("blur", () => this.read(-1));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (!step) return;
      event.preventDefault();
      this.read(Math.min(this.values.length - 1, Math.max(0, this.at + step)));
    });
    onScheme(() => this.draw());
  }

  show(values, rest) {
    Object.assign(this, { values: [...values], rest, at: -1 });
    this.out.textContent = rest;
    this.draw();
  }

  read(at) {
    if (at === this.at || !this.values.length) return;
    this.at = at < this.values.length ? at : -1;
    this.out.textContent = this.at < 0
      ? this.rest
      : `Number ${this.at + 1} of ${this.values.length} is ${number(this.values[this.at], 3)}.`;
    this.draw();
  }

  draw() {
    if (!this.values.length) return;
    const side = 14;
    const { canvas, columns } = this;
    canvas.width = columns * side;
    canvas.height = Math.ceil(this.values.length / columns) * side;
    const context = canvas.getContext("2d");
    const sorted = this.values.map(Math.abs).sort((one, other) => one - other);
    const paint = scale(sorted[Math.floor(sorted.length * 0.97)]);
    this.values.forEach((value, at) => {
      context.fillStyle = `rgb(${paint(value)})`;
      context.fillRect((at % columns) * side, Math.floor(at / columns) * side, side - 1, side - 1);
    });
    if (this.at < 0) return;
    context.strokeStyle = `rgb(${colour("--ink")})`;
    context.lineWidth = 3;
    context.strokeRect((this.at % columns) * side + 0.5, Math.floor(this.at / columns) * side + 0.5, side - 2, side - 2);
  }
}
