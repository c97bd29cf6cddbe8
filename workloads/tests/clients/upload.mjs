// Uploads more than a gateway takes, over HTTP/2 without TLS, and prints the answer and how the stream ended.
// Arguments: http://HOST:PORT/PATH and how many bytes.
import http2 from "node:http2";

const [, , target, length] = process.argv;
const url = new URL(target), session = http2.connect(url.origin);
let body = "", status = 0;
session.on("error", error => { console.log(error.message); process.exit(1); });
const stream = session.request({ ":method": "POST", ":path": url.pathname });
stream.on("response", fields => { status = fields[":status"]; });
stream.on("data", piece => { body += piece; });
stream.on("error", error => console.log(error.message));
stream.on("close", () => { console.log(`${body} ${status} ${stream.rstCode}`); session.close(); });
stream.end(Buffer.alloc(Number(length)));
