/* Polls the node's figures once a second and draws them. Totals become rates here; five minutes of them are kept.
 * Everything that the node says is shown as text, never as markup. */

const KEPT_S = 300, FIRST_S = 60, PERIOD_MS = 1000, GAP_MS = 3500, TOKEN = "annulus-chat-admin";
const byId = id => document.getElementById(id);
const history = [];
let latest = null, earlier = null, token = sessionStorage.getItem(TOKEN) ?? "";

/* ---- Figures ---- */

const SUMMED = ["clients", "users", "channels", "subscriptions", "unsettled", "outbound_bytes", "commands", "refused", "publications",
  "repeated", "deliveries", "slow", "fallen_off", "dropped", "turned_away", "connections", "received_bytes", "sent_bytes"];

function gather(state) {
  const all = Object.fromEntries(SUMMED.map(name => [name, state.shards.reduce((sum, shard) => sum + shard[name], 0)]));
  const closed = new Map();
  for (const shard of state.shards) for (const [code, count] of Object.entries(shard.closed)) closed.set(code, (closed.get(code) ?? 0) + count);
  return { ...state, all, closed };
}

/* How much a total grew per second; null where there is no earlier one. */
function rate(now, before) {
  const seconds = earlier ? (latest.now_ms - earlier.now_ms) / 1000 : 0;
  return seconds > 0 && before !== undefined ? Math.max(0, now - before) / seconds : null;
}

const rateOf = name => rate(latest.all[name], earlier?.all[name]);
const load = index => {
  const micros = rate(latest.shards[index].busy_us, earlier?.shards[index]?.busy_us);
  return micros === null ? null : Math.min(100, micros / 1e4);
};
const ms = micros => micros === undefined || micros === null ? null : micros / 1000;

function remember() {
  const loads = latest.shards.map((_, index) => load(index)), known = loads.every(value => value !== null);
  history.push({
    at: latest.now_ms,
    publications: rateOf("publications"), deliveries: rateOf("deliveries"), commands: rateOf("commands"), refused: rateOf("refused"),
    clients: latest.all.clients, waiting: latest.all.outbound_bytes / 1000,
    /* Seconds without a delivery have no latency: a gap, not a zero. */
    p50: ms(latest.delivery?.p50_us), p99: ms(latest.delivery?.p99_us),
    sync50: ms(latest.log?.sync?.p50_us), sync99: ms(latest.log?.sync?.p99_us), lag: latest.database?.lag_ms ?? null,
    busiest: known ? Math.max(...loads) : null, mean: known ? loads.reduce((a, b) => a + b, 0) / loads.length : null,
  });
  while (history[0].at < latest.now_ms - KEPT_S * 1000) history.shift();
}

/* ---- Texts ---- */

const number = value => value === null ? "–" : value < 100 && Number.isInteger(value) ? String(value) : value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2);
const whole = value => value.toLocaleString("en");
const bytes = value => value >= 1e9 ? (value / 1e9).toFixed(1) + " GB" : value >= 1e6 ? (value / 1e6).toFixed(1) + " MB" : value >= 1e3 ? Math.round(value / 1e3) + " kB" : value + " B";
const times = (found, names) => found ? names.map(name => number(found[name + "_us"] / 1000)).join(" / ") + " ms" : "–";
const span = seconds => seconds >= 86400 ? `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h` :
  seconds >= 3600 ? `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min` : seconds >= 60 ? `${Math.floor(seconds / 60)} min` : `${seconds} s`;

const CODES = { 1000: "normal end", 1001: "going away", 1002: "broken WebSocket framing", 1007: "text that is not UTF-8", 1009: "message too long",
  3001: "the node shut down", 3005: "token over, not refreshed", 3008: "too slow", 3010: "could not catch up", 3012: "no answer to a ping",
  3500: "invalid token", 3501: "against the protocol", 3502: "no connect in time", 3503: "disconnected by the backend", 3520: "banned", other: "anything else" };

/* ---- Drawing ---- */

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
    const child = known.get(String(key)) ?? make(key);
    child.dataset.key = key;
    return child;
  });
  if (children.length !== parent.children.length || children.some((child, index) => parent.children[index] !== child)) parent.replaceChildren(...children);
  return children;
}

const cells = count => () => element("tr", "", ...Array.from({ length: count }, () => element("td")));

