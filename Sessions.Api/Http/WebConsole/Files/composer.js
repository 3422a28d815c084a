// Where questions are written.
import { fill, h, newId } from "./dom.js";
import { icon } from "./icons.js";
import { state } from "./state.js";

/** Tells of `ask` with the text, and of `halt`. */
export class Composer extends HTMLElement {
  #input;
  #button;
  #agents;
  #isRunning = false;

  connectedCallback() {
    if (this.#input) return;
    const hint = newId("hint");
    this.#input = h("textarea", {
      rows: 1,
      placeholder: "Ask something",
      "aria-label": "Your question",
      "aria-describedby": hint,
      dir: "auto",
      oninput: () => this.#grow(),
      onkeydown: event => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          this.#submit();
        }
        if (event.key === "Escape" && this.#isRunning) this.dispatchEvent(new Event("halt"));
      },
    });
    this.#button = h("button", { type: "submit", class: "send", "aria-label": "Send" }, icon("send"));
    this.#agents = h(
      "select",
      { "aria-label": "Agent" },
      state.agents.map(agent =>
        h("option", { value: agent.name, title: agent.description ?? "", selected: agent.is_default }, agent.name),
      ),
    );
    this.append(
      h(
        "form",
        {
          class: "composer",
          onsubmit: event => {
            event.preventDefault();
            this.#isRunning ? this.dispatchEvent(new Event("halt")) : this.#submit();
          },
        },
        this.#input,
        h(
          "div",
          { class: "row" },
          state.agents.length > 0 && this.#agents,
          h("small", { id: hint, class: "quiet" }, "Enter sends, Shift + Enter is a new line"),
          this.#button,
        ),
      ),
    );
    this.#grow();
  }

  get agent() {
    return this.#agents.value || undefined;
  }

  set agent(name) {
    if (state.agents.some(agent => agent.name === name)) this.#agents.value = name;
  }

  set isRunning(value) {
    this.#isRunning = value;
    this.#button.setAttribute("aria-label", value ? "Stop" : "Send");
    this.#button.classList.toggle("stop", value);
    fill(this.#button, icon(value ? "stop" : "send"));
  }

  focus() {
    // On a phone the keyboard would cover what is to be read.
    if (matchMedia("(min-width: 720px)").matches) this.#input.focus({ preventScroll: true });
  }

  #submit() {
    const text = this.#input.value;
    if (!text.trim() || this.#isRunning) return;
    this.#input.value = "";
    this.#grow();
    this.dispatchEvent(new CustomEvent("ask", { detail: text }));
  }

  #grow() {
    this.#input.style.height = "auto";
    this.#input.style.height = `${Math.min(this.#input.scrollHeight, 220)}px`;
  }
}

customElements.define("chat-composer", Composer);
