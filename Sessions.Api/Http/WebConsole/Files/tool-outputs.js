// Where the session waits for what a function of the client's gave: somebody at the console may say it.
import { h } from "./dom.js";

/** A form for the outputs of calls. */
export function toolOutputs(calls, send) {
  const inputs = calls.map(call => [call, h("textarea", { rows: 2, dir: "auto", required: true })]);
  return h(
    "form",
    {
      class: "waiting",
      onsubmit: event => {
        event.preventDefault();
        send(inputs.map(([call, input]) => ({ type: "function_call_output", call_id: call.call_id, output: input.value })));
      },
    },
    h(
      "p",
      {},
      h("strong", {}, calls.length === 1 ? "A function was called." : `${calls.length} functions were called.`),
      " The conversation goes on once its client, or you, has told the output.",
    ),
    inputs.map(([call, input]) =>
      h("label", { class: "field" }, h("span", {}, "Output of ", h("code", { dir: "auto" }, call.name)), input),
    ),
    h("p", { class: "row" }, h("button", { type: "submit", class: "button primary" }, "Append")),
  );
}
