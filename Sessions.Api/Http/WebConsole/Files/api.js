// Calls of the API that anybody can make: docs/api.md. The console has no others.

/** Where the API is: one folder above the console's. */
const base = new URL("../", document.baseURI);

let key = readKey();

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? (status ? `The server answered with status ${status}.` : "The server can't be reached."));
    this.status = status;
    this.code = problem?.code ?? (status ? "unknown" : "unreachable");
    this.problem = problem;
  }

  /** Whether the same request, with the same key, would be told the same again. */
  isFinal = false;
}

// In this tab alone, and gone with it.
function readKey() {
  try {
    return sessionStorage.getItem("console.key");
  } catch {
    return null;
  }
}

export const hasKey = () => key !== null;

export function useKey(text) {
  key = text;
  try {
    if (text === null) sessionStorage.removeItem("console.key");
    else sessionStorage.setItem("console.key", text);
  } catch {
    // It lasts as long as the page, then.
  }
}

// Sends a request and gives the response, whatever its status is.
async function send(method, path, { body, headers, signal, query } = {}) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  try {
    return await fetch(url, {
      method,
      signal,
      cache: "no-store",
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0);
  }
}

// Makes an error of a response that is one.
async function refusal(response) {
  let problem;
  try {
    problem = await response.json();
  } catch {
    // Not of this server: a proxy's.
  }
  const error = new ApiError(response.status, problem);
  error.isFinal = response.headers.get("x-should-retry") === "false" || error.code === "idempotency_key_reused";
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signed-out", { detail: error }));
  return error;
}

/** Sends a request and gives the response, which is no refusal. */
export async function request(method, path, options) {
  const response = await send(method, path, options);
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Sends a request and gives what came back as JSON. */
export async function call(method, path, options) {
  const response = await request(method, path, { ...options, headers: { Accept: "application/json", ...options?.headers } });
  return response.json();
}

export const get = (path, query, options) => call("GET", path, { query, ...options });

// A browser reads these as "here" and "one up", also where they are encoded. No session and no user has such an id.
export const isDots = id => id === "." || id === "..";

function segment(id) {
  if (isDots(id)) throw new ApiError(404, { code: "not_found", detail: "Nothing has this id." });
  return encodeURIComponent(id);
}

/** The path of a session, or of something of it; ids are free in what they hold. */
export const sessionPath = (id, rest = "") => `sessions/${segment(id)}${rest}`;

export const userPath = (id, rest) => `users/${segment(id)}/${rest}`;

/** Health is told in the body also where it is bad. */
export async function health() {
  const response = await send("GET", "health");
  return response.json();
}

/** Saves text as a file. */
export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
