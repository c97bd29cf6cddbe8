/* Polls the gateway's figures once a second and draws them. Counters become rates here; two minutes of them are kept.
 * Everything that the gateway says is shown as text, never as markup. */

const KEPT = 120, PERIOD_MS = 1000;
const byId = id => document.getElementById(id);
const histories = new Map();
let latest = null, earlier = null, chosen = null, token = sessionStorage.getItem("annulus-token") ?? "";

/* ---- Figures ---- */

const add = (into, from, names) => names.forEach(name => { into[name] += from[name]; });
const most = (into, from, names) => names.forEach(name => { into[name] = Math.max(into[name], from[name]); });
const BREAKERS = ["none", "closed", "half-open", "open"];

/* One entry out of all shards' entries of the same name. */
function join(shards, list, key, merge) {
  const all = new Map();
  for (const shard of shards) for (const item of shard[list]) {
    const known = all.get(item[key]);
    if (known) merge(known, item); else all.set(item[key], structuredClone(item));
  }
  return all;
}

const addLimit = (a, b) => a && b ? a.map((value, index) => value + b[index]) : a ?? b;

function mergeBackend(a, b) {
  add(a, b, ["served", "failed", "refused", "retries"]);
  /* Shards' percentiles cannot be added; the worst shard's is an upper bound. */
  most(a, b, ["p50_us", "p95_us", "p99_us", "ejected", "unwell"]);
  a.limit = addLimit(a.limit, b.limit);
  if (BREAKERS.indexOf(b.breaker) > BREAKERS.indexOf(a.breaker)) a.breaker = b.breaker;
}

function mergeEndpoint(a, b) {
  a.answers = a.answers.map((count, index) => count + b.answers[index]);
  add(a, b, ["limited"]);
  most(a, b, ["p50_us", "p95_us", "p99_us"]);
  a.limit = addLimit(a.limit, b.limit);
  if (b.sample && (!a.sample || b.sample.at_ms > a.sample.at_ms)) a.sample = b.sample;
  a.backends.forEach((backend, index) => mergeBackend(backend, b.backends[index]));
}

function mergeUpstream(a, b) {
  add(a, b, ["calls", "in_flight", "limit", "connects", "connect_failures", "idle_http1", "http2", "streams"]);
  most(a, b, ["refused_share"]);
}

function gather(stats) {
  const { shards } = stats, sum = name => shards.reduce((total, shard) => total + shard[name], 0);
  return {
    now: stats.now_ms,
    /* Shards write their figures down at different moments; their mean fits sums of theirs. */
    at: shards.length ? sum("at_ms") / shards.length : 0,
    shards, shed: sum("shed"), limited: sum("limited"), inFlight: sum("in_flight"),
    endpoints: join(shards, "endpoints", "endpoint", mergeEndpoint),
    upstreams: join(shards, "upstreams", "origin", mergeUpstream),
  };
}

/* How much a counter grew per second; nothing where there is no earlier one, or the gateway began anew. */
function rate(now, before) {
  const seconds = earlier ? (latest.at - earlier.at) / 1000 : 0;
  return seconds > 0 && before !== undefined ? Math.max(0, now - before) / seconds : 0;
}

function remember() {
  for (const [name, endpoint] of latest.endpoints) {
    const before = earlier?.endpoints.get(name)?.answers;
    const [info, ok, moved, wrong, failed] = endpoint.answers.map((count, index) => rate(count, before?.[index]));
    const quiet = endpoint.p99_us === 0;
    const kept = histories.get(name) ?? [];
    kept.push({
      all: info + ok + moved + wrong + failed, ok: info + ok + moved, wait: wrong, bad: failed,
      /* A second without an answer has no latency: a gap, not a zero. */
      p50: quiet ? null : endpoint.p50_us / 1000, p95: quiet ? null : endpoint.p95_us / 1000,
      p99: quiet ? null : endpoint.p99_us / 1000,
    });
    histories.set(name, kept.slice(-KEPT));
  }
  for (const name of histories.keys()) if (!latest.endpoints.has(name)) histories.delete(name);
}

