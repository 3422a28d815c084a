// A list of sessions of any length: what is in sight is on the page, what is near is in memory, and the rest is asked for again.
import { fill, h, newId } from "./dom.js";
import { get } from "./api.js";
import { fromNow, plural, shortTime } from "./format.js";

const ROW = 66;
const PAGE = 50;
const KEPT_PAGES = 8;
const EMPTY_PAGES = 5;

/** Tells of `choose` with a session. */
class SessionList extends HTMLElement {
  #box = h("div", { class: "rows", role: "listbox", tabindex: 0, "aria-label": "Sessions" });
  #space = h("div", { class: "space", role: "presentation" });
  #note = h("p", { class: "quiet list-note", role: "status" });
  #rows = new Map();
  #pages = [];
  #next;
  #total = 0;
  #active = -1;
  #chosen = null;
  #source = null;
  #busy = null;
  #empty = 0;
  #hasFailed = false;
  #name = newId("row");

  connectedCallback() {
    if (this.#box.isConnected) return;
    this.#box.append(this.#space);
    this.append(this.#box, this.#note);
    this.#box.addEventListener("scroll", () => this.#show(), { passive: true });
    this.#box.addEventListener("keydown", event => this.#key(event));
    new ResizeObserver(() => this.#show()).observe(this.#box);
  }

  /** Which list it is: a path and what narrows it; or none. */
  set source(source) {
    this.#source = source;
    [this.#pages, this.#next, this.#total, this.#active, this.#empty, this.#busy] = [[], undefined, 0, -1, 0, null];
    this.#hasFailed = false;
    this.#box.removeAttribute("aria-busy");
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.#box.scrollTop = 0;
    this.#more();
  }

  /** Which session is open. */
  set chosen(id) {
    this.#chosen = id;
    for (const [index, row] of this.#rows) this.#mark(row, index);
  }

  // The next page; one that was let go of is asked for by the same cursor.
  async #more(page) {
    if (this.#busy || !this.#source || (!page && this.#next === null)) return;
    const source = this.#source;
    this.#busy = page ?? true;
    this.#box.setAttribute("aria-busy", "true");
    this.#hasFailed = false;
    this.#say("Loading…");
    try {
      const after = page ? page.after : this.#next;
      const answer = await get(source.path, { ...source.query, limit: PAGE, after });
      if (source !== this.#source) return;
      if (page) {
        page.rows = answer.sessions.slice(0, page.size).map(lean);
      } else {
        this.#next = answer.next ?? null;
        this.#empty = answer.sessions.length === 0 ? this.#empty + 1 : 0;
        if (answer.sessions.length > 0)
          this.#pages.push({ after, first: this.#total, size: answer.sessions.length, rows: answer.sessions.map(lean) });
        this.#total += answer.sessions.length;
      }
      this.#say("");
    } catch (error) {
      if (source !== this.#source) return;
      this.#hasFailed = true;
      this.#offer("Try again", () => this.#more(page), h("span", {}, error.message));
    }
    this.#busy = null;
    this.#box.removeAttribute("aria-busy");
    this.#show();
    if (this.#total === 0 && this.#next === null && !this.#note.textContent) this.#say("There are none.");
  }

  #say(text) {
    fill(this.#note, text);
  }

  #offer(action, onclick, ...why) {
    fill(this.#note, why, " ", h("button", { type: "button", class: "button", onclick }, action));
  }

  #show() {
    if (!this.#source || this.#box.clientHeight === 0) return;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / ROW) - 4);
    const last = Math.min(this.#total, Math.ceil((this.#box.scrollTop + this.#box.clientHeight) / ROW) + 4);
    this.#space.style.height = `${this.#total * ROW}px`;
    for (const [index, row] of this.#rows) {
      if (index < first || index >= last || ("empty" in row.dataset && this.#at(index))) {
        row.remove();
        this.#rows.delete(index);
      }
    }
    for (let index = first; index < last; index++) {
      if (!this.#rows.has(index)) {
        const row = this.#row(index);
        this.#rows.set(index, row);
        this.#space.append(row);
      }
    }
    this.#tidy(first, last);
    if (this.#hasFailed) return;
    const missing = this.#pages.find(page => !page.rows && page.first < last && page.first + page.size > first);
    if (missing) this.#more(missing);
    else if (last >= this.#total - PAGE / 2 && this.#next !== null) {
      if (this.#empty < EMPTY_PAGES) this.#more();
      else
        this.#offer("Nothing among these; look further", () => {
          this.#empty = 0;
          this.#more();
        });
    }
  }

  #tidy(first, last) {
    const near = page => page.first < last + (KEPT_PAGES / 2) * PAGE && page.first + page.size > first - (KEPT_PAGES / 2) * PAGE;
    for (const page of this.#pages) if (page.rows && !near(page)) page.rows = null;
  }

  #at(index) {
    const page = this.#pages.find(known => index >= known.first && index < known.first + known.size);
    return page?.rows?.[index - page.first];
  }

  #row(index) {
    const session = this.#at(index);
    const row = h(
      "div",
      {
        class: "row-item",
        role: "option",
        id: `${this.#name}-${index}`,
        "aria-posinset": index + 1,
        "aria-setsize": this.#next === null ? this.#total : -1,
        onclick: () => {
          this.#activate(index);
          this.#choose(index);
        },
        "data-empty": session ? undefined : true,
      },
      session
        ? [
            h(
              "span",
              { class: "line" },
              h("span", { class: "name", dir: "auto" }, session.name),
              h("time", { datetime: session.active, title: `Expires ${fromNow(session.expires)}` }, shortTime(session.active)),
            ),
            h(
              "span",
              { class: "line small" },
              h("span", { class: "who", dir: "auto" }, session.user ?? "nobody"),
              h("span", {}, [session.agent, plural(session.turns, "turn")].filter(Boolean).join(" · ")),
              session.errors > 0 && h("span", { class: "chip bad" }, plural(session.errors, "failure")),
            ),
          ]
        : h("span", { class: "quiet" }, "…"),
    );
    row.style.transform = `translateY(${index * ROW}px)`;
    this.#mark(row, index);
    return row;
  }

  #mark(row, index) {
    const session = this.#at(index);
    row.setAttribute("aria-selected", String(Boolean(session) && session.id === this.#chosen));
    row.classList.toggle("active", index === this.#active);
  }

  #key(event) {
    const screen = Math.max(1, Math.floor(this.#box.clientHeight / ROW) - 1);
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: screen, PageUp: -screen, Home: -Infinity, End: Infinity }[event.key];
    if (move !== undefined) {
      event.preventDefault();
      if (this.#total > 0) this.#activate(Math.max(0, Math.min(this.#total - 1, this.#active + move)));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#choose(this.#active);
    }
  }

  #activate(index) {
    this.#active = index;
    if (index * ROW < this.#box.scrollTop) this.#box.scrollTop = index * ROW;
    else if ((index + 1) * ROW > this.#box.scrollTop + this.#box.clientHeight)
      this.#box.scrollTop = (index + 1) * ROW - this.#box.clientHeight;
    this.#show();
    for (const [at, row] of this.#rows) this.#mark(row, at);
    this.#box.setAttribute("aria-activedescendant", `${this.#name}-${index}`);
  }

  #choose(index) {
    const session = this.#at(index);
    if (session) this.dispatchEvent(new CustomEvent("choose", { detail: session }));
  }
}

// What a row shows: the rest of a session is not kept.
const lean = session => ({
  id: session.session_id,
  user: session.user_id,
  name: session.metadata.last_query || session.session_id,
  agent: session.metadata.last_agent_type,
  turns: session.metadata.query_count,
  errors: session.context.error_count,
  active: session.last_activity_at,
  expires: session.expires_at,
});

customElements.define("session-list", SessionList);
