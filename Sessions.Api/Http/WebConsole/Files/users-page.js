// A user: what was used, by agent and day; export and erasure.
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { call, get, request, save, userPath } from "./api.js";
import { actingFor, state } from "./state.js";
import { barChart } from "./charts.js";
import { TurnStream } from "./stream.js";
import { count, duration, plural } from "./format.js";
import { button, confirmRemoval, problemBox, say } from "./dialogs.js";

const DAYS = 30;
const MEASURES = [
  ["turns", "Turns", day => day.turns],
  ["tokens", "Tokens", day => day.input_tokens + day.output_tokens],
];

class UsersPage extends HTMLElement {
  #body = h("div", { class: "user" });
  #input = h("input", { type: "text", name: "user", autocomplete: "off", spellcheck: "false", autocapitalize: "off", required: true });
  #measure = MEASURES[0];
  #user = "";

  connectedCallback() {
    if (this.#body.isConnected) return;
    this.append(
      h(
        "div",
        { class: "page" },
        h("header", {}, h("h1", {}, "Users"), h("p", { class: "quiet" }, "What one user has, and has used.")),
        !state.caller.user_id &&
          h(
            "form",
            {
              class: "row find",
              onsubmit: event => {
                event.preventDefault();
                location.hash = `#/users/${encodeURIComponent(this.#input.value.trim())}`;
              },
            },
            h("label", { class: "field" }, h("span", {}, "User"), this.#input),
            h("button", { type: "submit", class: "button primary" }, "Show"),
          ),
        this.#body,
      ),
    );
  }

  /** Shows a user. */
  open(id) {
    const user = state.caller.user_id ?? id ?? actingFor();
    this.#input.value = this.#user = user;
    fill(this.#body);
    if (user) this.#show(user);
  }

  async #show(user) {
    this.#body.setAttribute("aria-busy", "true");
    try {
      const usage = await get(userPath(user, "usage"), { days: DAYS });
      if (user !== this.#user) return;
      const chart = h("div");
      const draw = () => fill(chart, this.#chart(usage));
      draw();
      fill(
        this.#body,
        h("h2", { dir: "auto" }, user),
        h(
          "p",
          { class: "row actions" },
          h("a", { class: "button", href: `#/chat?user=${encodeURIComponent(user)}` }, icon("chat"), "New conversation"),
          button("download", "Export everything", () => exportUser(user)),
          button("trash", "Erase everything", () => erase(user, () => user === this.#user && this.#show(user)), "danger-quiet"),
        ),
        h(
          "section",
          { class: "panel" },
          h(
            "header",
            { class: "row" },
            h("h3", {}, `The last ${DAYS} days`),
            h(
              "span",
              { class: "switch", role: "group", "aria-label": "What is counted" },
              MEASURES.map(measure =>
                h(
                  "button",
                  {
                    type: "button",
                    class: "button",
                    "aria-pressed": String(measure === this.#measure),
                    onclick: event => {
                      this.#measure = measure;
                      for (const other of event.currentTarget.parentElement.children)
                        other.setAttribute("aria-pressed", String(other === event.currentTarget));
                      draw();
                    },
                  },
                  measure[1],
                ),
              ),
            ),
          ),
          chart,
          !usage.is_complete && h("p", { class: "note" }, "There is more than is counted at once: this is the newest part."),
          h(
            "p",
            { class: "quiet small" },
            "Counted from the turns that are kept: what has expired or was deleted is in no number. Days are UTC's.",
          ),
        ),
        usage.days.length > 0 && table(usage),
      );
    } catch (error) {
      if (user !== this.#user) return;
      fill(this.#body, problemBox(error));
    }
    this.#body.removeAttribute("aria-busy");
  }

  #chart(usage) {
    const [, label, read] = this.#measure;
    const names = [...new Set(usage.days.map(day => day.agent_type))].slice(0, 12);
    const days = Array.from({ length: DAYS }, (_, i) => {
      const date = new Date(new Date(usage.from).getTime() + i * 86_400_000).toISOString().slice(0, 10);
      return { label: date, parts: usage.days.filter(day => day.date === date).map(day => [day.agent_type, read(day)]) };
    });
    const total = usage.days.reduce((sum, day) => sum + read(day), 0);
    return [
      h(
        "p",
        { class: "now" },
        h("span", { class: "first" }, count(total)),
        " ",
        label.toLowerCase(),
        h("span", { class: "quiet" }, ` in ${plural(usage.sessions, "session")}`),
      ),
      barChart(`${label} of the last ${DAYS} days: ${count(total)}`, days, names, count),
    ];
  }
}

function table(usage) {
  return h(
    "div",
    { class: "table", tabindex: 0, role: "region", "aria-label": "Usage by day and agent" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Day", "Agent", "Turns", "Read", "Written", "Agent's time"].map((text, i) =>
            h("th", { scope: "col", class: i > 1 ? "right" : undefined }, text),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        usage.days
          .toReversed()
          .map(day =>
            h(
              "tr",
              {},
              h("td", {}, day.date),
              h("td", { dir: "auto" }, day.agent_type),
              h("td", { class: "right" }, count(day.turns)),
              h("td", { class: "right" }, tokens(day, day.input_tokens)),
              h("td", { class: "right" }, tokens(day, day.output_tokens)),
              h("td", { class: "right" }, duration(day.execution_time)),
            ),
          ),
      ),
    ),
  );
}

// Where nobody has counted there is no nought.
const tokens = (day, value) => (day.turns_without_tokens === day.turns ? "–" : count(value));

async function exportUser(user) {
  const response = await request("GET", userPath(user, "export"));
  save(`${user}.ndjson`, await response.blob());
}

async function erase(user, shown) {
  const page = await get(userPath(user, "sessions"), { limit: 100 });
  const sessions = page.has_more ? `More than ${page.sessions.length} sessions` : plural(page.sessions.length, "session");
  const body = h(
    "div",
    {},
    h("p", {}, "This removes everything of ", h("strong", { dir: "auto" }, user), ":"),
    h(
      "ul",
      {},
      h("li", {}, `${sessions} with all their turns, on all branches`),
      h("li", {}, "responses and conversations made under /v1"),
      h("li", {}, "with encryption: the keys, so that copies can't be read either"),
    ),
    h("p", {}, "Turns that are running are not kept. It can't be brought back."),
  );
  if (await confirmRemoval({ title: "Erase this user?", body, action: "Erase", typed: user })) {
    const receipt = await call("DELETE", userPath(user, "sessions"));
    TurnStream.forget();
    say(`Gone: ${plural(receipt.sessions_removed, "session")}, ${plural(receipt.turns_removed, "turn")}.`);
    shown();
  }
}

customElements.define("users-page", UsersPage);
