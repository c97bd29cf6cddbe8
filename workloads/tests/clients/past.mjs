// A page after the other through a history of which memory has only the newest part, both ways, by the official client.
// Arguments: ws://HOST:PORT/connection/websocket, "json" or "protobuf", a channel, how many publications it has.
import assert from "node:assert/strict";
import { connect, decode, scenario } from "./chat.mjs";

const [, , url, form, channel, count] = process.argv;
const top = Number(count);
scenario(`past ${form}`, 60, async () => {
  const [client] = await connect(url, form, { data: { user: "reader" } });
  const check = (page, offset) => {
    for (const one of page.publications) {
      assert.equal(one.offset, offset);
      assert.equal(decode(form, one.data).number, offset);
      assert.equal(one.tags?.n, String(offset));
      offset += page.step;
    }
    return offset;
  };
  const { epoch, offset } = await client.history(channel, { limit: 0 });
  assert.equal(offset, top);
  for (const limit of [1, 7, 10, 64, 1000]) {
    let next = 1;
    for (;;) {
      const page = await client.history(channel, { limit, since: { offset: next - 1, epoch } });
      assert.equal(page.offset, top);
      if (page.publications.length === 0) break;
      assert.equal(page.publications.length, Math.min(limit, top + 1 - next));
      next = check({ ...page, step: 1 }, next);
    }
    assert.equal(next, top + 1);
    let last = top, since;
    for (;;) {
      const page = await client.history(channel, { limit, reverse: true, since });
      if (page.publications.length === 0) break;
      assert.equal(page.publications.length, Math.min(limit, last));
      last = check({ ...page, step: -1 }, last);
      since = { offset: last + 1, epoch };
    }
    assert.equal(last, 0);
  }
  // Without a position a page begins with what memory has; a life that is over has nothing to give.
  const window = await client.history(channel, { limit: 3 });
  assert.equal(window.publications[0].offset, top - 9);
  await assert.rejects(client.history(channel, { limit: 3, since: { offset: 1, epoch: "gone" } }), { code: 112 });
  client.disconnect();
});
