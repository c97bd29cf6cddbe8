// The browser example, in two windows and over a server's sudden end. Arguments: the built example's folder,
// ws://HOST:PORT/connection/websocket, the API's key, and the DevTools address ws://... of a headless browser.
//
//   test: ready? ─ crashed ─► something is said ─ said ─► (new server) ─ restarted ─► everybody has everything, once
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { caller, hear, listen, say, scenario } from "./chat.mjs";
import { browse } from "./devtools.mjs";

const [, , folder, url, key, browserUrl] = process.argv;
const types = { ".html": "text/html", ".js": "text/javascript" };
const files = createServer(async ({ url: target }, response) => {
  const path = new URL(target, "http://localhost").pathname;
  try {
    const name = path === "/" ? "index.html" : path.slice(1);
    const content = await readFile(join(folder, name));
    response.writeHead(200, { "Content-Type": types[extname(name)] ?? "application/octet-stream" }).end(content);
  } catch {
    response.writeHead(404).end();
  }
});

scenario("browser example", 120, async () => {
  listen();
  const call = caller(url, key);
  await new Promise(resolve => files.listen(0, "127.0.0.1", resolve));
  const browser = await browse(browserUrl, 120);
  const enter = user => browser.open(
    `http://127.0.0.1:${files.address().port}/?${new URLSearchParams({ user, server: url })}`);
  const connected = "document.getElementById('state')?.dataset.state === 'connected'";
  const lines = "[...document.querySelectorAll('#messages li')].map(line => [line.textContent, line.dataset.fate])";
  const write = text => `document.getElementById('text').value = ${JSON.stringify(text)}; document.getElementById('write').requestSubmit()`;
  const shows = (window, expected) => window.until(`JSON.stringify(${lines}) === ${JSON.stringify(JSON.stringify(expected))}`);
  const board = "document.getElementById('board')?.textContent";

  const ann = await enter("ann"), bob = await enter("bob");
  for (const window of [ann, bob]) await window.until(connected);
  await ann.look(write("good <i>evening</i>"));
  const before = [["ann: good <i>evening</i>", "kept"]];
  for (const window of [ann, bob]) await shows(window, before);
  assert.equal(await bob.look("document.querySelectorAll('#messages i').length"), 0, "text stays text");
  for (const home of [1, 2]) await call("publish", { channel: "board:parlour", data: { title: "a match", scores: { home, away: 0 } } });
  await bob.until(`${board} === 'a match: home 2, away 0'`);
  await call("publish", { channel: "board:parlour", data: { title: "a match", scores: "none" } });
  await call("publish", { channel: "board:parlour", data: { title: "a match", scores: { home: 3, away: 0 } } });
  await ann.until(`${board} === 'a match: home 3, away 0'`);

  say("ready");
  await hear("crashed");
  await ann.until(`!(${connected})`);
  await ann.look(write("is anybody there?"));
  await shows(ann, [...before, ["ann: is anybody there?", "waits"]]);
  say("said");
  await hear("restarted");
  const after = [...before, ["ann: is anybody there?", "kept"]];
  for (const window of [ann, bob]) await shows(window, after);

  // Who comes late has the board at once, and what is said from now on.
  const cid = await enter("cid");
  await cid.until(`${board} === 'a match: home 3, away 0'`);
  await cid.look(write("me"));
  await shows(bob, [...after, ["cid: me", "kept"]]);
  await shows(cid, [["cid: me", "kept"]]);
  const { result } = await call("history", { channel: "room:parlour", limit: 10 });
  assert.deepEqual(result.publications.map(({ data }) => data.text), ["good <i>evening</i>", "is anybody there?", "me"]);
  for (const window of [ann, bob, cid]) window.complainedOnlyOf(/WebSocket|console.warning|favicon|404/);
  console.log("ok");
  process.exit(0);
});
