// tus-js-client, as it is, against the image service. Arguments: the endpoint, an API key, a file, a folder for what the client
// remembers, and what to do:
//   whole        uploads in pieces, looks at the job, gives another upload up
//   interrupted  ends in the middle of an upload, as a closed laptop does
//   resumed      finds the upload of the one before, and brings the rest
//   killed       says "half", waits for a line, and goes on whatever became of the server meanwhile
import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream, readFileSync, statSync, writeFileSync } from "node:fs";
import * as tus from "tus-js-client";

const [, , endpoint, key, file, folder, mode] = process.argv;
const size = statSync(file).size;
const authorized = { headers: { Authorization: `Bearer ${key}` } };
const server = new URL(endpoint).origin;

const job = async response => {
  const location = response.getHeader("x-annulus-job-location");
  assert.equal(location, `/v1/jobs/${response.getHeader("x-annulus-job")}`);
  const document = await (await fetch(server + location, { headers: { ...authorized.headers, Prefer: "wait=60" } })).json();
  assert.equal(document.state, "done", JSON.stringify(document));
  assert.equal(document.source.bytes, size);
  return document;
};

const options = more => ({
  ...authorized,
  endpoint,
  uploadSize: size,
  chunkSize: 256 * 1024,
  retryDelays: Array(60).fill(250),
  urlStorage: new tus.FileUrlStorage(`${folder}/uploads.json`),
  storeFingerprintForResuming: true,
  metadata: { filename: "photo.jpg", filetype: "image/jpeg", ops: "small=rs:fit:40:40&large=rs:fit:400:400", priority: "bulk" },
  ...more,
});

/** Uploads to the end; the job's document. */
const upload = (more, prepare = async () => {}) => new Promise((resolve, reject) => {
  const sending = new tus.Upload(createReadStream(file), options({
    onError: reject,
    onSuccess: ({ lastResponse }) => job(lastResponse).then(resolve, reject),
    ...more,
  }));
  prepare(sending).then(() => sending.start(), reject);
});

/** Uploads a part, and stops without a word to the server. */
const part = more => new Promise((resolve, reject) => {
  const sending = new tus.Upload(createReadStream(file), options({
    onError: reject,
    onChunkComplete: (_piece, accepted) => {
      if (accepted > size / 3) sending.abort().then(() => resolve(sending), reject);
    },
    ...more,
  }));
  sending.start();
});

const modes = {
  async whole() {
    const offered = await fetch(endpoint, { method: "OPTIONS" });
    assert.equal(offered.headers.get("tus-version"), "1.0.0");
    for (const extension of ["creation", "creation-with-upload", "termination", "expiration", "checksum"])
      assert.ok(offered.headers.get("tus-extension").split(",").includes(extension), extension);
    const document = await upload({});
    assert.deepEqual(document.outputs.map(output => output.name), ["small", "large"]);
    assert.equal(document.priority, "bulk");
    // All in one request, which creates it and brings it.
    const other = await upload({ uploadDataDuringCreation: true, chunkSize: size, metadata: { preset: "thumbnail" } });
    assert.equal(other.outputs[0].name, "thumbnail");
    // With methods that a proxy would not let through.
    await upload({ overridePatchMethod: true });
    // Given up: the server forgets it.
    const sending = await part({});
    const url = sending.url;
    const head = () => fetch(url, { method: "HEAD", headers: { ...authorized.headers, "Tus-Resumable": "1.0.0" } });
    const before = await head();
    assert.equal(before.status, 200);
    assert.ok(Number(before.headers.get("upload-offset")) > 0);
    assert.ok(Date.parse(before.headers.get("upload-expires")) > Date.now());
    await tus.Upload.terminate(url, options({}));
    assert.equal((await head()).status, 404);
  },
  async interrupted() {
    const sending = await part({});
    assert.ok(sending.url.startsWith(endpoint));
    writeFileSync(`${folder}/interrupted`, sending.url);
  },
  async resumed() {
    let first;
    await upload({
      onAfterResponse: (request, response) => {
        if (request.getMethod() === "HEAD") first ??= Number(response.getHeader("upload-offset"));
        assert.notEqual(request.getMethod(), "POST", "it goes on, and does not begin anew");
      },
    }, async sending => {
      // Those before were finished or given up, maybe within the same second, which is all that the client remembers.
      const url = readFileSync(`${folder}/interrupted`, "utf8");
      const previous = (await sending.findPreviousUploads()).find(({ uploadUrl }) => uploadUrl === url);
      assert.ok(previous, url);
      sending.resumeFromPreviousUpload(previous);
    });
    assert.ok(first > size / 3 && first < size, `${first}`);
  },
  async killed() {
    let half = false;
    let tries = 0;
    await upload({
      onShouldRetry: () => { tries++; return true; },
      onChunkComplete: (_piece, accepted) => { half ||= accepted >= size / 2; },
      onBeforeRequest: async () => {
        if (!half || tries > 0) return;
        console.log("half");
        await once(process.stdin, "data");
      },
    });
    assert.ok(tries > 0, "the server was gone");
  },
};
await modes[mode]();
console.log(`${mode}: ok`);
process.exit(0);
