// The chat's console in a browser: the door, the figures, publishing, logging out; on a phone's screen too. Arguments:
// the page's address, the DevTools address ws://... of a headless browser, the console's password, or nothing where
// none is asked for, and a folder for pictures, or nothing.
import WebSocket from "ws";
import assert from "node:assert/strict";
import { browse, pause, waitsFor } from "./devtools.mjs";

const [, , page, browserUrl, password, pictures] = process.argv;
const base = new URL(page);

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

const window = await (await browse(browserUrl, 180)).open(page);
const text = id => `document.getElementById('${id}').innerText`;
const key = (name, code, modifiers = 0) =>
  window.press(name, name, { windowsVirtualKeyCode: code, modifiers, ...(code === 13 && { text: "\r" }) });
const write = words => window.call("Input.insertText", { text: words });
const fact = (list, name) => `[...document.querySelectorAll('#${list} div')].find(row => row.firstChild.textContent === '${name}').lastChild.textContent`;
const isIn = "document.getElementById('tiles')?.hidden === false && document.getElementById('login').hidden";

await window.until("document.readyState === 'complete'");
if (password) {
  await window.until("document.activeElement?.id === 'password'");
  assert.equal(await window.look("document.getElementById('tiles').hidden"), true, "no figures without the password");
  for (const path of ["state", "publish"]) {
    const answer = await fetch(new URL(path, base), { method: path === "state" ? "GET" : "POST", headers: { Authorization: "Bearer 9999999999.00" } });
    assert.equal(answer.status, 401, path);
  }
  // By keyboard alone.
  await write("wrong");
  await key("Enter", 13);
  await window.until(`${text("trouble")}.includes('not the right one')`);
  await write(password);
  await key("Enter", 13);
}
await window.until(isIn);
// The browser says so of every refusal; nothing else may be said.
window.complainedOnlyOf(/40[13]/);

// Who is on several shards is counted by each.
await window.until(`${fact("tiles", "clients")} === '4' && /^≤ [34]$/.test(${fact("tiles", "users")}) && ${fact("tiles", "subscriptions")} === '4'`);
await window.until(`parseFloat(${fact("tiles", "publications/s")}) > 10 && parseFloat(${fact("tiles", "deliveries/s")}) > 40`);
await window.until(`/^[\\d.]+ \\/ [\\d.]+ ms$/.test(${fact("tiles", "delivery p50 / p99")})`);
await window.until(`/\\d.* of 4.3 GB/.test(${fact("keeping", "log")}) && /ms/.test(${fact("keeping", "fdatasync p50 / p99 / p99.9")})`);
await window.until(`parseInt(${fact("keeping", "rows")}.replaceAll(',', '')) > 10`);
await window.until(`${text("closes")}.includes('3501') && ${text("closes")}.includes('against the protocol')`);
await window.until("[...document.querySelectorAll('#charts figure')].every(figure => figure.querySelector('polyline'))");
assert.equal(await window.look("document.querySelectorAll('#charts figure').length"), 9);
await window.until(`${text("shard-rows")}.includes('%')`);
assert.equal(await window.look("document.getElementById('metrics').getAttribute('href')"), "/metrics");
assert.match(await (await fetch(new URL("/metrics", base))).text(), /annulus_chat_delivery_seconds_count\{shard="0"\} \d/);

// Publishing reaches the room, as it was written; what is not JSON is not sent; what is refused is told.
await window.look("document.getElementById('channel').focus()");
await write("lobby");
await key("Tab", 9);
await window.look("document.getElementById('data').select()");
await write('{"from": "console", "big": 12345678901234567890}');
await key("Enter", 13, 2);
await window.until(`/Published to lobby as number \\d+/.test(${text("published")})`);
for (const member of members) {
  waitsFor("a member hears what the console published");
  while (!member.heard.some(heard => heard.includes('"big": 12345678901234567890'))) await pause(20);
}
await window.look("document.getElementById('data').select()");
await write("{nonsense");
await key("Enter", 13, 2);
await window.until(`${text("published")}.startsWith('Not JSON')`);
await window.look("document.getElementById('channel').value = 'sälön'; document.getElementById('data').value = '1'; document.getElementById('publish').requestSubmit()");
await window.until(`/^Not published: .+ \\(107\\)$/.test(${text("published")})`);

// Focus stays where it is while figures change.
await window.look("document.getElementById('channel').focus(); document.activeElement.dataset.mark = '1'");
await pause(2500);
assert.equal(await window.look("document.activeElement.dataset.mark"), "1");
await window.fits("chat-console", pictures, 1200);
assert.deepEqual(window.complaints, []);

// What is wrong is said at the top, as text; and that nothing is known, when the node is away.
const state = await window.look("fetch('state', { headers: { Authorization: 'Bearer ' + sessionStorage.getItem('annulus-chat-admin') } }).then(answer => answer.json())", true);
window.onPaused = requestId => {
  const broken = { ...state, now_ms: Date.now() + 60000, log: { ...state.log, is_full: true, failure: "<b>EIO</b>" }, database: { ...state.database, last_error: "connection refused" } };
  window.call("Fetch.fulfillRequest", { requestId, responseCode: 200, body: Buffer.from(JSON.stringify(broken)).toString("base64") });
};
await window.call("Fetch.enable", { patterns: [{ urlPattern: "*/state" }] });
await window.until("document.querySelectorAll('#alarms p').length === 3");
assert.match(await window.look(text("alarms")), /The log has failed.*<b>EIO<\/b>[^]*The log is full[^]*The database: connection refused/);
window.onPaused = requestId => window.call("Fetch.failRequest", { requestId, errorReason: "ConnectionRefused" });
await window.until(`${text("trouble")}.startsWith('The node does not answer')`);
await window.call("Fetch.disable", {});
await window.until(`${text("trouble")} === '' && document.querySelectorAll('#alarms p').length === 0`);

if (password) {
  // The token outlives the page, and ends with "Log out".
  await window.call("Page.reload", {});
  await window.until(isIn);
  await window.look("document.getElementById('leave').click()");
  await window.until("document.readyState === 'complete' && document.activeElement?.id === 'password' && document.getElementById('tiles').hidden");
  assert.equal(await window.look("sessionStorage.length"), 0);
}
assert.deepEqual([...window.hosts].filter(host => host), [base.host], "nothing from elsewhere");
clearInterval(publishing);
console.log("chat console: ok");
process.exit(0);
