// All memes as points of a plane, drawn on a canvas that one can move and zoom.

import { open } from "./api.js";

const PICTURES = 150; // at most so many are drawn as pictures, the others as dots
const MARGIN = 1.25;
const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export class MemeMap {
  // `pick` is called with a meme that is clicked, and `say` with a text about the nearest one.
  constructor(canvas, { pick, say }) {
    Object.assign(this, { canvas, pick, say, places: [], photo: null, pictures: new Map(), twinId: null });
    this.reset();
    new ResizeObserver(() => this.fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.fit());
    this.listen();
  }

  reset() {
    Object.assign(this, { zoom: 1, x: 0, y: 0 });
    this.draw();
  }

  setPlaces(places) {
    this.places = places;
    this.draw();
  }

  // Lets a photo fly to its place.
  land(image, place, twinId) {
    this.twinId = twinId;
    this.photo = place && { image, x: 0, y: -MARGIN * 1.4, to: place, from: { x: 0, y: -MARGIN * 1.4 } };
    if (!place) return this.draw();
    const start = performance.now();
    const step = (now) => {
      if (!this.photo || this.photo.to !== place) return;
      const time = isStill() ? 1 : Math.min(1, (now - start) / 900);
      const share = 1 - (1 - time) ** 3;
      const { from } = this.photo;
      this.photo.x = from.x + (place.x - from.x) * share;
      this.photo.y = from.y + (place.y - from.y) * share;
      this.draw();
      if (time < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  fit() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    this.size = { width, height };
    this.colours = null;
    this.draw();
  }

  toScreen({ x, y }) {
    const { width, height } = this.size;
    return [
      width / 2 + ((x - this.x) / MARGIN) * (width / 2) * this.zoom,
      height / 2 + ((y - this.y) / MARGIN) * (height / 2) * this.zoom,
    ];
  }

  move(dx, dy) {
    const limit = MARGIN;
    this.x = Math.max(-limit, Math.min(limit, this.x + dx / this.zoom));
    this.y = Math.max(-limit, Math.min(limit, this.y + dy / this.zoom));
    this.draw();
  }

  zoomBy(factor, at = null) {
    const before = this.zoom;
    this.zoom = Math.max(1, Math.min(60, this.zoom * factor));
    if (at && this.size) { // keep the point below the pointer
      const [dx, dy] = [at[0] / this.size.width * 2 - 1, at[1] / this.size.height * 2 - 1];
      this.x += dx * MARGIN * (1 / before - 1 / this.zoom);
      this.y += dy * MARGIN * (1 / before - 1 / this.zoom);
    }
    this.move(0, 0);
  }

  draw() {
    if (!this.size || this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => { this.isWaiting = false; this.paint(); });
  }

  paint() {
    const style = this.colours ??= getComputedStyle(this.canvas);
    const context = this.canvas.getContext("2d");
    const { width, height } = this.size;
    context.setTransform(devicePixelRatio || 1, 0, 0, devicePixelRatio || 1, 0, 0);
    context.clearRect(0, 0, width, height);
    const shown = [];
    for (const place of this.places) {
      const [x, y] = this.toScreen(place);
      if (x > -40 && y > -40 && x < width + 40 && y < height + 40) shown.push([place, x, y]);
    }
    const side = shown.length > PICTURES ? 0 : Math.max(26, Math.min(84, Math.sqrt((width * height) / shown.length) * 0.55));
    context.fillStyle = style.color;
    if (!side) this.drawDots(context, shown, style.color);
    let twin = null;
    for (const one of shown) {
      if (one[0].id === this.twinId) twin = one;
      else if (side) this.drawPicture(context, one, side);
    }
    if (twin) this.drawPicture(context, twin, Math.max(side, 40), style.getPropertyValue("--accent"));
    if (this.photo) this.drawPhoto(context, Math.max(side, 40), twin);
    this.hits = { shown, side: side || 12 };
  }

  // Writes the pixels of all dots at once: a path of 10,000 parts takes longer than a frame.
  drawDots(context, shown, colour) {
    const { width, height } = this.canvas;
    if (this.pixels?.width !== width || this.pixels.height !== height) this.pixels = context.createImageData(width, height);
    const pixels = new Uint32Array(this.pixels.data.buffer).fill(0);
    const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
    const ink = ((150 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    const scale = devicePixelRatio || 1;
    const side = Math.round(4 * scale);
    for (const [, x, y] of shown) {
      const left = Math.round(x * scale - side / 2);
      const top = Math.round(y * scale - side / 2);
      if (left < 0 || top < 0 || left + side > width || top + side > height) continue;
      for (let row = top; row < top + side; row++) pixels.fill(ink, row * width + left, row * width + left + side);
    }
    context.putImageData(this.pixels, 0, 0);
  }

  drawPicture(context, [place, x, y], side, ring = "") {
    const picture = this.pictureOf(place);
    context.save();
    context.beginPath();
    context.roundRect(x - side / 2, y - side / 2, side, side, side / 6);
    if (ring) {
      context.strokeStyle = ring;
      context.lineWidth = 6;
      context.stroke();
    }
    context.clip();
    if (picture) context.drawImage(picture, x - side / 2, y - side / 2, side, side);
    else context.fill();
    context.restore();
  }

  drawPhoto(context, side, twin) {
    const style = this.colours;
    const [x, y] = this.toScreen(this.photo);
    context.strokeStyle = style.getPropertyValue("--you");
    if (twin) {
      context.lineWidth = 2;
      context.setLineDash([6, 5]);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(twin[1], twin[2]);
      context.stroke();
      context.setLineDash([]);
    }
    context.save();
    context.beginPath();
    context.arc(x, y, side / 2, 0, 7);
    context.lineWidth = 8;
    context.stroke();
    context.clip();
    context.drawImage(this.photo.image, x - side / 2, y - side / 2, side, side);
    context.restore();
  }

  // Returns a small picture of a meme, or starts to load it.
  pictureOf(place) {
    if (!this.pictures.has(place.id)) {
      this.pictures.set(place.id, null);
      this.load(place).catch(() => {});
    }
    return this.pictures.get(place.id);
  }

  async load(place) {
    const received = await open(`/v1/twins/${encodeURIComponent(place.id)}/picture`);
    const options = { resizeWidth: 128, resizeHeight: 128, resizeQuality: "medium" };
    this.pictures.set(place.id, await createImageBitmap(await received.blob(), options));
    this.draw();
  }

  nearest(x, y) {
    const { shown = [], side = 0 } = this.hits ?? {};
    let best = null;
    for (const [place, px, py] of shown) {
      const distance = Math.hypot(px - x, py - y);
      if (distance < side && (!best || distance < best[0])) best = [distance, place];
    }
    return best?.[1];
  }

  listen() {
    const { canvas } = this;
    const pointers = new Map();
    let moved = 0;
    const at = (event) => [event.offsetX, event.offsetY];
    const spread = () => {
      const [one, other] = [...pointers.values()];
      return Math.hypot(one[0] - other[0], one[1] - other[1]);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      if (pointers.size === 1) moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      const now = at(event);
      if (!last) {
        const place = this.nearest(...now);
        canvas.style.cursor = place ? "pointer" : "";
        canvas.title = place?.title ?? "";
        return;
      }
      const before = pointers.size === 2 ? spread() : 0;
      pointers.set(event.pointerId, now);
      moved += Math.hypot(now[0] - last[0], now[1] - last[1]);
      if (before) this.zoomBy(spread() / before, now);
      else this.move((-2 * MARGIN * (now[0] - last[0])) / this.size.width, (-2 * MARGIN * (now[1] - last[1])) / this.size.height);
    });
    const end = (event) => {
      if (pointers.delete(event.pointerId) && event.type === "pointerup" && moved < 6) {
        const place = this.nearest(...at(event));
        if (place) this.pick(place);
      }
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !canvas.matches(":focus")) return; // the page scrolls
      event.preventDefault();
      this.zoomBy(2 ** (-event.deltaY / 300), at(event));
    }, { passive: false });
    const keys = {
      ArrowLeft: () => this.move(-0.2, 0), ArrowRight: () => this.move(0.2, 0),
      ArrowUp: () => this.move(0, -0.2), ArrowDown: () => this.move(0, 0.2),
      "+": () => this.zoomBy(1.4), "=": () => this.zoomBy(1.4), "-": () => this.zoomBy(1 / 1.4), 0: () => this.reset(),
      Enter: () => { if (this.central()) this.pick(this.central()); },
    };
    canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
      this.say(this.central() ? `${this.central().title} is in the centre. Press Enter to choose it.` : "");
    });
  }

  central() {
    let best = null;
    for (const place of this.places) {
      const distance = Math.hypot(place.x - this.x, place.y - this.y);
      if (!best || distance < best[0]) best = [distance, place];
    }
    return best?.[1];
  }
}
