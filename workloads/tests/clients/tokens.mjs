// Everything about tokens that a secret signs, with the official client in one of its forms. Arguments:
// ws://HOST:PORT/connection/websocket, "json" or "protobuf", the secret, the API's key.
import assert from "node:assert/strict";
import {
  caller, connect, decode, encode, now, refusal, scenario, sleep, subscribe, subscribeRefusal, token, WebSocket, when,
} from "./chat.mjs";

const [, , url, form, secret, key] = process.argv;
const call = caller(url, key);
const as = (sub, more = {}) => token({ sub, exp: now() + 600, ...more }, secret);
// Published by the server, and heard by a client.
const hears = async (emitter, channel) => {
  const heard = when(emitter, "publication", publication => publication.channel === channel);
  const text = `to ${channel} at ${Date.now()}`;
  const { error } = await call("publish", { channel, data: { text } });
  assert.equal(error, undefined);
  assert.deepEqual(decode(form, (await heard).data), { text });
};

const connecting = async () => {
  const [client] = await connect(url, form, { token: as("42", { info: { name: "Ann" } }) });
  const [room] = await subscribe(client, "room");
  const [info] = Object.values((await room.presence()).clients);
  assert.equal(info.user, "42");
  assert.deepEqual(decode(form, info.connInfo), { name: "Ann" });
  client.disconnect();
  // Personal channels need no subscription.
  const [anyone] = await connect(url, form, { token: as("43") });
  await hears(anyone, "personal:#43");
  anyone.disconnect();

  const wrong = token({ sub: "42", exp: now() + 600 }, "another secret");
  const cut = as("42").slice(0, -4);
  const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${as("42").split(".")[1]}.`;
  const forged = as("42").split(".");
  forged[1] = Buffer.from('{"sub":"root"}').toString("base64url");
  const channel = token({ sub: "42", channel: "room", exp: now() + 600 }, secret);
  for (const [name, bad] of Object.entries({ wrong, cut, none, forged: forged.join("."), garbage: "a.b.c", channel })) {
    assert.equal((await refusal(url, form, { token: bad })).code, 3500, name);
  }
  assert.equal((await refusal(url, form)).code, 3501, "without a token");
  const early = token({ sub: "42", nbf: now() + 600 }, secret);
  // Error 109, as for one whose time is over: without a way to another token the client gives up by itself.
  assert.equal((await refusal(url, form, { token: early })).code, 1, "not yet");
};

// A tenant's token names the namespaces in which it may do anything; what its namespace takes is limited.
const tenants = async () => {
  const [client] = await connect(url, form, { token: as("44", { namespaces: ["acme"], channels: ["personal:news"] }) });
  await hears(client, "personal:news");
  const [mine] = await subscribe(client, "acme:room");
  assert.deepEqual(await mine.publish(encode(form, { text: "hello" })), {});
  assert.equal((await subscribeRefusal(client, "room")).code, 103);
  for (const elsewhere of [() => client.publish("open:room", encode(form, 1)), () => client.history("room", { limit: 1 }),
    () => client.presence("room"), () => client.presenceStats("open:room")]) {
    await assert.rejects(elsewhere, { code: 103 });
  }
  const [second] = await connect(url, form, { token: as("45", { namespaces: ["acme", ""] }) });
  assert.equal((await subscribeRefusal(second, "acme:room")).code, 106);
  await subscribe(second, "room");
  assert.equal((await refusal(url, form, { token: as("46", { namespaces: "acme" }) })).code, 3500);
  client.disconnect();
  second.disconnect();
};

const refreshing = async () => {
  // Expired at the door: error 109, and the client asks for a new one.
  let asked = 0;
  const getToken = async () => as("42", { exp: now() + (asked++ === 0 ? 3 : 600) });
  const [client] = await connect(url, form, { token: as("42", { exp: now() - 10 }), getToken });
  assert.equal(asked, 1);
  // And again before that one's time is over, without losing the connection.
  client.on("connecting", () => assert.fail("lost over a refresh"));
  client.on("disconnected", () => assert.fail("lost over a refresh"));
  while (asked < 2) await sleep(50);
  await sleep(2500);
  assert.equal(client.state, "connected");
  await assert.rejects(client.rpc("nothing", null), { code: 108 });
  client.removeAllListeners("connecting");
  client.removeAllListeners("disconnected");
  client.disconnect();
  // Another user's token is none for this connection.
  let again = 0;
  const [thief] = await connect(url, form, { token: as("42", { exp: now() + 2 }), getToken: async () => as("4" + again++) });
  assert.equal((await when(thief, "disconnected")).code, 3500);
};

// Who does not refresh is sent away some seconds after the end, told so.
const lapsing = async () => {
  const socket = new WebSocket(url);
  const closed = new Promise(resolve => socket.on("close", code => resolve(code)));
  const exp = now() + 2;
  socket.on("message", text => {
    if (text.toString().includes('"connect"')) assert.match(text.toString(), /"expires":true,"ttl":[12]/);
  });
  await new Promise(resolve => socket.on("open", resolve));
  socket.send(JSON.stringify({ id: 1, connect: { token: as("42", { exp }) } }));
  assert.equal(await closed, 3005);
  assert.ok(now() >= exp, "before its time");
};

const serverSide = async () => {
  const override = { force_recovery: { value: true } };
  const subs = { alerts: { data: { level: 3 }, info: { role: "guard" }, override }, news: {} };
  const [client] = await connect(url, form, { token: as("50", { subs, channels: ["passed over beside subs"] }) });
  // Told before "connected": so they are looked up in presence first.
  const { result } = await call("presence", { channel: "alerts" });
  assert.deepEqual(Object.values(result.presence).map(info => [info.user, info.chan_info]), [["50", { role: "guard" }]]);
  await hears(client, "news");
  await hears(client, "alerts");
  const subscribed = [], missed = [];
  client.on("subscribed", context => subscribed.push(context));
  client.on("publication", ({ channel, data }) => missed.push([channel, decode(form, data).text]));
  client.disconnect();
  await call("publish", { channel: "alerts", data: { text: "missed" } });
  await call("publish", { channel: "alerts", data: { text: "missed too" } });
  const back = when(client, "connected");
  client.connect();
  await back;
  await sleep(100);
  const alerts = subscribed.find(context => context.channel === "alerts");
  assert.deepEqual([alerts.wasRecovering, alerts.recovered], [true, true]);
  assert.deepEqual(decode(form, alerts.data), { level: 3 });
  assert.ok(subscribed.some(context => context.channel === "news"));
  assert.deepEqual(missed, [["alerts", "missed"], ["alerts", "missed too"]]);
  client.disconnect();
  const unknown = await refusal(url, form, { token: as("50", { channels: ["nonesuch:a"] }) });
  assert.equal(unknown.code, 102);
};

const subscribing = async () => {
  const [client] = await connect(url, form, { token: as("42") });
  const allowed = (channel, more = {}) => token({ sub: "42", channel, exp: now() + 600, ...more }, secret);
  assert.equal((await subscribeRefusal(client, "$none")).code, 103);
  assert.equal((await subscribeRefusal(client, "$garbage", { token: "a.b.c" })).code, 103);
  const other = token({ sub: "42", channel: "$signed", exp: now() + 600 }, "another secret");
  assert.equal((await subscribeRefusal(client, "$signed", { token: other })).code, 103);
  const more = { info: { seat: 7 }, data: { welcome: true } };
  const [room, context] = await subscribe(client, "$room", { token: allowed("$room", more) });
  assert.deepEqual(decode(form, context.data), { welcome: true });
  const [info] = Object.values((await room.presence()).clients);
  assert.deepEqual(decode(form, info.chanInfo), { seat: 7 });
  await hears(room, "$room");
  // Expired: error 109, and a new one is asked for; refreshed before its time is over.
  let asked = 0;
  const getToken = async ({ channel }) => allowed(channel, { exp: now() + (asked++ === 0 ? 3 : 600) });
  const [short] = await subscribe(client, "$short", { token: allowed("$short", { exp: now() - 10 }), getToken });
  assert.equal(asked, 1);
  short.on("subscribing", () => assert.fail("lost over a refresh"));
  short.on("unsubscribed", () => assert.fail("lost over a refresh"));
  while (asked < 2) await sleep(50);
  await sleep(2500);
  await hears(short, "$short");
  short.removeAllListeners();
  client.disconnect();
  // A token for something else, or somebody else, costs the connection.
  for (const claims of [{ channel: "$other" }, { sub: "43" }, { client: "somebody" }]) {
    const [strayed] = await connect(url, form, { token: as("42") });
    const ended = when(strayed, "disconnected");
    strayed.newSubscription("$mine", { token: allowed("$mine", claims) }).subscribe();
    assert.equal((await ended).code, 3500, JSON.stringify(claims));
  }
};

// The commands as they go over the wire, for answers that the client keeps to itself.
const refreshedByHand = async () => {
  const socket = new WebSocket(url);
  const replies = new Map(), closed = new Promise(resolve => socket.on("close", code => resolve(code)));
  socket.on("message", text => {
    for (const line of text.toString().split("\n")) {
      const reply = JSON.parse(line);
      replies.get(reply.id)?.(reply);
    }
  });
  await new Promise(resolve => socket.on("open", resolve));
  let id = 0;
  const ask = command => new Promise(resolve => {
    replies.set(++id, resolve);
    socket.send(JSON.stringify({ id, ...command }));
  });
  const allowed = (more = {}) => token({ sub: "42", channel: "$hand", exp: now() + 600, ...more }, secret);
  await ask({ connect: { token: as("42") } });
  const { subscribe: subscribed } = await ask({ subscribe: { channel: "$hand", token: allowed() } });
  assert.deepEqual([subscribed.expires, Math.abs(subscribed.ttl - 600) < 3], [true, true]);
  const refreshed = (await ask({ refresh: { token: as("42", { exp: now() + 900 }) } })).refresh;
  assert.deepEqual([refreshed.expires, Math.abs(refreshed.ttl - 900) < 3], [true, true]);
  const sub = (await ask({ sub_refresh: { channel: "$hand", token: allowed({ exp: now() + 900 }) } })).sub_refresh;
  assert.deepEqual([sub.expires, Math.abs(sub.ttl - 900) < 3], [true, true]);
  assert.equal((await ask({ sub_refresh: { channel: "$elsewhere", token: allowed() } })).error.code, 103);
  assert.equal((await ask({ sub_refresh: { channel: "$hand", token: "" } })).error.code, 107);
  assert.equal((await ask({ sub_refresh: { channel: "$hand", token: allowed({ exp: now() - 9 }) } })).error.code, 110);
  socket.send(JSON.stringify({ id: 99, sub_refresh: { channel: "$hand", token: "a.b.c" } }));
  assert.equal(await closed, 3500);
};

const limited = async () => {
  const [ann] = await connect(url, form, { token: as("42") });
  const [eve] = await connect(url, form, { token: as("44") });
  const [dialogue] = await subscribe(ann, "dialogue#42,43");
  await hears(dialogue, "dialogue#42,43");
  assert.equal((await subscribeRefusal(eve, "dialogue#42,43")).code, 103);
  assert.equal((await subscribeRefusal(eve, "closed:a")).code, 103);
  assert.equal((await subscribeRefusal(eve, "nonesuch:a")).code, 102);
  // Without a name: in, and allowed what the namespace allows to those.
  const [nobody] = await connect(url, form, { token: token({ exp: now() + 600 }, secret) });
  assert.equal((await subscribeRefusal(nobody, "room")).code, 103);
  const [open] = await subscribe(nobody, "open:a");
  await hears(open, "open:a");
  await assert.rejects(nobody.publish("open:a", form === "protobuf" ? new Uint8Array([49]) : 1), { code: 103 });
  for (const client of [ann, eve, nobody]) client.disconnect();
};

scenario(`tokens ${form}`, 60, async () => {
  const parts = { connecting, refreshing, lapsing, serverSide, subscribing, limited, refreshedByHand, tenants };
  // At the same time: most of it is waiting for times to be over.
  await Promise.all(Object.values(parts).map(part => part()));
});
