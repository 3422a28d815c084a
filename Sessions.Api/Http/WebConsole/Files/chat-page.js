// Chat: the conversations of late on one side, the one that is open on the other.
import { fill, h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { call, get, sessionPath } from "./api.js";
import { actingFor, ownerQuery, sessionAddress } from "./state.js";
import { RecentSessions, chatAddress } from "./recent-sessions.js";
import { RunningTurn, chatTurn, failedTurn, welcome } from "./chat-turn.js";
import { TurnStream } from "./stream.js";
import { TurnTree } from "./turn-tree.js";
import { callsOf, waitingCalls } from "./items.js";
import { toolOutputs } from "./tool-outputs.js";
import { showTurnContext } from "./turn-context.js";
import { attempt, problemBox, say } from "./dialogs.js";
import "./composer.js";

const PAGE = 30;

class ChatPage extends HTMLElement {
  #recent = new RecentSessions();
  #turns = h("div", { class: "turns" });
  #scroller = h("div", { class: "scroller" });
  #composer = document.createElement("chat-composer");
  #title = h("h1", { dir: "auto" }, "New conversation");
  #tree = new TurnTree();
  #next = null;
  #tip = 0;
  #id = null;
  #user = "";
  #stream = null;
  #loading = null;

  connectedCallback() {
    if (this.#turns.isConnected) return;
    const recent = h(
      "aside",
      { class: "recent", "aria-label": "Conversations" },
      h(
        "header",
        {},
        h("h2", {}, "Conversations"),
        iconButton("Close the list", icon("close"), () => this.classList.remove("listing"), { class: "icon-button narrow" }),
      ),
      h("a", { class: "button primary wide", href: "#/chat" }, icon("plus"), "New conversation"),
      this.#recent.element,
    );
    this.#scroller.append(this.#turns);
    this.append(
      recent,
      h(
        "section",
        { class: "talk" },
        h(
          "header",
          {},
          iconButton("Conversations", icon("menu"), () => this.classList.toggle("listing"), { class: "icon-button narrow" }),
          this.#title,
          h(
            "span",
            { class: "buttons" },
            iconButton("The session with all its turns", icon("eye"), () => {
              if (this.#id) location.hash = sessionAddress(this.#id, this.#user);
            }),
          ),
        ),
        this.#scroller,
        this.#composer,
      ),
    );
    this.#composer.addEventListener("ask", event => this.#ask(event.detail));
    this.#composer.addEventListener("halt", () => this.#halt());
    this.#scroller.addEventListener("scroll", () => {
      if (this.#scroller.scrollTop < 200) this.#older();
    });
    this.#turns.addEventListener("grown", () => this.#stick());
    document.addEventListener("user-changed", this.#onUser);
    this.#resume();
  }

  disconnectedCallback() {
    document.removeEventListener("user-changed", this.#onUser);
    this.#stream?.leave();
  }

  #onUser = () => {
    this.#user = actingFor();
    if (this.#id) location.hash = "#/chat";
    else this.#recent.show(this.#id);
  };

  /** Opens a session, or none for a new one. */
  async open(id, params) {
    this.classList.remove("listing");
    this.#user = params.get("user") ?? actingFor();
    this.#recent.show(id);
    if (id === this.#id && id !== null) return;
    if (this.#stream && this.#stream.sessionId !== id) this.#leave();
    this.#id = id;
    this.#tree = new TurnTree();
    [this.#next, this.#tip, this.#loading] = [null, 0, null];
    this.#title.textContent = id ? "Conversation" : "New conversation";
    fill(this.#turns, !id && !this.#stream && welcome(), this.#running?.element);
    if (id) await this.#load();
    this.#composer.focus();
  }

  // A turn that ran when the page was reloaded.
  #resume() {
    const pending = TurnStream.pending();
    if (!pending) return;
    this.#listen(pending);
    if (pending.sessionId && !location.hash.startsWith("#/chat/")) location.replace(chatAddress(pending.sessionId, pending.body.user_id));
  }

  async #load() {
    const id = this.#id;
    try {
      const page = await this.#history();
      if (id !== this.#id) return;
      this.#tip = this.#stream?.body.after_turn ?? this.#tree.newest;
      this.#draw();
      this.#toEnd();
      const last = page.turns[0];
      if (last) this.#composer.agent = last.agent_type;
    } catch (error) {
      // A turn that begins a session runs before there is one.
      if (id === this.#id && !(error.status === 404 && this.#stream))
        fill(this.#turns, problemBox(error, h("a", { class: "button", href: "#/chat" }, "New conversation")));
    }
  }

  async #history() {
    const tree = this.#tree;
    const page = await get(sessionPath(this.#id, "/history"), {
      branches: "all",
      include: "items",
      order: "desc",
      limit: PAGE,
      after: this.#next,
      ...ownerQuery(this.#user),
    });
    tree.add(page.turns);
    this.#next = page.next;
    return page;
  }

  async #older() {
    if (this.#loading || !this.#next || !this.#tree.path(this.#tip).isCut) return;
    this.#loading = this.#history();
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    await attempt(() => this.#loading);
    this.#draw();
    this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
    this.#loading = null;
  }

  #draw() {
    const { turns, isCut } = this.#tree.path(this.#tip);
    const shown = this.#stream ? turns.filter(turn => turn.turn < (this.#stream.turn ?? Infinity)) : turns;
    const calls = callsOf(turns.flatMap(turn => [...(turn.input ?? []), ...(turn.output ?? [])]));
    const waiting = this.#stream || this.#tip !== this.#tree.newest ? [] : waitingCalls(turns);
    this.#title.textContent = turns.find(turn => turn.query)?.query.slice(0, 80) ?? "Conversation";
    fill(
      this.#turns,
      isCut && h("p", { class: "quiet center" }, "Earlier turns…"),
      shown.map(turn => chatTurn(turn, this.#tree.siblings(turn.turn), this.#actions, calls)),
      waiting.length > 0 && toolOutputs(waiting, outputs => this.#answerCalls(outputs)),
      this.#running?.element,
    );
    if (isCut && this.#scroller.scrollHeight <= this.#scroller.clientHeight + 200) this.#older();
  }

  #running = null;

  #actions = {
    edit: (turn, text) => this.#ask(text, turn.parent),
    retry: turn => this.#ask(turn.query, turn.parent, turn.agent_type),
    fork: turn =>
      attempt(async () => {
        const copy = await call("POST", sessionPath(this.#id, "/fork"), {
          body: { after_turn: turn.turn },
          query: ownerQuery(this.#user),
        });
        say("A copy up to that turn.");
        location.hash = this.#address(copy.session_id);
      }),
    inspect: turn => showTurnContext(this.#id, turn.turn, ownerQuery(this.#user)),
    go: turn => {
      this.#tip = this.#tree.tipOf(turn);
      this.#draw();
      this.#turns.querySelector(`[data-turn="${turn}"]`)?.scrollIntoView({ block: "nearest" });
    },
  };

  #ask(query, after, agent) {
    if (this.#stream) return;
    const elsewhere = after ?? (this.#tip !== this.#tree.newest ? this.#tip : undefined);
    if (after !== undefined) this.#tip = after;
    this.#listen(
      new TurnStream({
        query,
        thread_id: this.#id ?? undefined,
        user_id: this.#user || undefined,
        agent_type: agent ?? this.#composer.agent,
        after_turn: elsewhere,
      }),
    );
    this.#draw();
    this.#toEnd();
  }

  #listen(stream) {
    this.#stream = stream;
    this.#running = new RunningTurn(stream);
    if (!this.#turns.querySelector(".turn")) fill(this.#turns);
    this.#turns.append(this.#running.element);
    this.#composer.isRunning = true;
    stream.addEventListener("end", () => this.#ended(stream));
    stream.addEventListener("change", () => this.#named(stream));
    stream.run();
  }

  // Now the session has a name, and the page an address.
  #named(stream) {
    if (stream !== this.#stream || this.#id || !stream.sessionId) return;
    this.#id = stream.sessionId;
    history.replaceState(null, "", this.#address(this.#id));
    this.#recent.show(this.#id);
  }

  async #ended(stream) {
    if (stream !== this.#stream) return;
    this.#leave();
    if (stream.error) {
      this.#turns.append(
        failedTurn(stream.body, stream.error, () => this.#ask(stream.body.query, stream.body.after_turn, stream.body.agent_type)),
      );
      this.#toEnd();
    } else {
      this.#next = null;
      const stuck = this.#isAtEnd();
      await attempt(async () => {
        await this.#history();
        this.#tip = stream.result.metadata.turn;
        this.#composer.agent = stream.result.agent_type;
        this.#draw();
      });
      if (stuck) this.#toEnd();
    }
    this.#recent.show(this.#id);
    this.#composer.focus();
  }

  #leave() {
    this.#stream?.leave();
    TurnStream.forget();
    this.#running?.element.remove();
    this.#stream = this.#running = null;
    this.#composer.isRunning = false;
  }

  async #halt() {
    const id = this.#stream?.sessionId;
    if (id) await attempt(() => call("POST", sessionPath(id, "/cancel"), { query: ownerQuery(this.#user) }));
  }

  async #answerCalls(outputs) {
    await attempt(async () => {
      await call("POST", sessionPath(this.#id, "/turns"), {
        body: { input: outputs, agent_type: this.#composer.agent ?? "client", user_id: this.#user || undefined },
      });
      this.#next = null;
      await this.#history();
      this.#tip = this.#tree.newest;
      this.#draw();
      this.#toEnd();
    });
  }

  #address = id => chatAddress(id, this.#user);

  #isAtEnd = () => this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight < 120;

  #wasAtEnd = true;

  // Goes along with what grows, unless somebody reads further up.
  #stick() {
    if (this.#wasAtEnd) this.#toEnd();
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#scroller.onscroll = () => {
      this.#wasAtEnd = this.#isAtEnd();
    };
    this.#wasAtEnd = true;
  }
}

customElements.define("chat-page", ChatPage);
