// A session's own metadata, as JSON; saved only where nobody has changed the session meanwhile.
import { fill, h } from "./dom.js";
import { request, sessionPath } from "./api.js";
import { say } from "./dialogs.js";

const SERVERS = ["query_count", "last_query", "last_agent_type", "created_from"];

export function metadataEditor(session, etag, query) {
  let stored = own(session);
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const save = h("button", { type: "submit", class: "button", disabled: true }, "Save");
  const input = h("textarea", {
    class: "code",
    rows: 2,
    spellcheck: "false",
    "aria-label": "Metadata as JSON",
    value: write(stored),
    oninput: () => {
      save.disabled = false;
      wrong.hidden = true;
      fit();
    },
  });
  const fit = () => {
    input.rows = Math.min(14, input.value.split("\n").length + 1);
  };
  fit();

  const fail = text => {
    fill(wrong, text);
    wrong.hidden = false;
  };
  return h(
    "form",
    {
      class: "metadata",
      onsubmit: async event => {
        event.preventDefault();
        let wanted;
        try {
          wanted = JSON.parse(input.value || "{}");
        } catch (error) {
          fail(`That is not JSON: ${error.message}`);
          return;
        }
        if (wanted === null || typeof wanted !== "object" || Array.isArray(wanted)) {
          fail("Metadata is a JSON object.");
          return;
        }
        try {
          const response = await request("PATCH", sessionPath(session.session_id), {
            body: { metadata: difference(stored, wanted) },
            headers: { "If-Match": etag },
            query,
          });
          etag = response.headers.get("ETag");
          stored = own(await response.json());
          input.value = write(stored);
          save.disabled = true;
          say("Saved.");
        } catch (error) {
          fail(
            error.code === "version_mismatch"
              ? "The session has changed meanwhile: nothing was saved. Open it again to see what it is now."
              : error.message,
          );
        }
      },
    },
    input,
    wrong,
    h("p", { class: "row" }, save),
  );
}

const own = session => Object.fromEntries(Object.entries(session.metadata).filter(([name]) => !SERVERS.includes(name)));

const write = metadata => JSON.stringify(metadata, null, 2);

/** The merge patch (RFC 7396) that makes one object of another. */
export function difference(from, to) {
  // Names are the client's: "constructor" and "__proto__" are names like any other.
  const before = new Map(Object.entries(from));
  const patch = new Map();
  for (const name of before.keys()) if (!Object.hasOwn(to, name)) patch.set(name, null);
  for (const [name, value] of Object.entries(to)) {
    const old = before.get(name);
    if (isObject(value) && isObject(old)) {
      const inner = difference(old, value);
      if (Object.keys(inner).length > 0) patch.set(name, inner);
    } else if (JSON.stringify(value) !== JSON.stringify(old)) {
      patch.set(name, value);
    }
  }
  return Object.fromEntries(patch);
}

const isObject = value => value !== null && typeof value === "object" && !Array.isArray(value);
