// Tokens that keys sign: RSA, ECDSA and Ed25519. Arguments: ws://HOST:PORT/connection/websocket, then either "pem" and the
// folder with the private keys, or "jwks" and the port where the set of keys is to be served.
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import { connect, make, now, refusal, scenario, signedToken, sleep, token, when } from "./chat.mjs";

const [, , url, kind, at] = process.argv;
const claims = sub => ({ sub, exp: now() + 600 });
const fresh = () => ({
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey,
  ES256: generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey,
  EdDSA: generateKeyPairSync("ed25519").privateKey,
});

const pem = async () => {
  const others = fresh();
  for (const [alg, name] of [["RS256", "rsa"], ["RS512", "rsa"], ["ES256", "ecdsa"], ["EdDSA", "ed25519"]]) {
    const key = createPrivateKey(readFileSync(`${at}/${name}.key`));
    const [client, context] = await connect(url, "json", { token: signedToken(claims(alg), alg, key) });
    assert.deepEqual([context.client.length, client.state], [36, "connected"]);
    client.disconnect();
    const wrong = signedToken(claims(alg), alg, others[alg.replace("RS512", "RS256")]);
    assert.equal((await refusal(url, "json", { token: wrong })).code, 3500, alg);
    // The public key is no secret: whoever signs with it as with one is nobody.
    const text = createPublicKey(key).export({ type: "spki", format: "pem" });
    assert.equal((await refusal(url, "json", { token: token(claims("root"), text) })).code, 3500, alg);
  }
};

const jwks = async () => {
  const keys = fresh();
  const as = (alg, key, kid) => ({ ...createPublicKey(key).export({ format: "jwk" }), kid, alg, use: "sig" });
  let set = Object.entries(keys).map(([alg, key]) => as(alg, key, `key of ${alg}`));
  let asked = 0;
  const server = http.createServer((request, response) => {
    asked += 1;
    setTimeout(() => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ keys: set }));
    }, 100);
  });
  // As long as nobody serves the keys, nobody is let in, and nobody is told that the token were bad.
  const signed = alg => signedToken(claims(alg), alg, keys[alg], `key of ${alg}`);
  const early = make(url, "json", { token: signed("RS256") });
  const problem = when(early, "error"), connected = when(early, "connected");
  early.connect();
  assert.equal((await problem).error.code, 100);
  await new Promise(resolve => server.listen(Number(at), "127.0.0.1", resolve));
  await connected;
  early.disconnect();
  // Many at once: the keys are there, or fetched once for all.
  const before = asked;
  const algs = Array.from({ length: 30 }, (_, index) => Object.keys(keys)[index % 3]);
  const clients = await Promise.all(algs.map(alg => connect(url, "json", { token: signed(alg) })));
  clients.forEach(([client]) => client.disconnect());
  assert.ok(asked - before <= 3, `asked ${asked - before} times for 30 clients`);
  assert.equal((await refusal(url, "json", { token: signedToken(claims("a"), "ES256", fresh().ES256, "key of ES256") })).code, 3500);
  // A new key is found, without a restart, once the set may be fetched again; an unknown one is refused.
  await sleep(10_500);
  const { ES256 } = fresh();
  set = [...set, as("ES256", ES256, "newer")];
  const newer = make(url, "json", { token: signedToken(claims("a"), "ES256", ES256, "newer"), minReconnectDelay: 500 });
  const found = when(newer, "connected"), ended = when(newer, "disconnected");
  newer.connect();
  assert.equal((await Promise.race([found, ended])).code, undefined, "a new key was not looked for");
  newer.disconnect();
  // Nor is a client cut off whose key is so new that the set may not be fetched yet: it comes again until it may.
  const { ES256: newest } = fresh();
  set = [...set, as("ES256", newest, "newest")];
  const hasty = make(url, "json", { token: signedToken(claims("a"), "ES256", newest, "newest"), minReconnectDelay: 500 });
  let refused = 0;
  hasty.on("error", ({ error }) => { refused += error.code === 100 ? 1 : 0; });
  const later = when(hasty, "connected"), over = when(hasty, "disconnected");
  hasty.connect();
  assert.equal((await Promise.race([later, over])).code, undefined, "a client with a very new key was cut off");
  assert.ok(refused > 0, "the set was fetched sooner than it may be");
  hasty.disconnect();
  const nobody = signedToken(claims("a"), "ES256", fresh().ES256, "nobody's");
  assert.equal((await refusal(url, "json", { token: nobody })).code, 3500);
  assert.ok(asked < 12, `asked ${asked} times`);
  server.close();
};

scenario(`signed ${kind}`, 60, kind === "pem" ? pem : jwks);
