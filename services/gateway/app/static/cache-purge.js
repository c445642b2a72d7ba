// Deletes the answers that match a filter, after a preview.

import { call, element } from "./api.js";
import { counted } from "./cache-format.js";

const $ = (id) => document.getElementById(id);
const answers = (count) => `${counted(count)} ${count === 1 ? "answer" : "answers"}`;

export class Purge {
  constructor({ tenant, changed }) {
    Object.assign(this, { tenant, changed });
    $("purge").addEventListener("submit", (event) => { event.preventDefault(); this.preview(); });
    $("purge").addEventListener("input", () => this.clear());
    $("purge-confirm").addEventListener("click", () => this.confirm());
    $("purge-cancel").addEventListener("click", () => { this.clear(); $("purge").querySelector("button").focus(); });
  }

  clear() {
    $("preview").hidden = true;
  }

  body(force) {
    const filter = {};
    if ($("purge-text").value) filter.prompt_contains = $("purge-text").value;
    if ($("purge-age").value) filter.older_than = Number($("purge-age").value);
    if ($("purge-kind").value) filter.curated = $("purge-kind").value === "true";
    const scope = { tenant: this.tenant(), user: $("purge-user").value, namespace: $("purge-namespace").value };
    return { scope, filter, force, all: !Object.keys(filter).length };
  }

  async send(force) {
    const body = JSON.stringify(this.body(force));
    const reply = await call("/v1/cache/purge", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    return { count: Number(reply.body.count), sample: reply.body.sample };
  }

  show(text, sample, canConfirm, isError = false) {
    $("preview-text").textContent = text;
    $("preview-text").classList.toggle("error", isError);
    $("preview-sample").replaceChildren(...sample.map((entry) => element("li", entry.prompt)));
    $("purge-confirm").hidden = $("purge-cancel").hidden = !canConfirm;
    $("preview").hidden = false;
    $("preview").focus();
  }

  async preview() {
    try {
      const { count, sample } = await this.send(false);
      if (!count) return this.show("No answers match. Nothing would be deleted.", [], false);
      $("purge-confirm").textContent = `Delete ${answers(count)}`;
      const isAll = count <= sample.length;
      this.show(`${answers(count)} would be deleted${isAll ? "" : ", among them"}:`, sample, true);
    } catch (error) {
      this.show(error.message, [], false, true);
    }
  }

  async confirm() {
    $("purge-confirm").disabled = true;
    try {
      const { count } = await this.send(true);
      this.show(`${answers(count)} ${count === 1 ? "is" : "are"} deleted.`, [], false);
      this.changed();
    } catch (error) {
      this.show(error.message, [], false, true);
    } finally {
      $("purge-confirm").disabled = false;
    }
  }
}
