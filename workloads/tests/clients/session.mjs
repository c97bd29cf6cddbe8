// The official JavaScript client against our server: two clients in one room. Argument: ws://HOST:PORT/connection/websocket
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";
import assert from "node:assert/strict";

const url = process.argv[2];
const deadline = setTimeout(() => { console.error("timed out"); process.exit(1); }, 20000);
const when = (emitter, event) => new Promise(resolve => emitter.once(event, resolve));
const connect = async user => {
  const client = new Centrifuge(url, { websocket: WebSocket, data: { user } });
  const connected = when(client, "connected");
  client.connect();
  const context = await connected;
  assert.match(context.client, /^[0-9a-f-]{36}$/);
  return client;
};
const subscribe = async (client, channel, options) => {
  const subscription = client.newSubscription(channel, options);
  const subscribed = when(subscription, "subscribed");
  subscription.subscribe();
  return [subscription, await subscribed];
};

const ann = await connect("ann"), bob = await connect("bob");
const [hers, context] = await subscribe(ann, "js:room", { joinLeave: true, recoverable: true });
assert.equal(context.recoverable, true);
const joined = new Promise(resolve => hers.on("join", context => context.info.user === "bob" && resolve()));
const [his] = await subscribe(bob, "js:room");
await joined; // Her own join comes too, before his.

const heard = Promise.all([when(hers, "publication"), when(his, "publication")]);
await bob.publish("js:room", { text: "héllo\n水" });
for (const publication of await heard) {
  assert.deepEqual(publication.data, { text: "héllo\n水" });
  assert.equal(publication.info.user, "bob");
  assert.equal(publication.offset, 1);
}
const presence = await hers.presence();
assert.deepEqual(Object.values(presence.clients).map(info => info.user).sort(), ["ann", "bob"]);
const stats = await his.presenceStats();
assert.deepEqual([stats.numClients, stats.numUsers], [2, 2]);
const history = await hers.history({ limit: 10 });
assert.deepEqual(history.publications.map(publication => publication.offset), [1]);

// Away while something is published: recovered when back, and only that.
const back = when(hers, "subscribed"), missed = when(hers, "publication");
ann.disconnect();
await bob.publish("js:room", { text: "missed" });
ann.connect();
const again = await back;
assert.equal(again.recovered, true);
assert.equal((await missed).data.text, "missed");

const left = when(hers, "leave");
his.unsubscribe();
assert.equal((await left).info.user, "bob");
await assert.rejects(ann.rpc("nothing", {}), error => error.code === 108);
await assert.rejects(ann.publish("", {}), error => error.code === 107);
const [, refusal] = await new Promise(resolve => {
  const secret = ann.newSubscription("$secret");
  secret.once("unsubscribed", context => resolve([secret, context]));
  secret.subscribe();
});
assert.equal(refusal.code, 103);

// A token cannot be proven here, so it is refused rather than ignored.
const forged = new Centrifuge(url, { websocket: WebSocket, token: "a.b.c" });
const ended = when(forged, "disconnected");
forged.connect();
assert.equal((await ended).code, 3500);
ann.disconnect();
bob.disconnect();
clearTimeout(deadline);
console.log("javascript: ok");
