// A client that keeps eight requests under way and tells what came of them. Arguments: http://HOST:PORT/PATH, "h2c" or
// "http1", and after how many milliseconds it stops by itself. It also stops when the server says that it will: by GOAWAY
// or `Connection: close`. Prints {"ok", "failed": [...], "farewells"}.
import http from "node:http";
import http2 from "node:http2";

const [, , target, spoken, duration] = process.argv;
const url = new URL(target), failed = [];
let ok = 0, farewells = 0, over = false;
setTimeout(() => { over = true; }, Number(duration)).unref();
setTimeout(() => { failed.push("did not end"); report(); }, Number(duration) + 15000).unref();
const report = () => { console.log(JSON.stringify({ ok, failed, farewells })); process.exit(0); };
const settle = (status, body) => status === 200 && JSON.parse(body).ok === 1 ? ok++ : failed.push(`${status} ${body}`);

async function overHttp2() {
  const session = http2.connect(url.origin);
  let told = Infinity;
  session.on("goaway", code => {
    told = performance.now();
    farewells++;
    over = true;
    if (code !== 0) failed.push(`GOAWAY ${code}`);
  });
  // What was asked in the tick in which the farewell came does not leave this client any more, which says so at once. The
  // gateway itself refuses nothing before its last call of half a second is over.
  const neverLeft = async stream => {
    const at = performance.now();
    await new Promise(resolve => setTimeout(resolve, 50));
    return stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM && Math.abs(at - told) < 200;
  };
  session.on("error", error => failed.push(error.message));
  const one = () => new Promise(resolve => {
    let status, body = "";
    const stream = session.request({ ":path": url.pathname });
    stream.on("response", fields => { status = fields[":status"]; });
    stream.on("data", piece => { body += piece; });
    stream.on("error", async error => { if (!await neverLeft(stream)) failed.push(error.message); resolve(); });
    stream.on("end", () => { settle(status, body); resolve(); });
  });
  await Promise.all(Array.from({ length: 8 }, async () => { while (!over) await one(); }));
  if (!session.closed) session.close();
  if (!session.destroyed) await new Promise(resolve => session.once("close", resolve));
}

/* Each on a connection of its own, so that a farewell concerns the next request and no other. */
async function overHttp1() {
  const one = agent => new Promise(resolve => {
    const request = http.get(url, { agent }, response => {
      let body = "";
      response.on("data", piece => { body += piece; });
      response.on("error", error => { failed.push(error.message); resolve(false); });
      response.on("end", () => {
        settle(response.statusCode, body);
        const last = response.headers.connection === "close";
        if (last) farewells++;
        resolve(!last);
      });
    });
    request.on("error", error => { failed.push(error.message); resolve(false); });
  });
  await Promise.all(Array.from({ length: 8 }, async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    while (!over && await one(agent));
    agent.destroy();
  }));
}

await (spoken === "h2c" ? overHttp2() : overHttp1());
report();