/* Names with values, as [name, text, class?]. */
function facts(list, pairs) {
  const rows = keyed(list, pairs.map(([name]) => name), name => element("div", "", element("dt", "", name), element("dd")));
  rows.forEach((row, index) => put(row.lastChild, pairs[index][1], pairs[index][2]));
}

/* How far back the charts go: a minute, until there is more. */
const reach = () => latest.now_ms - history[0].at > FIRST_S * 1000 ? KEPT_S : FIRST_S;

/* A line over that time, newest at the right edge. It breaks where there is no value, or nobody looked. */
function runsOf(name, top) {
  const runs = [[]];
  let before = null;
  for (const second of history) {
    if (second[name] === null || before !== null && second.at - before > GAP_MS) runs.push([]);
    before = second.at;
    if (second[name] === null) continue;
    const x = reach() - (latest.now_ms - second.at) / 1000;
    runs.at(-1).push(`${x.toFixed(1)},${(100 - 100 * second[name] / top).toFixed(2)}`);
  }
  return runs.filter(run => run.length);
}

function lines(names, top) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${reach()} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  names.forEach((name, index) => runsOf(name, top).forEach(run => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    /* One point draws nothing; two in the same place with a length do. */
    const [x, y] = run[0].split(",");
    line.setAttribute("points", run.length > 1 ? run.join(" ") : `${x - .8},${y} ${run[0]}`);
    line.setAttribute("class", index === 0 ? "one" : "two");
    svg.append(line);
  }));
  return svg;
}

const CHARTS = [
  ["publications/s", [["publications"]]],
  ["deliveries/s", [["deliveries"]]],
  ["delivery latency, ms", [["p99", "p99"], ["p50", "p50"]]],
  ["clients", [["clients"]]],
  ["commands/s", [["commands", "all"], ["refused", "refused"]]],
  ["kB that wait for clients", [["waiting"]]],
  ["load of shards, %", [["busiest", "busiest"], ["mean", "mean"]]],
  ["fdatasync, ms", [["sync99", "p99"], ["sync50", "p50"]], "log"],
  ["database behind, ms", [["lag"]], "database"],
];

function drawCharts() {
  const shown = CHARTS.filter(([, , needs]) => !needs || latest[needs]);
  put(byId("reach"), reach() === KEPT_S ? "The last five minutes" : "The last minute");
  const make = name => {
    const [, series] = CHARTS.find(([title]) => title === name);
    const keys = series.filter(([, key]) => key).map(([, key], index) => element("span", "key " + (index === 0 ? "one" : "two"), key));
    const chart = element("div", "chart");
    chart.setAttribute("role", "img");
    return element("figure", "", element("figcaption", "", element("span", "", name), element("b"), ...keys), chart);
  };
  keyed(byId("charts"), shown.map(([name]) => name), make).forEach((figure, index) => {
    const [name, series] = shown[index], names = series.map(([of]) => of);
    const top = Math.max(0, ...history.flatMap(second => names.map(of => second[of] ?? 0)));
    const now = names.map(of => number(history.at(-1)[of])).join(" / ");
    const chart = figure.lastChild;
    put(figure.querySelector("b"), now);
    chart.setAttribute("aria-label", `${name}: now ${now}, at most ${number(top)}`);
    chart.replaceChildren(lines(names, top || 1), element("span", "most", number(top)), element("span", "least", "0"));
  });
}

const COLUMNS = [
  ["shard", (_, __, index) => String(index)],
  ["load", (_, __, index) => load(index) === null ? "–" : number(load(index)) + " %"],
  ["turns/s", (shard, old) => number(rate(shard.turns, old?.turns))],
  ["turn p99 ms", shard => shard.turn ? number(shard.turn.p99_us / 1000) : "–"],
  ["clients", shard => whole(shard.clients)],
  ["connections", shard => whole(shard.connections)],
  ["channels", shard => whole(shard.channels)],
  ["subscriptions", shard => whole(shard.subscriptions)],
  ["commands/s", (shard, old) => number(rate(shard.commands, old?.commands))],
  ["publications/s", (shard, old) => number(rate(shard.publications, old?.publications))],
  ["deliveries/s", (shard, old) => number(rate(shard.deliveries, old?.deliveries))],
  ["unsettled", shard => whole(shard.unsettled)],
  ["waiting", shard => bytes(shard.outbound_bytes)],
  ["stalls", shard => whole(shard.stalls)],
  ["letters refused", shard => whole(shard.mailbox_full)],
];

