// A turn, asked for and heard to its end: over lost connections, restarts of the server and reloads of the page.
import { ApiError, health, request } from "./api.js";
import { state } from "./state.js";

const PENDING = "console.pending";
const LONGEST_PAUSE = 10_000;
const MAX_TRIES = 40;

// A turn that the server began and could not finish is run anew, which costs as much again.
const MAX_RUNS = 3;
const UNFINISHED = new Set(["shutting_down", "storage_unavailable"]);

// A tab may be opened again days later: what was asked then is in the history, and is not to be asked anew.
const PENDING_FOR = 3_600_000;

/** Reads server-sent events as they come. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
        const event = {};
        for (const line of rest.slice(0, end).split("\n")) {
          const colon = line.indexOf(": ");
          if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
        }
        if (event.event) yield { id: event.id, name: event.event, data: JSON.parse(event.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A turn that runs. Tells of `change` whenever there is more to show, of `begin` when it begins to run, and of `end` once. The
 * idempotency key makes it safe to ask again: the server joins the running turn, or gives the answer it has kept.
 */
export class TurnStream extends EventTarget {
  text = "";
  items = [];
  turn = null;
  sessionId = null;
  result = null;
  error = null;
  isLost = false;
  isHalted = false;
  #isLeft = false;
  #lastId = null;
  #unfinished = null;
  #runs = 1;
  #stop = new AbortController();

  constructor(body, key = newKey()) {
    super();
    this.body = body;
    this.key = key;
    this.sessionId = body.thread_id ?? null;
  }

  /** The turn that this tab was waiting for when it was reloaded. */
  static pending() {
    try {
      const { body, key, sessionId, by, at } = JSON.parse(sessionStorage.getItem(PENDING) ?? "{}");
      if (!body || !key || by !== state.caller.user_id || !(Date.now() - at < PENDING_FOR)) return null;
      const stream = new TurnStream(body, key);
      stream.sessionId = sessionId;
      return stream;
    } catch {
      return null;
    }
  }

  /** It is not waited for any more: of one session, where it is named. Else a reload would ask for it again, and make what was deleted. */
  static forget(sessionId) {
    if (sessionId && TurnStream.pending()?.sessionId !== sessionId) return;
    remember(null);
  }

  /**
   * The same once more. With the same key, also where it is not known what became of the turn: else it could be made twice. Only what
   * is known to have failed for good takes a new one.
   */
  again() {
    const next = this.error.isFinal
      ? new TurnStream({ ...this.body, thread_id: this.sessionId ?? undefined })
      : new TurnStream(this.body, this.key);
    next.sessionId = this.sessionId;
    return next;
  }

  /**
   * It is to be stopped. While it has not begun another's turn may run, which would be stopped in its place: then whoever hears of
   * `begin` stops it. To hang up would not do: a query that waits is answered also when its client has gone.
   */
  halt() {
    this.isHalted = true;
    this.#tell("change");
  }

  /** Nobody looks any more; the turn itself goes on. One that is to be stopped is heard until it has begun, and is not found again. */
  leave() {
    this.#isLeft = true;
    if (this.isHalted) remember(null);
    if (!this.isHalted || this.turn !== null) this.#stop.abort();
  }

  async run() {
    this.#remember();
    for (let tries = 0, pause = 500; !this.result && !this.error; tries++) {
      try {
        await this.#hear(() => {
          tries = 0;
          pause = 500;
        });
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (!this.#mayPass(error) || tries >= MAX_TRIES) this.error = error;
      }
      if (this.result || this.error) break;
      this.isLost = true;
      this.#tell("change");
      await new Promise(resolve => setTimeout(resolve, pause));
      pause = Math.min(2 * pause, LONGEST_PAUSE);
      if (this.#stop.signal.aborted) return;
    }
    if (!this.#isLeft) remember(null);
    this.#tell("end");
  }

  #mayPass(error) {
    if (!(error instanceof ApiError)) return true;
    if (error.isFinal) return false;
    if (error === this.#unfinished) return !this.isHalted && UNFINISHED.has(error.code) && this.#runs++ < MAX_RUNS;
    if (error.code === "idempotency_in_progress") return true;
    // Of a proxy, which does not know what became of it.
    if (!error.problem) return [0, 502, 503, 504].includes(error.status);
    return error.status === 503 && !this.isHalted;
  }

  async #hear(onAnswer) {
    // What tools have done is not to be done twice, and the event does not say whether any did. So where there are tools it stays ended.
    if (this.#unfinished && (this.isHalted || "tools" in (await health()).checks)) {
      this.error = this.#unfinished;
      return;
    }
    const response = await request("POST", "query", {
      body: { ...this.body, stream: true },
      headers: { Accept: "text/event-stream", "Idempotency-Key": this.key, ...(this.#lastId ? { "Last-Event-ID": this.#lastId } : {}) },
      signal: this.#stop.signal,
    });
    this.#unfinished = null;
    const isOver = response.headers.has("Idempotency-Replayed");
    for await (const event of readEvents(response.body)) {
      if (event.name !== "error") onAnswer();
      // Another stream: that of the turn that was asked for again. It tells everything from the start.
      if (this.#lastId?.split(":")[0] !== event.id.split(":")[0]) [this.text, this.items] = ["", []];
      this.#lastId = event.id;
      this.isLost = false;
      this.#take(event);
      if (event.name === "session" && !isOver) this.#tell("begin");
      this.#tell("change");
    }
  }

  #take({ name, data }) {
    switch (name) {
      case "session":
        this.sessionId = data.thread_id;
        this.turn = data.turn;
        this.#remember();
        break;
      case "delta":
        this.text += data.text;
        break;
      case "item":
        this.items.push(data);
        break;
      case "done":
        this.result = data;
        break;
      case "error":
        this.#fail(new ApiError(data.status, data));
        break;
    }
  }

  // The turn has ended, and nothing of it was kept; unless the store went away while it was being kept.
  #fail(error) {
    error.isFinal = error.status !== 500 && error.status !== 503;
    [this.#unfinished, this.turn, this.#lastId] = [error, null, null];
    throw error;
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  #remember() {
    if (this.#isLeft) return;
    remember({ body: this.body, key: this.key, sessionId: this.sessionId, by: state.caller.user_id, at: Date.now() });
  }
}

function remember(pending) {
  try {
    if (pending) sessionStorage.setItem(PENDING, JSON.stringify(pending));
    else sessionStorage.removeItem(PENDING);
  } catch {
    // A reload does not find it, then; the session's history does.
  }
}
