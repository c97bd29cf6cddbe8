// What the scripts about the chat share: the official client in both of its forms, tokens, the server's HTTP API, and
// lines that the test tells a script.
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import WebSocket from "ws";
import { createHmac, sign } from "node:crypto";
import { createInterface } from "node:readline";

export { Json, Protobuf, WebSocket };
const encoder = new TextEncoder(), decoder = new TextDecoder();
// A client of the Protobuf form takes and gives bytes: these are JSON for both.
export const encode = (form, value) => (form === "protobuf" ? encoder.encode(JSON.stringify(value)) : value);
export const decode = (form, value) => (form === "protobuf" ? JSON.parse(decoder.decode(value)) : value);

export const when = (emitter, event, which = () => true) =>
  new Promise(resolve => {
    const listener = context => {
      if (which(context)) {
        emitter.removeListener(event, listener);
        resolve(context);
      }
    };
    emitter.on(event, listener);
  });
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
// What browsers have and Node has not: as much of it as the client needs.
class EventSource {
  #abort = new AbortController();
  constructor(url) {
    this.#read(url).catch(error => this.#abort.signal.aborted || this.onerror(error));
  }
  async #read(url) {
    const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: this.#abort.signal });
    if (!response.ok || !response.headers.get("content-type").startsWith("text/event-stream")) throw new Error(response.status);
    this.onopen();
    const decoder = new TextDecoder();
    let text = "";
    for await (const piece of response.body) {
      const events = (text + decoder.decode(piece, { stream: true })).split("\n\n");
      text = events.pop();
      for (const event of events) this.onmessage({ data: event.trim().replace(/^data: /, "") });
    }
    throw new Error("ended");
  }
  close() {
    this.#abort.abort();
  }
}

// A client that is not connected yet.
export const make = (url, form, options = {}) => {
  const { data, ...others } = options;
  const given = { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 500, ...others };
  if (data !== undefined) given.data = encode(form, data);
  const [, transport, address] = /^(http_stream|sse)\+(.*)$/.exec(url) ?? [, "websocket", url];
  if (transport === "websocket") return new (form === "protobuf" ? Protobuf : Json)(address, given);
  const base = address.replace("ws://", "http://").replace("/connection/websocket", "");
  const emulated = { ...given, eventsource: EventSource, emulationEndpoint: `${base}/emulation` };
  const endpoint = `${base}/connection/${transport}`;
  return new (form === "protobuf" ? Protobuf : Json)([{ transport, endpoint }], emulated);
};
export const connect = async (url, form, options) => {
  const client = make(url, form, options);
  const connected = when(client, "connected"), ended = when(client, "disconnected");
  client.connect();
  const context = await Promise.race([connected, ended]);
  if (!context.client) throw new Error(`disconnected: ${context.code} ${context.reason}`);
  return [client, context];
};
export const subscribe = async (client, channel, options) => {
  const subscription = client.newSubscription(channel, options);
  const subscribed = when(subscription, "subscribed"), refused = when(subscription, "unsubscribed");
  subscription.subscribe();
  const context = await Promise.race([subscribed, refused]);
  if (context.code !== undefined) throw new Error(`unsubscribed: ${context.code} ${context.reason}`);
  return [subscription, context];
};
// What becomes of a client that is refused.
export const refusal = (url, form, options) => {
  const client = make(url, form, options);
  const ended = when(client, "disconnected");
  client.connect();
  return ended;
};
export const subscribeRefusal = (client, channel, options) => {
  const subscription = client.newSubscription(channel, options);
  const refused = when(subscription, "unsubscribed");
  subscription.subscribe();
  return refused;
};

export const now = () => Math.floor(Date.now() / 1000);
const part = value => Buffer.from(JSON.stringify(value)).toString("base64url");
// A token, signed with a secret (HS256) or by a key's algorithm.
export const token = (claims, secret) => {
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
};
export const signedToken = (claims, alg, key, kid) => {
  const signed = `${part({ alg, typ: "JWT", ...(kid && { kid }) })}.${part(claims)}`;
  const hash = alg === "EdDSA" ? null : `sha${alg.slice(2)}`;
  const signature = sign(hash, Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
};

// A call of the server's HTTP API.
export const caller = (url, key) => async (method, body = {}) => {
  const at = url.replace("ws://", "http://").replace("/connection/websocket", `/api/${method}`);
  const headers = { "X-API-Key": key, "Content-Type": "application/json" };
  const response = await fetch(at, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
};

// Lines from the test.
const lines = [], waiting = [];
export const listen = () =>
  createInterface({ input: process.stdin }).on("line", line => {
    lines.push(line);
    waiting.splice(0).forEach(wake => wake());
  });
export const hear = async what => {
  for (;;) {
    const line = lines.shift();
    if (line === undefined) await new Promise(resolve => waiting.push(resolve));
    else if (line.startsWith(what)) return line.slice(what.length).trim();
    else throw new Error(`expected ${what}, heard ${line}`);
  }
};
export const say = line => console.log(line);

// Runs a scenario: in time, or not at all.
export const scenario = async (name, seconds, body) => {
  const deadline = setTimeout(() => {
    console.error(`${name}: timed out`);
    process.exit(1);
  }, seconds * 1000);
  process.on("unhandledRejection", error => {
    console.error(`${name}:`, error);
    process.exit(1);
  });
  try {
    await body();
  } catch (error) {
    console.error(`${name}:`, error);
    process.exit(1);
  }
  clearTimeout(deadline);
  process.stdout.write(`ok\n${name}: ok\n`, () => process.exit(0));
};
