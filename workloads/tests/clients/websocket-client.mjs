// The `ws` client through the gateway. Arguments: the gateway's URL without a path, what is to be tried, and an authority's
// certificate where there is TLS.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const [, , base, scene, authority] = process.argv;
const ca = authority && readFileSync(authority);
const open = async (path, protocols = [], options = {}) => {
  const client = new WebSocket(base + path, protocols, { ca, ...options });
  const messages = [];
  client.on("message", (data, binary) => messages.push(binary ? data : data.toString()));
  client.messages = messages;
  client.heard = async count => {
    while (messages.length < count) await once(client, "message");
    return messages;
  };
  client.ended = once(client, "close").then(([code, reason]) => [code, reason.toString()]);
  await once(client, "open");
  return client;
};
const refused = async (path, options = {}) => {
  const client = new WebSocket(base + path, [], { ca, ...options });
  const [, response] = await once(client, "unexpected-response");
  let body = "";
  for await (const piece of response) body += piece;
  return [response.statusCode, response.headers, body];
};

const scenes = {
  // Messages of every length class and kind, both ways at once, with and without compression, and a good end.
  async talk() {
    for (const perMessageDeflate of [true, false]) {
      const client = await open("/echo", [], { perMessageDeflate });
      assert.equal(client.extensions.includes("permessage-deflate"), perMessageDeflate);
      const said = ["", "a", "ü".repeat(100), "b".repeat(70_000), Buffer.alloc(3_000_000, 7), "end"];
      for (let round = 0; round < 20; round++) said.push(`number ${round} ` + "x".repeat(round * 997));
      said.forEach(message => client.send(message));
      const heard = await client.heard(said.length);
      assert.deepEqual(heard, said);
      const ponged = once(client, "pong");
      client.ping("are you there");
      assert.equal((await ponged)[0].toString(), "are you there");
      client.close(4000, "enough");
      assert.deepEqual(await client.ended, [4000, "enough"]);
    }
    const closed = await open("/close");
    assert.deepEqual(await closed.ended, [4321, "because"]);
  },
  // What reaches the backend, and what does not.
  async asked() {
    const headers = { "X-Let": "in", "X-Kept": "out", Cookie: "a=1" };
    const client = await open("/asked/ann?room=7&other=8", ["one", "two", "three"], { headers });
    const { url, fields, protocol } = JSON.parse((await client.heard(1))[0]);
    assert.equal(url, "/asked?user=ann&room=7");
    assert.deepEqual([fields["x-let"], fields["x-kept"], fields.cookie], ["in", undefined, undefined]);
    assert.deepEqual([protocol, client.protocol, fields["sec-websocket-protocol"]], ["two", "two", "one, two"]);
    assert.match(fields["x-request-id"], /^[0-9a-f]{32}$/);
    assert.equal(fields["x-forwarded-for"], "127.0.0.1");
    client.terminate();
  },
  // The backend's refusal as it is, and the endpoint's own before it.
  async refusals() {
    const [status, fields, body] = await refused("/refused");
    assert.deepEqual([status, fields["x-why"], body], [401, "no ticket", "no!\n"]);
    const first = await open("/limited");
    assert.equal((await refused("/limited"))[0], 429);
    first.close();
    assert.equal((await refused("/token"))[0], 401);
    const part = value => Buffer.from(JSON.stringify(value)).toString("base64url");
    const said = `${part({ alg: "HS256", kid: "one" })}.${part({ sub: "ann" })}`;
    const token = `${said}.${createHmac("sha256", "a secret of at least thirty-two bytes").update(said).digest("base64url")}`;
    const shown = await open("/token", [], { headers: { Cookie: `access_token=${token}` } });
    shown.close();
  },
  async foreign() {
    assert.equal((await refused("/echo", { origin: "https://evil.example" }))[0], 403);
    for (const options of [{}, { origin: "https://good.example" }, { origin: base.replace("ws", "http") }]) {
      const client = await open("/echo", [], options);
      client.close();
      await client.ended;
    }
  },
  // The second one finds no place until the first has gone.
  async places() {
    const first = await open("/echo");
    const [status, fields] = await refused("/echo");
    assert.equal(status, 503);
    assert.ok(Number(fields["retry-after"]) > 0);
    first.close();
    await first.ended;
    for (;;) {
      const again = new WebSocket(base + "/echo");
      const outcome = await Promise.race([once(again, "open").then(() => 101), once(again, "unexpected-response").then(([, response]) => response.statusCode)]);
      again.on("error", () => {});
      again.terminate();
      if (outcome === 101) break;
      assert.equal(outcome, 503);
    }
  },
  async killed() {
    const client = await open("/exit");
    client.send("die");
    assert.equal((await client.ended)[0], 1006);
    assert.equal((await refused("/exit"))[0], 502);
  },
  // The gateway is asked to stop when this says so.
  async stopped() {
    const client = await open("/echo");
    client.send("hello");
    assert.deepEqual(await client.heard(1), ["hello"]);
    console.log("open");
    assert.equal((await client.ended)[0], 1001);
  },
};
const timer = setTimeout(() => {
  console.error(`${scene} takes too long`);
  process.exit(1);
}, 60_000);
await scenes[scene]();
clearTimeout(timer);
console.log(`${scene}: ok`);
process.exit(0);
