// Peer of annulus-bench: Bun's WebSocket server, which is uWebSockets.
//
// Replies inside a message callback are corked by the library. Broadcast uses its own publish to a topic, which gathers
// what each socket is owed until the loop comes round.

const option = (name, fallback) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : process.argv[at + 1];
};
const [hostname, port] = option("--listen", "127.0.0.1:9006").split(":");
const everybody = "everybody";
const shared = { perMessageDeflate: false, maxPayloadLength: 16 << 20, idleTimeout: 0 };

const echo = {
  ...shared,
  message(socket, message) {
    socket.send(message);
  },
};

const broadcast = {
  ...shared,
  open(socket) {
    socket.subscribe(everybody);
  },
  message(_socket, message) {
    server.publish(everybody, message);
  },
};

const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch: (request, server) =>
    server.upgrade(request) ? undefined : new Response("a WebSocket server\n", { status: 426 }),
  websocket: option("--mode", "echo") === "broadcast" ? broadcast : echo,
});
process.on("SIGTERM", () => process.exit(0));
