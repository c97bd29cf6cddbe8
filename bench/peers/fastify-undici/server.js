// Peer of annulus-bench: an aggregator with fastify and undici on one Node.js thread.
//
// HTTP/1.1 upstreams are called over undici's Pool, HTTP/2 ones over its H2CClient (one connection each). Answers are
// parsed with JSON.parse, merged in an object and written with JSON.stringify.

import fastify from "fastify";
import { H2CClient, Pool } from "undici";

/** The widest fan-out. */
const FANOUT_MAX = 10;
/** How long an upstream may take. */
const TIMEOUT_MS = 2000;
/** HTTP/1.1 connections per upstream. */
const CONNECTIONS_MAX = 1024;
/** Streams at once on an HTTP/2 connection. */
const STREAMS_MAX = 100;

const option = (name, fallback) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : process.argv[at + 1];
};

const timeouts = { headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS };
const connect = (address) =>
  option("--protocol", "http1") === "h2c"
    ? new H2CClient(`http://${address}`, { ...timeouts, maxConcurrentStreams: STREAMS_MAX, pipelining: STREAMS_MAX })
    : new Pool(`http://${address}`, { ...timeouts, connections: CONNECTIONS_MAX, pipelining: 1 });
const upstreams = option("--upstream", "127.0.0.1:9100").split(",").map(connect);

const call = async (service, query) => {
  const upstream = upstreams[service % upstreams.length];
  const { statusCode, body } = await upstream.request({ method: "GET", path: `/s/${service}${query}` });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`service ${service} answered ${statusCode}`);
  return JSON.parse(text);
};

const server = fastify({ logger: false });
server.get("/fanout/:count", async (request, reply) => {
  const count = Number(request.params.count);
  if (!(Number.isInteger(count) && count >= 1 && count <= FANOUT_MAX)) return reply.code(404).send();
  const at = request.url.indexOf("?");
  const query = at < 0 ? "" : request.url.slice(at);
  const calls = Array.from({ length: count }, (_, service) => call(service, query));
  const merged = {};
  let arrived = 0;
  for (const [service, answer] of (await Promise.allSettled(calls)).entries()) {
    if (answer.status === "fulfilled") {
      merged[`s${service}`] = answer.value;
      arrived += 1;
    }
  }
  reply.code(arrived === 0 ? 502 : 200);
  reply.header("content-type", "application/json");
  reply.header("x-completed", arrived === count ? "true" : "false");
  return JSON.stringify(merged);
});

const address = option("--listen", "127.0.0.1:8080");
const [host, port] = address.split(":");
await server.listen({ host, port: Number(port) });
console.log(`listening ${address}`);
process.on("SIGTERM", () => process.exit(0));
