// Everything that the JavaScript client can do, in one of its forms. Arguments: ws://HOST:PORT/connection/websocket, with
// "http_stream+" or "sse+" in front for these; "json" or "protobuf".
import assert from "node:assert/strict";
import { connect, decode, encode, refusal, scenario, subscribe, subscribeRefusal, when } from "./chat.mjs";

const [, , url, form] = process.argv;
scenario(`javascript ${form}`, 30, async () => {
  const channel = `room-${url.split("ws:")[0]}${form}`;
  const [ann, context] = await connect(url, form, { data: { user: "ann" } });
  const [bob] = await connect(url, form, { data: { user: "bob" } });
  assert.match(context.client, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
  const [hers, subscribed] = await subscribe(ann, channel, { joinLeave: true, recoverable: true, positioned: true });
  assert.equal(subscribed.recoverable, true);
  assert.equal(subscribed.positioned, true);
  assert.equal(subscribed.wasRecovering, false);
  assert.equal(subscribed.streamPosition.offset, 0);
  const joined = when(hers, "join", context => context.info.user === "bob");
  const [his] = await subscribe(bob, channel);
  await joined;

  const said = { text: "héllo\n水", number: -1.5e3, nothing: null, list: [true, {}] };
  const heard = Promise.all([when(hers, "publication"), when(his, "publication")]);
  assert.deepEqual(await his.publish(encode(form, said)), {});
  for (const publication of await heard) {
    assert.deepEqual(decode(form, publication.data), said);
    assert.equal(publication.info.user, "bob");
    assert.equal(publication.info.client.length, 36);
    assert.equal(publication.offset, 1);
  }
  // Published one after the other without waiting: heard in that order, by both, and the publisher too.
  const many = url.includes("+") ? 50 : 200, got = [[], []];
  const all = Promise.all([hers, his].map((subscription, index) =>
    when(subscription, "publication", ({ data }) => got[index].push(decode(form, data).number) === many)));
  const publish = number => bob.publish(channel, encode(form, { number }));
  // Requests of their own may overtake each other.
  if (url.includes("+")) for (let number = 0; number < many; number++) await publish(number);
  else await Promise.all(Array.from({ length: many }, (_, number) => publish(number)));
  await all;
  const expected = Array.from({ length: many }, (_, number) => number);
  assert.deepEqual(got, [expected, expected]);

  const presence = await hers.presence();
  assert.deepEqual(Object.values(presence.clients).map(info => info.user).sort(), ["ann", "bob"]);
  assert.equal(presence.clients[context.client].user, "ann");
  assert.deepEqual(Object.values(await his.presenceStats()), [2, 2]);
  const top = await hers.history({ limit: 0 });
  assert.deepEqual([top.publications.length, top.offset], [0, many + 1]);
  const newest = await hers.history({ limit: 3, reverse: true });
  assert.deepEqual(newest.publications.map(publication => publication.offset), [many + 1, many, many - 1]);
  const since = { offset: many - 1, epoch: top.epoch };
  const page = await his.history({ limit: 10, since });
  assert.deepEqual(page.publications.map(publication => publication.offset), [many, many + 1]);
  assert.deepEqual(decode(form, page.publications[0].data), { number: many - 2 });
  await assert.rejects(hers.history({ limit: 1, since: { offset: 1, epoch: "none" } }), { code: 112 });

  // Away while something is published: recovered when back, and only that.
  const missed = [];
  hers.on("publication", ({ data, offset }) => missed.push([decode(form, data).text, offset]));
  const back = when(hers, "subscribed");
  ann.disconnect();
  await bob.publish(channel, encode(form, { text: "one" }));
  await bob.publish(channel, encode(form, { text: "two" }));
  ann.connect();
  const again = await back;
  assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
  assert.equal(again.streamPosition.epoch, top.epoch);
  await new Promise(resolve => setTimeout(resolve, 50));
  assert.deepEqual(missed, [["one", many + 2], ["two", many + 3]]);

  const left = when(hers, "leave", context => context.info.user === "bob");
  const quiet = when(his, "unsubscribed");
  his.unsubscribe();
  assert.equal((await quiet).code, 0);
  await left;
  const before = when(hers, "publication");
  his.on("publication", () => assert.fail("heard after unsubscribe"));
  await ann.publish(channel, encode(form, { text: "alone" }));
  await before;
  assert.deepEqual(Object.values(await hers.presenceStats()), [1, 1]);

  await assert.rejects(ann.rpc("nothing", encode(form, {})), { code: 108 });
  await assert.rejects(ann.publish("", encode(form, {})), { code: 107 });
  assert.equal((await subscribeRefusal(ann, "$secret")).code, 103);
  assert.equal((await subscribeRefusal(ann, "x".repeat(256))).code, 107);
  // A token that nothing can prove is refused rather than ignored.
  assert.equal((await refusal(url, form, { token: "a.b.c" })).code, 3500);
  ann.disconnect();
  bob.disconnect();
});
