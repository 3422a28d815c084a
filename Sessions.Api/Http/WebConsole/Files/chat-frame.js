// What stands around a conversation: the list of others, the title, and what leads to the turns that are not shown yet.
import { h, iconButton } from "./dom.js";
import { icon } from "./icons.js";

/** The parts of the page. `look` is the page's own: whether the list is open, on a phone; `oninspect` opens the session. */
export function chatFrame(look, recent, title, body, oninspect) {
  const narrow = { class: "icon-button narrow" };
  return [
    h(
      "aside",
      { class: "recent", "aria-label": "Conversations" },
      h(
        "header",
        {},
        h("h2", {}, "Conversations"),
        iconButton("Close the list", icon("close"), () => look.remove("listing"), narrow),
      ),
      h("a", { class: "button primary wide", href: "#/chat" }, icon("plus"), "New conversation"),
      recent,
    ),
    h(
      "section",
      { class: "talk" },
      h(
        "header",
        {},
        iconButton("Conversations", icon("menu"), () => look.toggle("listing"), narrow),
        title,
        h("span", { class: "buttons" }, iconButton("The session with all its turns", icon("eye"), oninspect)),
      ),
      body,
    ),
  ];
}

/** They are loaded by themselves; also by hand, where that has failed. */
export const earlierTurns = onclick =>
  h("p", { class: "center" }, h("button", { type: "button", class: "button quiet", onclick }, "Earlier turns…"));
