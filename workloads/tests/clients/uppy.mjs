// Uppy, as it is, in a page of another site than the image service's. Arguments: the endpoint, an API key, a file, a folder for
// the page, the port at which the page is, and the DevTools address ws://... of a headless browser.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { build } from "esbuild";
import { browse } from "./devtools.mjs";

const [, , endpoint, key, file, folder, port, browserUrl] = process.argv;

// What somebody's page would have in it.
writeFileSync(join(folder, "page.js"), `
  import Uppy from "@uppy/core";
  import Tus from "@uppy/tus";

  window.upload = async ({ endpoint, key, size }) => {
    const headers = { Authorization: "Bearer " + key };
    const seen = { paused: 0, job: null, methods: [] };
    const uppy = new Uppy({ autoProceed: false }).use(Tus, {
      endpoint, headers, chunkSize: 256 * 1024, retryDelays: [100, 500, 1000], allowedMetaFields: ["name", "ops"],
      onAfterResponse: (request, response) => {
        seen.methods.push(request.getMethod());
        seen.job ??= response.getHeader("x-annulus-job-location");
      },
    });
    const data = await (await fetch("/photo.jpg")).blob();
    uppy.addFile({ name: "photo.jpg", type: "image/jpeg", data, meta: { ops: "small=rs:fit:40:40" } });
    uppy.on("upload-progress", (_file, { bytesUploaded }) => {
      if (seen.paused || bytesUploaded < size / 3) return;
      seen.paused = bytesUploaded;
      uppy.pauseAll();
      setTimeout(() => uppy.resumeAll(), 300);
    });
    const { successful, failed } = await uppy.upload();
    const job = await fetch(new URL(seen.job, endpoint), { headers: { ...headers, Prefer: "wait=60" } });
    return { ...seen, failed: failed.map(({ error }) => error), url: successful[0]?.uploadURL, document: await job.json() };
  };
`);
await build({
  entryPoints: [join(folder, "page.js")], bundle: true, format: "iife", outfile: join(folder, "built.js"), nodePaths: ["node_modules"],
});
const pieces = { "/": ["text/html", null], "/built.js": ["text/javascript", join(folder, "built.js")], "/photo.jpg": ["image/jpeg", file] };
const site = createServer(({ url }, response) => {
  const [type, path] = pieces[url] ?? ["text/plain", null];
  response.writeHead(pieces[url] ? 200 : 404, { "Content-Type": type });
  if (path) createReadStream(path).pipe(response);
  else response.end("<!doctype html><title>A shop</title><script src=built.js></script>");
});
site.listen(Number(port), "127.0.0.1");
await once(site, "listening");

const browser = await browse(browserUrl, 120);
const page = await browser.open(`http://127.0.0.1:${port}/`);
await page.until("typeof window.upload === 'function'");
const size = statSync(file).size;
const made = await page.look(`window.upload(${JSON.stringify({ endpoint, key, size })})`, true);
assert.deepEqual(made.failed, []);
assert.ok(made.paused > size / 3 && made.paused < size, `paused at ${made.paused} of ${size}`);
assert.ok(made.methods.includes("POST") && made.methods.includes("HEAD") && made.methods.includes("PATCH"), made.methods.join());
assert.ok(made.url.startsWith(`${endpoint}/`), made.url);
assert.equal(made.document.state, "done", JSON.stringify(made.document));
assert.equal(made.document.source.bytes, size);
assert.equal(made.document.outputs[0].name, "small");
page.complainedOnlyOf(/favicon|404/);
console.log("uppy: ok");
process.exit(0);
