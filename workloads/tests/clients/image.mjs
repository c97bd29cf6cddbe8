// The upload page and the console in a browser: files given to the input, progress, thumbnails, before and after, errors in
// words, by keyboard, on a phone's screen too. Arguments: the page's address, the DevTools address ws://... of a headless
// browser, a folder with files, and a folder for pictures, or nothing.
import assert from "node:assert/strict";
import { browse } from "./devtools.mjs";

const [, , page, browserUrl, files, pictures] = process.argv;
const window = await (await browse(browserUrl, 300)).open(page);
const give = async names => {
  const { root } = await window.call("DOM.getDocument", {});
  const { nodeId } = await window.call("DOM.querySelector", { nodeId: root.nodeId, selector: "#files" });
  await window.call("DOM.setFileInputFiles", { nodeId, files: names.map(name => `${files}/${name}`) });
};
const card = name => `[...document.querySelectorAll('#jobs > li')].find(item => item.innerText.includes('${name}.jpg'))`;

// The key.
await window.until("document.readyState === 'complete' && document.getElementById('key')?.hidden === false");
const enter = key => window.look(`document.querySelector('#key input').value = '${key}'; document.getElementById('key').requestSubmit()`);
await enter("not the right one");
await window.until("document.querySelector('#key p').textContent.includes('API key')");
await enter("the-tenants-key-01");
await window.until("!document.getElementById('door').hidden && document.getElementById('preset').options.length >= 6");
// The browser says so of every 401; nothing else may be said.
window.complainedOnlyOf(/401/);

// By keyboard: the input for files can be reached.
for (let presses = 0; presses < 10 && await window.look("document.activeElement.id") !== "files"; presses++) await window.press("Tab");
assert.equal(await window.look("document.activeElement.id"), "files", "keyboards reach the input");

await window.look("document.getElementById('preset').value = 'web'");
await give(["one.jpg", "two.jpg", "three.jpg", "four.jpg", "five.jpg", "broken.jpg", "heic.jpg"]);
assert.equal(await window.look("document.querySelectorAll('#jobs > li').length"), 7);
for (const name of ["one", "two", "three", "four", "five"]) {
  await window.until(`${card(name)}.dataset.state === 'done'`);
  await window.until(`${card(name)}.querySelector('img').naturalWidth > 0`);
  assert.equal(await window.look(`${card(name)}.querySelectorAll('.made li').length`), 3);
}
await window.until(`${card("broken")}.dataset.state === 'failed'`);
await window.until(`${card("heic")}.dataset.state === 'failed' && ${card("heic")}.innerText.includes('HEIC')`);
await window.fits("upload", pictures);
window.complainedOnlyOf(/4(15|22)/);

// Before and after, by keyboard.
await window.look(`${card("one")}.querySelector('.compare').focus()`);
await window.press("Enter", "Enter", { text: "\r" });
await window.until("document.getElementById('compare').open && document.getElementById('before').naturalWidth > 0 && document.getElementById('after').naturalWidth > 0");
await window.look("document.getElementById('share').focus()");
await window.press("ArrowRight", "ArrowRight", { windowsVirtualKeyCode: 39 });
await window.until("document.getElementById('share').value === '51' && document.getElementById('after').style.clipPath.includes('51%')");
await window.fits("compare", pictures);
await window.press("Escape", "Escape", { windowsVirtualKeyCode: 27 });
await window.until("!document.getElementById('compare').open");

// The same file again is a job of its own, and done at once.
await give(["one.jpg"]);
await window.until("document.querySelector('#jobs > li').dataset.state === 'done'");

// The console: not for tenants.
await window.go(`${page}console`);
await window.until("document.readyState === 'complete' && document.getElementById('key')?.hidden === false && document.querySelector('#key p').textContent.includes('admin_key')");
await enter("the-admins-key-01");
await window.until("!document.getElementById('figures').hidden && /reserved of/.test(document.getElementById('memory').innerText)");
await window.until("document.getElementById('lanes').innerText.includes('cpu: ') && document.querySelector('#depths polyline').getAttribute('points').split(' ').length > 2");
await window.until("/\\d/.test(document.getElementById('accept').innerText)");
// The work that died before: told, shown with its reason, and tried again by a button.
await window.until("document.querySelectorAll('#dead > li').length === 1 && document.getElementById('no-dead').hidden");
assert.match(await window.look("document.querySelector('#dead > li').innerText"), /shop: web of a jpeg, 6000 × 4000.*(killed from outside|SIGKILL).*\(1 attempt\)/s);
await window.fits("console", pictures);
await window.look("document.querySelector('#dead > li button').click()");
await window.until("document.querySelectorAll('#dead > li').length === 0 && document.getElementById('no-dead').hidden === false");
window.complainedOnlyOf(/403/);
assert.deepEqual([...window.hosts].filter(host => host), [new URL(page).host], "nothing from elsewhere");
console.log("image: ok");
process.exit(0);
