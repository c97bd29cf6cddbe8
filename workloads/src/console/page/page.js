/* Asks the console once a second for what is new, keeps five minutes of it, and draws. Everything that the console says is shown
 * as text, never as markup. */

import { KEPT_MS, Plot, clock, element, put, scales, set } from "./plot.js";

const PERIOD_MS = 1000;
/* How long an answer may take, and how long there may be nothing new, before the page says so. */
const ANSWER_MS_MAX = 2500, SILENCE_MS_MAX = 3500;
const STALLS_SHOWN = 3, MEAN_MS = 5000;
/* More shards than this have a row of their own. */
const SHARDS_BESIDE = 4;
const byId = id => document.getElementById(id);

/* ---- Words and numbers ---- */

const number = value => value === 0 || value >= 9.95 || Number.isInteger(value) ? Math.round(value).toLocaleString("en-US") : value >= .995 ? value.toFixed(1) : value.toFixed(2);
const UNITS = ["B", "kB", "MB", "GB", "TB"];
function bytes(value) {
  const step = Math.min(UNITS.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3)), scaled = value / 1000 ** step;
  return `${step > 0 && scaled < 99.5 ? scaled.toFixed(1) : Math.round(scaled)} ${UNITS[step]}`;
}
function micros(value) {
  const [scaled, unit] = value < 1000 ? [value, "µs"] : value < 1e6 ? [value / 1000, "ms"] : [value / 1e6, "s"];
  return `${scaled < 9.95 && unit !== "µs" ? Number(scaled.toFixed(1)) : Math.round(scaled)} ${unit}`;
}
const percent = share => `${share > 0 && share < .0095 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
function duration(seconds) {
  const [days, hours, minutes] = [86400, 3600, 60].map(unit => Math.floor(seconds / unit));
  return days ? `${days} d ${hours % 24} h` : hours ? `${hours} h ${minutes % 60} min` : minutes ? `${minutes} min` : `${seconds} s`;
}

/* ---- What is shown of each service ---- */

/* The figures, each with its unit, and whether any of it is bad news; then the lines of its plot. */
const SERVICES = {
  chat: {
    figures: [["connections", "connections", ""], ["publications", "messages in", "/s"], ["deliveries", "deliveries", "/s"], ["refused", "refused", "/s", "wait"]],
    rates: [["two", "messages in", "publications"], ["one", "deliveries", "deliveries"]],
    times: "from publication to hand-over",
  },
  gateway: {
    figures: [["requests", "requests", "/s"], ["sub_requests", "sub-requests", "/s"], ["errors", "errors", "/s", "bad"], ["shed", "shed", "/s", "bad"]],
    rates: [["two", "requests", "requests"], ["one", "sub-requests", "sub_requests"], ["bad", "errors", "errors"]],
    times: "from request to answer",
  },
  image: {
    figures: [["uploads", "uploads", "/s"], ["done", "jobs done", "/s"], ["waiting", "jobs waiting", ""], ["failed", "jobs failed", "/s", "bad"]],
    rates: [["two", "uploads", "uploads"], ["one", "jobs done", "done"]],
    times: "from last byte to durable job",
  },
};
const PERCENTILES = [["p50", "p50", "p50_us"], ["p99", "p99", "p99_us"], ["p999", "p99.9", "p999_us"]];

const clone = id => byId(id).content.firstElementChild.cloneNode(true);
const link = (text, href) => Object.assign(element("a", "", text), { href });

/* Where a service listens on any address, it is where the console was found. */
function reachable(url) {
  const parsed = new URL(url);
  if (["0.0.0.0", "[::]"].includes(parsed.hostname)) parsed.hostname = location.hostname;
  return parsed.origin;
}

class ServiceView {
  constructor({ name, about, url, pages }) {
    const shown = SERVICES[name], of = key => point => point[name]?.[key] ?? null;
    this.name = name;
    this.node = clone("service");
    put(this.node.querySelector("h3"), name);
    this.node.querySelector("h3").title = about;
    set(this.node, "aria-label", name);
    const nav = this.node.querySelector("nav");
    set(nav, "aria-label", name);
    nav.append(...[...pages, ["metrics", "/metrics"]].map(([text, path]) => link(text, reachable(url) + path)));
    this.figures = shown.figures.map(([key, called, unit, worry]) => {
      const value = element("b", "", "–"), dd = element("dd", "", value, element("small", "", unit));
      this.node.querySelector("dl").append(element("div", "", element("dt", "", called), dd));
      return { key, value, worry, dd };
    });
    const rates = shown.rates.map(([style, called, key]) => ({ class: style, called, of: of(key), area: style === "one" }));
    this.rates = this.plot(".rates", "per second", rates, { about: `${name}, per second`, scale: scales.rate, says: number });
    const times = PERCENTILES.map(([style, called, key]) => ({ class: style, called, of: point => point[name]?.times?.[key] ?? null }));
    this.times = this.plot(".times", shown.times, times, { about: `${name}, ${shown.times}`, scale: scales.time, says: micros });
  }

  plot(part, title, lines, options) {
    const figure = this.node.querySelector(part), caption = figure.querySelector("figcaption");
    /* Percentiles stand nowhere else; rates do, larger. */
    const keys = lines.map(line => ({ line, value: element("b") }));
    caption.append(element("span", "what", title), ...keys.map(({ line, value }) => element("span", `key ${line.class}`, line.called, " ", part === ".times" ? value : "")));
    return { keys, plot: new Plot(figure.querySelector(".plot"), { ...options, lines }) };
  }

  draw(points) {
    const last = points.at(-1);
    for (const { key, value, worry, dd } of this.figures) {
      const now = last?.[this.name]?.[key];
      put(value, now === undefined ? "–" : number(now));
      dd.className = worry && now > 0 ? worry : "";
    }
    for (const { keys, plot } of [this.rates, this.times]) {
      plot.draw(points);
      for (const { line, value } of keys) put(value, last ? plot.value(line, last) : "–");
    }
    const [from, to] = this.node.querySelectorAll(".span time");
    put(from, last ? clock(this.times.plot.from) : "");
    put(to, last ? clock(last.at_ms) : "");
    const times = last?.[this.name]?.times;
    this.times.plot.holder.title = times ? `the last ${Math.round(times.over_ms / 1000)} s: ${times.count.toLocaleString("en-US")} measured` : "nothing measured in the last seconds";
  }
}

/* ---- Looking inside: only of the process whose console this is ---- */

class Inside {
  constructor(node, stalls) {
    Object.assign(this, { node, stalls, shown: null, sampled: undefined });
    this.token = sessionStorage.getItem("annulus-console-token") ?? "";
    this.select = node.querySelector("select");
    this.select.addEventListener("change", () => { this.select.name = this.select.selectedOptions[0].dataset.name; });
    node.querySelector(".token").addEventListener("submit", event => {
      event.preventDefault();
      this.token = node.querySelector(".token input").value.trim();
      sessionStorage.setItem("annulus-console-token", this.token);
      this.shown = null;
    });
  }

  offer(sampled_s) {
    if (this.sampled === sampled_s) return;
    this.sampled = sampled_s;
    const option = (name, value, text) => {
      const made = new Option(text, value);
      made.dataset.name = name;
      return made;
    };
    const past = sampled_s ? [60, ...(sampled_s > 60 ? [sampled_s] : [])] : [];
    this.select.replaceChildren(
      ...past.map(seconds => option("last", seconds, seconds > 60 ? `the last ${seconds / 60} minutes` : "the last minute")),
      ...[10, 30].map(seconds => option("seconds", seconds, `the next ${seconds} seconds, closely`)),
    );
    this.select.name = this.select.options[0].dataset.name;
  }

  async draw({ stalls, inside, sampled_s }) {
    const says = this.node.querySelector(".quiet");
    this.offer(sampled_s);
    this.node.querySelector(".flames").hidden = inside === "closed";
    if (inside === "closed") return put(says, "Without a token, stacks are shown to this machine only: see [console] token.");
    put(says, sampled_s ? "Opens in a new tab. Turns that took too long are in it." : "Opens in a new tab. Nothing is sampled all the time here, so it can only be of what comes.");
    if (this.shown === stalls) return;
    this.shown = stalls;
    const answer = await fetch("/debug/stalls?format=json", { headers: this.token ? { Authorization: `Bearer ${this.token}` } : {}, cache: "no-store" });
    this.node.querySelector(".token").hidden = answer.status !== 401;
    this.list(answer.ok ? await answer.json() : null, stalls);
    if (this.token && answer.ok) this.openLinks();
  }

  /* What leads inside takes the token along. */
  openLinks() {
    this.node.querySelector("input[name=token]")?.remove();
    this.node.querySelector(".flames").append(Object.assign(element("input"), { type: "hidden", name: "token", value: this.token }));
    for (const one of document.querySelectorAll("a[href^='/debug/']")) {
      const url = new URL(one.href);
      url.searchParams.set("token", this.token);
      one.href = url.pathname + url.search;
    }
  }

  list(reports, count) {
    const says = this.stalls.querySelector(".quiet"), all = link("all with their stacks", "/debug/stalls");
    const words = count === 0 ? "None since the start." : reports ? `${count.toLocaleString("en-US")} since the start: ` : `${count.toLocaleString("en-US")} since the start; their stacks need the token.`;
    says.replaceChildren(words, ...(count > 0 && reports ? [all] : []));
    this.stalls.querySelector("ol").replaceChildren(...(reports ?? []).slice(0, STALLS_SHOWN).map(({ at_ms, shard, lasted_ms, frames }) => {
      const summary = element("summary", "", element("time", "", clock(at_ms)), element("b", "", `${lasted_ms} ms`), element("span", "", `shard ${shard}`), element("code", "", blamed(frames)));
      return element("li", "", element("details", "", summary, Object.assign(element("pre", "", frames.join("\n") || "no stack was taken"), { tabIndex: 0 })));
    }));
  }
}

/* The innermost function of ours, without its place. */
function blamed(frames) {
  const name = frame => frame.replace(/ \(.*$/, "");
  return name(frames.find(frame => frame.includes("annulus")) ?? frames[0] ?? "no stack was taken");
}

/* ---- A process ---- */

/* How busy shards were on average over some seconds, for plots that have no room for each: seconds that a clock puts together, so
 * that they stay together while time goes on. */
function busyMeans(points) {
  const groups = [...Map.groupBy(points, point => Math.floor(point.at_ms / MEAN_MS)).values()];
  return groups.map(group => ({ at_ms: group.at(-1).at_ms, busy: group[0].busy.map((_, shard) => group.reduce((sum, point) => sum + point.busy[shard], 0) / group.length) }));
}

class ProcessView {
  constructor(at) {
    Object.assign(this, { at, points: [], head: null, services: new Map(), shards: [] });
    this.node = clone("process");
    byId("processes").append(this.node);
    this.part = selector => this.node.querySelector(selector);
    this.part(".services").hidden = this.part(".rest").hidden = true;
    if (at) return;
    const inside = clone("inside");
    this.part(".rest").append(inside);
    this.inside = new Inside(inside, this.part(".stalls"));
  }

  take({ trouble, head, points }) {
    if (head && this.head && head.pid !== this.head.pid) this.points = [];
    this.head = head ?? this.head;
    this.trouble = trouble;
    this.points.push(...points);
    const oldest = (this.points.at(-1)?.at_ms ?? 0) - KEPT_MS;
    this.points = this.points.filter(point => point.at_ms >= oldest);
  }

  draw() {
    const { head, trouble, points } = this;
    this.part(".who").hidden = !head && !this.at;
    put(this.part("h2"), head?.name ?? this.at);
    const facts = head ? [...(this.at ? [this.at] : []), head.version, `pid ${head.pid}`, `${head.shards} ${head.shards === 1 ? "shard" : "shards"}`, `up ${duration(head.uptime_s)}`] : [];
    put(this.part(".who .quiet"), facts.join(" · "));
    const since = points.length ? ` since ${clock(points.at(-1).at_ms)}` : "";
    this.say(trouble ? `${this.at} cannot be reached${since}: ${trouble}` : "");
    set(this.node, "aria-label", head?.name ?? this.at);
    if (!head) return;
    this.part(".services").hidden = this.part(".rest").hidden = false;
    this.drawServices();
    this.drawShards();
    this.drawMemory();
    if (this.inside) this.inside.draw(head).catch(() => { this.inside.shown = null; });
    else this.drawStalls();
  }

  say(trouble) {
    this.part(".unreached").hidden = !trouble;
    put(this.part(".unreached"), trouble);
    this.node.classList.toggle("stale", Boolean(trouble));
  }

  drawServices() {
    const known = this.head.services.filter(service => SERVICES[service.name]);
    for (const service of known) {
      if (this.services.has(service.name)) continue;
      const view = new ServiceView(service);
      this.services.set(service.name, view);
      this.part(".services").append(view.node);
    }
    for (const view of this.services.values()) view.draw(this.points);
  }

  drawShards() {
    const holder = this.part(".multiples");
    this.part(".rest").classList.toggle("many", this.head.shards > SHARDS_BESIDE);
    while (this.shards.length < this.head.shards) {
      const index = this.shards.length, value = element("b", "", "–"), turn = element("span", "turn", "");
      const plot = element("div", "plot");
      holder.append(element("figure", "", element("figcaption", "", element("span", "", `${index}`), value, turn), plot));
      const lines = [{ class: "load", called: "busy", area: true, of: point => point.busy[index] ?? null }];
      this.shards.push({ index, value, turn, plot: new Plot(plot, { about: `shard ${index}`, lines, scale: scales.share, says: percent, every_ms: MEAN_MS, bare: true }) });
    }
    const last = this.points.at(-1), means = busyMeans(this.points);
    for (const { index, value, turn, plot } of this.shards) {
      plot.draw(means);
      put(value, last ? percent(last.busy[index]) : "–");
      put(turn, last ? `p99 turn ${micros(last.turn_p99_us[index])}` : "");
    }
  }

  /* Another process' stacks are told by its own console. */
  drawStalls() {
    const says = this.part(".stalls .quiet"), count = this.head.stalls;
    if (this.stalls === count) return;
    this.stalls = count;
    says.replaceChildren(count === 0 ? "None since the start." : `${count.toLocaleString("en-US")} since the start; their stacks are at `, ...(count === 0 ? [] : [link("its own console", `http://${this.at}/`)]));
  }

  drawMemory() {
    const list = this.part(".memory ul");
    this.head.memory.forEach(({ name, used, budget, by }, index) => {
      const share = Math.min(1, used / budget);
      const row = list.children[index] ?? list.appendChild(element("li", "", element("span"), element("span", "of"), element("div", "bar", element("i"))));
      const [label, of, bar] = row.children;
      put(label, name);
      put(of, `${bytes(used)} of ${bytes(budget)}`);
      row.title = by ?? "";
      for (const [key, value] of [["role", "meter"], ["aria-label", name], ["aria-valuemin", "0"], ["aria-valuemax", String(budget)], ["aria-valuenow", String(used)], ["aria-valuetext", of.textContent]]) set(bar, key, value);
      bar.firstChild.hidden = used === 0;
      bar.firstChild.style.width = `${100 * share}%`;
      bar.firstChild.className = share > .92 ? "bad" : share > .8 ? "wait" : "";
    });
    while (list.children.length > this.head.memory.length) list.lastChild.remove();
  }
}

