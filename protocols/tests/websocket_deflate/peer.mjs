// The `ws` package as a peer: node peer.mjs FOLDER client URL | node peer.mjs FOLDER server
// FOLDER holds node_modules. A client sends messages with each of several offers and wants them back; a server prints its
// port, echoes, and ends with its standard input.
import { createRequire } from "node:module";

const [folder, role, url] = process.argv.slice(2);
const { WebSocket, WebSocketServer } = createRequire(folder + "/")("ws");

const OFFERS = [
  { threshold: 0 },
  { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  { threshold: 0, serverMaxWindowBits: 9 },
  { threshold: 0, serverMaxWindowBits: 12, clientMaxWindowBits: 10 },
  { threshold: 0, clientMaxWindowBits: 15, zlibDeflateOptions: { level: 9 } },
  { threshold: 0, zlibDeflateOptions: { level: 0 } },
];
const SIZES = [0, 1, 5, 125, 126, 1000, 4096, 5000, 65535, 65536, 200000, 1500000];
const WORDS = ["annulus ", "ring ", "größe ", "水", "🍣", "0123456789 "];

function text(size) {
  let all = "";
  for (let at = size; all.length < size; at = (at * 7919 + 13) % 104729) all += WORDS[at % WORDS.length];
  return all.slice(0, size).toWellFormed();
}

function exchange(socket, sent, send) {
  return new Promise((resolve, reject) => {
    socket.once("message", (data, isBinary) => {
      const same = isBinary ? Buffer.compare(data, sent) === 0 : data.toString() === sent;
      same ? resolve() : reject(new Error(`${data.length} bytes came back, and other ones`));
    });
    send();
  });
}

async function converse(offer) {
  const socket = new WebSocket(url, { perMessageDeflate: offer });
  const failed = new Promise((_, reject) => {
    socket.on("error", reject);
    socket.on("close", (code) => code === 1000 || reject(new Error(`closed with ${code}`)));
  });
  const work = async () => {
    await new Promise((resolve) => socket.once("open", resolve));
    if (!socket.extensions.includes("permessage-deflate")) throw new Error("nothing was agreed on");
    for (const size of SIZES) {
      const words = text(size);
      await exchange(socket, words, () => socket.send(words));
      const bytes = Buffer.from(words);
      await exchange(socket, bytes, () => socket.send(bytes));
      // A text in two fragments, which may end inside a character, with a ping between them.
      await exchange(socket, words, () => {
        const third = Math.floor(bytes.length / 3);
        socket.send(bytes.subarray(0, third), { fin: false, binary: false });
        socket.ping("between");
        socket.send(bytes.subarray(third), { fin: true, binary: false });
      });
    }
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.close(1000);
    await closed;
  };
  await Promise.race([work(), failed]);
}

if (role === "client") {
  for (const offer of OFFERS) await converse(offer);
  console.log("done");
} else {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 } });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  process.stdin.on("end", () => process.exit(0)).resume();
}
