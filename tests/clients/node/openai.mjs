// The official client: chat, responses, parsing, embeddings and models.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE_URL, QUESTION, ANSWER } = process.env;
const client = new OpenAI({ baseURL: BASE_URL, apiKey: "any", maxRetries: 0 });
const model = "parrot";
const messages = [{ role: "user", content: QUESTION }];

async function until(condition) {
  while (!(await condition())) await new Promise((done) => setTimeout(done, 50));
}

const first = await client.chat.completions.create({ model, messages }).withResponse();
assert.equal(first.data.choices[0].message.content, ANSWER);
assert.equal(first.response.headers.get("x-memetwin-cache"), "miss");
await until(async () => {
  const { response } = await client.responses.create({ model, input: QUESTION }).withResponse();
  return response.headers.get("x-memetwin-cache") === "hit-exact";
});

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
  text += chunk.choices[0]?.delta?.content ?? "";
assert.equal(text, ANSWER);

const stream = client.responses.stream({ model, input: `${QUESTION} Again?` });
text = "";
stream.on("response.output_text.delta", (event) => (text += event.delta));
const final = await stream.finalResponse();
assert.equal(final.output_text, text);
assert.equal(final.status, "completed");

const format = zodTextFormat(z.object({ name: z.string(), age: z.number() }), "person");
const parsed = await client.responses.parse({ model, input: `${QUESTION} As JSON.`, text: { format } });
assert.deepEqual(parsed.output_parsed, { name: "Ada", age: 36 });

const { data } = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: ["a", "b"] });
assert.equal(data[1].embedding.length, 384);
const listed = [];
for await (const one of client.models.list()) listed.push(one.id);
assert.ok(listed.includes("parrot") && listed.includes("all-MiniLM-L6-v2"));
assert.equal((await client.models.retrieve("all-MiniLM-L6-v2")).object, "model");
await assert.rejects(client.models.retrieve("none"), OpenAI.NotFoundError);
