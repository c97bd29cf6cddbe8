// The gRPC client for Node through the gateway. Arguments: the gateway's host and port, what is to be tried, and an
// authority's certificate where there is TLS.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [, , address, scene, authority] = process.argv;
const { talk } = grpc.loadPackageDefinition(loadSync("talk.proto", { defaults: true }));
const credentials = authority ? grpc.credentials.createSsl(readFileSync(authority)) : grpc.credentials.createInsecure();
// Nothing is tried again by the client itself: what comes is what the gateway says.
const options = { "grpc.enable_retries": 0, "grpc.max_receive_message_length": -1 };
const client = new talk.Talk(address, credentials, options);
const { status } = grpc;

const say = (request, metadata = new grpc.Metadata(), options = {}) =>
  new Promise((resolve, reject) => {
    let head, trailers;
    const call = client.say(request, metadata, options, (error, answer) => {
      // The last of a call's events is its status.
      setImmediate(() => (error ? reject(error) : resolve({ answer, head, trailers })));
    });
    call.on("metadata", metadata => (head = metadata.getMap()));
    call.on("status", ({ metadata }) => (trailers = metadata.getMap()));
  });
const fails = async (promise, code) => {
  const error = await promise.then(() => assert.fail("it succeeded"), error => error);
  assert.equal(error.code, code, error.message);
  return error;
};
// All that a stream says, and how it ends.
const all = async call => {
  const words = [];
  call.on("data", word => words.push(word));
  let failure;
  call.on("error", error => (failure = error));
  const end = await new Promise(resolve => call.on("status", resolve));
  return { words, end, failure };
};
const write = async (call, word) => {
  if (!call.write(word)) await once(call, "drain");
};

