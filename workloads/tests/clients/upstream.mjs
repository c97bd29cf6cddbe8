// A server with TLS for the gateway to ask. It speaks HTTP/2 and HTTP/1.1, or HTTP/1.1 alone, and answers with what it
// saw: the protocol, the name asked for (SNI), and the client's certificate. Arguments: key, chain, an authority for
// clients' certificates or "-", and "h2" or "http1". Prints its port; ends with its standard input.
import http2 from "node:http2";
import https from "node:https";
import { readFileSync } from "node:fs";

const [, , key, cert, authority, spoken] = process.argv;
const options = { key: readFileSync(key), cert: readFileSync(cert), allowHTTP1: true };
if (authority !== "-") Object.assign(options, { ca: readFileSync(authority), requestCert: true, rejectUnauthorized: true });
const answer = (request, response) => {
  const socket = request.httpVersion === "2.0" ? request.stream.session.socket : request.socket;
  const body = JSON.stringify({
    version: request.httpVersion, name: socket.servername || "none", client: socket.getPeerCertificate()?.subject?.CN ?? "none",
  });
  response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
};
const server = spoken === "h2" ? http2.createSecureServer(options, answer) : https.createServer(options, answer);
server.on("tlsClientError", error => console.error(error.code));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
