// Live: what the server does, second by second, and how what it depends on is.
import { fill, h } from "./dom.js";
import { get, health } from "./api.js";
import { LineChart } from "./charts.js";
import { count, duration, fromNow, plural } from "./format.js";
import { problemBox } from "./dialogs.js";

const SLOTS = 120;
const EVERY = 1000;
const HEALTH_EVERY = 5;

class LivePage extends HTMLElement {
  #samples = [];
  #activity = null;
  #stats = null;
  #checks = {};
  #list = [];
  #asked = new Set();
  #troubles = new Map();
  #told = "";
  #timer = 0;
  #round = 0;
  #trouble = h("div");
  #facts = h("dl", { class: "tiles" });
  #health = h("ul", { class: "checks" });
  #agents = h("tbody");
  #operations = h("tbody");
  #charts = [
    chart("Turns per second", count, ["ended", "c0", sample => sample.turns.count], ["failed", "bad", sample => sample.turns.failed]),
    chart("Turns now", count, ["running", "c0", sample => sample.running_turns], ["waiting", "c1", sample => sample.waiting_turns]),
    chart(
      "Sessions per second",
      count,
      ["created", "c0", sample => sample.sessions_created],
      ["removed", "c1", sample => sample.sessions_removed],
    ),
    chart("Time of a turn", duration, ["p95", "c0", sample => sample.turns.p95], ["median", "c1", sample => sample.turns.p50]),
    chart("Time of the store", duration, ["p95", "c0", sample => sample.store.p95], ["median", "c1", sample => sample.store.p50]),
    chart("Requests refused", count, ["refused", "bad", sample => sample.requests_refused]),
  ];

  connectedCallback() {
    if (this.#facts.isConnected) return;
    const table = (title, first, body) =>
      h(
        "section",
        { class: "panel" },
        h("h2", {}, title),
        h(
          "div",
          { class: "table", tabindex: 0, role: "region", "aria-label": title },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                [first, "count", "failed", "median", "p95"].map((text, i) =>
                  h("th", { scope: "col", class: i > 0 ? "right" : undefined }, text),
                ),
              ),
            ),
            body,
          ),
        ),
      );
    this.append(
      h(
        "div",
        { class: "page" },
        h("header", {}, h("h1", {}, "Live"), h("p", { class: "quiet" }, "Of this process, from when somebody looks.")),
        this.#trouble,
        this.#facts,
        h(
          "div",
          { class: "charts" },
          this.#charts.map(([chart]) => chart.element),
        ),
        h(
          "div",
          { class: "panels" },
          h("section", { class: "panel" }, h("h2", {}, "Health"), this.#health),
          table("Agents", "agent", this.#agents),
          table("Store", "operation", this.#operations),
        ),
      ),
    );
    document.addEventListener("visibilitychange", this.#look);
    this.#look();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#look);
    clearTimeout(this.#timer);
  }

  #look = async () => {
    clearTimeout(this.#timer);
    if (document.hidden || !this.isConnected) return;
    if (this.#round++ % HEALTH_EVERY === 0) this.#lookAround();
    await this.#ask("activity", () => get("activity", { after: this.#samples.at(-1)?.number ?? 0 }), this.#take);
    const { status } = this.#troubles.get("activity") ?? {};
    if (status === 401 || status === 403 || !this.isConnected) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#look, EVERY);
  };

  // Each part on its own: one that fails, or takes its time, keeps nobody waiting, and what it gave before stays.
  async #ask(part, ask, take) {
    if (this.#asked.has(part)) return;
    this.#asked.add(part);
    try {
      take(await ask());
      this.#troubles.delete(part);
    } catch (error) {
      this.#troubles.set(part, error);
    }
    this.#asked.delete(part);
    this.#tell();
    if (this.#activity) this.#draw(this.#activity);
  }

  #take = activity => {
    // Numbers begin anew with the server.
    if (activity.samples[0]?.number <= (this.#samples.at(-1)?.number ?? 0)) this.#samples = [];
    this.#samples = [...this.#samples, ...activity.samples].slice(-SLOTS);
    this.#activity = activity;
  };

  #lookAround() {
    this.#ask("stats", () => get("sessions/stats"), stats => {
      this.#stats = stats;
    });
    // Nothing is known to be healthy that can't be asked.
    const unknown = error => {
      this.#checks = {};
      this.#drawHealth();
      throw error;
    };
    this.#ask(
      "health",
      () => health().catch(unknown),
      ({ checks }) => {
        this.#checks = checks;
        this.#drawHealth();
      },
    );
    this.#ask("agents", () => get("agents"), ({ agents }) => {
      this.#list = agents;
      this.#drawHealth();
    });
  }

  // A trouble stays as long as it lasts, once; it is read out when it comes.
  #tell() {
    const all = new Map([...this.#troubles.values()].map(error => [error.message, error]));
    const told = [...all.keys()].join("\n");
    if (told === this.#told) return;
    this.#told = told;
    fill(
      this.#trouble,
      [...all.values()].map(error => problemBox(error)),
    );
  }

  #drawHealth() {
    fill(
      this.#health,
      Object.entries(this.#checks)
        .filter(([name]) => name !== "self")
        .map(([name, check]) => state(name, check.status, check.description)),
      this.#list
        .filter(agent => agent.health)
        .map(agent =>
          state(
            `agent ${agent.name}`,
            agent.health.status,
            agent.health.detail ?? (agent.health.at ? `asked ${fromNow(agent.health.at)}` : "not asked yet"),
          ),
        ),
    );
  }

  #draw(activity) {
    for (const [chart, readers] of this.#charts)
      chart.draw(
        readers.map(read => this.#samples.map(read)),
        SLOTS,
      );
    const stats = this.#stats;
    const minute = this.#samples.slice(-60);
    const failed = minute.reduce((sum, sample) => sum + sample.turns.failed, 0);
    fill(
      this.#facts,
      stats
        ? tile("Active sessions", count(stats.active_sessions), `in ${stats.storage_type}`)
        : tile("Active sessions", "–", "not known yet"),
      tile("Running turns", count(activity.running_turns), `${count(activity.waiting_turns)} waiting`),
      tile(
        "Turns in the last minute",
        count(minute.reduce((sum, sample) => sum + sample.turns.count, 0)),
        plural(failed, "failure"),
        failed > 0,
      ),
      tile("Longest wait", duration(Math.max(0, ...minute.map(sample => sample.queue_wait.max))), "in the queue, last minute"),
      tile(
        "Clean-up",
        activity.last_cleanup_at ? fromNow(activity.last_cleanup_at) : "not yet",
        stats ? `sessions live ${count(stats.timeout_hours)} h` : "",
      ),
    );
    fill(this.#agents, rows(activity.agents, "Nothing was asked yet."));
    fill(this.#operations, rows(activity.store_operations, "Nothing was done yet."));
  }
}

/** A chart, and what each of its lines reads of a sample. */
const chart = (title, format, ...lines) => [
  new LineChart(
    title,
    lines.map(([name, color]) => ({ name, color })),
    format,
  ),
  lines.map(([, , read]) => read),
];

const rows = (all, none) =>
  all.length === 0
    ? h("tr", {}, h("td", { colspan: 5, class: "quiet" }, none))
    : all.map(({ name, latency }) =>
        h(
          "tr",
          {},
          h("td", { dir: "auto" }, name),
          h("td", { class: "right" }, count(latency.count)),
          h("td", { class: latency.failed > 0 ? "right bad-text" : "right" }, count(latency.failed)),
          h("td", { class: "right" }, duration(latency.p50)),
          h("td", { class: "right" }, duration(latency.p95)),
        ),
      );

const tile = (label, value, hint, isBad) =>
  h("div", {}, h("dt", {}, label), h("dd", {}, h("strong", {}, value), h("span", { class: isBad ? "bad-text" : "quiet" }, hint)));

function state(name, status, detail) {
  const kind = { healthy: "good", degraded: "warn", unknown: "idle" }[status.toLowerCase()] ?? "bad";
  return h(
    "li",
    {},
    h("i", { class: `lamp ${kind}` }),
    h("span", { class: "name" }, name),
    h("span", { class: "quiet" }, [status.toLowerCase(), detail].filter(Boolean).join(": ")),
  );
}

customElements.define("live-page", LivePage);