const scenes = {
  async unary() {
    const { answer, head, trailers } = await say({ text: "hello", number: 7 });
    assert.deepEqual([answer.text, answer.number, head.said, trailers["said-last"]], ["hello", 7, "before", "behind"]);
    const large = Buffer.alloc(3_000_000, 9);
    assert.ok((await say({ text: "large", data: large })).answer.data.equals(large));
    const error = await fails(say({ text: "fail", number: status.NOT_FOUND }), status.NOT_FOUND);
    assert.equal(error.details, "naïve 100 %");
    assert.deepEqual([...error.metadata.get("why-bin")[0]], [0, 255, 7]);
    const many = await Promise.all(Array.from({ length: 200 }, (_, number) => say({ text: "many", number })));
    assert.deepEqual(many.map(({ answer }) => answer.number), many.map((_, number) => number));
  },
  async asked() {
    const metadata = new grpc.Metadata();
    metadata.set("x-let", "in");
    metadata.set("x-kept", "out");
    const { answer } = await say({ text: "asked" }, metadata, { deadline: Date.now() + 20_000 });
    const { metadata: seen, left, path } = JSON.parse(answer.text);
    assert.deepEqual([seen["x-let"], seen["x-kept"], path], ["in", undefined, "/talk.Talk/Say"]);
    assert.match(seen["x-request-id"], /^[0-9a-f]{32}$/);
    assert.ok(left > 0 && left <= 20_000, String(left));
  },
  async streams() {
    const data = Buffer.alloc(100_000, 1);
    const { words, end } = await all(client.count({ number: 100, data }));
    assert.deepEqual([words.length, words[99].number, end.code], [100, 99, status.OK]);
    assert.ok(words.every(word => word.data.equals(data)));
    const gathered = new Promise((resolve, reject) => {
      const call = client.gather((error, answer) => (error ? reject(error) : resolve(answer)));
      (async () => {
        for (let number = 0; number < 100; number++) await write(call, { data, number });
        call.end();
      })();
    });
    assert.equal((await gathered).text, "10000000");
    // Each word is answered before the next is said: nothing waits for an end.
    const call = client.echo();
    const heard = [];
    call.on("data", word => heard.push(word));
    for (let number = 0; number < 50; number++) {
      call.write({ number, data });
      while (heard.length <= number) await once(call, "data");
      assert.equal(heard[number].number, number);
    }
    call.end();
    assert.equal((await once(call, "status"))[0].code, status.OK);
  },
  // A backend that ends a call before its client has: the client hears why, and the connection lives on.
  async early() {
    for (let round = 0; round < 20; round++) {
      const ended = new Promise(resolve => {
        const call = client.gather(error => resolve(error));
        call.on("error", () => {});
        call.write({ text: "enough" });
        call.write({ text: "more", data: Buffer.alloc(1000) });
      });
      assert.equal((await ended).code, status.OUT_OF_RANGE);
    }
    assert.equal((await say({ text: "still here" })).answer.text, "still here");
  },
  async deadlines() {
    await fails(say({ text: "never" }, undefined, { deadline: Date.now() + 200 }), status.DEADLINE_EXCEEDED);
    const { words, end } = await all(client.count({ text: "slowly", number: 1000 }, { deadline: Date.now() + 500 }));
    assert.ok(words.length > 0);
    assert.equal(end.code, status.DEADLINE_EXCEEDED);
    // The endpoint's own time is for what the backend does when it has been told everything.
    const call = client.echo();
    const late = once(call, "data");
    setTimeout(() => call.write({ number: 5 }), 2500);
    assert.equal((await late)[0].number, 5);
    call.end();
    await once(call, "status");
    const error = await fails(say({ text: "never" }), status.DEADLINE_EXCEEDED);
    assert.match(error.details, /took too long/);
  },
  async cancelled() {
    const counted = async () => JSON.parse((await say({ text: "cancelled?" })).answer.text);
    const before = await counted();
    const call = client.echo();
    call.on("error", () => {});
    call.write({ number: 1 });
    await once(call, "data");
    call.cancel();
    assert.equal((await new Promise(resolve => call.on("status", resolve))).code, status.CANCELLED);
    const unary = client.say({ text: "never" }, () => {});
    await say({ text: "behind it" });
    unary.cancel();
    for (;;) {
      const { said, echoed } = await counted();
      if (said === before.said + 1 && echoed === before.echoed + 1) break;
    }
  },
  // A stream that nobody reads holds up neither its backend's other calls nor those of its client.
  async unread() {
    const data = Buffer.alloc(500_000, 3);
    const streams = Array.from({ length: 20 }, () => client.count({ number: 6, data }));
    streams.forEach(stream => stream.pause());
    for (let round = 0; round < 100; round++) await say({ text: "beside" });
    const heard = await Promise.all(streams.map(stream => all(stream.resume())));
    assert.ok(heard.every(({ words, end }) => words.length === 6 && end.code === status.OK));
  },
  async refusals() {
    const { code } = await fails(say({ text: "hello" }), status.UNAUTHENTICATED);
    assert.equal(code, 16);
  },
  async limited() {
    await say({ text: "hello" });
    const error = await fails(say({ text: "hello" }), status.RESOURCE_EXHAUSTED);
    assert.match(error.details, /too often/);
    assert.ok(Number(error.metadata.get("grpc-retry-pushback-ms")[0]) > 0);
  },
  async unimplemented() {
    await fails(say({ text: "hello" }), status.UNIMPLEMENTED);
  },
  // Dies in the middle of a stream; then nobody is there.
  async killed() {
    const { words, end } = await all(client.count({ text: "exit", number: 100 }));
    assert.ok(words.length <= 4);
    assert.equal(end.code, status.UNAVAILABLE);
    await fails(say({ text: "hello" }), status.UNAVAILABLE);
  },
  // The gateway is asked to stop when this says so: a stream that has begun goes on to its end.
  async stopped() {
    const call = client.count({ text: "slowly", number: 40 });
    const words = [];
    call.on("data", word => words.push(word));
    await once(call, "data");
    console.log("under way");
    assert.equal((await once(call, "status"))[0].code, status.OK);
    assert.equal(words.length, 40);
  },
};
const timer = setTimeout(() => {
  console.error(`${scene} takes too long`);
  process.exit(1);
}, 60_000);
await scenes[scene]();
clearTimeout(timer);
client.close();
console.log(`${scene}: ok`);
process.exit(0);
