// Step 5: a walk through an HNSW graph of points, and measurements of a larger index.

import { element } from "./api.js";
import { Hnsw, flat, random } from "./hnsw.js";
import { $, colour, number, onScheme } from "./talk-tools.js";

const POINTS = 300;
const NEAREST = 10;
const PACE = 25; // milliseconds per compared point of the walk
const draw = random(11);
const index = new Hnsw(3, 4, draw);
const state = { query: [0.72, 0.3], shown: Infinity, timer: 0, result: null, truth: [] };

// Points in groups, since real data is not spread evenly.
function fill() {
  const centres = Array.from({ length: 9 }, () => [0.1 + 0.8 * draw(), 0.12 + 0.76 * draw()]);
  while (index.vectors.length < POINTS) {
    const [x, y] = centres[index.vectors.length % centres.length];
    const [angle, far] = [2 * Math.PI * draw(), 0.24 * draw() ** 0.7];
    const point = [x + far * Math.cos(angle), y + far * Math.sin(angle)];
    if (point.every((value) => value > 0.02 && value < 0.98)) index.add(point);
  }
}

function paint() {
  const canvas = $("index-graph");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const rgb = (name) => `rgb(${colour(name)})`;
  const at = ([x, y]) => [x * width, y * height];
  const dot = (place, radius, fill, ring) => {
    context.beginPath();
    context.arc(...at(place), radius, 0, 7);
    context.fillStyle = fill;
    context.fill();
    if (ring) Object.assign(context, { strokeStyle: ring, lineWidth: 2.5 }), context.stroke();
  };
  context.strokeStyle = rgb("--line");
  context.beginPath();
  for (const [id, neighbours] of index.layers[0]) {
    for (const other of neighbours) {
      context.moveTo(...at(index.vectors[id]));
      context.lineTo(...at(index.vectors[other]));
    }
  }
  context.stroke();
  const isDone = state.shown >= state.result.seen.length;
  const seen = new Set(state.result.seen.slice(0, state.shown));
  const found = new Set(isDone ? state.result.ids : []);
  const missed = new Set(isDone ? state.truth.filter((id) => !found.has(id)) : []);
  index.vectors.forEach((place, id) => {
    if (missed.has(id)) dot(place, 5, rgb("--card"), rgb("--bad"));
    else if (found.has(id)) dot(place, 5, rgb("--you"), rgb("--good"));
    else dot(place, seen.has(id) ? 4 : 3, rgb(seen.has(id) ? "--you" : "--quiet"));
  });
  dot(state.query, 8, rgb("--accent"), rgb("--card"));
}

function search() {
  clearInterval(state.timer);
  const ef = Number($("index-ef").value);
  $("index-ef-text").textContent = ef;
  state.result = index.search(state.query, NEAREST, ef);
  state.truth = flat(index.vectors, state.query, NEAREST);
  state.shown = Infinity;
  const found = state.result.ids.filter((id) => state.truth.includes(id)).length;
  const compared = new Set(state.result.seen).size;
  $("index-text").textContent = `HNSW compares ${compared} of the ${POINTS} points and finds ${found} of the ${NEAREST} nearest: recall ${number(found / NEAREST, 1)}. FLAT compares all ${POINTS} and finds all ${NEAREST}.`;
  paint();
  for (const row of $("index-rows").children) row.classList.toggle("chosen", Number(row.dataset.ef) === nearestEf(ef));
}

const nearestEf = (ef) => [10, 20, 40, 80, 160].reduce((best, one) => Math.abs(one - ef) < Math.abs(best - ef) ? one : best);

function walk() {
  search();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  state.shown = 0;
  state.timer = setInterval(() => {
    if (++state.shown >= state.result.seen.length) clearInterval(state.timer);
    paint();
  }, PACE);
}

function move(x, y) {
  state.query = [x, y].map((value) => Math.min(0.97, Math.max(0.03, value)));
  search();
}

function measure() {
  const worker = new Worker("/pages/talk-index-worker.js", { type: "module" });
  worker.onmessage = ({ data }) => {
    worker.terminate();
    const row = (name, { recall, compared, milliseconds }, ef = 0) => {
      const line = element("tr");
      line.dataset.ef = ef;
      line.append(...[name, number(recall), Math.round(compared).toLocaleString("en"), milliseconds.toFixed(3)].map((text) => element("td", text)));
      return line;
    };
    $("index-rows").replaceChildren(row("FLAT", data.flat), ...data.rows.map((one) => row(`HNSW, ef ${one.ef}`, one, one.ef)));
    search();
  };
  worker.onerror = () => { $("index-rows").firstElementChild.firstElementChild.textContent = "This browser cannot run the measurement."; };
}

export function start() {
  fill();
  search();
  const canvas = $("index-graph");
  $("index-ef").addEventListener("input", search);
  $("index-walk").addEventListener("click", walk);
  $("index-query").addEventListener("click", () => move(draw(), draw()));
  canvas.addEventListener("click", (event) => move(event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.03, 0], ArrowRight: [0.03, 0], ArrowUp: [0, -0.04], ArrowDown: [0, 0.04] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(state.query[0] + step[0], state.query[1] + step[1]);
  });
  new ResizeObserver(paint).observe(canvas);
  onScheme(paint);
  measure();
}
