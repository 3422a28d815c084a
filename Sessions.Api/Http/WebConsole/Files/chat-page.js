// Chat: the conversations of late on one side, the one that is open on the other.
import { fill, h } from "./dom.js";
import { call, sessionPath } from "./api.js";
import { actingFor, ownerQuery, sessionAddress } from "./state.js";
import { RecentSessions, chatAddress } from "./recent-sessions.js";
import { chatFrame, earlierTurns } from "./chat-frame.js";
import { RunningTurn, chatTurn, failedTurn, welcome } from "./chat-turn.js";
import { TurnStream } from "./stream.js";
import { TurnTree, readTurns } from "./turn-tree.js";
import { callsOf, waitingCalls } from "./items.js";
import { toolOutputs } from "./tool-outputs.js";
import { showTurnContext } from "./turn-context.js";
import { attempt, problemBox, say } from "./dialogs.js";
import "./composer.js";

class ChatPage extends HTMLElement {
  #recent = new RecentSessions();
  #turns = h("div", { class: "turns" });
  #scroller = h("div", { class: "scroller" });
  #composer = document.createElement("chat-composer");
  #title = h("h1", { dir: "auto" }, "New conversation");
  // Of the conversation that is open: each opening has one of its own, and what was asked for another is dropped.
  #tree = new TurnTree();
  #next = null;
  #tip = 0;
  #id = null;
  #user = "";
  #stream = null;
  #isLoading = false;

  connectedCallback() {
    if (this.#turns.isConnected) return;
    this.#scroller.append(this.#turns);
    this.append(
      ...chatFrame(this.classList, this.#recent.element, this.#title, [this.#scroller, this.#composer], () => {
        if (this.#id) location.hash = sessionAddress(this.#id, this.#user);
      }),
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
    this.#tree = new TurnTree();
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
    [this.#next, this.#tip, this.#isLoading] = [null, 0, false];
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
    try {
      const page = await this.#history();
      if (!page) return;
      this.#tip = this.#stream?.body.after_turn ?? this.#tree.newest;
      this.#draw();
      this.#toEnd();
      const last = page.turns[0];
      if (last) this.#composer.agent = last.agent_type;
    } catch (error) {
      // A turn that begins a session runs before there is one.
      if (!(error.status === 404 && this.#stream))
        fill(this.#turns, problemBox(error, h("a", { class: "button", href: "#/chat" }, "New conversation")));
    }
  }

  // Gives nothing, also where it failed, once another conversation is open.
  async #history() {
    const tree = this.#tree;
    try {
      const page = await readTurns(this.#id, this.#next, ownerQuery(this.#user));
      if (tree !== this.#tree) return null;
      tree.add(page.turns);
      this.#next = page.next;
      return page;
    } catch (error) {
      if (tree !== this.#tree) return null;
      throw error;
    }
  }

  async #older() {
    if (this.#isLoading || !this.#next || !this.#tree.path(this.#tip).isCut) return;
    const tree = this.#tree;
    this.#isLoading = true;
    const page = await attempt(() => this.#history());
    if (tree !== this.#tree) return;
    this.#isLoading = false;
    if (!page) return;
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    this.#draw();
    this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
    // What came may all be of other branches: nothing moves then, and nobody scrolls.
    if (this.#scroller.scrollTop < 200) this.#older();
  }

  #draw() {
    const { turns, isCut } = this.#tree.path(this.#tip);
    const shown = this.#stream ? turns.filter(turn => turn.turn < (this.#stream.turn ?? Infinity)) : turns;
    const calls = callsOf(turns.flatMap(turn => [...(turn.input ?? []), ...(turn.output ?? [])]));
    const waiting = this.#stream || this.#tip !== this.#tree.newest ? [] : waitingCalls(turns);
    this.#title.textContent = turns.find(turn => turn.query)?.query.slice(0, 80) ?? "Conversation";
    fill(
      this.#turns,
      isCut && earlierTurns(() => this.#older()),
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
        const tree = this.#tree;
        const copy = await call("POST", sessionPath(this.#id, "/fork"), {
          body: { after_turn: turn.turn },
          query: ownerQuery(this.#user),
        });
        say("A copy up to that turn.");
        if (tree === this.#tree) location.hash = this.#address(copy.session_id);
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
    stream.addEventListener("begin", () => stream.isHalted && this.#cancel(stream));
    stream.run();
  }

  // Now the session has a name, and the page an address. It has another where a store in memory was lost with its server.
  #named(stream) {
    if (stream !== this.#stream || !stream.sessionId || stream.sessionId === this.#id) return;
    this.#id = stream.sessionId;
    history.replaceState(null, "", this.#address(this.#id));
    this.#recent.show(this.#id);
  }

  async #ended(stream) {
    if (stream !== this.#stream) return;
    this.#leave();
    if (stream.error) {
      this.#turns.append(failedTurn(stream.body, stream.error, () => this.#askAgain(stream)));
      this.#toEnd();
    } else {
      const tree = this.#tree;
      this.#next = null;
      const stuck = this.#isAtEnd();
      const page = await attempt(() => this.#history());
      if (tree !== this.#tree) return;
      if (page) {
        this.#tip = stream.result.metadata.turn;
        this.#composer.agent = stream.result.agent_type;
        this.#draw();
      }
      if (stuck) this.#toEnd();
    }
    this.#recent.show(this.#id);
    this.#composer.focus();
  }

  #askAgain(failed) {
    if (this.#stream) return;
    if (failed.body.after_turn !== undefined) this.#tip = failed.body.after_turn;
    this.#listen(failed.again());
    this.#draw();
    this.#toEnd();
  }

  #leave() {
    this.#stream?.leave();
    TurnStream.forget();
    this.#running?.element.remove();
    this.#stream = this.#running = null;
    this.#composer.isRunning = false;
  }

  #halt() {
    const stream = this.#stream;
    stream?.halt();
    if (stream && stream.turn !== null) this.#cancel(stream);
  }

  async #cancel({ sessionId, body }) {
    await attempt(() => call("POST", sessionPath(sessionId, "/cancel"), { query: ownerQuery(body.user_id) }));
  }

  async #answerCalls(outputs) {
    const tree = this.#tree;
    await attempt(async () => {
      await call("POST", sessionPath(this.#id, "/turns"), {
        body: { input: outputs, agent_type: this.#composer.agent ?? "client", user_id: this.#user || undefined },
      });
      if (tree !== this.#tree) return;
      this.#next = null;
      if (!(await this.#history())) return;
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
