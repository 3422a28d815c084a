// The sessions of late, beside the chat.
import { fill, h } from "./dom.js";
import { get } from "./api.js";
import { shortTime } from "./format.js";
import { actingFor, listPath, state } from "./state.js";

const SHOWN = 30;

/** Where a session is in the chat, and whose it is: also nobody's, for it stays so when somebody acts for another meanwhile. */
export const chatAddress = (id, user) =>
  `#/chat/${encodeURIComponent(id)}${state.caller.user_id ? "" : `?user=${encodeURIComponent(user ?? "")}`}`;

export class RecentSessions {
  element = h("ol", { class: "recent-list" });
  #asked = 0;

  /** Shows them as they are now, and which one is open. */
  async show(open) {
    const asked = ++this.#asked;
    this.#mark(open);
    const where = listPath(actingFor());
    if (!where) {
      fill(this.element, h("li", { class: "quiet empty" }, "Those of a user are listed, once one is named."));
      return;
    }
    try {
      const page = await get(where.path, { ...where.query, limit: SHOWN });
      if (asked !== this.#asked) return;
      fill(
        this.element,
        page.sessions.map(entry),
        page.sessions.length === 0 && h("li", { class: "quiet empty" }, "Nothing was said yet."),
      );
      this.#mark(open);
    } catch (error) {
      if (asked !== this.#asked) return;
      fill(this.element, h("li", { class: "quiet empty" }, error.message));
    }
  }

  #mark(open) {
    for (const link of this.element.querySelectorAll("a")) {
      if (link.dataset.session === open) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
}

const entry = session =>
  h(
    "li",
    {},
    h(
      "a",
      { href: chatAddress(session.session_id, session.user_id), "data-session": session.session_id },
      h("span", { class: "name", dir: "auto" }, session.metadata.last_query || session.session_id),
      h("time", { datetime: session.last_activity_at }, shortTime(session.last_activity_at)),
    ),
  );
