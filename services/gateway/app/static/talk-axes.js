// Step 3: two axes between texts, and the places of other texts on their plane.

import { element } from "./api.js";
import { $, debounce, dot, drawing, embed, latest, minus, norm, number, shape, subject } from "./talk-tools.js";

const POLES = ["left", "right", "bottom", "top"];
const WIDTH = 460;
const HEIGHT = 340;
const texts = [
  "An old man sips whisky",
  "A grandmother knits a scarf",
  "A pensioner drinks tea",
  "Teenagers share a bottle of vodka",
  "Students drink beer at a party",
  "A schoolgirl drinks lemonade",
  "A toddler drinks milk",
];

// Returns the place of a vector between two poles: −1 at the first and 1 at the second.
function place(vector, first, second) {
  const axis = minus(second, first);
  const half = norm(axis) / 2 || 1;
  const middle = first.map((value, at) => (value + second[at]) / 2);
  return dot(minus(vector, middle), axis) / (2 * half * half);
}


function draw(points, names) {
  const largest = Math.max(0.3, ...points.flatMap(({ x, y }) => [Math.abs(x), Math.abs(y)]));
  for (const point of points) {
    point.px = WIDTH / 2 + point.x / largest * (WIDTH / 2 - 34);
    point.py = HEIGHT / 2 - point.y / largest * (HEIGHT / 2 - 38);
  }
  const svg = drawing(WIDTH, HEIGHT, `The places of ${points.length} texts on the plane. The list below has their numbers.`,
    shape("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2 }),
    shape("line", { class: "axis", y1: 0, y2: HEIGHT, x1: WIDTH / 2, x2: WIDTH / 2 }));
  const ends = [["start", 0, HEIGHT / 2 - 6], ["end", WIDTH, HEIGHT / 2 - 6], ["middle", WIDTH / 2, HEIGHT - 2], ["middle", WIDTH / 2, 11]];
  ends.forEach(([anchor, x, y], at) => svg.append(shape("text", { class: "quiet", x, y, "text-anchor": anchor }, `${["←", "", "↓", "↑"][at]} ${names[at].slice(0, 34)} ${at === 1 ? "→" : ""}`)));
  points.forEach((point, at) => svg.append(
    shape("circle", { class: point.isMine ? "dot mine" : "dot", cx: point.px, cy: point.py, r: 10 }),
    shape("text", { class: "number-in", x: point.px, y: point.py + 4 }, String(at + 1))));
  $("axes-plot").replaceChildren(svg);
}

function list(points) {
  $("axes-list").replaceChildren(...points.map((point, at) => {
    const item = element("li", "", { className: point.isMine ? "mine" : "" });
    item.append(element("b", at + 1), element("span", point.text), element("small", `${number(point.x)} | ${number(point.y)}`));
    const own = texts.indexOf(point.text);
    if (point.isAdded) {
      const button = element("button", "Remove", { type: "button", onclick: () => { texts.splice(own, 1); show(); } });
      button.setAttribute("aria-label", `Remove ${point.text}`);
      item.append(button);
    }
    return item;
  }));
}

const defaults = new Set(texts);
const show = latest($("axes-status"), async (isLast) => {
  const names = POLES.map((pole) => $(`axes-${pole}`).value.trim() || $(`axes-${pole}`).defaultValue);
  const shown = [...new Set([...texts, subject.text])];
  const vectors = await embed([...names, ...shown]);
  if (!isLast()) return;
  const [left, right, bottom, top] = vectors;
  const points = shown.map((text, at) => ({
    text,
    isMine: text === subject.text,
    isAdded: texts.includes(text) && !defaults.has(text),
    x: place(vectors[4 + at], left, right),
    y: place(vectors[4 + at], bottom, top),
  }));
  draw(points, names);
  list(points);
  $("axes-status").textContent = `Of each text, the list says how far it is to the right, and how far it is up. Number ${shown.indexOf(subject.text) + 1} is yours.`;
});

export function start() {
  for (const pole of POLES) $(`axes-${pole}`).addEventListener("input", debounce(() => show()));
  subject.addEventListener("text", () => show());
  $("axes-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("axes-new").value.trim();
    if (text && !texts.includes(text)) texts.push(text);
    $("axes-new").value = "";
    show();
  });
  show();
}
