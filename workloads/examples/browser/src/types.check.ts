// What must not compile: `npm run check` fails if one of these lines is no error.
import { Centrifuge } from "centrifuge";
import { Channel } from "./channel";

const centrifuge = new Centrifuge("ws://127.0.0.1:8000/connection/websocket");

// @ts-expect-error There is no such kind of channel.
Channel.of(centrifuge, "rooms", "parlour");
// @ts-expect-error A message without an id would be published twice when it is said again.
void Channel.of(centrifuge, "room", "parlour").publish({ text: "hello" });
// @ts-expect-error A board is not said in a room.
void Channel.of(centrifuge, "room", "parlour").publish({ title: "a match", scores: {} });
Channel.of(centrifuge, "board", "final").onMessage = ({ scores }) => {
  // @ts-expect-error Scores are numbers.
  const first: string | undefined = scores.first;
  return first;
};
