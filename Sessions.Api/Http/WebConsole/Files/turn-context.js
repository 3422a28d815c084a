// What the model was given for a turn.
import { fill, h } from "./dom.js";
import { get, sessionPath } from "./api.js";
import { bytes, plural } from "./format.js";
import { markdown } from "./markdown.js";
import { problemBox, sheet } from "./dialogs.js";

/** Shows it in a panel of its own. */
export const showTurnContext = (sessionId, turn, query) =>
  sheet(`Turn ${turn}: what the model was given`, turnContext(sessionId, turn, query));

// Filled once it is there.
function turnContext(sessionId, turn, query) {
  const box = h("div", { class: "context", "aria-busy": "true" }, h("p", { class: "quiet" }, "Looking…"));
  get(sessionPath(sessionId, `/turns/${turn}/context`), query)
    .then(
      context => fill(box, show(context)),
      error => fill(box, problemBox(error)),
    )
    .finally(() => box.removeAttribute("aria-busy"));
  return box;
}

function show(context) {
  const tools =
    context.tools.length > 0 &&
    h(
      "p",
      {},
      "Tools: ",
      context.tools.map(tool => [h("code", { dir: "auto" }, tool), " "]),
    );
  if (!context.is_known)
    return [h("p", {}, "No agent of this server ran for this turn, or it is no longer configured: nothing is known."), tools];
  return [
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, "Instructions"),
      h("dd", { dir: "auto" }, context.instructions ?? (context.has_instructions ? "those of the agent" : "none")),
      h("dt", {}, "Earlier turns"),
      h(
        "dd",
        {},
        context.turns.length === 0 ? "none" : `${runs(context.turns)} · ${plural(context.turns.length, "turn")}, ${bytes(context.bytes)}`,
      ),
      h("dt", {}, "Summary"),
      h("dd", {}, context.summary ? `of the turns up to ${context.summary.covers_turns}` : "none"),
      tools && [
        h("dt", {}, "Tools"),
        h(
          "dd",
          {},
          context.tools.map(tool => [h("code", { dir: "auto" }, tool), " "]),
        ),
      ],
    ),
    context.summary &&
      h("details", { class: "fold" }, h("summary", {}, "The summary"), h("div", { class: "inside" }, markdown(context.summary.text))),
    h("p", { class: "quiet small" }, "Put together again from what is stored, by the agent's settings of today."),
  ];
}

// 1–4, 6, 8–9
function runs(numbers) {
  const parts = [];
  for (let i = 0; i < numbers.length;) {
    let end = i;
    while (numbers[end + 1] === numbers[end] + 1) end++;
    parts.push(end === i ? `${numbers[i]}` : `${numbers[i]}–${numbers[end]}`);
    i = end + 1;
  }
  return parts.join(", ");
}
