// The dashboard in a browser: the token, the figures, the waterfall; on a phone's screen too. Arguments: the page's
// address, the DevTools address ws://... of a headless browser, and a folder for pictures, or nothing.
import WebSocket from "ws";
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";

const [, , page, browserUrl, pictures] = process.argv;
let step = "starting";
setTimeout(() => { console.error(`timed out: ${step}`); process.exit(1); }, 40000).unref();
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
const look = async expression => {
  const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true }, sessionId);
  assert.equal(exceptionDetails, undefined, expression);
  return result.value;
};
const until = async expression => {
  step = expression;
  while (!await look(expression)) await new Promise(resolve => setTimeout(resolve, 50));
};
const text = id => `document.getElementById('${id}').innerText`;
const enter = token => look(`document.querySelector('#token input').value = '${token}'; document.getElementById('token').requestSubmit()`);

await until("document.readyState === 'complete' && document.getElementById('token')?.hidden === false");
assert.equal(await look("document.getElementById('overview').hidden"), true, "no figures without the token");
await enter("wrong");
await until(`${text("trouble")}.includes('not the right one')`);
await enter("secret");
await until("!document.getElementById('overview').hidden && document.getElementById('token').hidden");
// The browser says so of every 401; nothing else may be said.
assert.ok(complaints.every(complaint => complaint.includes("401")), complaints.join("\n"));
complaints.length = 0;

// The test's load: one endpoint with a good, a failing and a limited backend.
await until(`${text("endpoints")}.includes('GET /mixed') && parseFloat(${text("rate")}) > 0`);
await look("[...document.querySelectorAll('#endpoints button')].find(button => button.textContent === 'GET /mixed').click()");
await until(`${text("name")} === 'GET /mixed'`);
await until(`${text("backends")}.includes('open')`);
await until("[...document.querySelectorAll('#backends tr')].some(row => parseFloat(row.cells[3].textContent) > 0)");
await until(`/\\d of 6 left/.test(${text("backends")}) && ${text("limit")}.includes('of 1000 left')`);
await until(`${text("waterfall")}.includes('its circuit breaker is open') && ${text("waterfall")}.includes('ms ok')`);
await until(`/GET \\/mixed . status 200 . [\\d.]+ ms . \\d+ s ago . id [0-9a-f]{32}/.test(${text("sample")})`);
await until("document.querySelectorAll('#latencies polyline.p99').length > 0 && document.querySelectorAll('#rates polyline.ok').length > 0");
assert.equal(await look("document.querySelectorAll('#waterfall .step').length"), 3);
assert.ok(/p50[^]*p95[^]*p99/.test(await look(text("latencies") + " + document.querySelector('#detail figure:last-child figcaption').innerText")));
await until(`${text("upstreams")}.includes('http://127.0.0.1:')`);
await until(`${text("level")} !== '–' && /\\d.* of \\d/.test(${text("memory")})`);
// Focus stays where it is while figures change.
await look("document.querySelector('#endpoints button').focus(); document.activeElement.dataset.mark = '1'");
await new Promise(resolve => setTimeout(resolve, 1500));
assert.equal(await look("document.activeElement.dataset.mark"), "1");
for (const [width, height] of [[1280, 900], [390, 844]]) for (const scheme of ["light", "dark"]) {
  await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 }, sessionId);
  await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] }, sessionId);
  await new Promise(resolve => setTimeout(resolve, 100));
  assert.ok(await look("document.documentElement.scrollWidth <= innerWidth"), `the page is wider than ${width} px`);
  if (!pictures) continue;
  const { data } = await call("Page.captureScreenshot", { captureBeyondViewport: true }, sessionId);
  writeFileSync(`${pictures}/dashboard-${width}-${scheme}.png`, Buffer.from(data, "base64"));
}
assert.deepEqual(complaints, []);
assert.deepEqual([...hosts], [new URL(page).host], "nothing from elsewhere");
console.log("dashboard: ok");
process.exit(0);
