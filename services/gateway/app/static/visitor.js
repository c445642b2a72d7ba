// A visitor's own documents: a collection with a random name that belongs to this tab.

import { call, element } from "./api.js";

const NAME = "memetwin-visitor";
const $ = (id) => document.getElementById(id);

function newName() {
  const random = [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
  return `visitor-${new Date().toISOString().slice(0, 10)}-${random}`;
}

export class VisitorDocuments {
  constructor() {
    this.documents = [];
    $("files").addEventListener("change", (event) => { this.add([...event.target.files]); event.target.value = ""; });
    $("forget").addEventListener("click", () => this.deleteAll());
    if (this.collection) this.list().catch((error) => this.say(error.message, true));
  }

  // The collection's name, or null before the first document.
  get collection() {
    return sessionStorage.getItem(NAME);
  }

  say(text, isError = false) {
    $("own-text").textContent = text;
    $("own-text").classList.toggle("error", isError);
  }

  async add(files) {
    if (!files.length) return;
    if (!this.collection) sessionStorage.setItem(NAME, newName());
    const form = new FormData();
    form.append("collection", this.collection);
    for (const file of files) form.append("file", file);
    this.say(files.length === 1 ? `Reading ${files[0].name} …` : `Reading ${files.length} files …`);
    try {
      const { body } = await call("/v1/documents", { method: "POST", body: form }).catch((error) => {
        if (error.body?.receipts) return error; // no file could be read
        throw error;
      });
      const failed = body.receipts.filter((receipt) => receipt.reason);
      this.say(failed.map((receipt) => `${receipt.id}: ${receipt.message}`).join("\n")
        || "Now ask about what you have added.", failed.length > 0);
      await this.list();
    } catch (error) {
      this.say(error.message, true);
    }
  }

  async list() {
    const { body } = await call(`/v1/documents?page_size=1000&collection=${this.collection}`);
    this.documents = body.documents;
    $("forget").hidden = !this.documents.length;
    $("own").replaceChildren(...this.documents.map((one) => {
      const item = element("li");
      const text = element("span", one.title || one.id);
      text.append(element("small", ` ${one.chunks} ${one.chunks === 1 ? "passage" : "passages"}`));
      const remove = element("button", "×", { type: "button", onclick: () => this.remove(one) });
      remove.setAttribute("aria-label", `Delete ${one.title || one.id}`);
      item.append(text, remove);
      return item;
    }));
  }

  async remove(one) {
    await this.change(`/v1/documents/${encodeURIComponent(one.id)}?collection=${this.collection}`, `${one.title || one.id} is deleted.`);
  }

  async deleteAll() {
    await this.change(`/v1/documents?collection=${this.collection}`, "Your documents are deleted.");
  }

  async change(path, text) {
    try {
      await call(path, { method: "DELETE" });
      await this.list();
      this.say(text);
    } catch (error) {
      this.say(error.message, true);
    }
  }
}
