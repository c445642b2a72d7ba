// grpc-js with the proto files.
import assert from "node:assert/strict";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const { GRPC_ADDRESS, PROTOS, QUESTION, ANSWER } = process.env;
const options = { keepCase: true, enums: String, defaults: true, includeDirs: [PROTOS] };
const { memetwin } = grpc.loadPackageDefinition(
  loader.loadSync("memetwin/gateway/v1/chat.proto", options),
);
const client = new memetwin.gateway.v1.ChatService(GRPC_ADDRESS, grpc.credentials.createInsecure());
const request = { chat: { messages: [{ role: "user", content: QUESTION }] } };

const reply = await new Promise((done, fail) =>
  client.Complete(request, (error, value) => (error ? fail(error) : done(value))),
);
assert.equal(reply.message.content, ANSWER);

let text = "";
for await (const part of client.StreamComplete(request)) text += part.delta ?? "";
assert.equal(text, ANSWER);

const refusal = await new Promise((done) => client.Complete({}, (error) => done(error)));
assert.equal(refusal.code, grpc.status.INVALID_ARGUMENT);
client.close();
