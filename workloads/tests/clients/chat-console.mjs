// The chat's console in a browser: the door, the figures, publishing, logging out; on a phone's screen too. Arguments:
// the page's address, the DevTools address ws://... of a headless browser, the console's password, or nothing where
// none is asked for, and a folder for pictures, or nothing.
import WebSocket from "ws";
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";

const [, , page, browserUrl, password, pictures] = process.argv;
const base = new URL(page);
let step = "starting";
setTimeout(() => { console.error(`timed out: ${step}`); process.exit(1); }, 50000).unref();

// Something to see: four clients in a room, one of them publishing; and one that breaks the protocol.
function client(user, lines) {
  const socket = new WebSocket(`ws://${base.host}/connection/websocket`);
  const heard = [];
  socket.on("open", () => socket.send([{ id: 1, connect: { data: { user } } }, ...lines].map(line => JSON.stringify(line)).join("\n")));
  socket.on("message", text => {
    heard.push(String(text));
    if (String(text).trim() === "{}") socket.send("{}");
  });
  return { socket, heard };
}
const members = ["ann", "bob", "bob", "cleo"].map(user => client(user, [{ id: 2, subscribe: { channel: "lobby" } }]));
let published = 2;
const publishing = setInterval(() => {
  if (members[0].heard.length) members[0].socket.send(JSON.stringify({ id: ++published, publish: { channel: "lobby", data: { at: published } } }));
}, 20);
client("dan", [{ id: 2, subscribe: { channel: "lobby" } }, { id: 3, connect: {} }]);

const socket = new WebSocket(browserUrl);
await new Promise(resolve => socket.once("open", resolve));
const waiting = new Map(), complaints = [], hosts = new Set();
let id = 0;
socket.on("message", text => {
  const message = JSON.parse(text);
  if (message.id) { waiting.get(message.id)(message); waiting.delete(message.id); }
  if (message.method === "Runtime.exceptionThrown") complaints.push(message.params.exceptionDetails.text);
  if (message.method === "Runtime.consoleAPICalled") complaints.push(`console.${message.params.type}`);
  if (message.method === "Log.entryAdded") complaints.push(message.params.entry.text);
  if (message.method === "Network.requestWillBeSent") hosts.add(new URL(message.params.request.url).host);
});
const call = (method, params, sessionId) => new Promise((resolve, reject) => {
  waiting.set(++id, message => message.error ? reject(new Error(message.error.message)) : resolve(message.result));
  socket.send(JSON.stringify({ id, method, params, sessionId }));
});
const { targetId } = await call("Target.createTarget", { url: "about:blank" });
const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
for (const domain of ["Runtime", "Log", "Network", "Page"]) await call(`${domain}.enable`, {}, sessionId);
await call("Page.navigate", { url: page }, sessionId);
const look = async (expression, awaitPromise = false) => {
  const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise }, sessionId);
  assert.equal(exceptionDetails, undefined, expression);
  return result.value;
};
const until = async expression => {
  step = expression;
  while (!await look(expression)) await new Promise(resolve => setTimeout(resolve, 50));
};
const text = id => `document.getElementById('${id}').innerText`;
const key = async (name, code, modifiers = 0) => {
  for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key: name, code: name, windowsVirtualKeyCode: code, modifiers, text: type === "keyDown" && code === 13 ? "\r" : undefined }, sessionId);
};
const write = words => call("Input.insertText", { text: words }, sessionId);
const fact = (list, name) => `[...document.querySelectorAll('#${list} div')].find(row => row.firstChild.textContent === '${name}').lastChild.textContent`;
const isIn = "document.getElementById('tiles')?.hidden === false && document.getElementById('login').hidden";

await until("document.readyState === 'complete'");
if (password) {
  await until("document.activeElement?.id === 'password'");
  assert.equal(await look("document.getElementById('tiles').hidden"), true, "no figures without the password");
  for (const path of ["state", "publish"]) {
    const answer = await fetch(new URL(path, base), { method: path === "state" ? "GET" : "POST", headers: { Authorization: "Bearer 9999999999.00" } });
    assert.equal(answer.status, 401, path);
  }
  // By keyboard alone.
  await write("wrong");
  await key("Enter", 13);
  await until(`${text("trouble")}.includes('not the right one')`);
  await write(password);
  await key("Enter", 13);
}
await until(isIn);
// The browser says so of every refusal; nothing else may be said.
assert.ok(complaints.every(complaint => /40[13]/.test(complaint)), complaints.join("\n"));
complaints.length = 0;

