// The dashboard in a browser: the token, the figures, the waterfall; on a phone's screen too. Arguments: the page's
// address, the DevTools address ws://... of a headless browser, and a folder for pictures, or nothing.
import assert from "node:assert/strict";
import { browse, pause } from "./devtools.mjs";

const [, , page, browserUrl, pictures] = process.argv;
const window = await (await browse(browserUrl, 180)).open(page);
const text = id => `document.getElementById('${id}').innerText`;
const enter = token => window.look(`document.querySelector('#token input').value = '${token}'; document.getElementById('token').requestSubmit()`);

await window.until("document.readyState === 'complete' && document.getElementById('token')?.hidden === false");
assert.equal(await window.look("document.getElementById('overview').hidden"), true, "no figures without the token");
await enter("wrong");
await window.until(`${text("trouble")}.includes('not the right one')`);
await enter("secret");
await window.until("!document.getElementById('overview').hidden && document.getElementById('token').hidden");
// The browser says so of every 401; nothing else may be said.
window.complainedOnlyOf(/401/);

// The test's load: one endpoint with a good, a failing and a limited backend.
await window.until(`${text("endpoints")}.includes('GET /mixed') && parseFloat(${text("rate")}) > 0`);
await window.look("[...document.querySelectorAll('#endpoints button')].find(button => button.textContent === 'GET /mixed').click()");
await window.until(`${text("name")} === 'GET /mixed'`);
await window.until(`${text("backends")}.includes('open')`);
await window.until("[...document.querySelectorAll('#backends tr')].some(row => parseFloat(row.cells[3].textContent) > 0)");
await window.until(`/\\d of 6 left/.test(${text("backends")}) && ${text("limit")}.includes('of 1000 left')`);
await window.until(`${text("waterfall")}.includes('its circuit breaker is open') && ${text("waterfall")}.includes('ms ok')`);
await window.until(`/GET \\/mixed . status 200 . [\\d.]+ ms . \\d+ s ago . id [0-9a-f]{32}/.test(${text("sample")})`);
await window.until("document.querySelectorAll('#latencies polyline.p99').length > 0 && document.querySelectorAll('#rates polyline.ok').length > 0");
assert.equal(await window.look("document.querySelectorAll('#waterfall .step').length"), 3);
assert.ok(/p50[^]*p95[^]*p99/.test(await window.look(text("latencies") + " + document.querySelector('#detail figure:last-child figcaption').innerText")));
await window.until(`${text("upstreams")}.includes('http://127.0.0.1:')`);
await window.until(`${text("level")} !== '–' && /\\d.* of \\d/.test(${text("memory")})`);
// Focus stays where it is while figures change.
await window.look("document.querySelector('#endpoints button').focus(); document.activeElement.dataset.mark = '1'");
await pause(1500);
assert.equal(await window.look("document.activeElement.dataset.mark"), "1");
await window.fits("dashboard", pictures);
assert.deepEqual(window.complaints, []);
assert.deepEqual([...window.hosts].filter(host => host), [new URL(page).host], "nothing from elsewhere");
console.log("dashboard: ok");
process.exit(0);
