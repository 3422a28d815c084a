// What is in a turn beside its texts: calls of tools and their outputs, reasoning, images and files.
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { bytes } from "./format.js";

const SHOWN = 20_000;

/** The calls in some turns, and their outputs, which may come with a later turn. */
export function callsOf(items) {
  return {
    outputs: new Map(items.filter(item => item?.type === "function_call_output").map(item => [item.call_id, item])),
    called: new Set(items.filter(item => item?.type === "function_call").map(item => item.call_id)),
  };
}

/** Shows what is no text of a message; nothing of what the texts show already. An output is shown with its call. */
export function showItems(items, { outputs, called } = callsOf(items)) {
  return items.filter(Boolean).flatMap(item => {
    switch (item.type) {
      case "message":
        return showParts(item);
      case "function_call":
        return [showCall(item.name, item.arguments, outputs.get(item.call_id)?.output, item.call_id)];
      case "function_call_output":
        return called.has(item.call_id) ? [] : [showCall("Output", null, item.output, item.call_id)];
      case "mcp_call":
        return [showCall(`${item.server_label}: ${item.name}`, item.arguments, item.output ?? item.error, item.id, Boolean(item.error))];
      case "mcp_list_tools":
        return [fold("tool", `Tools of ${item.server_label}`, "", (item.tools ?? []).map(tool => tool.name).join("\n"))];
      case "reasoning":
        return [fold("thought", "Reasoning", "", [...(item.summary ?? []), ...(item.content ?? [])].map(part => part.text).join("\n\n"))];
      default:
        return [fold("tool", item.type, "", JSON.stringify(item, null, 2))];
    }
  });
}

/** The calls that wait for their outputs. */
export function waitingCalls(turns) {
  const waiting = new Map();
  for (const turn of turns) {
    for (const item of [...(turn.input ?? []), ...(turn.output ?? [])]) {
      if (item?.type === "function_call") waiting.set(item.call_id, item);
      else if (item?.type === "function_call_output") waiting.delete(item.call_id);
    }
  }
  return [...waiting.values()];
}

function showCall(name, input, output, id, isError = false) {
  const state = output === undefined || output === null ? "called" : isError ? "failed" : "done";
  const body = [];
  if (input) body.push(h("h5", {}, "Arguments"), pre(pretty(input)));
  if (output !== undefined && output !== null)
    body.push(h("h5", {}, isError ? "Error" : "Output"), pre(pretty(typeof output === "string" ? output : JSON.stringify(output))));
  return h(
    "details",
    { class: `fold ${state}`, "data-call": id },
    h("summary", {}, icon("tool"), h("span", { class: "name", dir: "auto" }, name), h("span", { class: "hint" }, state)),
    h("div", { class: "inside" }, body),
  );
}

function fold(sign, name, hint, text) {
  return h(
    "details",
    { class: "fold" },
    h("summary", {}, icon(sign), h("span", { class: "name" }, name), h("span", { class: "hint" }, hint)),
    h("div", { class: "inside" }, pre(text)),
  );
}

function pre(text) {
  return h(
    "pre",
    { dir: "auto", tabindex: 0, role: "region", "aria-label": "Text" },
    text.length > SHOWN ? `${text.slice(0, SHOWN)}\n… ${bytes(text.length - SHOWN)} more` : text,
  );
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return String(text);
  }
}

// Images that came along as data are shown; those elsewhere are named, and not fetched.
function showParts(message) {
  if (!Array.isArray(message.content)) return [];
  return message.content.flatMap(part => {
    if (part.type === "input_image" && /^data:image\/(?:png|jpeg|gif|webp);base64,/.test(part.image_url ?? ""))
      return [h("img", { class: "attached", src: part.image_url, alt: "An image that was sent" })];
    if (part.type === "input_image") return [h("p", { class: "attached", dir: "auto" }, `Image: ${part.image_url ?? part.file_id}`)];
    if (part.type === "input_file")
      return [
        h(
          "p",
          { class: "attached", dir: "auto" },
          `File: ${part.filename ?? "without a name"} (${bytes(Math.round((part.file_data?.length ?? 0) * 0.75))})`,
        ),
      ];
    return [];
  });
}
