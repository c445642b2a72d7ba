// The lists of the latest lookups: newest answers, near misses and doubtful hits.

import { call, element } from "./api.js";
import { ago, percent } from "./cache-format.js";

const $ = (id) => document.getElementById(id);
const PAGE = 10;
const NEAR = 0.7; // cosine from which a miss counts as a near one
const LISTS = {
  newest: {
    text: "Questions that the language model answered. Their answers are in the cache now.",
    none: "No new answers. New questions appear here.",
    choose: (all) => all.filter((one) => one.kind === "miss" && one.is_stored),
  },
  near: {
    text: "Questions that were not answered from the cache, although a similar one was.",
    none: "No near misses. They appear here when a question resembles an earlier one.",
    choose: (all) => all.filter((one) => one.kind === "miss" && one.nearest_prompt && one.similarity >= NEAR).sort((a, b) => b.similarity - a.similarity),
  },
  doubtful: {
    text: "Questions that were answered with the answer to another one, the least certain first.",
    none: "No semantic hits. They appear here when an earlier answer serves a question in other words.",
    choose: (all) => all.filter((one) => one.kind === "semantic").sort((a, b) => (a.probability ?? 1) - (b.probability ?? 1)),
  },
};
const RULES = {
  number: "The two questions have different numbers.",
  symbol: "The two questions have different symbols.",
  class: "They name different things of one kind, such as two weekdays or two colours.",
  opposite: "One says the opposite of the other.",
  order: "The same words have swapped their roles.",
  name: "They contain different names or rare words.",
  negation: "Only one of them says “not”.",
  asked: "They ask for different things about the same subject.",
  tense: "One is about the past, the other about the future.",
  quantity: "They differ in a quantity, such as “all” and “some”.",
  owner: "One is about my things, the other about yours.",
  code: "They contain different codes.",
  language: "They may not be English, and differ in a word.",
  long: "They are long, and differ in a word.",
};
const REASONS = {
  empty: "The cache had no answers yet.",
  not_similar: "The nearest question is not certain enough to ask the same.",
  context_differs: "A similar question was asked, but with other settings",
  not_exact: "The caller accepted only the same question, word for word.",
  contradicts: "The nearest question asks something else.",
  model_differs: "The stored questions were embedded with another model.",
  explores: "The nearest answer is probably right, but not certain enough. The new answer teaches the cache.",
  too_old: "The stored answer was too old.",
  unreadable: "The embedding model cannot read enough of the question.",
  unavailable: "The search for similar questions failed or took too long.",
};

function reasonOf(one) {
  if (one.kind === "semantic") return "The questions are near enough, and no rule speaks against it.";
  if (one.rule) return RULES[one.rule] ?? REASONS.contradicts;
  if (one.reason === "context_differs") return `${REASONS.context_differs}: ${one.differing_parts.join(", ").replaceAll("_", " ")}.`;
  return REASONS[one.reason] ?? "The caller asked for a new answer.";
}

export class Lookups {
  // `query` returns the parameters of calls, `tenant` the tenant; `changed` is called after a change.
  constructor({ query, tenant, changed }) {
    Object.assign(this, { query, tenant, changed, all: [], shown: PAGE, round: 0, isLoaded: false });
    $("list").addEventListener("change", () => { this.shown = PAGE; this.say(""); this.draw(); });
    $("more").addEventListener("click", () => {
      const before = this.shown;
      this.shown += PAGE;
      this.draw();
      $("lookups").children[before]?.querySelector("button")?.focus();
    });
    $("reload").addEventListener("click", async () => { await this.load(); this.say("The list is up to date."); });
  }

  get list() {
    return LISTS[document.querySelector("[name=list]:checked").value];
  }

  say(text, isError = false) {
    $("list-status").textContent = text;
    $("list-status").classList.toggle("error", isError);
  }

  clear() {
    Object.assign(this, { all: [], shown: PAGE, isLoaded: false });
    this.say("");
    $("lookups").replaceChildren();
  }

  // Loads the list unless the user reads it.
  async loadIfIdle() {
    const list = $("lookups");
    if (this.isLoaded && (list.contains(document.activeElement) || list.querySelector("[aria-expanded=true]") || list.matches(":hover"))) return;
    await this.load();
  }

  async load() {
    const round = ++this.round;
    try {
      const { body } = await call(`/v1/cache/lookups?${this.query()}`);
      if (round !== this.round) return;
      this.all = body.lookups;
      this.isLoaded = true;
      this.draw();
    } catch (error) {
      if (round === this.round && error.status !== 401) this.say(error.message, true);
    }
  }

