// The console of all services in a browser: before there are figures, under load, by keyboard, on a phone, by night, and when the
// server does not answer. Arguments: the page's address, the DevTools address ws://... of a headless browser, the addresses of chat,
// gateway and image service, the server's process, and a folder for pictures, or nothing. Ends the process.
import assert from "node:assert/strict";
import { bustle } from "./bustle.mjs";
import { browse, pause } from "./devtools.mjs";

const [, , page, browserUrl, chat, gateway, image, pid, pictures] = process.argv;
const base = new URL(page);

const end = bustle({ chat, gateway, image, people: 3, paths: ["/both"], side: 16, every: { publication: 50, request: 50, picture: 300 } });

const window = await (await browse(browserUrl, 240)).open("about:blank");
const text = selector => `document.querySelector(${JSON.stringify(selector)}).innerText`;
const figure = (service, called) => `[...document.querySelectorAll('.service[aria-label=${service}] dl div')].find(one => one.querySelector('dt').textContent === '${called}').querySelector('b').textContent.replace(',', '')`;
const key = (name, code) => window.press(name, name, { windowsVirtualKeyCode: code, ...(code === 13 && { text: "\r" }), ...(code === 32 && { text: " " }) });

// Before there are figures, none are made up.
const empty = JSON.stringify({ began_ms: 1, now_ms: 1, newest: 0, processes: [{ at: "", trouble: null, head: null, points: [] }] });
window.onPaused = requestId => window.call("Fetch.fulfillRequest", { requestId, responseCode: 200, body: Buffer.from(empty).toString("base64") });
await window.call("Fetch.enable", { patterns: [{ urlPattern: "*/figures*" }] });
await window.go(page);
await window.until("document.readyState === 'complete' && document.querySelectorAll('article').length === 1");
assert.equal(await window.look(text("#state")), "waiting for the first figures");
assert.equal(await window.look("document.querySelectorAll('.service').length"), 0);
await window.call("Fetch.disable", {});

// Then they come, and move.
await window.until(`${text("#state")} === 'live' && document.querySelectorAll('.service').length === 3`);
await window.until(`${figure("chat", "connections")} === '3' && ${figure("chat", "messages in")} > 2 && ${figure("chat", "deliveries")} > 6`);
await window.until(`${figure("gateway", "requests")} > 2 && ${figure("gateway", "sub-requests")} > 4`);
await window.until(`${figure("image", "uploads")} > 0`);
await window.until(`${figure("image", "jobs done")} > 0`);
for (const service of ["chat", "gateway", "image"]) {
  const times = `.service[aria-label=${service}] .times`;
  await window.until(`/p50 [\\d.]+ (µs|ms|s)\\s*p99 [\\d.]+ (µs|ms|s)\\s*p99.9 [\\d.]+ (µs|ms|s)/.test(${text(`${times} figcaption`)})`);
  await window.until(`document.querySelectorAll('${times} polyline').length >= 3`);
}
await window.until("document.querySelectorAll('.multiples figure').length === 2 && [...document.querySelectorAll('.multiples b')].some(one => one.textContent !== '0 %')");
await window.until("document.querySelectorAll('.memory li').length === 4 && /MB of [\\d.]+ [GT]B/.test(document.querySelector('.memory li').innerText)");
await window.until("/since the start/.test(document.querySelector('.stalls').innerText)");
const links = await window.look("[...document.querySelectorAll('.service nav a')].map(one => one.href)");
for (const url of [`http://${chat}/`, `http://${chat}/admin/`, `http://${gateway}/__dashboard`, `http://${image}/`, `http://${image}/console`]) assert.ok(links.includes(url), `${url} in ${links}`);
for (const url of links) assert.equal((await fetch(url)).status, 200, url);
const asked = await window.look("new URLSearchParams(new FormData(document.querySelector('.flames'))).toString()");
assert.match(asked, /^(last|seconds)=\d+$/);
assert.notEqual((await fetch(new URL("/debug/flamegraph?format=none", base))).status, 404);

