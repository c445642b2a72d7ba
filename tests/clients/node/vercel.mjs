// The Vercel AI SDK with its defaults, which are responses: texts, streams, objects and tools.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { BASE_URL, QUESTION, ANSWER } = process.env;
const openai = createOpenAI({ baseURL: BASE_URL, apiKey: "any" });
const model = openai("parrot");

const first = await generateText({ model, prompt: QUESTION, maxRetries: 0 });
assert.equal(first.text, ANSWER);
assert.ok(first.response.headers["x-memetwin-cache"]);

// A conversation refers to the earlier answer by its id.
const messages = [{ role: "user", content: QUESTION }, ...first.response.messages];
messages.push({ role: "user", content: `${QUESTION} Why?` });
const next = await generateText({ model, messages, maxRetries: 0 });
assert.ok(next.text.includes("Why?"));

const streamed = streamText({ model, prompt: QUESTION, maxRetries: 0 });
let text = "";
for await (const piece of streamed.textStream) text += piece;
assert.equal(text, ANSWER);
assert.equal(await streamed.finishReason, "stop");
assert.ok((await streamed.usage).totalTokens > 0);

const person = z.object({ name: z.string(), age: z.number() });
const { output } = await generateText({
  model,
  prompt: `${QUESTION} As JSON.`,
  output: Output.object({ schema: person }),
  maxRetries: 0,
});
assert.deepEqual(output, { name: "Ada", age: 36 });

let calls = 0;
const tools = {
  f: tool({ description: "F.", inputSchema: z.object({}), execute: () => `result ${++calls}` }),
};
for (const ask of [generateText, streamText]) {
  const options = { model, tools, stopWhen: stepCountIs(3), maxRetries: 0 };
  const reply = await ask({ ...options, prompt: `tool ${QUESTION}` });
  assert.ok((await reply.text).includes(`result ${calls}`), await reply.text);
}
assert.equal(calls, 2);

const { embedding } = await embed({ model: openai.embedding("all-MiniLM-L6-v2"), value: "a" });
assert.equal(embedding.length, 384);
