// The strip of steps of one question: each with its state and its time.

import { element } from "./api.js";

const NAMES = { cache: "Cache", embed: "Embedding", search: "Passages", generate: "Writing" };
const time = (seconds) => `${seconds < 0.0095 ? (seconds * 1000).toFixed(1) : Math.round(seconds * 1000)} ms`;

export class Steps {
  constructor() {
    this.node = element("ol", "", { className: "steps" });
    this.node.setAttribute("aria-label", "Steps");
    this.items = {};
    for (const [name, text] of Object.entries(NAMES)) {
      this.items[name] = element("li", text);
      this.node.append(this.items[name]);
    }
    this.set("cache", "running");
  }

  set(name, state, text = "", seconds = null) {
    const item = this.items[name];
    item.className = state;
    item.replaceChildren(NAMES[name], ...(text ? [` · ${text}`] : []), ...(seconds ? [element("small", time(seconds))] : []));
  }

  retrieved(count) {
    this.set("cache", "done", "no answer yet");
    this.set("embed", "done");
    this.set("search", "done", `${count} found`);
    this.set("generate", "running");
  }

  // Shows the reply to a question, with the times that the gateway measured.
  finish(reply) {
    const { timings, decision, passages } = reply;
    const kind = decision.kind.replace("DECISION_KIND_", "");
    if (kind === "EXACT" || kind === "SEMANTIC") {
      this.set("cache", "done", kind === "EXACT" ? "the same question" : "a question with the same meaning", timings.cache);
      for (const name of ["search", "generate"]) this.set(name, "skipped", "not needed");
      if (timings.embed) this.set("embed", "done", "", timings.embed);
      else this.set("embed", "skipped", "not needed");
      return;
    }
    this.set("cache", "done", "no answer yet", timings.cache);
    this.set("embed", "done", "", timings.embed);
    this.set("search", "done", `${passages.length} found`, timings.search + timings.arrange + timings.rerank);
    if (reply.refusal) this.set("generate", "skipped", "nothing fits");
    else this.set("generate", "done", reply.model || "quotes", timings.generate);
  }

  fail() {
    for (const item of Object.values(this.items)) if (item.className === "running") item.className = "skipped";
  }
}
