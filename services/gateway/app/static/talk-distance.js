// Step 4: cosine, inner product and distance of two texts, as numbers and as arrows.

import { element } from "./api.js";
import { $, cosine, debounce, dot, drawing, embed, latest, minus, norm, number, shape, subject } from "./talk-tools.js";

const WIDTH = 360;
const HEIGHT = 165;
const UNIT = 90; // pixels of an arrow of length 1
const ORIGIN = { x: 100, y: 150 };

function arrow(kind, angle, length, name) {
  const tip = { x: ORIGIN.x + Math.cos(angle) * length * UNIT, y: ORIGIN.y - Math.sin(angle) * length * UNIT };
  const back = (turn) => `${tip.x - Math.cos(angle + turn) * 12},${tip.y + Math.sin(angle + turn) * 12}`;
  return {
    tip,
    parts: [
      shape("line", { class: kind, x1: ORIGIN.x, y1: ORIGIN.y, x2: tip.x, y2: tip.y }),
      shape("polyline", { class: kind, points: `${back(0.4)} ${tip.x},${tip.y} ${back(-0.4)}` }),
      shape("text", { x: tip.x + 8 * Math.cos(angle) + 4, y: tip.y - 8 * Math.sin(angle) + 4, "font-weight": 700 }, name),
    ],
  };
}

function draw(one, other) {
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine(one, other))));
  const degrees = Math.round(angle * 180 / Math.PI);
  const [a, b] = [arrow("one", 0, norm(one), "a"), arrow("other", angle, norm(other), "b")];
  const bend = { x: ORIGIN.x + 45 * Math.cos(angle), y: ORIGIN.y - 45 * Math.sin(angle) };
  const middle = { x: (a.tip.x + b.tip.x) / 2, y: (a.tip.y + b.tip.y) / 2 };
  $("distance-plot").replaceChildren(drawing(WIDTH, HEIGHT, `Two arrows with an angle of ${degrees} degrees`,
    shape("path", { class: "arc", d: `M ${ORIGIN.x + 45} ${ORIGIN.y} A 45 45 0 0 0 ${bend.x} ${bend.y}` }),
    shape("text", { x: ORIGIN.x + 52 * Math.cos(angle / 2) + 2, y: ORIGIN.y - 52 * Math.sin(angle / 2) + 2 }, `${degrees}°`),
    shape("line", { class: "gap", x1: a.tip.x, y1: a.tip.y, x2: b.tip.x, y2: b.tip.y }),
    shape("text", { class: "quiet", x: middle.x + 10, y: middle.y }, "d"),
    ...a.parts, ...b.parts));
}

const show = latest($("distance-status"), async (isLast) => {
  const texts = ["one", "other"].map((name) => $(`distance-${name}`).value.trim() || $(`distance-${name}`).defaultValue || subject.text);
  const stretch = Number($("distance-stretch").value);
  $("distance-stretch-text").textContent = stretch.toFixed(2);
  const [one, unit] = await embed(texts);
  if (!isLast()) return;
  const other = unit.map((value) => value * stretch);
  draw(one, other);
  const alike = cosine(one, other);
  const lengths = `${number(norm(one))} × ${number(norm(other))}`;
  const facts = [
    ["cosine", `${number(alike, 3)}, an angle of ${Math.round(Math.acos(Math.min(1, alike)) * 180 / Math.PI)}°`],
    ["inner product", `${number(dot(one, other), 3)} = ${number(alike, 3)} × ${lengths}`],
    ["distance d", number(norm(minus(one, other)), 3)],
    ["lengths", `|a| = ${number(norm(one))}, |b| = ${number(norm(other))}`],
  ];
  $("distance-facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("distance-status").textContent = `Both embeddings have ${one.length} numbers. Any two arrows lie on a common plane, and this is it.`;
});

export function start() {
  $("distance-one").value = subject.text;
  for (const name of ["one", "other"]) $(`distance-${name}`).addEventListener("input", debounce(() => show()));
  $("distance-stretch").addEventListener("input", () => show());
  subject.addEventListener("text", () => { $("distance-one").value = subject.text; show(); });
  show();
}
