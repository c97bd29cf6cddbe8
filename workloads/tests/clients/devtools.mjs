// A headless browser by its DevTools protocol, for the scripts that look at our pages: a window, what its page says and
// asks for, and how it looks on screens of two sizes.
import WebSocket from "ws";
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

// What the script waits for, for whoever reads that it took too long.
let step = "starting";
export const waitsFor = words => { step = words; };

// The browser at ws://..., for so many seconds.
export const browse = async (url, seconds) => {
  setTimeout(() => { console.error(`timed out: ${step}`); process.exit(1); }, seconds * 1000).unref();
  const socket = new WebSocket(url);
  await new Promise(resolve => socket.once("open", resolve));
  const waiting = new Map(), listeners = new Map();
  let id = 0;
  socket.on("message", text => {
    const { id, error, result, method, params, sessionId } = JSON.parse(text);
    if (id) {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      return error ? reject(new Error(error.message)) : resolve(result);
    }
    listeners.get(sessionId)?.(method, params);
  });
  const call = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    waiting.set(++id, { resolve, reject });
    socket.send(JSON.stringify({ id, method, params, sessionId }));
  });
  return {
    open: async page => {
      const { targetId } = await call("Target.createTarget", { url: "about:blank" });
      const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
      const window = new Window((method, params) => call(method, params, sessionId));
      listeners.set(sessionId, (method, params) => window.hear(method, params));
      for (const domain of ["Runtime", "Log", "Network", "Page", "DOM"]) await window.call(`${domain}.enable`);
      await window.go(page);
      return window;
    },
  };
};

class Window {
  // What the page, or the browser about it, complained of.
  complaints = [];
  // Whom the page asked.
  hosts = new Set();
  // What becomes of requests that are held back: see `Fetch.enable`.
  onPaused = null;

  constructor(call) {
    this.call = call;
  }

  hear(method, params) {
    if (method === "Runtime.exceptionThrown") {
      const { exception, text } = params.exceptionDetails;
      this.complaints.push(exception?.description || text);
    }
    if (method === "Runtime.consoleAPICalled") this.complaints.push(`console.${params.type}`);
    if (method === "Log.entryAdded") this.complaints.push(params.entry.text);
    if (method === "Network.requestWillBeSent") this.hosts.add(new URL(params.request.url).host);
    if (method === "Fetch.requestPaused") this.onPaused(params.requestId);
  }

  go(url) {
    return this.call("Page.navigate", { url });
  }

  // What an expression is worth in the page; or what it is worth in the end.
  async look(expression, awaitPromise = false) {
    const evaluated = await this.call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise });
    const { result, exceptionDetails } = evaluated;
    assert.equal(exceptionDetails, undefined, `${expression}: ${exceptionDetails?.exception?.description}`);
    return result.value;
  }

  async until(expression) {
    waitsFor(expression);
    while (!await this.look(expression)) await pause(50);
  }

  async press(key, code = key, more = {}) {
    for (const type of ["keyDown", "keyUp"]) await this.call("Input.dispatchKeyEvent", { type, key, code, ...more });
  }

  // Nothing but what a pattern allows was complained of; it is forgotten.
  complainedOnlyOf(pattern) {
    assert.ok(this.complaints.every(complaint => pattern.test(complaint)), this.complaints.join("\n"));
    this.complaints.length = 0;
  }

  // The page fits on a desk's and on a phone's screen, by day and by night. With a folder: pictures of it.
  async fits(name, pictures, ms = 100) {
    for (const [width, height] of [[1280, 900], [390, 844]]) for (const scheme of ["light", "dark"]) {
      const screen = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
      await this.call("Emulation.setDeviceMetricsOverride", screen);
      await this.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      await pause(ms);
      assert.ok(await this.look("document.documentElement.scrollWidth <= innerWidth"), `${name} is wider than ${width} px`);
      if (!pictures) continue;
      const { data } = await this.call("Page.captureScreenshot", { captureBeyondViewport: true });
      writeFileSync(`${pictures}/${name}-${width}-${scheme}.png`, Buffer.from(data, "base64"));
    }
  }
}
