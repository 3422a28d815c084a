// Sessions: the list, narrowed if wanted, and the one that is open.
import { debounce, fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { actingFor, listPath, may, sessionAddress, state } from "./state.js";
import { showSession } from "./session-view.js";
import "./session-list.js";

const HOUR = 3_600_000;
const WITHIN = [
  ["", "any time"],
  [HOUR, "last hour"],
  [24 * HOUR, "last day"],
  [7 * 24 * HOUR, "last week"],
];
const EXPIRING = [
  ["", "whenever"],
  [HOUR, "within an hour"],
  [24 * HOUR, "within a day"],
];

class SessionsPage extends HTMLElement {
  #list = document.createElement("session-list");
  #view = h("section", { class: "session-view", "aria-label": "Session", tabindex: -1 });
  #filters = {};

  connectedCallback() {
    if (this.#view.isConnected) return;
    this.append(h("section", { class: "browse" }, h("header", {}, h("h1", {}, "Sessions")), this.#form(), this.#list), this.#view);
    this.#list.addEventListener("choose", event => {
      const { id, user } = event.detail;
      location.hash = sessionAddress(id, user);
    });
    this.addEventListener("gone", event => {
      if (event.detail.isOpen) location.hash = "#/sessions";
      this.#read();
    });
    document.addEventListener("user-changed", this.#onUser);
    this.#read();
  }

  disconnectedCallback() {
    document.removeEventListener("user-changed", this.#onUser);
  }

  #onUser = () => this.#read();

  /** Opens a session, or none. */
  open(id, params) {
    this.#list.chosen = id;
    this.classList.toggle("opened", Boolean(id));
    if (id) {
      fill(this.#view, showSession(id, params.get("user") ?? undefined, this));
      this.#view.scrollTop = 0;
      if (matchMedia("(max-width: 899px)").matches) this.#view.focus();
    } else {
      fill(this.#view, h("div", { class: "alone quiet" }, h("p", {}, "Choose a session to see what was said in it.")));
    }
  }

  #form() {
    const read = debounce(250, () => this.#read());
    const input = (name, label, props) =>
      h(
        "label",
        { class: "field" },
        h("span", {}, label),
        h("input", {
          type: "text",
          name,
          autocomplete: "off",
          spellcheck: "false",
          autocapitalize: "off",
          oninput: event => {
            this.#filters[name] = event.target.value.trim();
            read();
          },
          ...props,
        }),
      );
    const select = (name, label, options) =>
      h(
        "label",
        { class: "field" },
        h("span", {}, label),
        h(
          "select",
          {
            name,
            onchange: event => {
              this.#filters[name] = event.target.value;
              this.#read();
            },
          },
          options.map(([value, text]) => h("option", { value }, text)),
        ),
      );
    return h(
      "details",
      { class: "filters" },
      h("summary", {}, icon("filter"), h("span", {}, "Filter"), h("span", { class: "hint" })),
      h(
        "form",
        {
          role: "search",
          "aria-label": "Filter sessions",
          onsubmit: event => event.preventDefault(),
          onreset: () => {
            this.#filters = {};
            setTimeout(() => this.#read());
          },
        },
        !state.caller.user_id && input("user", "User"),
        select("agent", "Agent of the last turn", [["", "any"], ...state.agents.map(agent => [agent.name, agent.name])]),
        select("within", "Used", WITHIN),
        select("expiring", "Expiring", EXPIRING),
        select("failed", "Failures", [
          ["", "with or without"],
          ["true", "with failures"],
          ["false", "without"],
        ]),
        input("metadata", "Metadata", { placeholder: "topic=tea" }),
        h("button", { type: "reset", class: "button" }, "Clear"),
      ),
    );
  }

  #read() {
    const { user, agent, within, expiring, failed, metadata } = this.#filters;
    const where = listPath(user || (may("read_all") ? "" : actingFor()));
    const [key, ...value] = (metadata ?? "").split("=");
    const isByMetadata = key && value.length > 0;
    const chosen = [user, agent, within, expiring, failed, isByMetadata].filter(Boolean).length;
    fill(this.querySelector(".filters .hint"), chosen > 0 && `${chosen} set`);
    if (!where) {
      this.#list.source = null;
      fill(this.#list.lastChild, "Name a user, in the filter: this key does not list everybody's.");
      return;
    }
    const query = { ...where.query, agent_type: agent, failed };
    if (within) query.active_after = new Date(Date.now() - within).toISOString();
    if (expiring) query.expires_before = new Date(Date.now() + Number(expiring)).toISOString();
    if (isByMetadata) query[`metadata.${key}`] = value.join("=");
    this.#list.source = { path: where.path, query };
  }
}

customElements.define("sessions-page", SessionsPage);
