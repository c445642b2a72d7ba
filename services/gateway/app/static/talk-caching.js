// Step 7: whether the cache would serve the answer to one question for another, and why.

import { element } from "./api.js";
import { $, debounce, latest, number, post } from "./talk-tools.js";

const SAMPLES = [
  ["Order", "Flights from Paris to London", "Flights from London to Paris"],
  ["Same question", "How do I reset my password?", "How can I reset my password?"],
  ["Number", "Can I bring 2 bags?", "Can I bring 3 bags?"],
  ["Opposite", "How do I open an account?", "How do I close an account?"],
  ["Negation", "Which foods should I eat?", "Which foods should I not eat?"],
  ["Other topic", "What is a meme?", "What is the weather like today?"],
];
const REASONS = {
  number: "The questions have different numbers.",
  symbol: "The questions have different symbols.",
  class: "The questions name different things of one kind, such as two weekdays or two colours.",
  opposite: "The questions use opposite words.",
  order: "Two words have swapped their roles.",
  name: "The questions have different names.",
  negation: "Only one of the questions has a negation.",
  asked: "The questions ask for different things, such as when and where.",
  tense: "One question is about the past and the other about the future or the present.",
  quantity: "The questions have different quantities, such as all and some.",
  owner: "The questions are about different people.",
  code: "The questions have different codes.",
  language: "The verifier reads only English, and the words of these questions differ.",
  long: "The questions are too long to compare, and their words differ.",
};

function bar(name, value) {
  const row = element("div");
  const track = element("span", "", { className: "meter" });
  const fill = element("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
  track.append(fill);
  row.append(element("span", `${name}: ${number(value, 3)}`), track);
  return row;
}

function say(text, isHit) {
  $("caching-verdict").textContent = text;
  $("caching-verdict").classList.toggle("yes", isHit);
  $("caching-verdict").classList.toggle("no", !isHit);
}

const show = latest($("caching-reason"), async (isLast) => {
  const [one, other] = ["one", "other"].map((name) => $(`caching-${name}`).value.trim());
  if (!one || !other) throw new Error("Write two questions.");
  if (one === other) {
    say("Served: an exact hit", true);
    $("caching-bars").replaceChildren();
    $("caching-reason").textContent = "The questions are equal, so no embedding is needed. Redis finds the answer by its key.";
    return;
  }
  const pair = await post("/v1/cache/pairs", { one, other });
  if (!isLast()) return;
  say(pair.is_hit ? "Served: a semantic hit" : "Not served: the model is asked", pair.is_hit);
  $("caching-bars").replaceChildren(bar("Cosine of both embeddings", pair.similarity), bar("Probability that both ask the same", pair.probability));
  if (pair.contradicts) $("caching-reason").textContent = `The verifier rejects it. ${REASONS[pair.difference] ?? "The questions contradict each other."}`;
  else if (pair.is_hit) $("caching-reason").textContent = "The probability is high enough for a new cache with these settings, and no difference rules it out.";
  else $("caching-reason").textContent = "No rule forbids it, but the probability is too low for a new cache with these settings.";
});

export function start() {
  $("caching-samples").replaceChildren(...SAMPLES.map(([name, one, other]) => element("button", name, {
    type: "button",
    onclick: () => {
      $("caching-one").value = one;
      $("caching-other").value = other;
      show();
    },
  })));
  for (const name of ["one", "other"]) $(`caching-${name}`).addEventListener("input", debounce(() => show(), 400));
  show();
}
