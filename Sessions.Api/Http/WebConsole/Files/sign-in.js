// Asks for a key or a token. It is kept in this tab alone.
import { h, newId } from "./dom.js";
import { icon } from "./icons.js";

class SignIn extends HTMLElement {
  connectedCallback() {
    const reason = this.getAttribute("reason");
    const error = newId("error");
    const input = h("input", {
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      oninput: () => input.setCustomValidity(""),
      "aria-describedby": reason ? error : undefined,
      "aria-invalid": reason ? "true" : undefined,
    });
    this.append(
      h(
        "form",
        {
          class: "sign-in",
          onsubmit: event => {
            event.preventDefault();
            const key = input.value.trim();
            // No header can hold anything else: such a key could not be sent, and not be taken back.
            input.setCustomValidity(/^[\x20-\x7e]+$/.test(key) ? "" : "A key has no other letters than those of ASCII.");
            if (input.reportValidity()) this.dispatchEvent(new CustomEvent("key", { detail: key }));
          },
        },
        h("span", { class: "sign" }, icon("key")),
        h("h1", {}, "Sessions"),
        h(
          "p",
          { class: "quiet" },
          "This server asks who you are. Your key decides what is shown: your own conversations, those you may see, how the server is.",
        ),
        h("label", { class: "field" }, h("span", {}, "API key or token"), input),
        reason && h("p", { id: error, class: "wrong", role: "alert" }, reason),
        h("button", { type: "submit", class: "button primary wide" }, "Open"),
        h("p", { class: "quiet small" }, "Kept in this tab until it is closed, and sent to this server alone."),
      ),
    );
    input.focus();
  }
}

customElements.define("sign-in", SignIn);
