// What each kind of channel carries. Both ends of every message go by this file: a name that is not here does not compile, and
// what comes over the network is checked before it has a type.

/** Somebody said something. `id` is drawn by who says it: the server makes no second publication of the same (`idempotency_field`). */
export interface Said {
  id: string;
  text: string;
}

/** Where something stands: only the newest matters. */
export interface Board {
  title: string;
  scores: Record<string, number>;
}

/** Kinds of channels, as the part of a channel's name before the colon. */
export interface Catalogue {
  room: Said;
  board: Board;
}

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** What a publication's data is, or nothing if it is not what such a channel carries. */
export const readers: { [K in keyof Catalogue]: (data: unknown) => Catalogue[K] | null } = {
  room: data =>
    isFields(data) && typeof data.id === "string" && typeof data.text === "string"
      ? { id: data.id, text: data.text }
      : null,
  board: data => {
    if (!isFields(data) || typeof data.title !== "string" || !isFields(data.scores)) return null;
    const scores: Record<string, number> = {};
    for (const [name, score] of Object.entries(data.scores)) {
      if (typeof score !== "number") return null;
      scores[name] = score;
    }
    return { title: data.title, scores };
  },
};
