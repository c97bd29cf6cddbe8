// Keeps eight requests under way over HTTP/2 for a while, on the next connection as soon as the server says farewell. Arguments:
// http://HOST:PORT/PATH, and for how many milliseconds, unless its standard input ends before. Prints {"ok", "failed": [...], "connections", "again", "shed"}.
import http2 from "node:http2";

const [, , target, duration] = process.argv;
const url = new URL(target), failed = [];
let ok = 0, connections = 0, again = 0, shed = 0, over = false, current;
const timer = setTimeout(() => { over = true; }, Number(duration));
process.stdin.on("end", () => { over = true; clearTimeout(timer); }).resume();

function connect() {
  connections++;
  const session = http2.connect(url.origin);
  session.told = false;
  const leave = () => {
    session.told = true;
    if (current === session) current = undefined;
  };
  session.on("goaway", code => {
    leave();
    if (code !== 0) failed.push(`GOAWAY ${code}`);
    // Ends when what is under way on it has its answer.
    if (!session.closed) session.close();
  });
  session.on("close", leave);
  session.on("error", error => failed.push(`session: ${error.message}`));
  return session;
}

/* What was asked in the tick in which the farewell came does not leave this client, and is asked again as any client does
   (RFC 9113 section 8.7). What the server has seen is never refused. */
const one = session => new Promise(resolve => {
  let status, body = "";
  const stream = session.request({ ":path": url.pathname });
  stream.on("response", fields => { status = fields[":status"]; });
  stream.on("data", piece => { body += piece; });
  stream.on("error", error => {
    const neverLeft = stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM || error.code === "ERR_HTTP2_GOAWAY_SESSION";
    if (neverLeft && session.told) again++;
    else failed.push(`${error.message} ${error.code} ${stream.rstCode} ${session.told}`);
    resolve();
  });
  stream.on("end", () => {
    if (status === 200 && JSON.parse(body).ok === 1) ok++;
    // A machine where others compile; no upgrade's doing.
    else if (status === 503 && body.includes("too much to do")) shed++;
    else failed.push(`${status} ${body}`);
    resolve();
  });
});

await Promise.all(Array.from({ length: 8 }, async () => {
  while (!over) {
    current ??= connect();
    const session = current;
    if (session.closed || session.destroyed) { if (current === session) current = undefined; continue; }
    await one(session);
    await new Promise(resolve => setTimeout(resolve, 2));
  }
}));
if (current && !current.closed) current.close();
console.log(JSON.stringify({ ok, failed, connections, again, shed }));
process.exit(0);