/* ---- Drawing ---- */

const number = value => value === 0 ? "0" : value >= 100 ? Math.round(value).toString() : value.toFixed(value >= 10 ? 1 : 2);
const milliseconds = micros => micros === 0 ? "–" : number(micros / 1000);
const bytes = value => value >= 1e9 ? (value / 1e9).toFixed(1) + " GB" : value >= 1e6 ? (value / 1e6).toFixed(1) + " MB" : Math.round(value / 1e3) + " kB";

function put(node, text, name = "") {
  if (node.textContent !== text) node.textContent = text;
  if (node.className !== name) node.className = name;
}

function element(tag, name, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
}

/* One child per key, kept from one drawing to the next, so that focus, selection and scrolling stay. */
function keyed(parent, keys, make) {
  const known = new Map([...parent.children].map(child => [child.dataset.key, child]));
  const children = keys.map(key => {
    const child = known.get(key) ?? make(key);
    child.dataset.key = key;
    return child;
  });
  if (children.length !== parent.children.length || children.some((child, index) => parent.children[index] !== child)) parent.replaceChildren(...children);
  return children;
}

const cells = count => () => element("tr", "", ...Array.from({ length: count }, () => element("td")));

/* Lines over the kept seconds, newest at the right edge, all on one scale. A line breaks where a value is null. */
function lines(kept, names, top) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const from = KEPT - kept.length;
  for (const name of names) {
    const runs = [[]];
    kept.forEach((second, index) => {
      if (second[name] === null) { if (runs.at(-1).length) runs.push([]); return; }
      runs.at(-1).push(`${from + index},${(100 - 100 * second[name] / top).toFixed(2)}`);
    });
    for (const run of runs.filter(run => run.length)) {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      /* One point draws nothing; two in the same place with a length do. */
      const [x, y] = run[0].split(",");
      line.setAttribute("points", run.length > 1 ? run.join(" ") : `${x - .4},${y} ${run[0]}`);
      line.setAttribute("class", name);
      svg.append(line);
    }
  }
  return svg;
}

const peak = (kept, names) => Math.max(0, ...kept.flatMap(second => names.map(name => second[name] ?? 0)));

function chart(holder, kept, names) {
  const top = peak(kept, names);
  holder.replaceChildren(lines(kept, names, top || 1), element("span", "most", number(top)), element("span", "least", "0"));
}

function limitText(limit) {
  if (!limit) return "none";
  return `${Math.floor(limit[0])} of ${limit[1]} left`;
}

function drawEndpoints() {
  const names = [...latest.endpoints.keys()];
  const make = name => {
    const row = cells(10)();
    const button = element("button", "", name);
    button.type = "button";
    row.cells[0].append(button);
    row.addEventListener("click", () => { chosen = name; draw(); });
    return row;
  };
  keyed(byId("endpoints"), names, make).forEach((row, index) => {
    const name = names[index], endpoint = latest.endpoints.get(name), kept = histories.get(name), last = kept.at(-1);
    row.classList.toggle("chosen", name === chosen);
    row.querySelector("button").setAttribute("aria-pressed", name === chosen);
    const [, all, graph, wrong, failed, p50, p95, p99, late, breakers] = row.cells;
    put(all, number(last.all));
    put(wrong, number(last.wait), last.wait > 0 ? "wait" : "");
    put(failed, number(last.bad), last.bad > 0 ? "bad" : "");
    put(p50, milliseconds(endpoint.p50_us));
    put(p95, milliseconds(endpoint.p95_us));
    put(p99, milliseconds(endpoint.p99_us));
    graph.className = late.className = "spark";
    graph.replaceChildren(lines(kept, ["all"], peak(kept, ["all"]) || 1));
    late.replaceChildren(lines(kept, ["p99"], peak(kept, ["p99"]) || 1));
    breakers.replaceChildren(...endpoint.backends.map((backend, place) => {
      const before = earlier?.endpoints.get(name)?.backends[place];
      const failing = rate(backend.failed, before?.failed) > 0;
      const dot = element("span", "dot " + (backend.breaker === "none" || backend.breaker === "closed" ? failing ? "wait" : "ok" : backend.breaker));
      dot.title = `${backend.backend}: breaker ${backend.breaker}${failing ? ", failing" : ""}`;
      return dot;
    }));
  });
}