// Who is on several shards is counted by each.
await until(`${fact("tiles", "clients")} === '4' && /^≤ [34]$/.test(${fact("tiles", "users")}) && ${fact("tiles", "subscriptions")} === '4'`);
await until(`parseFloat(${fact("tiles", "publications/s")}) > 10 && parseFloat(${fact("tiles", "deliveries/s")}) > 40`);
await until(`/^[\\d.]+ \\/ [\\d.]+ ms$/.test(${fact("tiles", "delivery p50 / p99")})`);
await until(`/\\d.* of 4.3 GB/.test(${fact("keeping", "log")}) && /ms/.test(${fact("keeping", "fdatasync p50 / p99 / p99.9")})`);
await until(`parseInt(${fact("keeping", "rows")}.replaceAll(',', '')) > 10`);
await until(`${text("closes")}.includes('3501') && ${text("closes")}.includes('against the protocol')`);
await until("[...document.querySelectorAll('#charts figure')].every(figure => figure.querySelector('polyline'))");
assert.equal(await look("document.querySelectorAll('#charts figure').length"), 9);
await until(`${text("shard-rows")}.includes('%')`);
assert.equal(await look("document.getElementById('metrics').getAttribute('href')"), "/metrics");
assert.match(await (await fetch(new URL("/metrics", base))).text(), /annulus_chat_delivery_seconds_count\{shard="0"\} \d/);

// Publishing reaches the room, as it was written; what is not JSON is not sent; what is refused is told.
await look("document.getElementById('channel').focus()");
await write("lobby");
await key("Tab", 9);
await look("document.getElementById('data').select()");
await write('{"from": "console", "big": 12345678901234567890}');
await key("Enter", 13, 2);
await until(`/Published to lobby as number \\d+/.test(${text("published")})`);
for (const member of members) {
  step = "a member hears what the console published";
  while (!member.heard.some(heard => heard.includes('"big": 12345678901234567890'))) await new Promise(resolve => setTimeout(resolve, 20));
}
await look("document.getElementById('data').select()");
await write("{nonsense");
await key("Enter", 13, 2);
await until(`${text("published")}.startsWith('Not JSON')`);
await look("document.getElementById('channel').value = 'sälön'; document.getElementById('data').value = '1'; document.getElementById('publish').requestSubmit()");
await until(`/^Not published: .+ \\(107\\)$/.test(${text("published")})`);

// Focus stays where it is while figures change.
await look("document.getElementById('channel').focus(); document.activeElement.dataset.mark = '1'");
await new Promise(resolve => setTimeout(resolve, 2500));
assert.equal(await look("document.activeElement.dataset.mark"), "1");
for (const [width, height] of [[1280, 900], [390, 844]]) for (const scheme of ["light", "dark"]) {
  await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 }, sessionId);
  await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] }, sessionId);
  await new Promise(resolve => setTimeout(resolve, 1200));
  assert.ok(await look("document.documentElement.scrollWidth <= innerWidth"), `the page is wider than ${width} px`);
  if (!pictures) continue;
  const { data } = await call("Page.captureScreenshot", { captureBeyondViewport: true }, sessionId);
  writeFileSync(`${pictures}/chat-console-${width}-${scheme}.png`, Buffer.from(data, "base64"));
}
assert.deepEqual(complaints, []);

// What is wrong is said at the top, as text; and that nothing is known, when the node is away.
let answers = null;
socket.on("message", text => {
  const { method, params } = JSON.parse(text);
  if (method === "Fetch.requestPaused") answers(params.requestId);
});
const state = await look("fetch('state', { headers: { Authorization: 'Bearer ' + sessionStorage.getItem('annulus-chat-admin') } }).then(answer => answer.json())", true);
answers = requestId => {
  const broken = { ...state, now_ms: Date.now() + 60000, log: { ...state.log, is_full: true, failure: "<b>EIO</b>" }, database: { ...state.database, last_error: "connection refused" } };
  call("Fetch.fulfillRequest", { requestId, responseCode: 200, body: Buffer.from(JSON.stringify(broken)).toString("base64") }, sessionId);
};
await call("Fetch.enable", { patterns: [{ urlPattern: "*/state" }] }, sessionId);
await until("document.querySelectorAll('#alarms p').length === 3");
assert.match(await look(text("alarms")), /The log has failed.*<b>EIO<\/b>[^]*The log is full[^]*The database: connection refused/);
answers = requestId => call("Fetch.failRequest", { requestId, errorReason: "ConnectionRefused" }, sessionId);
await until(`${text("trouble")}.startsWith('The node does not answer')`);
await call("Fetch.disable", {}, sessionId);
await until(`${text("trouble")} === '' && document.querySelectorAll('#alarms p').length === 0`);

if (password) {
  // The token outlives the page, and ends with "Log out".
  await call("Page.reload", {}, sessionId);
  await until(isIn);
  await look("document.getElementById('leave').click()");
  await until("document.readyState === 'complete' && document.activeElement?.id === 'password' && document.getElementById('tiles').hidden");
  assert.equal(await look("sessionStorage.length"), 0);
}
assert.deepEqual([...hosts], [base.host], "nothing from elsewhere");
clearInterval(publishing);
console.log("chat console: ok");
process.exit(0);