  draw() {
    const found = this.list.choose(this.all);
    const isOff = $("list").hidden;
    $("list-text").textContent = isOff
      ? "MEMETWIN_CACHE_LOOKUP_LOG is 0, so the gateway keeps no list of questions."
      : found.length ? this.list.text : this.list.none;
    $("lookups").replaceChildren(...found.slice(0, this.shown).map((one) => this.item(one)));
    $("more").hidden = found.length <= this.shown;
  }

  item(one) {
    const item = element("li", "", { className: "card" });
    const texts = element("div");
    texts.append(element("p", one.prompt, { className: "asked" }));
    if (one.nearest_prompt && (one.kind === "semantic" || one.similarity >= NEAR)) {
      const near = element("p", one.kind === "semantic" ? "Answered like: " : "Similar to: ");
      near.append(element("span", one.nearest_prompt));
      texts.append(near);
    }
    texts.append(element("p", this.where(one), { className: "meta" }));
    const row = element("div", "", { className: "row" });
    const why = element("div", "", { className: "why", hidden: true });
    row.append(this.whyButton(one, why));
    if (one.kind === "semantic" && one.is_stored) {
      row.append(this.action("👍 Right", `The answer to “${one.prompt}” was right`, () => this.judge(one, true)));
      row.append(this.action("👎 Wrong", `The answer to “${one.prompt}” was wrong`, () => this.judge(one, false)));
    }
    if (one.is_stored) row.append(this.action("Delete", `Delete the answer to “${one.prompt}”`, () => this.remove(one)));
    else row.append(element("small", one.kind === "semantic" ? "This answer is gone." : "Not in the cache."));
    item.append(texts, row, why);
    return item;
  }

  where(one) {
    const parts = [ago(one.time)];
    if (one.kind === "semantic") parts.push(`${percent(one.probability ?? 0)} certain`);
    else if (one.nearest_prompt && one.similarity >= NEAR) parts.push(`similarity ${one.similarity.toFixed(2)}`);
    if (one.namespace) parts.push(one.namespace);
    if (one.user) parts.push(one.user);
    return parts.join(" · ");
  }

  action(text, label, run) {
    const button = element("button", text, { type: "button" });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await run();
        this.changed();
      } catch (error) {
        this.say(error.message, true);
        button.disabled = false;
      }
    });
    return button;
  }

  whyButton(one, panel) {
    const button = element("button", "Why?", { type: "button" });
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `Why? About “${one.prompt}”`);
    button.addEventListener("click", () => {
      panel.hidden = !panel.hidden;
      button.setAttribute("aria-expanded", String(!panel.hidden));
      if (!panel.hidden && !panel.childElementCount) this.explain(one, panel);
    });
    return button;
  }

  async explain(one, panel) {
    const facts = [];
    if (one.nearest_prompt) facts.push(["Earlier question", one.nearest_prompt], ["Similarity", one.similarity.toFixed(3)]);
    if (one.probability !== null) facts.push(["Probably right", percent(one.probability)]);
    const list = element("dl", "", { className: "facts" });
    const add = (name, text) => list.append(element("dt", name), element("dd", text));
    for (const [name, text] of facts) add(name, text);
    panel.append(element("p", reasonOf(one)), list);
    if (!one.is_stored) return;
    try {
      const { body } = await call(this.path(one));
      add("Answer", body.response.length > 600 ? `${body.response.slice(0, 600)} …` : body.response);
    } catch (error) {
      add("Answer", error.message);
    }
  }

  scope(one) {
    return { tenant: this.tenant(), user: one.user, namespace: one.namespace };
  }

  path(one) {
    return `/v1/cache/entries/${encodeURIComponent(one.entry_id)}?${new URLSearchParams(this.scope(one))}`;
  }

  async judge(one, correct) {
    const body = JSON.stringify({ entry_id: one.entry_id, correct, prompt: one.prompt, scope: this.scope(one) });
    const reply = await call("/v1/feedback", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    await this.load();
    this.say(reply.body.deleted ? "Thank you. The wrong answer is deleted." : "Thank you. The cache learns from it.");
  }

  async remove(one) {
    await call(this.path(one), { method: "DELETE" });
    await this.load();
    this.say("The answer is deleted. The language model answers the next such question.");
  }
}
