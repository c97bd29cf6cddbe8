/** What may become of something that was said. */
export type Fate = "waits" | "kept" | "refused";

interface Waiting<Message> {
  message: Message;
  told: (fate: Fate, why?: string) => void;
}

/** Codes with which the server means "later": an internal error, too many requests. */
const LATER = new Set([100, 111]);

/**
 * Says things one after the other, over lost connections: what the server has not acknowledged is said again. That is safe because
 * each message has an id of its own, and the server makes no second publication of one (`idempotency_field`).
 */
export class Outbox<Message> {
  private readonly waiting: Waiting<Message>[] = [];
  private isBusy = false;

  constructor(
    private readonly publish: (message: Message) => Promise<void>,
    private readonly isConnected: () => boolean,
    private readonly pauseMs = 1000,
  ) {}

  say(message: Message, told: (fate: Fate, why?: string) => void): void {
    this.waiting.push({ message, told });
    told("waits");
    void this.go();
  }

  /** To be called when the connection is back. */
  async go(): Promise<void> {
    if (this.isBusy) return;
    this.isBusy = true;
    try {
      for (let next = this.waiting[0]; next && this.isConnected(); next = this.waiting[0]) {
        try {
          await this.publish(next.message);
          next.told("kept");
        } catch (error) {
          const { code, message } = error as { code?: number; message?: string };
          // Codes of the server begin at 100; below are the client's own: not connected, timed out.
          if (code === undefined || code < 100 || LATER.has(code)) {
            await new Promise(resolve => setTimeout(resolve, this.pauseMs));
            continue;
          }
          next.told("refused", message);
        }
        this.waiting.shift();
      }
    } finally {
      this.isBusy = false;
    }
  }
}
