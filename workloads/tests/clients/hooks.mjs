// A backend that the chat asks, and the official client in one of its forms on the other side. Arguments:
// ws://HOST:PORT/connection/websocket, "json" or "protobuf", the port that the backend is to have.
import assert from "node:assert/strict";
import http from "node:http";
import {
  connect, decode, encode, make, now, refusal, scenario, sleep, subscribe, subscribeRefusal, when,
} from "./chat.mjs";

const [, , url, form, port] = process.argv;
// What was asked, by path; and what is answered to it.
const asked = {};
const count = path => asked[path]?.length ?? 0;
let answers = {
  "/connect": ({ data }) => {
    if (data?.user === "mallory") return { error: { code: 1403, message: "not you" } };
    if (data?.user === "gone") return { disconnect: { code: 4500, reason: "gone" } };
    if (data?.user === "odd") return "no JSON";
    const expire_at = data?.seconds ? now() + data.seconds : 0;
    const subs = { "open:given": { data: { from: "backend" } } };
    return { result: { user: data?.user ?? "", info: { nick: "A" }, meta: { level: 7 }, data: { hi: true }, subs, expire_at } };
  },
  "/refresh": ({ user }) => ({ result: user === "short" ? { expired: true } : { expire_at: now() + 3600 } }),
  "/subscribe": ({ channel }) => {
    if (channel.endsWith("no")) return { error: { code: 1404, message: "not here" } };
    if (channel.endsWith("out")) return { disconnect: { code: 4501, reason: "out" } };
    return { result: { data: { topic: channel }, info: { seat: 1 }, expire_at: channel.endsWith("soon") ? now() + 1 : 0 } };
  },
  "/sub_refresh": () => ({ result: { expire_at: now() + 3600 } }),
  "/publish": ({ data, user }) => {
    if (data.bad) return { error: { code: 1405, message: "bad words" } };
    return { result: { data: { ...data, by: user, checked: true }, tags: { checked: "yes" }, skip_history: Boolean(data.secret) } };
  },
  "/rpc": ({ method, data, meta }) => {
    if (method === "fail") return { error: { code: 1406, message: "failed", temporary: true } };
    if (method === "leave") return { disconnect: { code: 4502, reason: "left" } };
    return { result: { data: { method, data, meta } } };
  },
  "/raw": ({ encoding, b64data }) => {
    const bytes = [...Buffer.from(b64data, "base64")].reverse();
    return { result: { b64data: Buffer.from(JSON.stringify({ encoding, bytes })).toString("base64") } };
  },
  "/slow": async () => {
    await sleep(1500);
    return { result: { data: "late" } };
  },
  "/broken": () => 500,
};
const backend = http.createServer(async (request, response) => {
  let body = "";
  for await (const part of request.setEncoding("utf8")) body += part;
  (asked[request.url] ??= []).push({ body: JSON.parse(body), headers: request.headers, method: request.method });
  const answer = await answers[request.url](JSON.parse(body));
  response.statusCode = answer === 500 ? 500 : 200;
  response.setHeader("content-type", "application/json");
  response.end(typeof answer === "string" ? answer : JSON.stringify(answer));
});
const listening = () => new Promise(resolve => backend.listen(Number(port), "127.0.0.1", resolve));

const coming = async () => {
  const headers = { Authorization: "Bearer of the test", Cookie: "not asked for" };
  const [client, context] = await connect(url, form, { data: { user: "ann" }, headers });
  assert.deepEqual(decode(form, context.data), { hi: true });
  const { body, headers: sent, method } = asked["/connect"].at(-1);
  assert.equal(method, "POST");
  assert.deepEqual([body.transport, body.protocol, body.encoding, body.name], ["websocket", form, "json", "js"]);
  assert.deepEqual(body.data, { user: "ann" });
  assert.deepEqual([sent.authorization, sent.cookie, sent["x-from"]], ["Bearer of the test", undefined, "the chat"]);
  assert.match(sent["content-type"], /^application\/json/);
  assert.equal((await refusal(url, form, { data: { user: "mallory" } })).code, 1403);
  assert.deepEqual(Object.values(await refusal(url, form, { data: { user: "gone" } })), [4500, "gone"]);
  // An answer that is none is the backend's fault: an error that passes.
  const odd = make(url, form, { data: { user: "odd" } });
  const problem = when(odd, "error");
  odd.connect();
  assert.equal((await problem).error.code, 100);
  odd.disconnect();
  return client;
};

const subscribing = async client => {
  const [room, context] = await subscribe(client, "asked:room", { data: encode(form, { want: 1 }) });
  assert.deepEqual(decode(form, context.data), { topic: "asked:room" });
  const { body } = asked["/subscribe"].at(-1);
  assert.deepEqual([body.user, body.channel, body.data], ["ann", "asked:room", { want: 1 }]);
  const [info] = Object.values((await room.presence()).clients);
  assert.deepEqual([decode(form, info.connInfo), decode(form, info.chanInfo)], [{ nick: "A" }, { seat: 1 }]);
  assert.equal((await subscribeRefusal(client, "asked:no")).code, 1404);
  const before = count("/subscribe");
  await subscribe(client, "open:a");
  assert.equal(count("/subscribe"), before, "asked about what is not to be asked");
  const [passing] = await connect(url, form, { data: { user: "ann" } });
  const ended = when(passing, "disconnected");
  passing.newSubscription("asked:out").subscribe();
  assert.deepEqual(Object.values(await ended), [4501, "out"]);
  return room;
};

