// The console: figures once a second, dead letters every five.
import { $, Refusal, ask, bytes, element, time, useKey } from "/common.js";

const SECONDS = 120;
const depths = [];
let before = null;

const show = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const perSecond = (now, then, seconds) => Math.max(0, (now - then) / seconds);

// What the GPU does, and why works went where they went.
const gpuLines = gpu => {
  if (!gpu) return [];
  const state = gpu.up ? `${(gpu.jobs / Math.max(1, gpu.batches)).toFixed(1)} works a batch` : `down: ${gpu.trouble ?? "starting"}`;
  const line = `GPU${gpu.name ? ` ${gpu.name}` : ""}: ${state}, ${gpu.jobs} works, ${gpu.faults} faults`;
  const reasons = gpu.routed.filter(({ count }) => count).map(({ lane, why, count }) => `${count} ${lane} (${why})`);
  return [element("li", line), ...(reasons.length ? [element("li", `Lanes chosen: ${reasons.join(", ")}`)] : [])];
};

const figures = async () => {
  const now = await (await ask("/v1/figures")).json();
  const at = performance.now();
  $("figures").hidden = false;
  $("key").hidden = true;
  show("said", now.trouble ? `New work is refused: ${now.trouble}` : "");
  const { queue, memory, jobs, lanes } = now;
  const waiting = queue.interactive + queue.bulk;
  show("waiting", queue.bulk ? `${queue.interactive} + ${queue.bulk} bulk` : `${waiting}`);
  show("wait", time(queue.predicted_wait_ms));
  $("wait").dataset.level = queue.predicted_wait_ms > queue.refused_after_ms ? "bad" : queue.predicted_wait_ms > queue.delayed_after_ms ? "slow" : "good";
  show("leased", `${queue.leased}`);
  show("accept", now.accept_us.count ? `${time(now.accept_us.p50 / 1000)}, ${time(now.accept_us.p99 / 1000)}` : "–");
  show("refused", `${jobs.refused}, ${jobs.shed}`);
  if (before) {
    const seconds = (at - before.at) / 1000;
    show("rate", perSecond(jobs.done, before.now.jobs.done, seconds).toFixed(1));
    show("in", `${bytes(perSecond(now.bytes.in, before.now.bytes.in, seconds))}/s`);
    show("out", `${bytes(perSecond(now.bytes.out, before.now.bytes.out, seconds))}/s`);
  }
  show("memory", `${bytes(memory.used)} reserved of ${bytes(memory.total)}; ${bytes(memory.most)} at most so far`);
  $("memory-meter").value = memory.total ? memory.used / memory.total : 0;
  $("lanes").replaceChildren(...lanes.map(lane => {
    const then = before?.now.lanes.find(other => other.name === lane.name);
    const share = then ? perSecond(lane.busy_us, then.busy_us, (at - before.at) / 1000) / 1e6 : 0;
    return element("li", `${lane.name}: ${lane.busy} of ${lane.threads} threads at work, ${lane.done} works${then ? `, ${share.toFixed(1)} busy on average` : ""}`);
  }), ...gpuLines(now.gpu));
  depths.push(waiting);
  if (depths.length > SECONDS) depths.shift();
  const most = Math.max(1, ...depths);
  const points = depths.map((depth, index) => `${SECONDS - depths.length + index},${39 - 38 * depth / most}`).join(" ");
  document.querySelector("#depths polyline").setAttribute("points", points);
  show("depth-most", `${most === 1 && !waiting ? "nothing waits" : `${most} at most`}`);
  before = { now, at };
};

const deadLetters = async () => {
  const { jobs } = await (await ask("/v1/dead?limit=50")).json();
  show("dead-count", jobs.length ? `(${jobs.length}${jobs.length === 50 ? " or more" : ""})` : "");
  $("no-dead").hidden = jobs.length > 0;
  const known = new Map([...$("dead").children].map(item => [item.dataset.id, item]));
  // Items stay where they are, so that focus does, too.
  for (const job of jobs) {
    if (known.delete(job.id)) continue;
    const item = element("li", "");
    item.dataset.id = job.id;
    const retry = element("button", "Try again", { type: "button", className: "plain" });
    retry.setAttribute("aria-label", `Try job ${job.id} again`);
    retry.onclick = async () => {
      retry.disabled = true;
      try {
        await ask(`/v1/dead/${job.id}/retry`, { method: "POST" });
        item.remove();
        await deadLetters();
      } catch (error) {
        retry.disabled = false;
        show("said", error.message);
      }
    };
    item.append(
      element("p", `${job.tenant}: ${job.asked} of a ${job.source.format}, ${job.source.width} × ${job.source.height}, ${bytes(job.source.bytes)}`),
      element("p", `${job.error?.detail || "no reason is known"} (${job.attempts} attempt${job.attempts === 1 ? "" : "s"})`),
      element("code", job.id), retry,
    );
    $("dead").append(item);
  }
  for (const item of known.values()) item.remove();
};

const askForKey = why => {
  $("figures").hidden = true;
  if (!$("key").hidden && !why) return;
  $("key").hidden = false;
  $("key").querySelector("p").textContent = why;
};
$("key").onsubmit = event => {
  event.preventDefault();
  useKey($("key").querySelector("input").value.trim());
  $("key").hidden = true;
  turn();
};

let turns = 0, timer = null;
const turn = async () => {
  clearTimeout(timer);
  try {
    await figures();
    if (turns++ % 5 === 0) await deadLetters();
  } catch (error) {
    if ([401, 403].includes(error.status)) return askForKey(sessionStorage.getItem("annulus-key") ? error.message : "");
    show("said", error instanceof Refusal ? error.message : "The server cannot be reached.");
  }
  timer = setTimeout(turn, 1000);
};
turn();
