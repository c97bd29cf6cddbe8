// What both pages share: asking the API, and saying numbers and troubles in words.

export const $ = id => document.getElementById(id);

let key = sessionStorage.getItem("annulus-key") || "";

/** Remembers an API key for as long as the tab is open. */
export const useKey = text => {
  key = text;
  sessionStorage.setItem("annulus-key", text);
};

export const headers = more => ({ ...(key && { authorization: `Bearer ${key}` }), ...more });

/** A refusal of the server, as its problem document says it. */
export class Refusal extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    Object.assign(this, { status, title: problem.title, retryAfter });
  }
}

/** The refusal that an answer's text is. */
export const refusal = (status, text, retryAfter) => {
  let problem = {};
  try { problem = JSON.parse(text); } catch { /* Somebody in between answered. */ }
  return new Refusal(status, problem, Number(retryAfter) || 0);
};

/** Asks the API. Throws a Refusal, or a TypeError where the server cannot be reached. */
export const ask = async (path, options = {}) => {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (!answer.ok) throw refusal(answer.status, await answer.text(), answer.headers.get("retry-after"));
  return answer;
};

export const bytes = count => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) { count /= 1000; at++; }
  return `${at && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
};

export const time = ms => {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 90_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  return ms < 5_400_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
};

/** An element with a text. */
export const element = (name, text, properties = {}) =>
  Object.assign(document.createElement(name), { textContent: text }, properties);
