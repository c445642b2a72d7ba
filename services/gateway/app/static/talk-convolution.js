// Step 10: a convolution on a grid that the visitor edits, then ReLU, pooling and flattening.

import { element } from "./api.js";
import { $, number, onScheme, scale } from "./talk-tools.js";

const [SIDE, KERNEL, OUT, POOLED] = [10, 3, 8, 4];
const PICTURES = {
  Cross: ["..........", ".#......#.", "..#....#..", "...#..#...", "....##....", "....##....", "...#..#...", "..#....#..", ".#......#.", ".........."],
  Face: ["..######..", ".#......#.", "#........#", "#..#..#..#", "#........#", "#.#....#.#", "#..####..#", "#........#", ".#......#.", "..######.."],
  Box: ["..........", "..........", "..######..", "..######..", "..######..", "..######..", "..######..", "..######..", "..........", ".........."],
  Empty: Array(10).fill(".........."),
};
const KERNELS = {
  "Vertical edges": [1, 0, -1, 1, 0, -1, 1, 0, -1],
  "Horizontal edges": [1, 1, 1, 0, 0, 0, -1, -1, -1],
  Diagonal: [1, -0.5, -0.5, -0.5, 1, -0.5, -0.5, -0.5, 1],
  Blur: Array(9).fill(0.11),
  Sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
};
let picture = [];
let focused = 0;

const kernel = () => [...$("convolution-kernel").children].map((input) => Number(input.value) || 0);

function convolve(weights) {
  return Array.from({ length: OUT * OUT }, (_, at) => {
    const [row, column] = [Math.floor(at / OUT), at % OUT];
    let sum = 0;
    weights.forEach((weight, k) => { sum += weight * picture[(row + Math.floor(k / KERNEL)) * SIDE + column + k % KERNEL]; });
    return sum;
  });
}

const pool = (values) => Array.from({ length: POOLED * POOLED }, (_, at) => {
  const start = 2 * Math.floor(at / POOLED) * OUT + 2 * (at % POOLED);
  return Math.max(values[start], values[start + 1], values[start + OUT], values[start + OUT + 1]);
});

const short = (value) => number(value, Math.abs(value % 1) > 0.001 ? 1 : 0);

// Whether white text reads better on a colour than black text (WCAG's relative luminance).
function isDark(rgb) {
  const [red, green, blue] = rgb.map((part) => part <= 10 ? part / 3295 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179;
}

// Draws values as rows of cells. `make` returns the element of a cell.
function grid(host, values, columns, largest, make = () => element("div")) {
  const paint = scale(largest);
  const rows = Array.from({ length: values.length / columns }, (_, row) => {
    const line = element("div");
    line.append(...values.slice(row * columns, (row + 1) * columns).map((value, column) => {
      const cell = make(row * columns + column);
      const rgb = paint(value);
      cell.classList.add("cell");
      cell.style.background = `rgb(${rgb})`;
      cell.style.color = isDark(rgb) ? "#fff" : "#000";
      cell.textContent = short(value);
      return cell;
    }));
    return line;
  });
  host.replaceChildren(...rows);
  return rows.flatMap((row) => [...row.children]);
}

function inputCell(at) {
  const button = element("button", "", { type: "button", tabIndex: at === focused ? 0 : -1 });
  button.setAttribute("aria-pressed", String(picture[at] > 0));
  button.setAttribute("aria-label", `Row ${Math.floor(at / SIDE) + 1}, column ${at % SIDE + 1}: ${picture[at]}`);
  button.addEventListener("click", () => {
    picture[at] = picture[at] ? 0 : 1;
    focus(at);
  });
  return button;
}

function focus(at) {
  focused = at;
  show();
  $("convolution-input").querySelectorAll("button")[at].focus();
}

function show() {
  const weights = kernel();
  const place = Number($("convolution-place").value);
  const [row, column] = [Math.floor(place / OUT), place % OUT];
  const cells = grid($("convolution-input"), picture, SIDE, 1, inputCell);
  const values = convolve(weights);
  const positive = values.map((value) => Math.max(0, value));
  const largest = Math.max(0.001, ...values.map(Math.abs));
  const results = grid($("convolution-result"), values, OUT, largest);
  const relus = grid($("convolution-relu"), positive, OUT, largest);
  const pooled = pool(positive);
  const pools = grid($("convolution-pool"), pooled, POOLED, largest);
  const flats = grid($("convolution-flat"), pooled, 16, largest);
  const pooledAt = Math.floor(row / 2) * POOLED + Math.floor(column / 2);
  const under = weights.map((_, k) => (row + Math.floor(k / KERNEL)) * SIDE + column + k % KERNEL);
  for (const cell of [...under.map((at) => cells[at]), results[place], relus[place], pools[pooledAt], flats[pooledAt]]) cell.classList.add("under");
  $("convolution-place-text").textContent = `${row + 1}, column ${column + 1}`;
  const terms = weights.map((weight, k) => `${short(weight)}×${picture[under[k]]}`).join(" + ");
  $("convolution-sum").textContent = `${terms} = ${short(values[place])}`;
}

function choices(host, options, take) {
  $(host).replaceChildren(...Object.entries(options).map(([name, value]) => element("button", name, {
    type: "button",
    onclick: () => { take(value); show(); },
  })));
}

const takePicture = (rows) => { picture = rows.join("").split("").map((mark) => Number(mark === "#")); };
const takeKernel = (weights) => [...$("convolution-kernel").children].forEach((input, at) => { input.value = weights[at]; });

export function start() {
  $("convolution-kernel").append(...Array.from({ length: 9 }, (_, at) => {
    const input = element("input", "", { type: "number", step: 0.1, inputMode: "decimal" });
    input.setAttribute("aria-label", `Weight in row ${Math.floor(at / 3) + 1}, column ${at % 3 + 1}`);
    return input;
  }));
  choices("convolution-pictures", PICTURES, takePicture);
  choices("convolution-kernels", KERNELS, takeKernel);
  takePicture(PICTURES.Box);
  takeKernel(KERNELS["Vertical edges"]);
  $("convolution-kernel").addEventListener("input", show);
  $("convolution-place").addEventListener("input", show);
  $("convolution-input").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -SIDE, ArrowDown: SIDE }[event.key];
    const next = focused + step;
    if (!step || next < 0 || next >= SIDE * SIDE) return;
    event.preventDefault();
    focus(next);
  });
  onScheme(show);
  show();
}