/* What a backend is asked for, and where; several may differ in the one or the other. */
const names = backend => [element("span", "", backend.shadow ? backend.backend + " (shadow)" : backend.backend), element("span", "host", backend.hosts.replaceAll("http://", ""))];

function drawBackends(endpoint, before) {
  const rows = keyed(byId("backends"), endpoint.backends.map((backend, index) => `${chosen} ${index}`), cells(12));
  endpoint.backends.forEach((backend, index) => {
    const old = before?.backends[index], row = rows[index].cells;
    const grows = name => rate(backend[name], old?.[name]);
    if (row[0].childElementCount === 0) row[0].replaceChildren(...names(backend));
    put(row[1], backend.breaker, backend.breaker);
    put(row[2], limitText(backend.limit));
    put(row[3], number(grows("served")));
    put(row[4], number(grows("failed")), grows("failed") > 0 ? "bad" : "");
    put(row[5], number(grows("refused")), grows("refused") > 0 ? "wait" : "");
    put(row[6], number(grows("retries")));
    put(row[7], String(backend.unwell), backend.unwell > 0 ? "bad" : "");
    put(row[8], String(backend.ejected), backend.ejected > 0 ? "bad" : "");
    ["p50_us", "p95_us", "p99_us"].forEach((name, place) => put(row[9 + place], milliseconds(backend[name])));
  });
}

function drawSample({ sample, backends }) {
  byId("waterfall").hidden = !sample;
  if (!sample) return put(byId("sample"), "None was seen yet.", "quiet");
  const age = Math.max(0, Math.round((latest.now - sample.at_ms) / 1000));
  put(byId("sample"), `${sample.request} · status ${sample.status} · ${number(sample.took_us / 1000)} ms · ${age} s ago · id ${sample.id || "–"}`, "quiet");
  const end = Math.max(1, sample.took_us, ...sample.steps.map(([start, took]) => start + took));
  byId("waterfall").replaceChildren(...backends.map((backend, index) => {
    const [start, took, says] = sample.steps[index] ?? [0, 0, "not asked"];
    const bar = element("div", "bar"), piece = element("i", says === "ok" ? "" : "bad");
    piece.style.left = `min(${100 * start / end}%, 100% - 3px)`;
    piece.style.width = 100 * took / end + "%";
    if (says !== "not asked") bar.append(piece);
    return element("div", "step", element("span", "", ...names(backend)), bar,
      element("span", says === "ok" ? "" : "bad", says === "not asked" ? says : `${number(took / 1000)} ms ${says}`));
  }));
}

function drawDetail() {
  const endpoint = latest.endpoints.get(chosen);
  byId("detail").hidden = !endpoint;
  if (!endpoint) return;
  const before = earlier?.endpoints.get(chosen), kept = histories.get(chosen);
  put(byId("name"), chosen);
  const limits = endpoint.limit ? `Rate limit of all clients: ${limitText(endpoint.limit)}. ` : "No rate limit of all clients. ";
  put(byId("limit"), `${limits}Beyond a limit: ${number(rate(endpoint.limited, before?.limited))}/s, ${endpoint.limited} in all.`, "quiet");
  chart(byId("rates"), kept, ["ok", "wait", "bad"]);
  chart(byId("latencies"), kept, ["p50", "p95", "p99"]);
  drawBackends(endpoint, before);
  drawSample(endpoint);
}

