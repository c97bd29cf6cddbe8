// The upload page: files go up a few at a time, one stream of events tells of all jobs, thumbnails appear as they finish.
import { $, Refusal, ask, bytes, element, headers, refusal, time, useKey } from "/common.js";

/** Uploads at once: a browser opens six connections to one server, and one is for events. */
const AT_ONCE = 3;
const waiting = [];
let uploading = 0;
/** Cards whose jobs have not ended, by job id. */
const followed = new Map();

const words = {
  waiting: "waits to be sent", uploading: "is being sent", uploaded: "was stored", queued: "waits for its turn",
  leased: "is being made", done: "done", failed: "failed", dead: "failed again and again", cancelled: "cancelled",
};
const over = state => ["done", "failed", "dead", "cancelled"].includes(state);

/** One file on the page. */
class Card {
  constructor(file) {
    this.file = file;
    this.preset = $("preset").value;
    this.item = $("job").content.firstElementChild.cloneNode(true);
    this.part = name => this.item.querySelector(name);
    this.part(".name").textContent = file.name;
    this.part(".stop").onclick = () => this.cancel();
    this.part(".again").onclick = () => this.retry();
    this.part(".compare").onclick = () => this.compare();
    for (const button of this.item.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
    $("jobs").prepend(this.item);
    this.start();
  }

  start() {
    // The same key for every attempt to send this file: what arrived twice is one job.
    this.key ||= crypto.randomUUID?.() || `${Date.now()}-${Math.random()}`;
    this.document = null;
    this.show("waiting");
    waiting.push(this);
    send();
  }

  show(state, detail = "", share = null) {
    this.state = state;
    this.item.dataset.state = state;
    this.part(".state").textContent = detail || words[state];
    const bar = this.part("progress");
    bar.hidden = over(state);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    this.part(".stop").hidden = over(state);
    this.part(".again").hidden = !["failed", "dead", "cancelled"].includes(state);
  }

  /** Sends the file. XMLHttpRequest, because fetch does not tell how much has left. */
  upload() {
    this.show("uploading", "", 0);
    const form = new FormData();
    form.append("preset", this.preset);
    form.append("file", this.file);
    const request = this.request = new XMLHttpRequest();
    request.open("POST", "/v1/images");
    for (const [name, value] of Object.entries(headers({ "idempotency-key": this.key }))) request.setRequestHeader(name, value);
    request.upload.onprogress = event => {
      if (event.lengthComputable) this.show("uploading", `${bytes(event.loaded)} of ${bytes(event.total)} sent`, event.loaded / event.total);
    };
    return new Promise(resolve => {
      request.onload = () => {
        if (request.status < 300) this.told(JSON.parse(request.responseText));
        else this.refused(refusal(request.status, request.responseText, request.getResponseHeader("retry-after")));
        resolve();
      };
      // The key stays: if the upload did arrive, sending it again gives the same job.
      request.onerror = () => { this.show("failed", "The connection broke off. Try again when the server can be reached."); resolve(); };
      request.onabort = () => { this.show("cancelled"); resolve(); };
      request.send(form);
    });
  }

  refused(problem) {
    if ([429, 503].includes(problem.status) && problem.retryAfter) {
      this.show("waiting", `${problem.title || "The server is busy"}: sent again in ${problem.retryAfter} s`);
      this.timer = setTimeout(() => { waiting.push(this); send(); }, problem.retryAfter * 1000);
      return;
    }
    this.failed(problem.message);
    if (problem.status === 401) askForKey(problem.message);
  }

  failed(detail) {
    this.show("failed", detail);
    this.key = null;
  }

  /** The server's word on the job. */
  told(document) {
    if (this.document && document.revision < this.document.revision) return;
    this.document = document;
    const { id, state, progress, outputs, error, source, timings, delayed, predicted_wait_ms, attempts, next_attempt_ms } = document;
    let detail = words[state];
    if (state === "queued" && next_attempt_ms) detail = `attempt ${attempts} failed; tried again soon`;
    else if (state === "queued" && delayed) detail += `, about ${time(predicted_wait_ms)}`;
    if (state === "leased") detail += attempts > 1 ? ` (attempt ${attempts})` : "";
    if (state === "done") detail = `${source.width} × ${source.height}, ${bytes(source.bytes)}${timings ? `, made in ${time(timings.attempt_ms)}` : ""}`;
    if (error && over(state)) detail = error.detail || error.title;
    this.show(state, detail, state === "leased" ? progress : null);
    if (over(state)) followed.delete(id);
    else followed.set(id, this);
    if (state === "done") this.finish(outputs);
    else follow();
  }

  finish(outputs) {
    const smallest = outputs.toSorted((a, b) => a.width * a.height - b.width * b.height).find(output => output.width >= 96) || outputs[0];
    const image = this.part("img");
    Object.assign(image, { src: smallest.url, alt: this.file.name, hidden: false });
    this.part(".made").replaceChildren(...outputs.map(output => {
      const item = element("li", "");
      item.append(
        element("a", output.name, { href: output.url, target: "_blank", rel: "noopener" }),
        ` ${output.width} × ${output.height} ${output.format}, ${bytes(output.bytes)} `,
        element("a", "save", { href: `${output.url}?download`, download: `${this.file.name.replace(/\.[^.]*$/, "")}-${output.name}.${output.format}` }),
      );
      return item;
    }));
    this.part(".compare").hidden = false;
  }

  async cancel() {
    clearTimeout(this.timer);
    const at = waiting.indexOf(this);
    if (at >= 0) waiting.splice(at, 1);
    if (!this.document) {
      if (this.state === "uploading") this.request.abort();
      else this.show("cancelled");
      return;
    }
    try {
      this.told(await (await ask(this.document.url, { method: "DELETE" })).json());
    } catch (error) {
      say(error.message);
    }
  }

  async retry() {
    if (this.document?.state !== "dead") {
      if (this.document) this.key = null;
      return this.start();
    }
    try {
      this.told(await (await ask(`/v1/dead/${this.document.id}/retry`, { method: "POST" })).json());
    } catch (error) {
      say(error.message);
    }
  }

  compare() {
    const largest = this.document.outputs.toSorted((a, b) => b.width * b.height - a.width * a.height)[0];
    this.original ||= URL.createObjectURL(this.file);
    $("before").src = this.original;
    $("after").src = largest.url;
    $("facts").textContent = `${this.file.name}: ${bytes(this.document.source.bytes)} before, ${bytes(largest.bytes)} after (${largest.name}, ${largest.width} × ${largest.height})`;
    $("share").value = 50;
    slide();
    $("compare").showModal();
  }
}

const slide = () => {
  const share = $("share").value;
  $("after").style.clipPath = `inset(0 0 0 ${share}%)`;
  $("seam").style.insetInlineStart = `${share}%`;
};
$("share").oninput = slide;

const send = async () => {
  while (uploading < AT_ONCE && waiting.length) {
    const card = waiting.shift();
    uploading++;
    card.upload().finally(() => { uploading--; send(); });
  }
};

let stream = null, streamed = "";
/** One stream of events for all jobs that have not ended; opened anew when there are others. */
const follow = () => {
  clearTimeout(follow.timer);
  // Several jobs that begin at once are one change.
  follow.timer = setTimeout(listen, 30);
};

const listen = async () => {
  const ids = [...followed.keys()].slice(0, 100).sort();
  if (!ids.length || (stream && streamed === ids.join())) return;
  stream?.abort();
  const own = stream = new AbortController();
  streamed = ids.join();
  try {
    const query = ids.map(id => `job=${id}.${followed.get(id).document.revision}`).join("&");
    const answer = await ask(`/v1/events?${query}`, { signal: own.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (text + value).split("\n\n");
      text = events.pop();
      events.forEach(take);
    }
  } catch (error) {
    if (own.signal.aborted) return;
    if (error instanceof Refusal && error.status === 401) askForKey(error.message);
  }
  if (stream !== own) return;
  stream = null;
  if (followed.size) follow.timer = setTimeout(listen, 1000);
};

const take = event => {
  const lines = event.split("\n");
  const field = name => lines.find(line => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const data = field("data");
  if (!data) return;
  const document = JSON.parse(data), card = followed.get(document.id);
  if (field("event") === "gone") {
    followed.delete(document.id);
    card?.show("failed", "The server has forgotten this job.");
  } else card?.told(document);
};

const say = text => { $("said").textContent = text; };

const add = files => {
  say("");
  let refused = 0;
  for (const file of files) {
    if (file.type && !file.type.startsWith("image/")) refused++;
    else new Card(file);
  }
  if (refused) say(refused === 1 ? "One file is no image and was left out." : `${refused} files are no images and were left out.`);
};

$("files").onchange = event => { add(event.target.files); event.target.value = ""; };
for (const name of ["dragover", "dragenter"]) document.addEventListener(name, event => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (!$("door").hidden) add(event.dataTransfer.files);
});
document.addEventListener("paste", event => { if (event.clipboardData.files.length) add(event.clipboardData.files); });

const askForKey = why => {
  $("key").hidden = false;
  $("key").querySelector("p").textContent = why || "";
  $("key").querySelector("input").focus();
};
$("key").onsubmit = event => {
  event.preventDefault();
  useKey($("key").querySelector("input").value.trim());
  enter();
};

const enter = async () => {
  try {
    const { presets, default: usual } = await (await ask("/v1/presets")).json();
    const outputs = name => presets.find(preset => preset.name === name)?.outputs.map(output => output.name).join(", ") || "";
    const choice = $("preset"), chosen = choice.value || usual;
    choice.replaceChildren(...presets.map(({ name }) => element("option", name, { value: name, selected: name === chosen })));
    choice.onchange = () => { $("outputs").textContent = outputs(choice.value); };
    choice.onchange();
    $("key").hidden = true;
    $("door").hidden = false;
    say("");
    if (followed.size) follow();
  } catch (error) {
    if (error.status === 401) askForKey(sessionStorage.getItem("annulus-key") ? error.message : "");
    else say(error instanceof Refusal ? error.message : "The server cannot be reached.");
  }
};
enter();
