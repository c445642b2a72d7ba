// A chart of curves over time, which tells its values under the pointer and by arrow keys.

import { element } from "./api.js";
import { clock } from "./cache-format.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 10, right: 10, bottom: 24 };
const SLOT = 300; // seconds of a point

function drawn(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
}

// Up to five round numbers from 0 to at least `most`.
export function ticks(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough * 0.999);
  return Array.from({ length: Math.ceil(most / step - 0.001) + 1 }, (_, at) => Number((at * step).toPrecision(6)));
}

// Powers of ten around the values.
export function powers(least, most) {
  const from = Math.floor(Math.log10(least));
  const to = Math.max(from + 1, Math.ceil(Math.log10(most)));
  return Array.from({ length: to - from + 1 }, (_, at) => 10 ** (from + at));
}

export class Chart {
  // `format` writes a value, also at the ticks of the axis. `empty` tells why there is no curve.
  constructor({ title, format, empty, isLogarithmic = false }) {
    Object.assign(this, { format, empty, isLogarithmic, series: [], times: [], at: -1 });
    this.title = element("h3", title);
    this.legend = element("span", "", { className: "legend" });
    this.svg = drawn("svg", { role: "slider", tabindex: "0" });
    this.readout = element("p", "", { className: "readout" });
    const caption = element("figcaption");
    caption.append(this.title, this.legend);
    this.node = element("figure", "", { className: "chart card" });
    this.node.append(caption, this.svg, this.readout);
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.listen();
  }

  // A curve is {name, className, values: [[seconds since 1970, number], …]}.
  update({ title, format, series, start, end }) {
    if (title) this.title.textContent = title;
    if (format) this.format = format;
    const chosen = this.times[this.at];
    Object.assign(this, { series, start, end });
    this.times = [...new Set(series.flatMap((one) => one.values.map(([time]) => time)))].sort((a, b) => a - b);
    this.at = this.times.indexOf(chosen);
    this.legend.replaceChildren(...series.map((one) => element("span", one.name, { className: `key ${one.className}` })));
    this.legend.hidden = series.length < 2;
    this.draw();
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    this.svg.replaceChildren();
    if (!width || this.start === undefined) return;
    const values = this.series.flatMap((one) => one.values.map(([, value]) => value)).filter((value) => !this.isLogarithmic || value > 0);
    this.svg.toggleAttribute("hidden", false);
    const most = Math.max(...values, 1e-9);
    const marks = !values.length ? [] : this.isLogarithmic ? powers(Math.min(...values), most) : ticks(most);
    const texts = marks.map((mark) => this.format(mark));
    const left = Math.max(0, ...texts.map((text) => text.length)) * 7 + 10;
    const scale = this.isLogarithmic ? Math.log10 : (value) => value;
    const [low, high] = [scale(marks[0] ?? 0), scale(marks.at(-1) ?? 1)];
    const inner = height - MARGIN.top - MARGIN.bottom;
    this.x = (time) => left + ((width - left - MARGIN.right) * (time - this.start)) / (this.end - this.start);
    const y = (value) => MARGIN.top + inner * (1 - (scale(value) - low) / (high - low || 1));
    this.y = y;
    marks.forEach((mark, at) => {
      this.svg.append(
        drawn("line", { class: "grid", x1: left, x2: width - MARGIN.right, y1: y(mark), y2: y(mark) }),
        drawn("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, texts[at]),
      );
    });
    this.drawTimes(left, width, height);
    this.series.forEach((one) => this.drawSeries(one));
    this.cursor = drawn("g");
    this.svg.append(this.cursor);
    if (!this.times.length) this.svg.append(drawn("text", { x: left + 4, y: height / 2 }, ""));
    this.show(this.at);
  }

  drawTimes(left, width, height) {
    const wanted = Math.max(2, Math.floor((width - left) / 90));
    const steps = [300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200];
    const step = steps.find((one) => (this.end - this.start) / one <= wanted) ?? 86400;
    const shift = new Date(this.end * 1000).getTimezoneOffset() * 60;
    for (let time = Math.ceil((this.start - shift) / step) * step + shift; time <= this.end; time += step) {
      const x = this.x(time);
      if (x < left + 12 || x > width - 24) continue;
      this.svg.append(drawn("text", { x, y: height - 4, "text-anchor": "middle" }, clock(time)));
    }
  }

  drawSeries({ className, values }) {
    let path = "";
    values.forEach(([time, value], at) => {
      if (this.isLogarithmic && value <= 0) return;
      const isNext = at > 0 && time - values[at - 1][0] <= 2 * SLOT;
      const isAlone = !isNext && !(at + 1 < values.length && values[at + 1][0] - time <= 2 * SLOT);
      const [x, y] = [this.x(time).toFixed(1), this.y(value).toFixed(1)];
      path += `${isNext && path ? "L" : "M"}${x} ${y}`;
      if (isAlone) this.svg.append(drawn("circle", { class: className, cx: x, cy: y, r: 3 }));
    });
    if (path) this.svg.append(drawn("path", { class: className, d: path }));
  }

  listen() {
    const move = (event) => {
      if (!this.times.length) return;
      const x = event.clientX - this.svg.getBoundingClientRect().x;
      const distance = (time) => Math.abs(this.x(time) - x);
      this.show(this.times.reduce((best, time, at) => (distance(time) < distance(this.times[best]) ? at : best), 0));
    };
    this.svg.addEventListener("pointermove", move);
    this.svg.addEventListener("pointerdown", move);
    this.svg.addEventListener("pointerleave", () => { if (document.activeElement !== this.svg) this.show(-1); });
    this.svg.addEventListener("focus", () => { if (this.at < 0) this.show(this.times.length - 1); });
    this.svg.addEventListener("blur", () => this.show(-1));
    this.svg.addEventListener("keydown", (event) => {
      const last = this.times.length - 1;
      const at = this.at < 0 ? last : this.at;
      const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: last }[event.key];
      if (to === undefined || last < 0) return;
      event.preventDefault();
      this.show(Math.min(last, Math.max(0, to)));
    });
  }

  // Shows the values at one of the times, or none for -1.
  show(at) {
    this.at = at < this.times.length ? at : -1;
    const time = this.times[this.at];
    const texts = this.series.flatMap((one) => {
      const value = one.values.find(([when]) => when === time)?.[1];
      if (value === undefined) return [];
      return [this.series.length > 1 ? `${one.name} ${this.format(value)}` : this.format(value)];
    });
    const text = time === undefined ? "" : `${clock(time)}: ${texts.join(", ")}`;
    this.readout.textContent = text || (this.times.length ? "" : this.empty);
    const attributes = {
      "aria-label": this.title.textContent,
      "aria-valuemin": 0,
      "aria-valuemax": Math.max(0, this.times.length - 1),
      "aria-valuenow": Math.max(0, this.at),
      "aria-valuetext": text || (this.times.length ? "Arrow keys move through the curve." : this.empty),
    };
    for (const [name, value] of Object.entries(attributes)) this.svg.setAttribute(name, value);
    this.cursor?.replaceChildren();
    if (time === undefined || !this.cursor) return;
    const x = this.x(time);
    const { height } = this.svg.getBoundingClientRect();
    this.cursor.append(drawn("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: height - MARGIN.bottom }));
    for (const one of this.series) {
      const value = one.values.find(([when]) => when === time)?.[1];
      if (value === undefined || (this.isLogarithmic && value <= 0)) continue;
      this.cursor.append(drawn("circle", { class: one.className, cx: x, cy: this.y(value), r: 4 }));
    }
  }
}
