// A voice of a duet: it sings its notes once the other is there, and hears its own and the other's, each in order.
// Arguments: ws://HOST:PORT/connection/websocket, "json" or "protobuf", its name, the other's.
import assert from "node:assert/strict";
import { connect, decode, encode, scenario, when } from "./chat.mjs";

const [, , url, form, name, other] = process.argv;
const notes = 50;
scenario(`duet ${form} ${name}`, 30, async () => {
  const [client] = await connect(url, form, { data: { user: name } });
  const subscription = client.newSubscription("duet", { joinLeave: true });
  const heard = { [name]: [], [other]: [] };
  const done = when(subscription, "publication", ({ data, info }) => {
    const { number, text } = decode(form, data);
    assert.equal(text, "note ♪");
    heard[info.user].push(number);
    return heard[name].length === notes && heard[other].length === notes;
  });
  const subscribed = when(subscription, "subscribed");
  subscription.subscribe();
  await subscribed;
  while ((await subscription.presenceStats()).numUsers < 2) await new Promise(resolve => setTimeout(resolve, 20));
  for (let number = 0; number < notes; number++) await client.publish("duet", encode(form, { number, text: "note ♪" }));
  await done;
  const expected = Array.from({ length: notes }, (_, number) => number);
  assert.deepEqual(heard, { [name]: expected, [other]: expected });
  client.disconnect();
});
