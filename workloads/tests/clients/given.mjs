// Publications as differences, filtered by tags, and channels of a latest value, as the official JavaScript client sees them in
// one of its forms. Arguments: as of sdks.mjs, and the API's key.
import assert from "node:assert/strict";
import { caller, connect, decode, encode, scenario, subscribe, subscribeRefusal, when } from "./chat.mjs";

const [, , url, form, key] = process.argv;
const board = (minute, score) => ({
  match: "somebody against somebody else, at home", place: "Café Zürich \u{20ac} \u{1f3c6}", minute, score,
  players: Array.from({ length: 22 }, (_, number) => ({ number, name: `player ${number}`, on: true })),
});

scenario(`given ${form}`, 60, async () => {
  const call = caller(url.replace(/^.*\+/, ""), key), suffix = `${url.split("ws:")[0]}${form}`;
  const room = `board of ${suffix}`, publish = (channel, data, more) => call("publish", { channel, data, ...more });

  // Differences: the client puts each publication together from the one before.
  const [client] = await connect(url, form, { data: { user: "ann" } });
  const [sub] = await subscribe(client, room, { delta: "fossil", recoverable: true, positioned: true });
  const read = [];
  sub.on("publication", ({ data, offset }) => read.push([offset, decode(form, data)]));
  const expected = [];
  for (let minute = 1; minute <= 20; minute++) {
    expected.push([minute, board(minute, Math.floor(minute / 7))]);
    await publish(room, expected.at(-1)[1]);
  }
  // Something that has nothing in common, and one that clients publish, with its author.
  expected.push([21, { over: true }], [22, board(90, 4)]);
  await publish(room, expected[20][1]);
  await sub.publish(encode(form, expected[21][1]));
  const all = async count => { while (read.length < count) await when(sub, "publication"); };
  await all(22);
  assert.deepEqual(read, expected);
  const { numPublications, numFullPayloads, numDeltaPayloads, compressionRatio } = sub.deltaStats();
  assert.deepEqual([numPublications, numFullPayloads, numDeltaPayloads], [22, 3, 19]);
  assert.ok(compressionRatio > 0.8, `${compressionRatio}`);

  // Away, and back: what was missed comes whole, and what follows as differences again.
  const back = when(sub, "subscribed");
  client.disconnect();
  for (const offset of [23, 24]) {
    expected.push([offset, board(offset, 9)]);
    await publish(room, expected.at(-1)[1]);
  }
  client.connect();
  assert.equal((await back).recovered, true);
  for (const offset of [25, 26]) {
    expected.push([offset, board(offset, 9)]);
    await publish(room, expected.at(-1)[1]);
  }
  await all(26);
  assert.deepEqual(read, expected);

  // Whoever asks for none gets publications as they are.
  const [plain] = await connect(url, form, { data: { user: "bob" } });
  const [his] = await subscribe(plain, room);
  const heard = when(his, "publication");
  await publish(room, board(90, 9));
  assert.deepEqual(decode(form, (await heard).data), board(90, 9));
  const { publications } = await his.history({ limit: 1, reverse: true });
  assert.deepEqual(decode(form, publications[0].data), board(90, 9));

  // Filters.
  const prices = `prices of ${suffix}`, wanted = [];
  const tagsFilter = { op: "and", nodes: [
    { key: "ticker", cmp: "in", vals: ["A", "B"] },
    { op: "not", nodes: [{ key: "price", cmp: "lt", val: "10.50" }] },
  ] };
  const [filtered] = await subscribe(client, prices, { tagsFilter, recoverable: true, positioned: true });
  filtered.on("publication", ({ offset, tags }) => wanted.push([offset, tags.ticker]));
  const quotes = [["A", "10.5"], ["A", "10.49"], ["C", "99"], ["B", "1000"]];
  const quote = async () => {
    for (const [ticker, price] of quotes) await publish(prices, { price }, { tags: { ticker, price } });
  };
  await quote();
  const returned = when(filtered, "subscribed");
  client.disconnect();
  await quote();
  client.connect();
  assert.equal((await returned).recovered, true);
  while (wanted.length < 4) await when(filtered, "publication");
  assert.deepEqual(wanted, [[1, "A"], [4, "B"], [5, "A"], [8, "B"]]);
  const nonsense = await subscribeRefusal(plain, prices, { tagsFilter: { key: "a", cmp: "like", val: "b" } });
  assert.equal(nonsense.code, 107);

  // The latest value: who comes has it at once, and what follows as a difference.
  const value = `latest:${suffix}`, values = [];
  for (const minute of [1, 2, 3]) await publish(value, board(minute, 0));
  const latest = client.newSubscription(value, { delta: "fossil", since: { offset: 0, epoch: "" } });
  latest.on("publication", ({ data }) => values.push(decode(form, data).minute));
  const came = when(latest, "subscribed");
  latest.subscribe();
  assert.equal((await came).recovered, true);
  await publish(value, board(4, 0));
  await publish(value, board(5, 0));
  while (values.length < 3) await when(latest, "publication");
  assert.deepEqual(values, [3, 4, 5]);
  assert.equal(latest.deltaStats().numDeltaPayloads, 1);
});