const publishing = async (client, room) => {
  const heard = [];
  room.on("publication", publication => heard.push(publication));
  await client.publish("asked:room", encode(form, { text: "a" }));
  await assert.rejects(client.publish("asked:room", encode(form, { bad: true })), { code: 1405 });
  await client.publish("asked:room", encode(form, { text: "b", secret: true }));
  await client.publish("asked:room", encode(form, { text: "c" }));
  while (heard.length < 3) await sleep(20);
  const expected = ["a", "b", "c"].map(text => ({ text, ...(text === "b" && { secret: true }), by: "ann", checked: true }));
  assert.deepEqual(heard.map(({ data }) => decode(form, data)), expected);
  assert.deepEqual({ ...heard[0].tags }, { checked: "yes" });
  assert.equal(heard[0].info.user, "ann");
  const history = await room.history({ limit: 10 });
  assert.deepEqual(history.publications.map(({ data }) => decode(form, data).text), ["a", "c"]);
  // One after the other, though each is asked about.
  const numbers = Array.from({ length: 50 }, (_, number) => number);
  const last = when(room, "publication", ({ data }) => decode(form, data).number === 49);
  heard.length = 0;
  await Promise.all(numbers.map(number => client.publish("asked:room", encode(form, { number }))));
  await last;
  assert.deepEqual(heard.map(({ data }) => decode(form, data).number), numbers);
};

const calling = async client => {
  const { data } = await client.rpc("echo", encode(form, [1, "ü"]));
  assert.deepEqual(decode(form, data), { method: "echo", data: [1, "ü"], meta: { level: 7 } });
  // In base64 it may be anything; otherwise it has to be JSON.
  const bytes = form === "protobuf" ? new Uint8Array([0, 255, 34]) : [1];
  const sent = form === "protobuf" ? [34, 255, 0] : [..."[1]"].map(char => char.charCodeAt(0)).reverse();
  assert.deepEqual(decode(form, (await client.rpc("raw:a", bytes)).data), { encoding: "binary", bytes: sent });
  if (form === "protobuf") await assert.rejects(client.rpc("echo", bytes), { code: 107 });
  await assert.rejects(client.rpc("fail", encode(form, null)), { code: 1406, temporary: true });
  await assert.rejects(client.rpc("none:a", encode(form, null)), { code: 104 });
  const began = Date.now();
  await assert.rejects(client.rpc("slow:a", encode(form, null)), { code: 100 });
  assert.ok(Date.now() - began < 1400, "waited for a backend that is slow");
  const [passing] = await connect(url, form, { data: { user: "ann" } });
  const ended = when(passing, "disconnected");
  passing.rpc("leave", encode(form, null)).catch(() => {});
  assert.deepEqual(Object.values(await ended), [4502, "left"]);
};

// Three failures in a row, and it is left alone for a while; then it is asked again.
const breaking = async client => {
  const before = count("/broken");
  for (let attempt = 0; attempt < 10; attempt++) {
    await assert.rejects(client.rpc("broken:a", encode(form, null)), { code: 100 });
  }
  assert.equal(count("/broken") - before, 3);
  answers["/broken"] = () => ({ result: { data: "well again" } });
  await sleep(2200);
  const { data } = await client.rpc("broken:a", encode(form, null));
  assert.equal(decode(form, data), "well again");
  answers["/broken"] = () => 500;
};

// Who is at its end is asked about; the backend lets one go on and not the other.
const lasting = async () => {
  const [long] = await connect(url, form, { data: { user: "long", seconds: 1 } });
  const [short] = await connect(url, form, { data: { user: "short", seconds: 1 } });
  const [soon] = await subscribe(long, "asked:soon");
  soon.on("unsubscribed", () => assert.fail("unsubscribed though the backend let it go on"));
  long.on("connecting", () => assert.fail("sent away though the backend let it go on"));
  const ended = when(short, "connecting");
  assert.equal((await ended).code, 3005);
  short.disconnect();
  while (!asked["/refresh"]?.some(({ body }) => body.user === "long") || !count("/sub_refresh")) await sleep(50);
  assert.equal(asked["/sub_refresh"].at(-1).body.channel, "asked:soon");
  await sleep(500);
  await soon.presence();
  soon.removeAllListeners();
  long.removeAllListeners("connecting");
  long.disconnect();
};

scenario(`hooks ${form}`, 60, async () => {
  // Down at first: clients are told to try again, and come in when it is there.
  const early = make(url, form, { data: { user: "ann" } });
  const problem = when(early, "error"), connected = when(early, "connected");
  early.connect();
  assert.equal((await problem).error.code, 100);
  await listening();
  await connected;
  early.disconnect();
  const client = await coming();
  const lasts = lasting();
  const room = await subscribing(client);
  await publishing(client, room);
  await calling(client);
  await breaking(client);
  await lasts;
  client.disconnect();
  backend.closeAllConnections();
  backend.close();
});
