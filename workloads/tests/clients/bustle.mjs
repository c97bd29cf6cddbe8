// Something to see for who looks at all services at once: people in a room, requests of the gateway, pictures.
import WebSocket from "ws";
import { deflateSync } from "node:zlib";
import { pause } from "./devtools.mjs";

function crc32(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// A grey picture, so wide and so high, that differs from others by its shade.
export function png(side, shade) {
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]), framed = Buffer.alloc(body.length + 8);
    framed.writeUInt32BE(data.length, 0);
    body.copy(framed, 4);
    framed.writeUInt32BE(crc32(body), body.length + 4);
    return framed;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head.set([8, 0], 8);
  // Each row begins with its filter: none.
  const pixels = Buffer.alloc(side * (side + 1), shade);
  for (let row = 0; row < side; row++) pixels[row * (side + 1)] = 0;
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), chunk("IHDR", head), chunk("IDAT", deflateSync(pixels)), chunk("IEND", Buffer.alloc(0))]);
}

// Begins; a function that ends it. `every` says after how many milliseconds the next publication, request and picture come, which
// may be functions of the seconds since the beginning.
export function bustle({ chat, gateway, image, people, paths, side, every }) {
  let goes = true, number = 2;
  const began = Date.now(), room = `${began}`;
  const members = Array.from({ length: people }, (_, index) => {
    const socket = new WebSocket(`ws://${chat}/connection/websocket`);
    const lines = [{ id: 1, connect: { data: { user: `user-${index}` } } }, { id: 2, subscribe: { channel: room } }];
    socket.on("open", () => socket.send(lines.map(line => JSON.stringify(line)).join("\n")));
    socket.on("message", text => { if (String(text).trim() === "{}") socket.send("{}"); });
    // A server that is ended is no fault of this script.
    socket.on("error", () => {});
    return socket;
  });
  const again = async (interval, one) => {
    for (let round = 0; goes; round++) {
      await Promise.resolve(one(round)).catch(() => {});
      await pause(typeof interval === "function" ? interval((Date.now() - began) / 1000) : interval);
    }
  };
  const ask = (url, options) => fetch(url, options).then(answer => answer.arrayBuffer());
  const loops = [
    again(every.publication, () => { if (members[0].readyState === WebSocket.OPEN) members[0].send(JSON.stringify({ id: ++number, publish: { channel: room, data: number } })); }),
    // Not one after the other: the time of an answer is not the pace of requests.
    again(every.request, round => { ask(`http://${gateway}${paths[round % paths.length]}`).catch(() => {}); }),
    again(every.picture, round => ask(`http://${image}/v1/images?ops=small=rs:fit:64:64/f:webp`, { method: "POST", body: png(side, round % 256) })),
  ];
  return async () => {
    goes = false;
    await Promise.all(loops);
    members.forEach(member => member.terminate());
  };
}
