// Two subscribers in one form, through a server's sudden end: one is away when it ends, the other is there and finds back by
// itself. Arguments: ws://HOST:PORT/connection/websocket, "json" or "protobuf", a channel, the API's key.
//
//   test: ready? ─ crashed ─► (new server) ─ published N ─► both have what they missed, and nothing else
import assert from "node:assert/strict";
import { caller, connect, decode, encode, hear, listen, say, scenario, subscribe, when } from "./chat.mjs";

const [, , url, form, channel, key] = process.argv;
scenario(`restart ${form}`, 90, async () => {
  listen();
  const call = caller(url, key);
  // Long enough for the test to publish before the client is back.
  const patient = { minReconnectDelay: 2000, maxReconnectDelay: 3000 };
  const [away] = await connect(url, form, { data: { user: "away" } });
  const [there] = await connect(url, form, { data: { user: "there" }, ...patient });
  const [author] = await connect(url, form, { data: { user: "author" } });
  const [absent] = await subscribe(away, channel, { recoverable: true });
  const [present, context] = await subscribe(there, channel, { recoverable: true });
  const { epoch } = context.streamPosition;
  const got = { absent: [], present: [] };
  const note = name => ({ data, offset }) => got[name].push([decode(form, data).number, offset]);
  absent.on("publication", note("absent"));
  present.on("publication", note("present"));

  let number = 0;
  const publish = async count => {
    const batch = Array.from({ length: count }, () => author.publish(channel, encode(form, { number: number++ })));
    await Promise.all(batch);
  };
  const both = Promise.all([absent, present].map(one => when(one, "publication", ({ offset }) => offset === 40)));
  await publish(40);
  await both;
  away.disconnect();
  const last = when(present, "publication", ({ offset }) => offset === 70);
  await publish(30);
  await last;
  const ours = value => ({ ...value, publications: value.publications.map(one => ({ ...one, data: decode(form, one.data) })) });
  const before = ours(await present.history({ limit: 200 }));
  const keyed = { channel, data: { number: number++ }, idempotency_key: "once" };
  const first = await call("publish", keyed);
  assert.deepEqual(first, { result: { offset: 71, epoch } });
  const lost = when(there, "connecting");
  const back = when(present, "subscribed");
  author.disconnect();
  say("ready");

  await hear("crashed");
  await lost;
  await hear("restarted");
  // The same key again: the same place, and nothing is published.
  assert.deepEqual(await call("publish", keyed), first);
  const other = await call("publish", { ...keyed, data: { number: -1 } });
  assert.equal(other.error?.code, 107);
  for (let count = 0; count < 5; count++) {
    const { result } = await call("publish", { channel, data: { number: number++ } });
    assert.deepEqual(result, { offset: 72 + count, epoch });
  }
  const again = await back;
  assert.deepEqual([again.wasRecovering, again.recovered, again.streamPosition.epoch], [true, true, epoch]);
  const returned = when(absent, "subscribed");
  away.connect();
  const found = await returned;
  assert.deepEqual([found.wasRecovering, found.recovered, found.streamPosition.epoch], [true, true, epoch]);
  // What is published from now on follows, and ends it.
  const end = Promise.all([absent, present].map(one => when(one, "publication", ({ offset }) => offset === 77)));
  await call("publish", { channel, data: { number: number++ } });
  await end;
  const expected = Array.from({ length: 77 }, (_, index) => [index, index + 1]);
  assert.deepEqual(got.absent, expected);
  assert.deepEqual(got.present, expected);
  const after = ours(await present.history({ limit: 200 }));
  assert.deepEqual(after.publications.slice(0, 70), before.publications);
  assert.deepEqual([after.epoch, after.offset, after.publications.length], [epoch, 77, 77]);
  away.disconnect();
  there.disconnect();
});
