// Who is there, what that one may do, and which agents there are.
import { get, isDots, userPath } from "./api.js";

export const state = { caller: null, agents: [], user: read("console.user") ?? "" };

export const may = scope => state.caller?.scopes.includes(scope) ?? false;

/** Whether conversations can be had, and not only counted or listed. */
export const mayChat = () => may("user") || may("service");

/** The user on whose behalf: an authenticated one is who it is; else whoever is named, or nobody. */
export const actingFor = () => state.caller?.user_id ?? state.user;

export function actFor(user) {
  state.user = user;
  keep("console.user", user);
  document.dispatchEvent(new CustomEvent("user-changed"));
}

/** Asks who is there. */
export async function load() {
  const [caller, list] = await Promise.all([get("caller"), get("agents").catch(() => ({ agents: [] }))]);
  [state.caller, state.agents] = [caller, list.agents];
}

/** Where the sessions are that this one may list: a user's, or everybody's. */
export function listPath(user) {
  if (user && !isDots(user) && mayChat() && (!state.caller.user_id || user === state.caller.user_id))
    return { path: userPath(user, "sessions"), query: {} };
  if (may("read_all")) return { path: "sessions", query: user ? { user_id: user } : {} };
  return state.caller?.user_id ? { path: userPath(state.caller.user_id, "sessions"), query: {} } : null;
}

/** The page of a session, and whose it is. */
export const sessionAddress = (id, user) =>
  `#/sessions/${encodeURIComponent(id)}${user ? `?user=${encodeURIComponent(user)}` : ""}`;

/** Says whose session it must be, where that has to be said. */
export const ownerQuery = user => (state.caller?.auth_mode !== "none" && may("service") && user ? { user_id: user } : {});

export function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function keep(name, value) {
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // It is asked for again, then.
  }
}
