// What a deployment with the test's Centrifugo file must do. Arguments: ws://HOST:PORT/connection/websocket, "json" or
// "protobuf", the secret of its tokens. The API's key is the file's.
import assert from "node:assert/strict";
import { caller, connect, decode, encode, now, refusal, scenario, subscribe, subscribeRefusal, token, when } from "./chat.mjs";

const [, , url, form, secret] = process.argv;
scenario("deployment", 30, async () => {
  const call = caller(url, "a key of the API");
  const as = sub => ({ token: token({ sub, exp: now() + 600 }, secret) });
  assert.equal((await refusal(url, form)).code, 3501);
  assert.equal((await refusal(url, form, { token: token({ sub: "a" }, "a secret of somebody else") })).code, 3500);
  const [ann] = await connect(url, form, as("ann")), [bob] = await connect(url, form, as("bob"));
  const personal = when(ann, "publication");
  await call("publish", { channel: "personal:#ann", data: { hello: "ann" } });
  assert.deepEqual(decode(form, (await personal).data), { hello: "ann" });
  // The file allows what it allows, and nothing else.
  assert.equal((await subscribeRefusal(bob, "personal:other")).code, 103);
  assert.equal((await subscribeRefusal(bob, "nonesuch:a")).code, 102);
  await assert.rejects(bob.publish("chat:room", encode(form, {})), { code: 103 });
  const [hers, context] = await subscribe(ann, "chat:room");
  assert.deepEqual([context.recoverable, context.positioned], [true, true]);
  const joined = when(hers, "join", ({ info }) => info.user === "bob");
  const [his] = await subscribe(bob, "chat:room");
  await joined;
  const heard = when(hers, "publication");
  await his.publish(encode(form, { text: "hi" }));
  assert.deepEqual(decode(form, (await heard).data), { text: "hi" });
  assert.equal((await hers.history({ limit: 5 })).publications.length, 1);
  assert.deepEqual(Object.values(await his.presenceStats()), [2, 2]);
  const [plain] = await subscribe(ann, "plain");
  await assert.rejects(plain.history({ limit: 1 }), { code: 108 });
  await assert.rejects(plain.publish(encode(form, {})), { code: 103 });
  await assert.rejects(plain.presence(), { code: 103 });
  await assert.rejects(ann.rpc("a", encode(form, {})), { code: 108 });
  // In the namespace that keeps only the newest, that is what a newcomer gets.
  for (const number of [1, 2, 3]) await call("publish", { channel: "newest:a", data: { number } });
  const newest = bob.newSubscription("newest:a", { since: { offset: 0, epoch: "" } });
  const got = when(newest, "publication");
  newest.subscribe();
  const publication = await got;
  assert.deepEqual([decode(form, publication.data), publication.offset], [{ number: 3 }, 3]);
  ann.disconnect();
  bob.disconnect();
});