// By keyboard: each control is reached, in the order of the page, and can be seen to be.
const controls = "[...document.querySelectorAll('a, button, select, input, summary, [tabindex]')].filter(one => one.checkVisibility() && !one.closest('details:not([open]) pre'))";
const count = await window.look(`${controls}.length`);
assert.ok(count > 15, `${count} controls`);
await window.look("document.activeElement.blur()");
const reached = [];
for (let step = 0; step < count; step++) {
  await key("Tab", 9);
  const [place, seen] = await window.look(`(() => { const one = document.activeElement, style = getComputedStyle(one); return [${controls}.indexOf(one), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]; })()`);
  assert.ok(seen, `the focus at ${place} cannot be seen`);
  reached.push(place);
}
assert.deepEqual(reached, [...Array(count).keys()], "in the order of the page, and none left out");
assert.ok(await window.look(`${controls}.every(one => one.tagName !== 'BUTTON' || one.innerText.trim() || one.ariaLabel)`));
// A plot is read by arrow keys.
await window.look("document.querySelector('.service .times .plot').focus()");
await key("ArrowLeft", 37);
await key("ArrowLeft", 37);
assert.match(await window.look(text(".service .times .readout")), /^\d\d:\d\d:\d\d\s+p50 /);
await key("Escape", 27);
assert.equal(await window.look("document.querySelector('.service .times .readout').hidden"), true);
assert.match(await window.look("document.querySelector('.service .times .plot').ariaLabel"), /^chat, from publication to hand-over: p50 \d/);
// The page can be held still, and goes on.
await window.look("document.getElementById('hold').focus()");
await key(" ", 32);
assert.equal(await window.look("document.getElementById('hold').ariaPressed"), "true");
await window.until(`${text("#state")} === 'held still'`);
const held = await window.look("document.getElementById('processes').innerText");
await pause(2200);
assert.equal(await window.look("document.getElementById('processes').innerText"), held);
await key("Enter", 13);
await window.until(`${text("#state")} === 'live' && document.getElementById('processes').innerText !== ${JSON.stringify(held)}`);
assert.equal(await window.look("document.activeElement.id"), "hold", "the focus stays while figures change");

// Text can be read, by day and by night; nothing moves for who does not want it.
const contrasts = `(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(one => (one /= 255) <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
  const ground = one => { for (; one; one = one.parentElement) { const colour = rgba(getComputedStyle(one).backgroundColor); if (colour[3] === 255) return colour; } return [255, 255, 255, 255]; };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility({ visibilityProperty: true }) || one.closest("template, script, noscript")) continue;
    const [a, b] = [light(rgba(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    found.push([(a + .05) / (b + .05), one.className || one.tagName, walker.currentNode.data.trim()]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()`;
async function legible(when) {
  for (const scheme of ["light", "dark"]) {
    await window.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }] });
    await pause(300);
    const found = await window.look(contrasts);
    assert.ok(found.length > 40, `${found.length} texts`);
    assert.ok(found[0][0] >= 4.5, `${when}, ${scheme}: ${JSON.stringify(found.slice(0, 5))}`);
    assert.equal(await window.look("getComputedStyle(document.getElementById('state'), '::before').animationName"), "none");
  }
}
await legible("live");
await window.fits("run-console", pictures, 1200);
assert.deepEqual(window.complaints, []);

// A server that is held up: what is old is called old. When it goes on, so does the page.
const signal = name => process.kill(Number(pid), name);
signal("SIGSTOP");
await window.until(`/^No answer since \\d\\d:\\d\\d:\\d\\d\\./.test(${text("#trouble")}) && ${text("#state")} === 'stale'`);
await legible("stale");
await window.fits("run-console-stale", pictures, 100);
signal("SIGCONT");
await window.until(`document.getElementById('trouble').hidden && ${text("#state")} === 'live'`);
// One that is gone, likewise.
await end();
signal("SIGKILL");
await window.until(`${text("#trouble")}.startsWith('No answer since') && document.body.classList.contains('stale')`);
assert.deepEqual([...window.hosts].filter(host => host), [base.host], "nothing from elsewhere");
console.log("console: ok");
process.exit(0);