function drawShards() {
  keyed(byId("shard-names"), COLUMNS.map(([name]) => name), name => element("th", "", name));
  keyed(byId("shard-rows"), latest.shards.map((_, index) => index), cells(COLUMNS.length)).forEach((row, index) => {
    const shard = latest.shards[index], old = earlier?.shards[index];
    COLUMNS.forEach(([name, text], place) => put(row.cells[place], text(shard, old, index), name === "stalls" && shard.stalls > 0 ? "wait" : ""));
  });
}

function drawTiles() {
  const { all } = latest, perSecond = name => number(rateOf(name));
  /* Who is on several shards is counted by each of them. */
  const atMost = name => (latest.shards.length > 1 && all[name] > 1 ? "≤ " : "") + whole(all[name]);
  facts(byId("tiles"), [
    ["clients", whole(all.clients)], ["users", atMost("users")], ["channels", atMost("channels")], ["subscriptions", whole(all.subscriptions)],
    ["publications/s", perSecond("publications")], ["deliveries/s", perSecond("deliveries")],
    ["delivery p50 / p99", times(latest.delivery, ["p50", "p99"])],
    ["commands/s", perSecond("commands")], ["refused/s", perSecond("refused"), rateOf("refused") > 0 ? "wait" : ""],
    ["unsettled", whole(all.unsettled)], ["waiting for clients", bytes(all.outbound_bytes)],
    ["in / out per s", `${bytes(Math.round(rateOf("received_bytes") ?? 0))} / ${bytes(Math.round(rateOf("sent_bytes") ?? 0))}`],
  ]);
}

function drawKeeping() {
  const { log, database } = latest, pairs = [];
  if (log) pairs.push(
    ["log", `${bytes(log.used_bytes)} of ${bytes(log.bytes_max)}`, log.is_full ? "bad" : ""],
    ["on their way to the log", bytes(log.waiting_bytes)],
    ["fdatasync p50 / p99 / p99.9", times(log.sync, ["p50", "p99", "p999"])]);
  else pairs.push(["log", "none: nothing outlives the process"]);
  if (database) pairs.push(
    ["database behind", `${bytes(database.lag_bytes)}, ${number(database.lag_ms)} ms`],
    ["rows", whole(database.rows)], ["rows sent again", whole(database.repeated)],
    ["connections", whole(database.connected), database.connected === 0 ? "bad" : ""],
    ["failed attempts", whole(database.retries)],
    ["dead letters", whole(database.dead_letters), database.dead_letters > 0 ? "bad" : ""]);
  else pairs.push(["database", "none"]);
  facts(byId("keeping"), pairs);
}

function drawPressure() {
  const { all } = latest;
  facts(byId("pressure"), [
    ["too slow, per s", number(rateOf("slow")), rateOf("slow") > 0 ? "wait" : ""], ["too slow, in all", whole(all.slow)],
    ["had to begin anew", whole(all.fallen_off)], ["publications not given to them", whole(all.dropped)],
    ["WebSockets not opened", whole(all.turned_away)], ["publications with a known key", whole(all.repeated)],
    ["open connections, HTTP included", whole(all.connections)],
  ]);
}

function drawCloses() {
  const codes = [...latest.closed.keys()].sort();
  keyed(byId("closes"), codes, cells(4)).forEach((row, index) => {
    const code = codes[index], count = latest.closed.get(code);
    [code, CODES[code] ?? "", number(rate(count, earlier?.closed.get(code) ?? 0)), whole(count)].forEach((text, place) => put(row.cells[place], text));
  });
  byId("no-closes").hidden = codes.length > 0;
}

function drawAlarms() {
  const alarms = [];
  if (latest.log?.failure) alarms.push(`The log has failed, and nothing can be published until a restart: ${latest.log.failure}`);
  if (latest.log?.is_full) alarms.push("The log is full: publications get a temporary error until the database has caught up.");
  if (latest.database?.last_error) alarms.push(`The database: ${latest.database.last_error}`);
  keyed(byId("alarms"), alarms, text => element("p", "", text));
}

