// A session: what is known of it, its metadata, its turns on all branches; and what can be done with it.
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { call, get, request, save, sessionPath } from "./api.js";
import { mayChat, ownerQuery, sessionAddress } from "./state.js";
import { fromNow, plural, time } from "./format.js";
import { chatTurn } from "./chat-turn.js";
import { metadataEditor } from "./metadata-editor.js";
import { showTurnContext } from "./turn-context.js";
import { chatAddress } from "./recent-sessions.js";
import { TurnStream } from "./stream.js";
import { attempt, button, confirmRemoval, problemBox, say } from "./dialogs.js";

const PAGE = 50;

/** Shows a session. `host` is told when it is gone. */
export function showSession(id, user, host) {
  const box = h("div", { class: "session", "aria-busy": "true" }, h("p", { class: "quiet" }, "Loading…"));
  if (!mayChat()) {
    fill(box, back(), h("p", {}, "This key lists sessions; it does not open them. A key with the scope service does."));
    box.removeAttribute("aria-busy");
    return box;
  }
  open(box, id, ownerQuery(user), host)
    .catch(error => fill(box, back(), problemBox(error)))
    .finally(() => box.removeAttribute("aria-busy"));
  return box;
}

async function open(box, id, query, host) {
  const response = await request("GET", sessionPath(id), { query });
  const session = await response.json();
  const turns = h("div", { class: "turns" });
  fill(
    box,
    back(),
    h(
      "header",
      {},
      h(
        "h2",
        { dir: "auto" },
        session.metadata.last_query || (session.metadata.query_count > 0 ? "A turn without a text" : "A session without turns"),
      ),
      h("p", { class: "id" }, h("code", { dir: "auto" }, id)),
    ),
    h(
      "p",
      { class: "row actions" },
      h("a", { class: "button primary", href: chatAddress(id, session.user_id) }, icon("chat"), "Open in chat"),
      button("fork", "Fork", () => fork(box, id, query)),
      button("download", "Export", () => exportSession(session, query)),
      button("trash", "Delete", () => remove(box, session, query, host), "danger-quiet"),
    ),
    facts(session),
    h("section", {}, h("h3", {}, "Metadata"), metadataEditor(session, response.headers.get("ETag"), query)),
    h("section", {}, h("h3", {}, "Turns"), turns),
  );
  await showTurns(turns, id, query, null);
}

function facts(session) {
  const { context, metadata } = session;
  return h(
    "dl",
    { class: "facts" },
    h("dt", {}, "User"),
    h(
      "dd",
      { dir: "auto" },
      session.user_id ? h("a", { href: `#/users/${encodeURIComponent(session.user_id)}` }, session.user_id) : "nobody",
    ),
    h("dt", {}, "Turns"),
    h("dd", {}, plural(metadata.query_count, "turn")),
    h("dt", {}, "Agent"),
    h("dd", {}, [metadata.last_agent_type, context.last_agent_used].filter(Boolean).join(" · ") || "–"),
    h("dt", {}, "Created"),
    h("dd", {}, `${time(session.created_at)} · by ${metadata.created_from}`),
    h("dt", {}, "Last used"),
    h("dd", {}, time(session.last_activity_at)),
    h("dt", {}, "Expires"),
    h("dd", {}, `${time(session.expires_at)} · ${fromNow(session.expires_at)}`),
    h("dt", {}, "Failures"),
    h(
      "dd",
      {},
      context.error_count === 0
        ? "none"
        : [plural(context.error_count, "failure"), h("span", { class: "last-error", dir: "auto" }, context.last_error)],
    ),
    h("dt", {}, "Version"),
    h("dd", {}, session.version),
  );
}

// Newest first, all branches; what a turn goes on from is said where it is not the one before it.
async function showTurns(box, id, query, after) {
  const page = await get(sessionPath(id, "/history"), { branches: "all", include: "items", order: "desc", limit: PAGE, after, ...query });
  box.append(
    ...page.turns.map(turn =>
      h(
        "div",
        { class: "numbered" },
        h(
          "p",
          { class: "number" },
          h("span", {}, `Turn ${turn.turn}`),
          turn.after_turn !== undefined &&
            h("span", { class: "chip" }, turn.after_turn === 0 ? "a branch from the start" : `a branch from turn ${turn.after_turn}`),
          turn.status !== "completed" && h("span", { class: "chip" }, turn.status),
        ),
        chatTurn(turn, [turn.turn], {
          inspect: () => showTurnContext(id, turn.turn, query),
          fork: () => fork(box, id, query, turn.turn),
        }),
      ),
    ),
  );
  if (page.turns.length === 0 && after === null) box.append(h("p", { class: "quiet" }, "None yet."));
  if (page.has_more) {
    const more = h(
      "button",
      {
        type: "button",
        class: "button wide",
        onclick: () =>
          attempt(async () => {
            await showTurns(box, id, query, page.next);
            more.remove();
          }),
      },
      "Earlier turns",
    );
    box.append(more);
  }
}

const back = () => h("a", { class: "button quiet back", href: "#/sessions" }, icon("back"), "All sessions");

// Somebody may have gone on meanwhile, and is left there.
async function fork(box, id, query, turn) {
  const copy = await call("POST", sessionPath(id, "/fork"), { body: turn ? { after_turn: turn } : {}, query });
  say(turn ? `A copy up to turn ${turn}.` : "A copy.");
  if (box.isConnected) location.hash = sessionAddress(copy.session_id, copy.user_id);
}

// The session and its turns with their items, a line each.
async function exportSession(session, query) {
  const lines = [JSON.stringify({ session })];
  let after = null;
  do {
    const page = await get(sessionPath(session.session_id, "/history"), {
      branches: "all",
      include: "items",
      limit: 100,
      after,
      ...query,
    });
    lines.push(...page.turns.map(turn => JSON.stringify({ session_id: session.session_id, turn })));
    after = page.next;
  } while (after);
  save(`${session.session_id}.ndjson`, new Blob([`${lines.join("\n")}\n`], { type: "application/x-ndjson" }));
}

async function remove(box, session, query, host) {
  const body = h(
    "div",
    {},
    h(
      "p",
      {},
      "This removes the session ",
      h("code", { dir: "auto" }, session.session_id),
      session.user_id && [" of ", h("strong", { dir: "auto" }, session.user_id)],
      ":",
    ),
    h(
      "ul",
      {},
      h("li", {}, `${plural(session.metadata.query_count, "turn")}, on all branches, with everything that was said and called in them`),
      h("li", {}, "its metadata, its summary, its idempotency keys"),
    ),
    h("p", {}, "A turn that is running on it is not kept. Forks of it stay. It can't be brought back."),
  );
  if (await confirmRemoval({ title: "Delete this session?", body, action: "Delete" })) {
    await call("DELETE", sessionPath(session.session_id), { query });
    TurnStream.forget(session.session_id);
    say("The session is gone.");
    host.dispatchEvent(new CustomEvent("gone", { detail: { isOpen: box.isConnected } }));
  }
}
