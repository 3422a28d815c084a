// Questions, and short messages.
import { h, newId } from "./dom.js";
import { icon } from "./icons.js";

/** Asks before something is done that can't be undone; the question names what goes. */
export function confirmRemoval({ title, body, action, typed }) {
  return ask(title, close => {
    const ok = h("button", { type: "submit", class: "button danger", disabled: Boolean(typed) }, action);
    const input =
      typed &&
      h("input", {
        type: "text",
        autocomplete: "off",
        spellcheck: "false",
        oninput: () => {
          ok.disabled = input.value !== typed;
        },
      });
    return h(
      "form",
      {
        method: "dialog",
        onsubmit: event => {
          event.preventDefault();
          close(true);
        },
      },
      body,
      input && h("label", { class: "field" }, h("span", {}, "Type ", h("code", { dir: "auto" }, typed), " to go on"), input),
      h("footer", {}, h("button", { type: "button", class: "button", onclick: () => close(false) }, "Keep"), ok),
    );
  });
}

/** Asks for a text. */
export function askText({ title, label, hint, value = "", action }) {
  return ask(title, close => {
    const input = h("input", { type: "text", value, autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
    return h(
      "form",
      {
        method: "dialog",
        onsubmit: event => {
          event.preventDefault();
          close(input.value.trim());
        },
      },
      h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint)),
      h(
        "footer",
        {},
        h("button", { type: "button", class: "button", onclick: () => close(null) }, "Cancel"),
        h("button", { type: "submit", class: "button primary" }, action),
      ),
    );
  });
}

function ask(title, content) {
  return new Promise(resolve => {
    const id = newId("dialog");
    const dialog = h("dialog", {
      "aria-labelledby": id,
      class: "dialog",
      onclose: () => {
        dialog.remove();
        resolve(answer);
      },
    });
    let answer = null;
    dialog.append(
      h("h2", { id }, title),
      content(value => {
        answer = value;
        dialog.close();
      }),
    );
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("input") ?? dialog.querySelector("footer button"))?.focus();
  });
}

/** A panel from the side, over the page. */
export function sheet(title, ...content) {
  const id = newId("sheet");
  const dialog = h(
    "dialog",
    {
      class: "sheet",
      "aria-labelledby": id,
      onclose: () => dialog.remove(),
      onclick: event => {
        if (event.target === dialog) dialog.close();
      },
    },
    h(
      "header",
      {},
      h("h2", { id }, title),
      h("button", { type: "button", class: "button quiet", onclick: () => dialog.close() }, "Close"),
    ),
    h("div", { class: "body" }, ...content),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

let region;

/** Says something for a moment. */
export function say(text, kind = "") {
  if (!region?.isConnected) {
    region = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(region);
  }
  const toast = h("p", { class: `toast ${kind}` }, text);
  region.append(toast);
  setTimeout(() => toast.remove(), kind === "bad" ? 8000 : 4000);
}

/** Copies a text, and says so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser does not allow copying here.", "bad");
  }
}

/** A problem as a box, with what can be done about it. */
export function problemBox(error, ...actions) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, error.code ?? "error"), " ", error.message),
    actions.length > 0 && h("p", {}, actions),
  );
}

/** Does something and says what went wrong. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    say(error.message, "bad");
    return undefined;
  }
}

/** A button that does something, and says what went wrong. */
export const button = (sign, text, onclick, kind = "") =>
  h("button", { type: "button", class: `button ${kind}`, onclick: () => attempt(onclick) }, icon(sign), text);
