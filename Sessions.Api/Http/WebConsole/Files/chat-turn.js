// One turn in the chat: what was asked, what was called, what was answered.
import { fill, h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { count, duration, plural, time } from "./format.js";
import { GrowingMarkdown, markdown } from "./markdown.js";
import { showItems } from "./items.js";
import { copy } from "./dialogs.js";

/** What stands where nothing was said yet. */
export function welcome() {
  return h(
    "div",
    { class: "welcome" },
    h("p", { class: "lead" }, "What would you like to talk about?"),
    h(
      "p",
      { class: "quiet" },
      "The session is created with the first question. It is kept, turn by turn, and can be picked up again here, or by any client.",
    ),
  );
}

/** A turn of the history. `actions` may have: edit, retry, fork, inspect, go; `siblings` are its branches, `calls` those around it. */
export function chatTurn(turn, siblings, actions, calls) {
  return h(
    "article",
    { class: "turn", "data-turn": turn.turn, "aria-label": `Turn ${turn.turn}` },
    asked(turn.query, turn.input, calls, actions.edit && (box => edit(box, turn, actions.edit))),
    siblings.length > 1 && branches(turn.turn, siblings, actions.go),
    h(
      "div",
      { class: "answer" },
      showItems(turn.output ?? [], calls),
      turn.response !== null && markdown(turn.response),
      turn.status === "incomplete" && h("p", { class: "note" }, incomplete(turn.incomplete_reason)),
    ),
    h(
      "footer",
      { class: "meta" },
      facts(turn),
      h(
        "span",
        { class: "buttons" },
        iconButton("Copy the answer", icon("copy"), () => copy(turn.response ?? "")),
        actions.retry &&
          turn.query !== null &&
          turn.status !== "appended" &&
          iconButton("Ask again", icon("retry"), () => actions.retry(turn)),
        actions.fork && iconButton("Fork from here", icon("fork"), () => actions.fork(turn)),
        actions.inspect && iconButton("What the model was given", icon("eye"), () => actions.inspect(turn)),
      ),
    ),
  );
}

/** A turn that runs: shown as it grows. */
export class RunningTurn {
  #growing = new GrowingMarkdown();
  #items = h("div", { class: "items" });
  #state = h("p", { class: "working" }, h("span", { class: "pulse", "aria-hidden": "true" }), h("span", {}, "Thinking…"));
  #shown = 0;
  #frame = 0;

  constructor(stream) {
    this.stream = stream;
    this.element = h(
      "article",
      { class: "turn running", "aria-label": "The turn that runs", "aria-busy": "true" },
      asked(stream.body.query),
      h("div", { class: "answer" }, this.#items, this.#growing.element, this.#state),
    );
    stream.addEventListener("change", () => {
      this.#frame ||= requestAnimationFrame(() => this.#show());
    });
    this.#show();
  }

  #show() {
    this.#frame = 0;
    const { items, text, turn, isLost, isHalted } = this.stream;
    const isWaitedFor = isHalted && turn === null;
    if (items.length !== this.#shown) {
      const open = new Set([...this.#items.querySelectorAll("details[open]")].map(fold => fold.dataset.call));
      fill(this.#items, showItems(items));
      for (const fold of this.#items.querySelectorAll("details")) fold.open = open.has(fold.dataset.call);
      this.#shown = items.length;
    }
    this.#growing.update(text);
    this.#state.lastChild.textContent = isLost
      ? "The connection was lost; trying again…"
      : isWaitedFor
        ? "It is stopped as soon as its turn comes: others are before it."
        : items.at(-1)?.type === "function_call"
          ? `Calling ${items.at(-1).name}…`
          : "Thinking…";
    this.#state.hidden = Boolean(text) && !isLost;
    this.element.dispatchEvent(new CustomEvent("grown", { bubbles: true }));
  }
}

/** A turn that failed: it is not in the history; it can be asked again. */
export function failedTurn(body, error, onretry) {
  return h(
    "article",
    { class: "turn failed" },
    asked(body.query),
    h(
      "div",
      { class: "problem", role: "alert" },
      h("p", {}, h("strong", {}, error.code), " ", error.message),
      h("p", {}, h("button", { type: "button", class: "button", onclick: onretry }, icon("retry"), "Try again")),
    ),
  );
}

function asked(query, input, calls, onedit) {
  const extras = showItems(
    (input ?? []).filter(item => item?.type !== "message" || Array.isArray(item.content)),
    calls,
  );
  if ((query === null || query === undefined) && extras.length === 0) return null;
  const box = h(
    "div",
    { class: "asked" },
    query !== null &&
      query !== undefined &&
      h(
        "div",
        { class: "said" },
        onedit &&
          h(
            "span",
            { class: "buttons" },
            iconButton("Edit the question", icon("edit"), () => onedit(box)),
          ),
        h("div", { class: "bubble", dir: "auto" }, query),
      ),
    extras,
  );
  return box;
}

function edit(box, turn, send) {
  const kept = [...box.childNodes];
  const input = h("textarea", {
    rows: Math.min(12, turn.query.split("\n").length + 1),
    "aria-label": "The question",
    dir: "auto",
    value: turn.query,
    onkeydown: event => {
      if (event.key === "Escape") close();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        submit();
      }
    },
  });
  const close = () => {
    fill(box, kept);
    box.querySelector("button")?.focus();
  };
  const submit = () => {
    if (input.value.trim()) send(turn, input.value);
  };
  fill(
    box,
    h(
      "div",
      { class: "editing" },
      input,
      h(
        "p",
        { class: "row" },
        h("small", {}, "What came after it is kept, as another branch."),
        h("button", { type: "button", class: "button", onclick: close }, "Cancel"),
        h("button", { type: "button", class: "button primary", onclick: submit }, "Send"),
      ),
    ),
  );
  input.focus();
}

function branches(number, siblings, go) {
  const at = siblings.indexOf(number);
  return h(
    "nav",
    { class: "branches", "aria-label": "Branches" },
    iconButton("The branch before", icon("left"), () => go(siblings[at - 1]), { disabled: at === 0 }),
    h("span", {}, `${at + 1} / ${siblings.length}`),
    iconButton("The next branch", icon("right"), () => go(siblings[at + 1]), { disabled: at === siblings.length - 1 }),
  );
}

function facts(turn) {
  const usage = turn.usage && `${count(turn.usage.input_tokens ?? 0)} → ${plural(turn.usage.output_tokens ?? 0, "token")}`;
  return h(
    "span",
    { class: "facts-line", title: time(turn.created_at) },
    [turn.agent_type, turn.model, turn.status === "appended" ? "appended" : duration(turn.execution_time), usage]
      .filter(Boolean)
      .join(" · "),
  );
}

const incomplete = reason =>
  ({
    cancelled: "Stopped. What was said by then is kept.",
    max_output_tokens: "Cut short: the model had no tokens left.",
    content_filter: "Cut short by the provider's content filter.",
  })[reason] ?? `Cut short (${reason}).`;
