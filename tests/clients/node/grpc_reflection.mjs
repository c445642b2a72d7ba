// grpc-js without proto files: the gateway's reflection describes the services.
import assert from "node:assert/strict";
import grpc from "@grpc/grpc-js";
import reflection from "grpc-js-reflection-client";

const { GRPC_ADDRESS, QUESTION, ANSWER } = process.env;
const credentials = grpc.credentials.createInsecure();
const described = new reflection.GrpcReflection(GRPC_ADDRESS, credentials);
assert.ok((await described.listServices()).includes("memetwin.gateway.v1.ChatService"));
const descriptor = await described.getDescriptorBySymbol("memetwin.gateway.v1.ChatService");
const { memetwin } = descriptor.getPackageObject({ keepCase: true, enums: String });
const client = new memetwin.gateway.v1.ChatService(GRPC_ADDRESS, credentials);
const request = { chat: { messages: [{ role: "user", content: QUESTION }] } };
const reply = await new Promise((done, fail) =>
  client.Complete(request, (error, value) => (error ? fail(error) : done(value))),
);
assert.equal(reply.message.content, ANSWER);
process.exit(0); // the reflection client keeps its connection open
