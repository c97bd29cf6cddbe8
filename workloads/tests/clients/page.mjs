// Two browser windows chat on the page. Arguments: http://HOST:PORT/ and the DevTools address ws://... of a headless browser.
import assert from "node:assert/strict";
import { browse } from "./devtools.mjs";

const [, , page, browserUrl] = process.argv;
const browser = await browse(browserUrl, 180);
const enter = async name => {
  const window = await browser.open(page);
  await window.until("document.readyState === 'complete' && !!document.getElementById('name')");
  await window.look(`document.getElementById('name').value = '${name}'; document.getElementById('room').value = 'parlour'; document.querySelector('#door form').requestSubmit()`);
  await window.until("document.getElementById('state').dataset.state === 'connected'");
  return window;
};
const ann = await enter("Ann"), bob = await enter("Bob");
const people = "document.getElementById('people').innerText";
for (const window of [ann, bob]) await window.until(`${people}.includes('Ann') && ${people}.includes('Bob')`);
await bob.look("document.getElementById('text').value = 'good <i>evening</i>'; document.getElementById('write').requestSubmit()");
const said = "document.getElementById('messages').innerText.includes('good <i>evening</i>')";
for (const window of [ann, bob]) await window.until(said);
assert.equal(await ann.look("document.querySelectorAll('#messages i').length"), 0, "text stays text");
for (const window of [ann, bob]) assert.deepEqual(window.complaints, []);
console.log("page: ok");
process.exit(0);
