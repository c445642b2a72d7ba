// Step 9: a neuron with two inputs, whose numbers the visitor sets.

import { element } from "./api.js";
import { $, drawing, number, shape } from "./talk-tools.js";

const WIDTH = 420;
const HEIGHT = 220;
const RANGE = 6; // of the sum, to both sides
const SLIDERS = [
  ["x1", "Input x₁", -2, 2, 1],
  ["w1", "Weight w₁", -2, 2, 1.5],
  ["x2", "Input x₂", -2, 2, -0.5],
  ["w2", "Weight w₂", -2, 2, 0.8],
  ["b", "Bias b", -2, 2, 0],
];
const FUNCTIONS = {
  linear: { run: (z) => z, low: -RANGE, high: RANGE, about: "Linear: the sum stays as it is. f(z) = z." },
  sigmoid: { run: (z) => 1 / (1 + Math.exp(-z)), low: -0.2, high: 1.2, about: "Sigmoid: every sum becomes a number between 0 and 1, like a probability. f(z) = 1 / (1 + e⁻ᶻ)." },
  tanh: { run: Math.tanh, low: -1.3, high: 1.3, about: "tanh: every sum becomes a number between −1 and 1. Its curve is a sigmoid that is stretched and moved down." },
  relu: { run: (z) => Math.max(0, z), low: -1, high: RANGE, about: "ReLU: negative sums become 0, and positive ones stay. f(z) = max(0, z). It is cheap, and memetwin’s image network uses it." },
};

function slider([id, name, low, high, value]) {
  const label = element("label", `${name} `, { className: "field" });
  const out = element("output", "", { id: `neuron-${id}-text` });
  const input = element("input", "", { type: "range", min: low, max: high, step: 0.1, id: `neuron-${id}` });
  input.value = value;
  label.append(out, input);
  return label;
}

function show() {
  const [x1, w1, x2, w2, b] = SLIDERS.map(([id]) => {
    const value = Number($(`neuron-${id}`).value);
    $(`neuron-${id}-text`).textContent = number(value, 1);
    return value;
  });
  const chosen = FUNCTIONS[document.querySelector("[name=activation]:checked").value];
  const z = w1 * x1 + w2 * x2 + b;
  const y = chosen.run(z);
  const across = (sum) => (sum + RANGE) / (2 * RANGE) * WIDTH;
  const up = (value) => HEIGHT - (value - chosen.low) / (chosen.high - chosen.low) * HEIGHT;
  const steps = Array.from({ length: 121 }, (_, at) => -RANGE + at * RANGE / 60);
  const curve = steps.map((sum) => `${across(sum).toFixed(1)},${up(chosen.run(sum)).toFixed(1)}`).join(" ");
  const at = Math.min(RANGE, Math.max(-RANGE, z));
  const levels = chosen.high > 2 ? [chosen.low < -1 ? -4 : null, 4] : [chosen.low < -1 ? -1 : null, 1];
  $("neuron-about").textContent = chosen.about;
  $("neuron-plot").replaceChildren(drawing(WIDTH, HEIGHT, `The curve of the activation function. The sum ${number(z)} becomes ${number(y)}.`,
    shape("line", { class: "axis", x1: 0, x2: WIDTH, y1: up(0), y2: up(0) }),
    shape("line", { class: "axis", x1: across(0), x2: across(0), y1: 0, y2: HEIGHT }),
    ...levels.filter((level) => level !== null).map((level) => shape("text", { class: "quiet", x: across(0) + 6, y: up(level) + 4 }, number(level, 0))),
    ...[-4, 4].map((sum) => shape("text", { class: "quiet", x: across(sum), y: up(0) + 15, "text-anchor": "middle" }, number(sum, 0))),
    shape("text", { class: "quiet", x: WIDTH, y: up(0) - 6, "text-anchor": "end" }, "sum z"),
    shape("text", { class: "quiet", x: across(0) - 6, y: 12, "text-anchor": "end" }, "output y"),
    shape("polyline", { class: "one", points: curve }),
    shape("line", { class: "gap", x1: across(at), x2: across(at), y1: up(0), y2: up(chosen.run(at)) }),
    shape("circle", { class: "dot mine", cx: across(at), cy: up(chosen.run(at)), r: 8 })));
  $("neuron-sum").textContent = `z = ${number(w1, 1)} × ${number(x1, 1)} + ${number(w2, 1)} × ${number(x2, 1)} + ${number(b, 1)} = ${number(z)}, y = f(z) = ${number(y)}`;
}

export function start() {
  $("neuron-sliders").replaceChildren(...SLIDERS.map(slider));
  $("neuron-sliders").addEventListener("input", show);
  $("neuron-function").addEventListener("change", show);
  show();
}
