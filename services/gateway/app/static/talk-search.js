// Step 6: the same question, searched by meaning and by words.

import { element } from "./api.js";
import { $, latest, number, post } from "./talk-tools.js";

const SAMPLES = ["a lady shouts at her pet", "a small boy triumphs on the shore", "a canine with bad spelling", "a feline in a bad mood"];
const SHOWN = 3;
const STOP = new Set("a about an and at be been but by did do does for from had has have he her his how i in is it its my of on or she that the their they this to was were what when where which who why with you your".split(" "));

export const COLLECTION = "memes";
export const EMPTY = "The collection “memes” is empty. Fill it with: memetwin load --demo";

// Returns the words of a text without their commonest endings.
function words(text) {
  const found = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return new Set(found.filter((word) => !STOP.has(word)).map((word) => word.replace(/(ies|es|s|ed|ing)$/, "")));
}

function meter(share) {
  const bar = element("span", "", { className: "meter" });
  const fill = element("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  bar.append(fill);
  return bar;
}

function hit(passage, share, note) {
  const item = element("li");
  const text = passage.text.length > 90 ? `${passage.text.slice(0, 90).replace(/\s+\S*$/, "")} …` : passage.text;
  item.append(element("strong", passage.title || passage.document_id), meter(share), element("small", note), element("span", text));
  return item;
}

const show = latest($("search-status"), async (isLast) => {
  const question = $("search-text").value.trim();
  const { passages } = await post("/v1/retrieve", { collection: COLLECTION, question, limit: 200 });
  if (!isLast()) return;
  if (!passages.length) throw new Error(EMPTY);
  const asked = words(question);
  const shared = (passage) => [...words(passage.text)].filter((word) => asked.has(word));
  const near = [...passages].sort((one, other) => other.similarity - one.similarity).slice(0, SHOWN);
  $("search-meaning").replaceChildren(...near.map((one) => {
    const common = shared(one);
    const note = common.length ? `shares ${common.join(", ")}` : "shares no word with the question";
    return hit(one, one.similarity, `cosine ${number(one.similarity)}; ${note}`);
  }));
  const withWords = passages.map((one) => ({ one, common: shared(one) })).filter(({ common }) => common.length);
  withWords.sort((one, other) => other.common.length - one.common.length);
  $("search-words").replaceChildren(...withWords.slice(0, SHOWN).map(({ one, common }) => hit(one, common.length / asked.size, `contains ${common.join(", ")}`)));
  if (!withWords.length) $("search-words").append(element("li", "No passage contains a word of the question."));
  $("search-status").textContent = `Searched ${passages.length} passages about memes.`;
});

export function start() {
  $("search-samples").replaceChildren(...SAMPLES.map((text) => element("button", text, { type: "button", onclick: () => { $("search-text").value = text; show(); } })));
  $("search-form").addEventListener("submit", (event) => { event.preventDefault(); show(); });
  show();
}
