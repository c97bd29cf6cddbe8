// The report of annulus-bench in a browser: everything is there and legible on a desk's and on a phone's screen, by day
// and by night, by keys alone, and nothing is loaded. Arguments: the page's address, the DevTools address ws://... of a
// headless browser, a folder for pictures, another for those of each part or nothing, how many sides there are, how many late
// rounds, and texts that the page must have, the command first.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { browse, pause } from "./devtools.mjs";

const [, , page, browserUrl, pictures, parts, sides, late, ...texts] = process.argv;
const window = await (await browse(browserUrl, 180)).open(page);
await window.until("document.readyState === 'complete' && document.getElementById('reading') !== null");
assert.equal(await window.look("document.scripts.length"), 0, "it is whole without any script");

const words = await window.look("document.body.innerText");
for (const text of texts) assert.ok(words.includes(text), `the page says: ${text}`);
assert.equal(await window.look("document.querySelector('pre').innerText"), texts[0]);

// Every plot is drawn: curves have a length, marks a size, and each has a name, a description and tooltips.
const plots = await window.look(`[...document.querySelectorAll('svg.plot')].map(plot => ({
  id: plot.closest('figure').id,
  lengths: [...plot.querySelectorAll('path')].map(path => path.getTotalLength()),
  marks: plot.querySelectorAll('use, rect, line').length,
  refused: plot.querySelectorAll('.refused').length,
  title: plot.querySelector(':scope > title').textContent,
  described: plot.querySelector(':scope > desc').textContent.length,
  tooltips: plot.querySelectorAll('use > title, rect > title').length,
}))`);
const heats = Array.from({ length: Number(sides) }, (_, side) => `heat-${side}`);
assert.deepEqual(plots.map(plot => plot.id), ["percentiles-plot", ...heats, "rate-plot", "cpu-plot", "memory-plot", "lateness-plot"]);
for (const { id, lengths, marks, refused, title, described, tooltips } of plots) {
  const isDrawn = lengths.length > 1 && lengths.every(length => length > 1);
  assert.ok(id === "lateness-plot" ? marks > 10 : isDrawn || (lengths.length === 0 && refused > 0), `${id} is drawn or refused`);
  assert.ok(title && described > 40 && tooltips > 0, `${id} is told, too`);
}
assert.equal(await window.look("document.querySelectorAll('#time .refused').length"), Number(late), "late rounds are hatched");
assert.equal(await window.look("[...document.querySelectorAll('table')].every(table => table.caption?.textContent)"), true);
assert.equal(await window.look("[...document.querySelectorAll('[aria-labelledby]')].every(of => of.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id)))"), true);

// Letters on axes neither meet nor leave their figure.
const crowded = `(() => {
  const faults = [];
  for (const plot of document.querySelectorAll('svg.plot')) {
    const frame = plot.closest('figure').getBoundingClientRect();
    const seen = selector => [...plot.querySelectorAll(selector)].map(text => [text.textContent, text.getBoundingClientRect()]).filter(of => of[1].width > 0);
    for (const [text, box] of seen('text')) if (box.left < frame.left || box.right > frame.right) faults.push(frame.width + ': outside: ' + text);
    const columns = seen('text.column').sort((one, two) => one[1].left - two[1].left);
    columns.forEach(([text, box], index) => { if (index && columns[index - 1][1].right > box.left) faults.push(plot.closest('figure').id + ': crowded: ' + text); });
  }
  return faults;
})()`;
for (const [width, height] of [[1280, 900], [768, 1000], [390, 844], [320, 640]]) {
  await window.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  await pause(50);
  assert.ok(await window.look("document.documentElement.scrollWidth <= innerWidth"), `the page is wider than ${width} px`);
  assert.deepEqual(await window.look(crowded), [], `on ${width} px`);
}

// By keys: first what leads past the links, then every link, then tables, which scroll by keys.
await window.call("Emulation.setDeviceMetricsOverride", { width: 1280, height: 900, deviceScaleFactor: 1, mobile: false });
const reached = [];
for (let index = 0; index < 40; index++) {
  await window.press("Tab", "Tab", { windowsVirtualKeyCode: 9 });
  const at = await window.look("document.activeElement === document.body ? '' : document.activeElement.getAttribute('href') ?? document.activeElement.getAttribute('aria-label')");
  if (!at || reached.includes(at)) break;
  reached.push(at);
}
assert.equal(reached[0], "#main");
const links = await window.look("[...document.querySelectorAll('nav a')].map(link => link.getAttribute('href'))");
assert.ok(links.length >= 9 && links.every(link => reached.includes(link)), reached.join(" "));
assert.ok(reached.includes("Latency by percentile"));
assert.equal(await window.look("[...document.querySelectorAll('nav a')].every(link => document.querySelector(link.getAttribute('href')))"), true);

await window.look("document.activeElement.blur()");
await window.fits("report", pictures);
if (parts) for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [390, "light"]]) {
  await window.call("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 });
  await window.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  for (const part of ["header", "#rows", "#sides", "#percentiles", "#time", "#rate", "#cpu", "#memory", "#generator", "#notes", "#reading"]) {
    const clip = await window.look(`(({ x, y, width, height }) => ({ x: x - 10, y: y + scrollY - 10, width: width + 20, height: height + 20, scale: 1 }))(document.querySelector('${part}').getBoundingClientRect())`);
    const { data } = await window.call("Page.captureScreenshot", { captureBeyondViewport: true, clip });
    writeFileSync(`${parts}/report-${width}-${scheme}-${part.replace("#", "")}.png`, Buffer.from(data, "base64"));
  }
}
assert.deepEqual(window.complaints, []);
assert.deepEqual([...window.hosts], [""], "nothing from elsewhere");
console.log("report: ok");
process.exit(0);
