// Who is muted or banned, and what was removed: what the official JavaScript client sees of it, in one of its forms.
// Arguments: ws://HOST:PORT/connection/websocket, "json" or "protobuf", the API's key.
import assert from "node:assert/strict";
import { caller, connect, decode, encode, scenario, subscribe, when } from "./chat.mjs";

const [, , url, form, key] = process.argv;
scenario(`moderation ${form}`, 60, async () => {
  const call = caller(url, key), done = { result: {} };
  const user = `troll of ${form}`, room = `room of ${form}`;
  const [client] = await connect(url, form, { data: { user } });
  const [sub] = await subscribe(client, room, { recoverable: true, positioned: true });

  // Muted: it hears, and is refused with a code of its own.
  assert.deepEqual(await call("mute", { user, channel: room, seconds: 3600 }), done);
  const refused = await sub.publish(encode(form, { text: "no" })).catch(error => error);
  assert.equal(refused.code, 120);
  assert.match(refused.message, /^muted: \d+ s to go$/);
  const heard = when(sub, "publication");
  await call("publish", { channel: room, data: { text: "a" } });
  assert.deepEqual(decode(form, (await heard).data), { text: "a" });
  assert.deepEqual(await call("unmute", { user, channel: room }), done);
  await sub.publish(encode(form, { text: "b" }));
  await sub.publish(encode(form, { text: "c" }));

  // Removed: its place is passed over by whoever recovers, and by history.
  assert.deepEqual(await call("publication_remove", { channel: room, offset: 2 }), done);
  const [other] = await connect(url, form, { data: { user: "reader" } });
  const [, { streamPosition }] = await subscribe(other, `${room} elsewhere`, { recoverable: true });
  assert.ok(streamPosition);
  const { publications } = await sub.history({ limit: 10 });
  assert.deepEqual(publications.map(({ offset, data }) => [offset, decode(form, data).text]), [[1, "a"], [3, "c"]]);
  const { result } = await call("history", { channel: room });
  const late = other.newSubscription(room, { since: { offset: 1, epoch: result.epoch } });
  const missed = [];
  late.on("publication", ({ offset }) => missed.push(offset));
  const subscribed = when(late, "subscribed");
  late.subscribe();
  assert.equal((await subscribed).recovered, true);
  await call("publish", { channel: room, data: { text: "d" } });
  while (!missed.includes(4)) await when(late, "publication");
  assert.deepEqual(missed, [3, 4]);

  // Banned from a channel: unsubscribed for good.
  const gone = when(sub, "unsubscribed");
  assert.deepEqual(await call("ban", { user, channel: room }), done);
  assert.deepEqual((({ code, reason }) => [code, reason])(await gone), [2020, "banned"]);
  const out = when(sub, "unsubscribed");
  sub.subscribe();
  assert.deepEqual((({ code, reason }) => [code, reason])(await out), [121, "banned"]);
  assert.equal(client.state, "connected");
  assert.deepEqual(await call("unban", { user, channel: room }), done);
  const again = when(sub, "subscribed");
  sub.subscribe();
  await again;

  // Banned altogether: disconnected, and it does not come back.
  const away = when(client, "disconnected");
  assert.deepEqual(await call("block_user", { user, expire_at: Math.floor(Date.now() / 1000) + 3600 }), done);
  assert.deepEqual((({ code, reason }) => [code, reason])(await away), [3520, "banned"]);
  const still = when(client, "disconnected");
  client.connect();
  assert.equal((await still).code, 3520);
  assert.deepEqual(await call("unblock_user", { user }), done);
  const back = when(client, "connected");
  client.connect();
  await back;
  client.disconnect();
  other.disconnect();
});
