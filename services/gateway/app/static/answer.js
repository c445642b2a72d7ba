// An answer as nodes: its citations are buttons that open their source, and sentences without
// support are marked.

import { call, element } from "./api.js";

const $ = (id) => document.getElementById(id);

// Opens a document with a quote marked. The collections are tried in turn.
async function openSource(citation, title, collections) {
  $("source-title").textContent = title;
  $("source-text").textContent = "Loading …";
  $("source").showModal();
  let error = new Error("The document is not there any more.");
  for (const collection of collections) {
    try {
      const path = `/v1/documents/${encodeURIComponent(citation.document)}?collection=${encodeURIComponent(collection)}`;
      const { body } = await call(path);
      const points = Array.from(body.document.text); // citations count code points
      const part = (start, end) => points.slice(start, end).join("");
      const mark = element("mark", part(citation.source_start, citation.source_end));
      $("source-text").replaceChildren(part(0, citation.source_start), mark, part(citation.source_end));
      mark.scrollIntoView({ block: "center" });
      return;
    } catch (failed) {
      error = failed;
    }
  }
  $("source-text").textContent = `${error.message} It said: “${citation.quote}”`;
}

// Returns the nodes of an answer.
export function answerNodes(reply, collections) {
  const points = Array.from(reply.answer);
  const link = (text, citation, title, number) => {
    const node = element("a", text, { href: "#source", className: "cite", title: `Source: ${title}` });
    node.append(element("sup", number));
    node.addEventListener("click", (event) => { event.preventDefault(); openSource(citation, title, collections); });
    return node;
  };
  const titles = new Map(reply.passages.map((one) => [one.document_id, one.title || one.document_id]));
  const numbers = new Map(); // of documents, in the order of the answer
  const citations = [...reply.citations].sort((one, other) => one.start - other.start);
  const unsupported = reply.unsupported ?? [];
  const cuts = new Set([0, points.length]);
  for (const span of [...citations, ...unsupported]) cuts.add(span.start).add(span.end);
  const ends = [...cuts].sort((one, other) => one - other);
  const covers = (span, start, end) => span.start <= start && end <= span.end && span.start < span.end;
  const nodes = [];
  for (let at = 0; at + 1 < ends.length; at++) {
    const [start, end] = [ends[at], ends[at + 1]];
    const text = points.slice(start, end).join("");
    const citation = citations.find((one) => covers(one, start, end));
    if (!citation) {
      const isBare = unsupported.some((one) => covers(one, start, end));
      nodes.push(isBare ? element("span", text, { className: "unsupported", title: "No source supports this." }) : text);
      continue;
    }
    const title = titles.get(citation.document) ?? citation.document;
    if (!numbers.has(citation.document)) numbers.set(citation.document, numbers.size + 1);
    nodes.push(link(text, citation, title, numbers.get(citation.document)));
  }
  if (reply.writer === "WRITER_EXTRACTIVE") { // quotes, which read better in lines of their own
    const quotes = nodes.filter((node) => node.className === "cite").map((node) => {
      const quote = element("blockquote");
      quote.append(node);
      return quote;
    });
    const text = "No language model is set. These parts of the documents answer best:";
    nodes.splice(0, nodes.length, element("p", text, { className: "meta" }), ...quotes);
  }
  const sources = [...numbers].map(([id, number]) => `${number} ${titles.get(id) ?? id}`);
  return { nodes, sources };
}

// Returns the paragraphs that explain a refusal.
export function refusalNodes(reply) {
  const { refusal, passages } = reply;
  if (refusal.reason === "REFUSAL_REASON_UNREADABLE") {
    return [element("p", "The text model cannot read this question. Ask it in another language.")];
  }
  const nodes = [element("p", "The documents do not answer that.")];
  if (passages.length) {
    const needed = refusal.min_relevance ?? refusal.min_score;
    const reached = refusal.relevance ?? refusal.best_score;
    nodes.push(element("p", `The nearest passage, from ${passages[0].title || passages[0].document_id}, reaches ${reached.toFixed(2)}. An answer needs ${needed.toFixed(2)}.`, { className: "meta" }));
  }
  return nodes;
}

// Returns the prompt in the talk's words. memetwin's own prompt also puts marks around each passage.
export function promptText(reply, question) {
  const context = reply.passages.map((one, at) => `[${at + 1}] ${one.text}`).join("\n\n");
  return `Given the following context:\n\n${context}\n\nAnswer the following question:\n\n${question}`;
}

$("source-close").addEventListener("click", () => $("source").close());
