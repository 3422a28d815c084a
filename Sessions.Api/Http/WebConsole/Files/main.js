// The frame: navigation, who is there, which page is shown.
import { fill, h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { ApiError, hasKey, useKey } from "./api.js";
import { actFor, keep, load, may, mayChat, read, state } from "./state.js";
import { askText, problemBox, say } from "./dialogs.js";
import { TurnStream } from "./stream.js";
import "./chat-page.js";
import "./sign-in.js";

const PAGES = [
  { name: "chat", label: "Chat", element: "chat-page", allowed: mayChat },
  {
    name: "sessions",
    label: "Sessions",
    element: "sessions-page",
    module: "./sessions-page.js",
    allowed: () => mayChat() || may("read_all"),
  },
  { name: "users", label: "Users", element: "users-page", module: "./users-page.js", allowed: () => mayChat() },
  { name: "live", label: "Live", element: "live-page", module: "./live-page.js", allowed: () => may("admin") },
];

const THEMES = [
  ["", "system", "Theme: as the system has it"],
  ["light", "sun", "Theme: light"],
  ["dark", "moon", "Theme: dark"],
];

class ConsoleApp extends HTMLElement {
  #main = h("main", { id: "main", tabindex: -1 });
  #nav = h("nav", { class: "rail", "aria-label": "Console" });
  #page = null;

  connectedCallback() {
    this.replaceChildren(this.#nav, this.#main);
    addEventListener("hashchange", () => this.#route());
    document.addEventListener("signed-out", event => this.#signIn(hasKey() ? event.detail.message : ""));
    document.addEventListener("user-changed", () => this.#frame());
    this.#start();
  }

  async #start() {
    try {
      await load();
      this.#frame();
      this.#route();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return;
      fill(
        this.#main,
        h(
          "div",
          { class: "alone" },
          problemBox(
            error,
            h(
              "button",
              {
                type: "button",
                class: "button",
                onclick: () => {
                  fill(this.#main);
                  this.#start();
                },
              },
              "Try again",
            ),
          ),
        ),
      );
    }
  }

  #signIn(reason) {
    // Once, however many requests were refused.
    if (this.#main.querySelector("sign-in")) return;
    this.#page = null;
    fill(this.#nav);
    const form = h("sign-in", { reason });
    form.addEventListener("key", event => {
      useKey(event.detail);
      fill(this.#main);
      this.#start();
    });
    fill(this.#main, form);
  }

  #frame() {
    const pages = PAGES.filter(page => page.allowed());
    const current = this.#name();
    fill(
      this.#nav,
      h("a", { class: "brand", href: "#/", "aria-label": "Sessions: start" }, mark(), h("span", {}, "Sessions")),
      h(
        "ul",
        {},
        pages.map(page =>
          h(
            "li",
            {},
            h(
              "a",
              { href: `#/${page.name}`, "aria-current": page.name === current ? "page" : undefined, "data-page": page.name },
              icon(page.name),
              h("span", {}, page.label),
            ),
          ),
        ),
      ),
      h(
        "div",
        { class: "foot" },
        this.#who(),
        h(
          "span",
          { class: "tools" },
          this.#theme(),
          h(
            "a",
            { class: "icon-button", href: "../scalar", "aria-label": "API reference", title: "API reference" },
            h("span", { class: "braces", "aria-hidden": "true" }, "{ }"),
          ),
          hasKey() &&
            iconButton("Forget the key", icon("out"), () => {
              useKey(null);
              TurnStream.forget();
              location.reload();
            }),
        ),
      ),
    );
  }

  #who() {
    if (state.caller.user_id) return h("p", { class: "who" }, icon("users"), h("span", { dir: "auto" }, state.caller.user_id));
    if (!mayChat()) return h("p", { class: "who" }, icon("key"), h("span", {}, state.caller.scopes.join(", ")));
    return h(
      "button",
      {
        type: "button",
        class: "who",
        title: "On whose behalf",
        onclick: async () => {
          const user = await askText({
            title: "On whose behalf?",
            label: "User",
            hint: "New conversations are bound to this user. Empty: to nobody.",
            value: state.user,
            action: "Go on",
          });
          if (user !== null) actFor(user);
        },
      },
      icon("users"),
      h("span", { dir: "auto" }, state.user || "nobody"),
    );
  }

  #theme() {
    const chosen = THEMES.findIndex(([name]) => name === (read("console.theme") ?? ""));
    const [, sign, label] = THEMES[Math.max(0, chosen)];
    return iconButton(
      label,
      icon(sign),
      event => {
        const [next] = THEMES[(Math.max(0, chosen) + 1) % THEMES.length];
        keep("console.theme", next);
        if (next) document.documentElement.dataset.theme = next;
        else delete document.documentElement.dataset.theme;
        const button = this.#theme();
        event.currentTarget.replaceWith(button);
        button.focus();
      },
      { "data-theme-switch": true },
    );
  }

  #name = () => location.hash.slice(2).split(/[/?]/)[0];

  async #route() {
    if (!state.caller) return;
    const [path, query = ""] = location.hash.slice(2).split("?");
    const [name, id] = path.split("/");
    const page = PAGES.find(known => known.name === name && known.allowed()) ?? PAGES.find(known => known.allowed());
    if (!page) {
      fill(this.#main, h("div", { class: "alone" }, h("p", {}, "This key opens nothing that is shown here.")));
      return;
    }
    if (name !== page.name) {
      location.replace(`#/${page.name}`);
      return;
    }
    const asked = location.hash;
    if (page.module) {
      try {
        await import(page.module);
      } catch {
        say("The page could not be loaded. Is the server there?", "bad");
        return;
      }
      // Somebody may have gone on meanwhile.
      if (location.hash !== asked) return;
    }
    if (this.#page?.localName !== page.element) {
      this.#page = document.createElement(page.element);
      fill(this.#main, this.#page);
      // To a turn that still runs, say: that address is opened next.
      if (location.hash !== asked) return;
    }
    document.title = `${page.label} · Sessions`;
    for (const link of this.#nav.querySelectorAll("[data-page]")) {
      if (link.dataset.page === page.name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.#page.open?.(id ? decode(id) : null, new URLSearchParams(query));
  }
}

// An address may be typed, or cut short.
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function mark() {
  return h("span", { class: "mark", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
}

customElements.define("console-app", ConsoleApp);
