// The wall of all memes: search by words, choose one, add and remove.

import { call, element, loadPicture, open } from "./api.js";
import { prepare } from "./photo.js";

const STEP = 60; // memes that are shown at once
const $ = (id) => document.getElementById(id);
const pathOf = (twin) => `/v1/twins/${encodeURIComponent(twin.id)}`;

export const pictureOf = (twin) => `${pathOf(twin)}/picture`;

// Returns a meme's picture file.
export async function fileOf(twin) {
  return (await open(pictureOf(twin))).blob();
}

// Loads pictures of a list only as they come into view.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    loadPicture(target, target.dataset.path);
  }
}, { rootMargin: "300px" });

export function picture(twin, alt = "") {
  const image = element("img", "", { alt });
  image.dataset.path = pictureOf(twin);
  seen.observe(image);
  return image;
}

export class Wall {
  // `pick` is called with a meme that is clicked, and `changed` after one was added or removed.
  constructor(pick, changed) {
    Object.assign(this, { pick, changed, all: [], found: null, count: STEP });
    $("search").addEventListener("submit", (event) => { event.preventDefault(); this.search(); });
    $("words").addEventListener("input", () => { if (!$("words").value) this.show(null, ""); });
    $("more").addEventListener("click", () => { this.count += STEP; this.draw(); });
    $("edit").addEventListener("click", () => {
      $("edit").setAttribute("aria-pressed", String(!this.isEditing));
      this.draw();
    });
    $("add").addEventListener("click", () => { $("adding-text").textContent = ""; $("adding").showModal(); });
    $("adding-cancel").addEventListener("click", () => $("adding").close());
    $("adding").querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); this.add(); });
  }

  get isEditing() {
    return $("edit").getAttribute("aria-pressed") === "true";
  }

  setAll(twins) {
    this.all = twins;
    this.draw();
  }

  show(found, text) {
    this.found = found;
    $("wall-text").textContent = text;
    this.draw();
  }

  draw() {
    const twins = this.found ?? this.all;
    $("wall").replaceChildren(...twins.slice(0, this.count).map((twin) => this.item(twin)));
    $("more").hidden = twins.length <= this.count;
    $("edit").hidden = !this.all.length;
  }

  item(twin) {
    const item = element("li");
    const pick = element("button", "", { type: "button", className: "pick", onclick: () => this.pick(twin) });
    pick.setAttribute("aria-label", `Find the twin of ${twin.title}`);
    pick.append(picture(twin));
    item.append(pick, element("div", twin.title, { className: "title" }));
    if (this.isEditing) {
      const remove = element("button", "×", { type: "button", className: "remove", onclick: () => this.remove(twin) });
      remove.setAttribute("aria-label", `Remove ${twin.title}`);
      item.append(remove);
    }
    return item;
  }

  async search() {
    $("wall-text").textContent = "Searching …";
    try {
      const body = JSON.stringify({ text: $("words").value, limit: 8 });
      const reply = await call("/v1/twins", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const { twins } = reply.body;
      this.show(twins, twins.length ? `The ${twins.length} memes nearest to “${$("words").value}”, nearest first.` : "No meme is loaded yet.");
    } catch (error) {
      this.show([], error.message);
    }
  }

  async add() {
    const title = $("new-title").value.trim();
    const id = title.normalize("NFKD").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
    try {
      if (!id) throw new Error("The title needs a letter or a digit.");
      if (this.all.some((twin) => twin.id === id)) throw new Error("There is a meme with this title. Choose another title.");
      const photo = await prepare($("new-file").files[0]);
      await call(`${pathOf({ id })}?title=${encodeURIComponent(title)}`, { method: "PUT", headers: { "Content-Type": "image/jpeg" }, body: photo });
      $("adding").close();
      $("adding").querySelector("form").reset();
      $("wall-text").textContent = `${title} is on the wall.`;
      this.changed();
    } catch (error) {
      $("adding-text").textContent = error.message;
    }
  }

  async remove(twin) {
    if (!confirm(`Remove ${twin.title} for everybody?`)) return;
    try {
      await call(pathOf(twin), { method: "DELETE" });
      this.found = this.found?.filter((one) => one.id !== twin.id) ?? null;
      $("wall-text").textContent = `${twin.title} is removed.`;
      this.changed();
    } catch (error) {
      $("wall-text").textContent = error.message;
    }
  }
}
