// The upload page and the console in a browser: files given to the input, progress, thumbnails, before and after, errors in
// words, by keyboard, on a phone's screen too. Arguments: the page's address, the DevTools address ws://... of a headless
// browser, a folder with files, and a folder for pictures, or nothing.
import WebSocket from "ws";
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";

const [, , page, browserUrl, files, pictures] = process.argv;
let step = "starting";
setTimeout(() => { console.error(`timed out: ${step}`); process.exit(1); }, 90000).unref();
const socket = new WebSocket(browserUrl);
await new Promise(resolve => socket.once("open", resolve));
const waiting = new Map(), complaints = [], hosts = new Set();
let id = 0;
socket.on("message", text => {
  const message = JSON.parse(text);
  if (message.id) { waiting.get(message.id)(message); waiting.delete(message.id); }
  if (message.method === "Runtime.exceptionThrown") complaints.push(message.params.exceptionDetails.exception?.description || message.params.exceptionDetails.text);
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
for (const domain of ["Runtime", "Log", "Network", "Page", "DOM"]) await call(`${domain}.enable`, {}, sessionId);
const look = async expression => {
  const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true }, sessionId);
  assert.equal(exceptionDetails, undefined, `${expression}: ${exceptionDetails?.exception?.description}`);
  return result.value;
};
const until = async expression => {
  step = expression;
  while (!await look(expression)) await new Promise(resolve => setTimeout(resolve, 50));
};
const press = async (key, code = key, more = {}) => {
  for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key, code, ...more }, sessionId);
};
const give = async names => {
  const { root } = await call("DOM.getDocument", {}, sessionId);
  const { nodeId } = await call("DOM.querySelector", { nodeId: root.nodeId, selector: "#files" }, sessionId);
  await call("DOM.setFileInputFiles", { nodeId, files: names.map(name => `${files}/${name}`) }, sessionId);
};
const card = name => `[...document.querySelectorAll('#jobs > li')].find(item => item.innerText.includes('${name}.jpg'))`;
const shows = async name => {
  for (const [width, height] of [[1280, 900], [390, 844]]) for (const scheme of ["light", "dark"]) {
    await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 }, sessionId);
    await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] }, sessionId);
    await new Promise(resolve => setTimeout(resolve, 100));
    assert.ok(await look("document.documentElement.scrollWidth <= innerWidth"), `${name} is wider than ${width} px`);
    if (!pictures) continue;
    const { data } = await call("Page.captureScreenshot", { captureBeyondViewport: true }, sessionId);
    writeFileSync(`${pictures}/${name}-${width}-${scheme}.png`, Buffer.from(data, "base64"));
  }
};

// The key.
await call("Page.navigate", { url: page }, sessionId);
await until("document.readyState === 'complete' && document.getElementById('key')?.hidden === false");
const enter = key => look(`document.querySelector('#key input').value = '${key}'; document.getElementById('key').requestSubmit()`);
await enter("not the right one");
await until("document.querySelector('#key p').textContent.includes('API key')");
await enter("the-tenants-key-01");
await until("!document.getElementById('door').hidden && document.getElementById('preset').options.length >= 6");
// The browser says so of every 401; nothing else may be said.
assert.ok(complaints.every(complaint => complaint.includes("401")), complaints.join("\n"));
complaints.length = 0;

// By keyboard: the input for files can be reached.
for (let presses = 0; presses < 10 && await look("document.activeElement.id") !== "files"; presses++) await press("Tab");
assert.equal(await look("document.activeElement.id"), "files", "keyboards reach the input");

await look("document.getElementById('preset').value = 'web'");
await give(["one.jpg", "two.jpg", "three.jpg", "four.jpg", "five.jpg", "broken.jpg", "heic.jpg"]);
assert.equal(await look("document.querySelectorAll('#jobs > li').length"), 7);
for (const name of ["one", "two", "three", "four", "five"]) {
  await until(`${card(name)}.dataset.state === 'done'`);
  await until(`${card(name)}.querySelector('img').naturalWidth > 0`);
  assert.equal(await look(`${card(name)}.querySelectorAll('.made li').length`), 3);
}
await until(`${card("broken")}.dataset.state === 'failed'`);
await until(`${card("heic")}.dataset.state === 'failed' && ${card("heic")}.innerText.includes('HEIC')`);
await shows("upload");
assert.ok(complaints.every(complaint => /4(15|22)/.test(complaint)), complaints.join("\n"));
complaints.length = 0;

// Before and after, by keyboard.
await look(`${card("one")}.querySelector('.compare').focus()`);
await press("Enter", "Enter", { text: "\r" });
await until("document.getElementById('compare').open && document.getElementById('before').naturalWidth > 0 && document.getElementById('after').naturalWidth > 0");
await look("document.getElementById('share').focus()");
await press("ArrowRight", "ArrowRight", { windowsVirtualKeyCode: 39 });
await until("document.getElementById('share').value === '51' && document.getElementById('after').style.clipPath.includes('51%')");
await shows("compare");
await press("Escape", "Escape", { windowsVirtualKeyCode: 27 });
await until("!document.getElementById('compare').open");

// The same file again is a job of its own, and done at once.
await give(["one.jpg"]);
await until("document.querySelector('#jobs > li').dataset.state === 'done'");

// The console: not for tenants.
await call("Page.navigate", { url: `${page}console` }, sessionId);
await until("document.readyState === 'complete' && document.getElementById('key')?.hidden === false && document.querySelector('#key p').textContent.includes('admin_key')");
await enter("the-admins-key-01");
await until("!document.getElementById('figures').hidden && /reserved of/.test(document.getElementById('memory').innerText)");
await until("document.getElementById('lanes').innerText.includes('cpu: ') && document.querySelector('#depths polyline').getAttribute('points').split(' ').length > 2");
await until("/\\d/.test(document.getElementById('accept').innerText)");
// The work that died before: told, shown with its reason, and tried again by a button.
await until("document.querySelectorAll('#dead > li').length === 1 && document.getElementById('no-dead').hidden");
assert.match(await look("document.querySelector('#dead > li').innerText"), /shop: web of a jpeg, 6000 × 4000.*killed from outside.*\(1 attempt\)/s);
await shows("console");
await look("document.querySelector('#dead > li button').click()");
await until("document.querySelectorAll('#dead > li').length === 0 && document.getElementById('no-dead').hidden === false");
assert.ok(complaints.every(complaint => complaint.includes("403")), complaints.join("\n"));
assert.deepEqual([...hosts].filter(host => host), [new URL(page).host], "nothing from elsewhere");
console.log("image: ok");
process.exit(0);
