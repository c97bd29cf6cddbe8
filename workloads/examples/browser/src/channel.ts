import type { Centrifuge, Subscription, SubscriptionOptions } from "centrifuge";
import { type Catalogue, readers } from "./catalogue";

/** Who said it, and where it is in the channel's history. */
export interface Place {
  user: string;
  offset: number;
}

/** A channel whose messages have a type. */
export class Channel<Message> {
  private readonly subscription: Subscription;
  private readonly read: (data: unknown) => Message | null;
  private epoch: string | undefined;

  /** Something was said. Each message once, in order, also those that were missed while the connection was away. */
  onMessage: (message: Message, place: Place) => void = () => {};
  /** What was missed cannot be told any more: it was away for longer than the history goes back. Load what is shown anew. */
  onGap: () => void = () => {};
  /** Somebody said what such a channel does not carry. */
  onStrange: (data: unknown) => void = data => console.warn("a message of no known kind", data);

  private constructor(subscription: Subscription, read: (data: unknown) => Message | null) {
    this.subscription = subscription;
    this.read = read;
    subscription.on("publication", ({ data, info, offset }) => {
      const message = this.read(data);
      if (message === null) return this.onStrange(data);
      this.onMessage(message, { user: info?.user ?? "", offset: offset ?? 0 });
    });
    subscription.on("subscribed", ({ wasRecovering, recovered, streamPosition }) => {
      const isAnotherLife = this.epoch !== undefined && this.epoch !== streamPosition?.epoch;
      this.epoch = streamPosition?.epoch;
      if ((wasRecovering && !recovered) || isAnotherLife) this.onGap();
    });
  }

  /** The channel `KIND:NAME`. It is listened to from `open` on. */
  static of<Kind extends keyof Catalogue>(
    centrifuge: Centrifuge, kind: Kind, name: string, options: Partial<SubscriptionOptions> = {},
  ): Channel<Catalogue[Kind]> {
    const subscription = centrifuge.newSubscription(`${kind}:${name}`, { recoverable: true, positioned: true, ...options });
    return new Channel<Catalogue[Kind]>(subscription, readers[kind]);
  }

  open(): void {
    this.subscription.subscribe();
  }

  /** Ends when the server has promised to keep it; fails when the connection is lost before that is known. */
  async publish(message: Message): Promise<void> {
    await this.subscription.publish(message);
  }

  /** The newest messages that the channel keeps, oldest first. */
  async latest(limit: number): Promise<[Message, Place][]> {
    const { publications } = await this.subscription.history({ limit, reverse: true });
    return publications.reverse().flatMap(({ data, info, offset }): [Message, Place][] => {
      const message = this.read(data);
      return message === null ? [] : [[message, { user: info?.user ?? "", offset: offset ?? 0 }]];
    });
  }
}