/* ---- Asking ---- */

const processes = [];
let began = null, newest = 0, answered = null, advanced = null, held = false;

async function ask() {
  const answer = await fetch(`/figures?after=${newest}`, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (!answer.ok) throw new Error(`it answered with status ${answer.status}`);
  const told = await answer.json();
  if (began !== told.began_ms) {
    /* It has been started anew, and numbers its points anew: it is asked for all of them the next time, and not at once, as two that
     * answer by turns would be asked without end. */
    const again = began !== null;
    began = told.began_ms;
    newest = 0;
    for (const process of processes.splice(0)) process.node.remove();
    if (again) {
      advanced = null;
      return;
    }
  }
  answered = Date.now();
  if (told.newest > newest || advanced === null) advanced = answered;
  newest = told.newest;
  told.processes.forEach((process, index) => {
    processes[index] ??= new ProcessView(process.at);
    processes[index].take(process);
  });
}

function draw() {
  if (held || document.hidden) return;
  for (const process of processes) {
    try {
      process.draw();
    } catch (error) {
      /* Another release may tell other things. */
      process.say(`What ${process.at || "this process"} tells cannot be shown: ${error.message}`);
    }
  }
}

/* What is said of the page as a whole: once, when it changes. */
function say(trouble) {
  const silent = !trouble && advanced !== null && Date.now() - advanced > SILENCE_MS_MAX;
  const since = trouble ? answered : silent ? advanced : null;
  const words = trouble && answered === null ? `No answer yet: ${trouble}` : trouble ? `No answer since ${clock(answered)}. What stands here is as it was then.`
    : silent ? `It answers, but has counted nothing since ${clock(advanced)}.` : "";
  byId("trouble").hidden = !words;
  put(byId("trouble"), words);
  const first = processes[0]?.points.length > 0;
  document.body.classList.toggle("stale", Boolean(words));
  put(byId("state"), words ? "stale" : held ? "held still" : first ? "live" : "waiting for the first figures");
  byId("state").className = words ? "bad" : held ? "wait" : first ? "ok" : "";
  if (!held) put(byId("clock"), first ? clock(since ?? Date.now()) : "");
}

byId("hold").addEventListener("click", () => {
  held = !held;
  set(byId("hold"), "aria-pressed", String(held));
  put(byId("hold"), held ? "Go on" : "Hold still");
  draw();
  say("");
});

let wake = () => {};
document.addEventListener("visibilitychange", () => wake());

/* Not by an interval: a slow answer must not let questions pile up. A page that nobody sees asks seldom. */
for (;;) {
  const due = Date.now() + PERIOD_MS;
  const trouble = await ask().then(() => "", error => error.message);
  draw();
  say(trouble);
  await new Promise(resolve => {
    wake = resolve;
    setTimeout(resolve, document.hidden ? 10 * PERIOD_MS : Math.max(100, due - Date.now()));
  });
}
