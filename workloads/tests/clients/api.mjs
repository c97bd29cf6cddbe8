// The server's HTTP API does things to live clients: what the official JavaScript client sees of it, in one of its forms.
// Arguments: ws://HOST:PORT/connection/websocket, "json" or "protobuf", the API's key.
import assert from "node:assert/strict";
import { caller, connect, decode, encode, scenario, subscribe, when } from "./chat.mjs";

const [, , url, form, key] = process.argv;
scenario(`api ${form}`, 30, async () => {
  const call = caller(url, key);
  const user = `user of ${form}`, room = `room ${form}`;
  const one = await connect(url, form, { data: { user } }), two = await connect(url, form, { data: { user } });
  const [first, { client }] = one, [second] = two;
  const [hers] = await subscribe(first, room);

  // Subscribed by the server: both clients of the user, then only one of them.
  const events = Promise.all([when(first, "subscribed"), when(second, "subscribed")]);
  assert.deepEqual(await call("subscribe", { user, channel: `given ${form}`, data: { why: "server" } }), { result: {} });
  for (const context of await events) {
    assert.deepEqual([context.channel, decode(form, context.data)], [`given ${form}`, { why: "server" }]);
  }
  second.on("subscribed", () => assert.fail("only one client was meant"));
  const only = when(first, "subscribed");
  await call("subscribe", { user, client, channel: `only ${form}` });
  assert.equal((await only).channel, `only ${form}`);
  const { result } = await call("presence_stats", { channel: `only ${form}` });
  assert.deepEqual(result, { num_clients: 1, num_users: 1 });
  const heard = Promise.all([when(first, "publication"), when(second, "publication")]);
  await call("publish", { channel: `given ${form}`, data: { text: "to both" }, tags: { a: "b" } });
  for (const publication of await heard) {
    assert.deepEqual(decode(form, publication.data), { text: "to both" });
    assert.deepEqual([{ ...publication.tags }, publication.info], [{ a: "b" }, undefined]);
  }
  // Unsubscribed by it: 2000 is for good.
  const gone = when(hers, "unsubscribed"), dropped = when(second, "unsubscribed");
  await call("unsubscribe", { user, channel: room });
  assert.deepEqual((await gone).code, 2000);
  await call("unsubscribe", { user, channel: `given ${form}` });
  assert.equal((await dropped).channel, `given ${form}`);
  // A client's own subscription begins anew when it likes.
  const anew = when(hers, "subscribed");
  hers.subscribe();
  await anew;

  // Sent away: codes below 3500 bring it back, others do not.
  const back = when(first, "connected"), lost = when(first, "connecting");
  await call("disconnect", { user, client, disconnect: { code: 3011, reason: "move" } });
  assert.deepEqual([(await lost).code, (await lost).reason], [3011, "move"]);
  const { client: renewed } = await back;
  assert.notEqual(renewed, client);
  const away = when(first, "disconnected");
  await call("disconnect", { user, whitelist: [two[1].client] });
  assert.deepEqual([(await away).code, second.state], [3503, "connected"]);
  // Kept alive, then ended.
  const at = Math.floor(Date.now() / 1000) + 3600;
  assert.deepEqual(await call("refresh", { user, expire_at: at }), { result: {} });
  await second.publish(room, encode(form, {}));
  const ended = when(second, "connecting");
  await call("refresh", { user, expired: true });
  assert.equal((await ended).code, 3005);
  second.disconnect();
});
