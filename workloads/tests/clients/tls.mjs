// The official client over TLS, through a change of the certificate. Arguments: the port, the authority's certificate, the
// API's key.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import tls from "node:tls";
import { connect, decode, encode, hear, listen, say, scenario, subscribe, WebSocket, when } from "./chat.mjs";

const [, , port, authority] = process.argv;
const ca = readFileSync(authority);
const url = `wss://localhost:${port}/connection/websocket`;
class Trusting extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { ca });
  }
}
// The certificate that a newcomer is shown.
const shown = () => new Promise((resolve, reject) => {
  const socket = tls.connect({ host: "localhost", port, ca, servername: "localhost", ALPNProtocols: ["http/1.1"] }, () => {
    resolve([socket.getPeerCertificate().fingerprint256, socket.getProtocol(), socket.alpnProtocol]);
    socket.destroy();
  });
  socket.on("error", reject);
});
const talk = async (form, name) => {
  const [client] = await connect(url, form, { websocket: Trusting, data: { user: name } });
  const [room] = await subscribe(client, `tls ${name}`);
  return async () => {
    // Larger than a record (RFC 8446 section 5.1), and small ones after it.
    for (const text of ["x".repeat(50_000), "a", "b", "ü".repeat(10_000)]) {
      const heard = when(room, "publication");
      await client.publish(`tls ${name}`, encode(form, { text }));
      assert.deepEqual(decode(form, (await heard).data), { text });
    }
    return client;
  };
};

scenario("tls", 60, async () => {
  listen();
  const talks = [await talk("json", "ann"), await talk("protobuf", "bob")];
  for (const exchange of talks) await exchange();
  const [first, protocol, alpn] = await shown();
  assert.deepEqual([protocol, alpn], ["TLSv1.3", "http/1.1"]);
  say("connected");
  await hear("renewed");
  let second = first;
  for (let tries = 0; second === first && tries < 100; tries++) {
    await new Promise(resolve => setTimeout(resolve, 50));
    [second] = await shown();
  }
  assert.notEqual(second, first, "the newer certificate is not shown");
  for (const exchange of talks) await exchange();
  await (await talk("json", "newcomer"))();
  say("still connected");
  await hear("broken");
  await new Promise(resolve => setTimeout(resolve, 300));
  assert.equal((await shown())[0], second);
  for (const exchange of talks) (await exchange()).disconnect();
  say("done");
  // Whoever does not know the authority does not come in, and neither does who speaks plainly.
  const stranger = await new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.on("error", resolve);
    socket.on("open", () => resolve({ code: "open" }));
  });
  assert.match(stranger.code, /UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET/);
});
