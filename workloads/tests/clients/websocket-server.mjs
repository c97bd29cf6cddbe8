// A WebSocket server for the gateway to pass clients on to. Arguments: key and chain, or nothing. Prints its port; ends with
// its standard input, or when a client says so.
//   /echo     says what it hears, compressed where the client can; chooses the last subprotocol that is offered
//   /asked    says what it was asked with: path, fields, subprotocols
//   /close    closes with 4321 and a reason
//   /exit     dies with the first message
//   /refused  answers 401 with a field and a body
import http from "node:http";
import https from "node:https";
import { readFileSync } from "node:fs";
import { WebSocketServer } from "ws";

const [, , key, cert] = process.argv;
const plain = (request, response) => {
  response.writeHead(200, { "content-type": "text/plain" });
  response.end(`${request.method} ${request.url}`);
};
const server = key ? https.createServer({ key: readFileSync(key), cert: readFileSync(cert) }, plain) : http.createServer(plain);
const options = { noServer: true, perMessageDeflate: { threshold: 0 }, handleProtocols: offered => [...offered].pop() };
const sockets = new WebSocketServer(options);
server.on("upgrade", (request, socket, head) => {
  if (request.url.startsWith("/refused")) {
    socket.end("HTTP/1.1 401 Unauthorized\r\nX-Why: no ticket\r\nContent-Length: 4\r\n\r\nno!\n");
    return;
  }
  sockets.handleUpgrade(request, socket, head, client => {
    const path = request.url.split("?")[0];
    if (path === "/asked") client.send(JSON.stringify({ url: request.url, fields: request.headers, protocol: client.protocol }));
    if (path === "/close") client.close(4321, "because");
    client.on("message", (data, binary) => {
      if (path === "/exit") process.exit(3);
      client.send(data, { binary });
    });
    client.on("error", () => {});
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
