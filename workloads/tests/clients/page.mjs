// Two browser windows chat on the page. Arguments: http://HOST:PORT/ and the DevTools address ws://... of a headless browser.
import WebSocket from "ws";
import assert from "node:assert/strict";

const [, , page, browserUrl] = process.argv;
setTimeout(() => { console.error("timed out"); process.exit(1); }, 25000).unref();
const socket = new WebSocket(browserUrl);
await new Promise(resolve => socket.once("open", resolve));
const waiting = new Map(), complaints = [];
let id = 0;
socket.on("message", text => {
  const message = JSON.parse(text);
  if (message.id) { waiting.get(message.id)(message); waiting.delete(message.id); }
  if (message.method === "Runtime.exceptionThrown") complaints.push(message.params.exceptionDetails.text);
  if (message.method === "Log.entryAdded" && message.params.entry.level === "error") complaints.push(message.params.entry.text);
});
const call = (method, params, sessionId) => new Promise((resolve, reject) => {
  waiting.set(++id, message => message.error ? reject(new Error(message.error.message)) : resolve(message.result));
  socket.send(JSON.stringify({ id, method, params, sessionId }));
});
const open = async () => {
  const { targetId } = await call("Target.createTarget", { url: page });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  await call("Runtime.enable", {}, sessionId);
  await call("Log.enable", {}, sessionId);
  const look = async expression => {
    const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true }, sessionId);
    assert.equal(exceptionDetails, undefined, expression);
    return result.value;
  };
  const until = async expression => {
    while (!await look(expression)) await new Promise(resolve => setTimeout(resolve, 50));
  };
  return { look, until };
};
const enter = async name => {
  const window = await open();
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
assert.deepEqual(complaints, []);
console.log("page: ok");
process.exit(0);
