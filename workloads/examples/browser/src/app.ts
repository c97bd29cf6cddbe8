import { Centrifuge } from "centrifuge";
import { Channel } from "./channel";
import { Outbox } from "./outbox";
import type { Said } from "./catalogue";

const query = new URLSearchParams(location.search);
const server = query.get("server") ?? "ws://127.0.0.1:8000/connection/websocket";
const user = query.get("user") ?? "somebody";
const room = query.get("room") ?? "parlour";

const element = <E extends HTMLElement>(id: string): E => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as E;
};
const state = element("state"), messages = element<HTMLOListElement>("messages"), board = element("board");
const write = element<HTMLFormElement>("write"), text = element<HTMLInputElement>("text");

// In earnest: `getToken: async () => (await fetch("/token")).text()` instead of `data`.
const centrifuge = new Centrifuge(server, { data: { user }, minReconnectDelay: 500, maxReconnectDelay: 20_000 });

// What is there, by the id of each message: what was said is shown at once, and found again when it comes back.
const shown = new Map<string, HTMLLIElement>();
const show = ({ id, text }: Said, who: string): HTMLLIElement => {
  const known = shown.get(id);
  if (known) return known;
  const line = document.createElement("li");
  line.textContent = `${who}: ${text}`;
  shown.set(id, line);
  messages.append(line);
  return line;
};

const said = Channel.of(centrifuge, "room", room);
said.onMessage = (message, { user }) => { show(message, user).dataset.fate = "kept"; };
said.onGap = async () => {
  messages.replaceChildren();
  shown.clear();
  for (const [message, { user }] of await said.latest(100)) show(message, user).dataset.fate = "kept";
};

const stands = Channel.of(centrifuge, "board", room, { delta: "fossil", since: { offset: 0, epoch: "" } });
stands.onMessage = ({ title, scores }) => {
  board.textContent = `${title}: ${Object.entries(scores).map(([name, score]) => `${name} ${score}`).join(", ")}`;
};

const outbox = new Outbox<Said>(message => said.publish(message), () => centrifuge.state === "connected");
centrifuge.on("state", ({ newState }) => {
  state.textContent = { connected: "connected", connecting: "connecting ...", disconnected: "disconnected" }[newState];
  state.dataset.state = newState;
});
centrifuge.on("connected", () => void outbox.go());
centrifuge.on("disconnected", ({ code, reason }) => { state.textContent = `disconnected: ${reason} (${code})`; });

write.addEventListener("submit", event => {
  event.preventDefault();
  const message: Said = { id: crypto.randomUUID(), text: text.value };
  text.value = "";
  const line = show(message, user);
  outbox.say(message, (fate, why) => {
    line.dataset.fate = fate;
    line.title = why ?? "";
  });
});

said.open();
stands.open();
centrifuge.connect();
