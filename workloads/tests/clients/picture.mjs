// Takes a picture of the console after some minutes of load. Arguments: the page's address, the DevTools address ws://... of a
// headless browser, the addresses of chat, gateway and image service, for how many seconds there is to be load, the picture's file,
// and "light" or "dark".
import { writeFileSync } from "node:fs";
import { bustle } from "./bustle.mjs";
import { browse, pause } from "./devtools.mjs";

const [, , page, browserUrl, chat, gateway, image, seconds, file, scheme = "light"] = process.argv;
// Loads that come and go, each in its own time.
const wave = (mean_ms, period_s, depth) => at_s => mean_ms / (1 + depth * Math.sin(2 * Math.PI * at_s / period_s));
const end = bustle({
  chat, gateway, image, people: 40, side: 480,
  paths: ["/home", "/product/7", "/search?q=lamp", "/cart", "/categories", "/seller/3", "/suggest?q=la"],
  every: { publication: wave(80, 150, .5), request: wave(60, 210, .6), picture: wave(900, 100, .6) },
});
await pause(seconds * 1000);
const window = await (await browse(browserUrl, 120)).open("about:blank");
await window.call("Emulation.setDeviceMetricsOverride", { width: 1280, height: 800, deviceScaleFactor: 1, mobile: false });
await window.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }] });
await window.go(page);
await window.until("document.getElementById('state')?.innerText === 'live' && document.querySelectorAll('.service polyline').length > 14");
await pause(3000);
const { data } = await window.call("Page.captureScreenshot", { format: "png", optimizeForSpeed: false });
writeFileSync(file, Buffer.from(data, "base64"));
await end();
process.exit(0);