function drawUpstreams() {
  const names = [...latest.upstreams.keys()];
  keyed(byId("upstreams"), names, cells(11)).forEach((row, index) => {
    const name = names[index], upstream = latest.upstreams.get(name), old = earlier?.upstreams.get(name);
    const calls = upstream.calls, reuse = calls > 0 ? 100 * Math.max(0, 1 - upstream.connects / calls) : null;
    const held = upstream.refused_share > 0 ? (100 * upstream.refused_share).toFixed(0) + " %" : "–";
    const texts = [name, number(rate(calls, old?.calls)), upstream.in_flight, upstream.limit, held, upstream.http2,
      upstream.streams, upstream.idle_http1, number(rate(upstream.connects, old?.connects)), upstream.connect_failures, reuse === null ? "–" : reuse.toFixed(1) + " %"];
    texts.forEach((text, place) => put(row.cells[place], String(text), place === 9 && text > 0 ? "bad" : ""));
  });
}

function drawTiles() {
  const sum = name => [...latest.endpoints.keys()].reduce((total, key) => total + histories.get(key).at(-1)[name], 0);
  put(byId("rate"), number(sum("all")));
  put(byId("errors"), number(sum("bad")), sum("bad") > 0 ? "bad" : "");
  put(byId("flight"), String(latest.inFlight));
  const levels = [...new Set(latest.shards.map(shard => shard.level))];
  put(byId("level"), levels.join(", ") || "–", levels.every(level => level === "calm") ? "ok" : "bad");
  const shed = rate(latest.shed, earlier?.shed), limited = rate(latest.limited, earlier?.limited);
  put(byId("shed"), number(shed), shed > 0 ? "bad" : "");
  put(byId("limited"), number(limited), limited > 0 ? "wait" : "");
  const memory = latest.shards[0]?.memory;
  put(byId("memory"), memory ? `${bytes(memory[0])} of ${bytes(memory[1])}` : "–");
  put(byId("shards"), String(latest.shards.length));
}

function draw() {
  if (!latest.endpoints.has(chosen)) {
    const busiest = [...latest.endpoints].sort(([, a], [, b]) => b.answers[1] - a.answers[1])[0];
    chosen = busiest?.[0] ?? null;
  }
  drawTiles();
  drawEndpoints();
  drawDetail();
  drawUpstreams();
  for (const id of ["tiles", "overview", "pools"]) byId(id).hidden = false;
}

/* ---- Polling ---- */

async function look() {
  const answer = await fetch("/__stats", { headers: token ? { Authorization: "Bearer " + token } : {}, cache: "no-store" });
  byId("token").hidden = answer.status !== 401;
  if (answer.status === 401) return token ? "This token is not the right one." : "The figures want the admin token.";
  if (!answer.ok) return "No figures: the gateway answered " + answer.status;
  const gathered = gather(await answer.json());
  if (gathered.shards.length === 0) return "The gateway has no figures yet.";
  /* The same figures once more say nothing new. */
  if (latest && gathered.at === latest.at) return "";
  earlier = latest && gathered.at > latest.at ? latest : null;
  latest = gathered;
  remember();
  draw();
  return "";
}

async function poll() {
  const trouble = await look().catch(error => "No figures: " + error.message);
  put(byId("trouble"), trouble);
}

const submitted = () => new Promise(resolve => byId("token").addEventListener("submit", event => {
  event.preventDefault();
  token = byId("token").querySelector("input").value.trim();
  sessionStorage.setItem("annulus-token", token);
  resolve();
}, { once: true }));

/* Not by an interval: a slow answer must not let questions pile up. Nor is a refusal asked for again and again. */
for (;;) {
  await poll();
  await (byId("token").hidden ? new Promise(resolve => setTimeout(resolve, PERIOD_MS)) : submitted());
}