function draw() {
  put(byId("about"), `${latest.name} · ${latest.version} · up ${span(latest.uptime_s)}`, "quiet");
  byId("metrics").hidden = !latest.metrics;
  if (latest.metrics) byId("metrics").setAttribute("href", latest.metrics);
  for (const part of [drawAlarms, drawTiles, drawCharts, drawShards, drawKeeping, drawPressure, drawCloses]) part();
}

function show(isIn) {
  byId("login").hidden = isIn;
  byId("leave").hidden = !isIn || !token;
  for (const id of ["tiles", "series", "shards", "details"]) byId(id).hidden = !isIn;
  if (!isIn) for (const id of ["alarms", "about"]) byId(id).replaceChildren();
}

/* ---- Asking ---- */

const authorization = () => token ? { Authorization: "Bearer " + token } : {};

function enter(given) {
  token = given;
  if (token) sessionStorage.setItem(TOKEN, token); else sessionStorage.removeItem(TOKEN);
}

/* What a refusal says of itself. */
const titleOf = answer => answer.json().then(problem => problem.title, () => undefined);

/* Looks once; what is wrong, if something is. */
async function look() {
  const answer = await fetch("state", { headers: authorization(), cache: "no-store", signal: AbortSignal.timeout(10 * PERIOD_MS) });
  if (answer.status === 401) {
    const was = token;
    enter("");
    show(false);
    return was ? "You were logged out. Log in again." : "";
  }
  if (!answer.ok) return await titleOf(answer) ?? `The node answered ${answer.status}.`;
  const gathered = gather(await answer.json());
  /* The node began anew, or its figures are the same ones once more. */
  if (latest && gathered.now_ms === latest.now_ms) return "";
  earlier = latest && gathered.now_ms > latest.now_ms && gathered.uptime_s >= latest.uptime_s ? latest : null;
  if (!earlier) history.length = 0;
  latest = gathered;
  remember();
  show(true);
  draw();
  return "";
}

/* Resolves once somebody is in, or has been refused: with what the refusal says. */
const loggedIn = () => new Promise(resolve => byId("login").addEventListener("submit", async event => {
  event.preventDefault();
  const field = byId("password"), button = byId("login").querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch("login", { method: "POST", body: JSON.stringify({ password: field.value }) });
    if (answer.ok) {
      enter((await answer.json()).token);
      field.value = "";
      resolve("");
    } else {
      field.select();
      resolve(await titleOf(answer) ?? `The node answered ${answer.status}.`);
    }
  } catch (error) {
    resolve("The node does not answer: " + error.message);
  }
  button.disabled = false;
}, { once: true }));

byId("leave").addEventListener("click", () => { enter(""); location.reload(); });

/* ---- Publishing ---- */

async function publish() {
  const channel = byId("channel").value, data = byId("data").value;
  try { JSON.parse(data); } catch (error) { return [`Not JSON: ${error.message}`, "bad"]; }
  /* As it was written: numbers may be longer than those of this language. */
  const body = `{"channel":${JSON.stringify(channel)},"data":${data}}`;
  const answer = await fetch("publish", { method: "POST", headers: authorization(), body });
  if (!answer.ok) return [await titleOf(answer) ?? `The node answered ${answer.status}.`, "bad"];
  const { result, error } = await answer.json();
  if (error) return [`Not published: ${error.message} (${error.code})`, "bad"];
  return [result.offset ? `Published to ${channel} as number ${result.offset}.` : `Published to ${channel}.`, "ok"];
}

byId("publish").addEventListener("submit", async event => {
  event.preventDefault();
  const button = byId("publish").querySelector("button");
  button.disabled = true;
  put(byId("published"), ...await publish().catch(error => ["The node does not answer: " + error.message, "bad"]));
  button.disabled = false;
});

byId("data").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("publish").requestSubmit();
});

/* Not by an interval: a slow answer must not let questions pile up. Nor is a refusal asked for again and again. */
for (let refused = "";;) {
  const trouble = await look().catch(error => "The node does not answer: " + error.message);
  put(byId("trouble"), trouble || refused);
  refused = "";
  if (byId("login").hidden) await new Promise(resolve => setTimeout(resolve, PERIOD_MS));
  else {
    byId("password").focus();
    refused = await loggedIn();
  }
}
