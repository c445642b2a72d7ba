// What the numbers of a twin mean, in words.

const WORDS = [
  [0.85, "Spitting image"],
  [0.6, "Twin"],
  [0.35, "Cousin"],
  [0.15, "Distant relative"],
  [-Infinity, "No twin here"],
];

export const METRICS = { cosine: "cosine similarity", ip: "inner product", l2: "Euclidean distance" };

// Returns the likeness, 0 to 1. 0 is the typical cosine of two memes.
export function likeness(cosine, typical) {
  return Math.min(1, Math.max(0, (cosine - typical) / (1 - typical || 1)));
}

export function verdict(share) {
  return WORDS.find(([least]) => share >= least)[1];
}

// The length of a twin's vector, in units that all twins of one photo share.
function lengthOf(id, results) {
  const of = (metric) => results[metric].find((one) => one.id === id);
  const [cosine, product] = [of("cosine"), of("ip")];
  return cosine && product && Math.abs(cosine.similarity) > 0.01 ? product.similarity / cosine.similarity : null;
}

// Explains a metric, and why it ranks these twins differently from the cosine.
export function explain(metric, results) {
  const first = results[metric][0];
  const before = results.cosine[0];
  if (metric === "cosine") {
    return "Cosine compares only the directions of two vectors. Their lengths do not matter, so it is the usual choice.";
  }
  const meaning = metric === "ip"
    ? "The inner product is the cosine times both lengths. Memes with long vectors move forward."
    : "Euclidean distance is the straight line between the two end points. Memes whose vectors are as long as your photo's move forward.";
  if (first.id === before.id) return `${meaning} Here, the nearest meme stays the same.`;
  const [now, then] = [lengthOf(first.id, results), lengthOf(before.id, results)];
  const ratio = now && then ? now / then : null;
  const compared = ratio && Math.abs(ratio - 1) > 0.01
    ? ` Its vector is ${ratio.toFixed(2)} times as long as that of ${before.title}.`
    : "";
  return `${meaning} ${first.title} is now the nearest.${compared}`;
}
