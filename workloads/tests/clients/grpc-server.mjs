// A gRPC server for the gateway to pass calls on to. Arguments: key and chain, or nothing. Prints its port; ends with its
// standard input, or when a client says so.
//   Say     answers with the text, and with what it was asked with as metadata; certain words do something else
//   Count   as many words as the number says, each with the data of the first
//   Gather  how many bytes and words there were
//   Echo    each word at once; ends when its client does
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { readFileSync } from "node:fs";

const [, , key, cert] = process.argv;
const { talk } = grpc.loadPackageDefinition(loadSync("talk.proto", { defaults: true }));
const cancelled = { said: 0, echoed: 0 };
const say = (call, callback) => {
  const { text, number } = call.request;
  call.on("cancelled", () => (cancelled.said += text === "never"));
  if (text === "exit") process.exit(3);
  if (text === "never") return;
  if (text === "fail") {
    const trailers = new grpc.Metadata();
    trailers.set("why-bin", Buffer.from([0, 255, 7]));
    return callback({ code: number, details: "naïve 100 %", metadata: trailers });
  }
  if (text === "cancelled?") return callback(null, { text: JSON.stringify(cancelled) });
  if (text === "asked") {
    const left = call.getDeadline() instanceof Date ? call.getDeadline() - Date.now() : call.getDeadline() - Date.now();
    return callback(null, { text: JSON.stringify({ metadata: call.metadata.getMap(), left, path: call.getPath() }) });
  }
  const head = new grpc.Metadata();
  head.set("said", "before");
  call.sendMetadata(head);
  const trailers = new grpc.Metadata();
  trailers.set("said-last", "behind");
  callback(null, { text, data: call.request.data, number }, trailers);
};
const count = async call => {
  for (let number = 0; number < call.request.number && !call.cancelled; number++) {
    if (!call.write({ data: call.request.data, number })) await new Promise(resolve => call.once("drain", resolve).once("cancelled", resolve));
    if (call.request.text === "slowly") await new Promise(resolve => setTimeout(resolve, 50));
    if (call.request.text === "exit" && number === 3) process.exit(3);
  }
  call.end();
};
const gather = (call, callback) => {
  let [bytes, words] = [0, 0];
  call.on("data", word => {
    bytes += word.data.length;
    words++;
    if (word.text === "enough") callback({ code: grpc.status.OUT_OF_RANGE, details: "enough" });
  });
  call.on("end", () => callback(null, { number: words, text: String(bytes) }));
  call.on("error", () => {});
};
const echo = call => {
  call.on("data", word => call.write(word));
  call.on("end", () => call.end());
  call.on("cancelled", () => cancelled.echoed++);
  call.on("error", () => {});
};
const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
server.addService(talk.Talk.service, { say, count, gather, echo });
const credentials = key
  ? grpc.ServerCredentials.createSsl(null, [{ private_key: readFileSync(key), cert_chain: readFileSync(cert) }])
  : grpc.ServerCredentials.createInsecure();
server.bindAsync("127.0.0.1:0", credentials, (error, port) => console.log(error ?? port));
process.stdin.on("end", () => process.exit(0)).resume();
