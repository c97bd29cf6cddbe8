// A flamegraph in a browser: frames with their texts, a click that zooms, a search that marks. Arguments: the file's
// address, the DevTools address ws://... of a headless browser, and a folder for pictures, or nothing.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { browse } from "./devtools.mjs";

const [, , page, browserUrl, pictures] = process.argv;
const window = await (await browse(browserUrl, 180)).open(page);
await window.call("Emulation.setDeviceMetricsOverride", { width: 1280, height: 700, deviceScaleFactor: 1, mobile: false });

const frame = name => `[...document.querySelectorAll('#frames > g')].find(g => g.querySelector('title').textContent.startsWith('${name} ('))`;
const widthOf = name => window.look(`${frame(name)}.querySelector('rect').getBoundingClientRect().width`);
const textOf = name => window.look(`${frame(name)}.querySelector('text').textContent.trim()`);
// Where a person would click.
const click = async name => {
  const [x, y] = await window.look(`(box => [box.x + box.width / 2, box.y + box.height / 2])(${frame(name)}.querySelector('rect').getBoundingClientRect())`);
  for (const type of ["mousePressed", "mouseReleased"])
    await window.call("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
};

// Bytes of a picture's pixels that are not like the first one's: none in a blank one.
const marked = png => {
  let pixels = [], at = 8;
  while (at < png.length) {
    const bytes = png.readUInt32BE(at), kind = png.toString("latin1", at + 4, at + 8);
    if (kind === "IDAT") pixels.push(png.subarray(at + 8, at + 8 + bytes));
    at += bytes + 12;
  }
  const raw = inflateSync(Buffer.concat(pixels));
  return raw.reduce((sum, byte) => sum + (byte !== 0), 0) / raw.length;
};
const shoot = async name => {
  const { data } = await window.call("Page.captureScreenshot", {});
  const png = Buffer.from(data, "base64");
  if (pictures) writeFileSync(`${pictures}/${name}.png`, png);
  return png;
};

// Its script has run then.
await window.until("document.readyState === 'complete' && document.querySelectorAll('#frames > g').length === 9");
assert.equal(await textOf("poll"), "poll");
assert.equal(await window.look("document.getElementById('title').textContent"), "annulus & chat");
assert.equal(await window.look("document.getElementById('subtitle').textContent"), "100 samples");
const all = await widthOf("all");
assert.ok(all > 1000, `it is as wide as the window: ${all}`);
const share = await widthOf("chat::publish") / all;
assert.ok(Math.abs(share - 0.6) < 0.01, `60 of 100 samples: ${share}`);
// The kernel has a colour of its own.
const colour = name => window.look(`${frame(name)}.querySelector('rect').getAttribute('fill')`);
assert.notEqual(await colour("tcp_sendmsg"), await colour("chat::publish"));
const before = await shoot("flamegraph");
assert.ok(marked(before) > 0.01, "the picture is not blank");

// Zoomed on the narrow one, it is wide, and what is beside it is gone.
const narrow = await textOf("shard 1");
await click("chat::write<T>");
await window.until(`${frame("chat::write<T>")}.querySelector('rect').getBoundingClientRect().width > ${all * 0.95}`);
assert.equal(await textOf("tcp_sendmsg"), "tcp_sendmsg");
assert.ok(await window.look(`${frame("chat::publish")}.classList.contains('hide')`), "what is beside it is hidden");
assert.ok(await window.look(`${frame("shard 1")}.classList.contains('hide')`));
assert.ok(Buffer.compare(before, await shoot("flamegraph-zoomed")) !== 0, "the picture has changed");
await window.look("document.getElementById('unzoom').dispatchEvent(new MouseEvent('click', { bubbles: true }))");
await window.until(`${frame("chat::write<T>")}.querySelector('rect').getBoundingClientRect().width < ${all * 0.5}`);
assert.equal(await textOf("shard 1"), narrow);

// A search marks what it finds, and says how much of the time that is.
await window.look("search('publish')");
await window.until("document.getElementById('matched').textContent.includes('60')");
assert.deepEqual(window.complaints, []);
assert.deepEqual([...window.hosts].filter(host => host), [], "nothing from elsewhere");
console.log("flamegraph: ok");
process.exit(0);
