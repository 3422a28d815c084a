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
    this.#timer = -1;
  }

  #look = async () => {
    clearTimeout(this.#timer);
    if (document.hidden || !this.isConnected) return;
    try {
      const activity = await get("activity", { after: this.#samples.at(-1)?.number ?? 0 });
      // Numbers begin anew with the server.
      if (activity.samples[0]?.number <= (this.#samples.at(-1)?.number ?? 0)) this.#samples = [];
      this.#samples = [...this.#samples, ...activity.samples].slice(-SLOTS);
      if (this.#round++ % HEALTH_EVERY === 0) await this.#lookAround();
      this.#draw(activity);
      fill(this.#trouble);
    } catch (error) {
      fill(this.#trouble, problemBox(error));
      this.#samples = [];
      if (error.status === 401 || error.status === 403) return;
    }
    if (this.#timer !== -1) this.#timer = setTimeout(this.#look, EVERY);
  };

  async #lookAround() {
    const [stats, checks, agents] = await Promise.all([get("sessions/stats"), health(), get("agents").catch(() => ({ agents: [] }))]);
    this.stats = stats;
    fill(
      this.#health,
      Object.entries(checks.checks)
        .filter(([name]) => name !== "self")
        .map(([name, check]) => state(name, check.status, check.description)),
      agents.agents
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
    const { stats } = this;
    const minute = this.#samples.slice(-60);
    const failed = minute.reduce((sum, sample) => sum + sample.turns.failed, 0);
    fill(
      this.#facts,
      tile("Active sessions", count(stats.active_sessions), `in ${stats.storage_type}`),
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
        `sessions live ${count(stats.timeout_hours)} h`,
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
