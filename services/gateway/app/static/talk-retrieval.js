// Step 8: the passages for a question, the prompt that contains them, and the answer.

import { element } from "./api.js";
import { COLLECTION, EMPTY } from "./talk-search.js";
import { $, latest, number, post } from "./talk-tools.js";

const PASSAGES = 3;
const question = () => $("retrieval-text").value.trim();

const retrieve = latest($("retrieval-status"), async (isLast) => {
  $("retrieval-answer").replaceChildren();
  $("retrieval-prompt").replaceChildren();
  const asked = question();
  const { passages, refusal } = await post("/v1/retrieve", { collection: COLLECTION, question: asked, limit: PASSAGES });
  if (!isLast()) return;
  if (!passages.length) throw new Error(EMPTY);
  const best = number(Math.max(...passages.map((one) => one.similarity)));
  $("retrieval-status").textContent = refusal
    ? `The best passage has a cosine of ${best}. That is too low, so memetwin refuses to answer.`
    : `${passages.length} passages. The best one has a cosine of ${best}.`;
  $("retrieval-prompt").append(
    element("b", "Given the following context:"), "\n\n",
    ...passages.flatMap((one, at) => [element("b", `[${at + 1}]`), ` ${one.text}\n\n`]),
    element("b", "Answer the following question:"), `\n\n${asked}`,
  );
});

const answer = latest($("retrieval-status"), async (isLast) => {
  $("retrieval-answer").textContent = "…";
  let reply;
  try {
    reply = await post("/v1/ask", { collection: COLLECTION, question: question(), limit: PASSAGES, cache: { no_cache: true, no_store: true } });
  } finally {
    $("retrieval-answer").textContent = "";
  }
  if (!isLast()) return;
  if (reply.refusal) {
    $("retrieval-answer").append(element("p", "No document answers that, so there is no answer."));
    return;
  }
  $("retrieval-answer").append(element("blockquote", reply.answer), element("p", `From: ${[...new Set(reply.citations.map((one) => one.title || one.document))].join(", ")}`, { className: "meta" }));
});

export function start() {
  $("retrieval-form").addEventListener("submit", (event) => { event.preventDefault(); retrieve(); });
  $("retrieval-ask").addEventListener("click", async () => { await retrieve(); answer(); });
  retrieve();
}
