// Requests to the desk.

/** What the desk refused, in its own words. */
export class Refusal extends Error {
  constructor(status, body) {
    super(body.error || `The desk answers ${status}.`);
    this.status = status;
    this.code = body.code || "";
    this.body = body;
  }
}

let onSignedOut = () => {};

/** fn is called whenever the desk does not know the person any more. */
export function signedOut(fn) {
  onSignedOut = fn;
}

/** Asks the desk and returns its JSON; throws a Refusal, or a TypeError where it cannot be reached. */
export async function request(method, path, body) {
  const options = { method, cache: "no-store", headers: { Accept: "application/json" } };
  if (method !== "GET") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  const reply = await fetch(path, options);
  if (reply.status === 204) return null;
  const answer = await reply.json().catch(() => ({}));
  if (reply.ok) return answer;
  if (reply.status === 401 && path !== "/api/signin" && path !== "/api/me") onSignedOut(answer);
  throw new Refusal(reply.status, answer);
}

export const get = path => request("GET", path);
export const post = (path, body) => request("POST", path, body);

/** An error as a sentence. */
export function sentence(err) {
  if (err instanceof Refusal) {
    const text = err.message[0].toUpperCase() + err.message.slice(1);
    return /[.?!]$/.test(text) ? text : `${text}.`;
  }
  if (err instanceof TypeError) return "The desk cannot be reached.";
  return String(err.message || err);
}

export const callPath = (tenant, id) => `/api/calls/${encodeURIComponent(tenant)}/${encodeURIComponent(id)}`;
export const callHash = (tenant, id) => `#/call/${encodeURIComponent(tenant)}/${encodeURIComponent(id)}`;
