// Markdown within a line. Linear: where something has no end, that is looked for once.
import { h } from "./dom.js";

const SAFE = /^(?:https?:\/\/|mailto:)[^\s<>"'`]*$/i;
const AUTO = /^https?:\/\/[^\s<>"'`]+/i;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const MAX_DEPTH = 8;
const MAX_LABEL = 500;
const MAX_URL = 2000;
const MARKS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "del"],
  ["*", "em"],
  ["_", "em"],
];

/** Whether an address may be a link: only what a browser opens as a page, or as a letter. */
export const isSafe = url => SAFE.test(url);

/** A link to another page, which is told nothing of this one. */
export function link(url, ...children) {
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", dir: "auto" }, ...children);
}

/** Appends a text with its marks to an element. */
export function inline(parent, text, depth = 0) {
  const missing = new Set();
  let plain = "";
  const flush = () => {
    if (plain) parent.append(plain);
    plain = "";
  };

  // Where the text next occurs, told by what is known not to occur any more.
  const find = (what, from) => {
    if (missing.has(what)) return -1;
    const at = text.indexOf(what, from);
    if (at < 0) missing.add(what);
    return at;
  };

  for (let i = 0; i < text.length;) {
    const char = text[i];
    let end = -1;
    if (char === "\\" && ESCAPABLE.test(text[i + 1] ?? "")) {
      plain += text[i + 1];
      i += 2;
      continue;
    }
    if (char === "\n") {
      const isBreak = /(?: {2,}|\\)$/.test(plain.slice(-40));
      plain = plain.replace(/[ \\]{0,40}$/, "");
      flush();
      parent.append(isBreak ? h("br") : "\n");
      i++;
      continue;
    }
    if (char === "`") {
      let run = 1;
      while (run < 9 && text[i + run] === "`") run++;
      end = run < 9 ? find("`".repeat(run), i + run) : -1;
      if (end >= 0) {
        flush();
        parent.append(
          h(
            "code",
            { dir: "auto" },
            text
              .slice(i + run, end)
              .replaceAll("\n", " ")
              .trim(),
          ),
        );
        i = end + run;
        continue;
      }
      plain += "`".repeat(run);
      i += run;
      continue;
    }
    if ((char === "[" || (char === "!" && text[i + 1] === "[")) && depth < MAX_DEPTH) {
      const open = char === "!" ? i + 1 : i;
      const found = readLink(text, open, find);
      if (found) {
        flush();
        const label = h("span");
        inline(label, found.label || found.url, depth + 1);
        // An image is a link: nothing is fetched from elsewhere because a model said so.
        parent.append(
          isSafe(found.url)
            ? link(found.url, ...label.childNodes)
            : h("span", { class: "unlinked", title: "Not a link that is opened from here" }, ...label.childNodes),
        );
        i = found.end;
        continue;
      }
    }
    if (char === "<" && /^<(?:https?:|mailto:)/i.test(text.slice(i, i + 10))) {
      const url = text.slice(i + 1, i + MAX_URL).split(">", 1)[0];
      if (isSafe(url) && text[i + 1 + url.length] === ">") {
        flush();
        parent.append(link(url, url));
        i += url.length + 2;
        continue;
      }
    }
    if ((char === "h" || char === "H") && !/\w/.test(text[i - 1] ?? "")) {
      const url = AUTO.exec(text.slice(i, i + MAX_URL))?.[0].replace(/[.,;:!?)\]}*_~]+$/, "");
      if (url && isSafe(url)) {
        flush();
        parent.append(link(url, url));
        i += url.length;
        continue;
      }
    }
    const mark = depth < MAX_DEPTH && MARKS.find(([sign]) => text.startsWith(sign, i));
    if (mark) {
      end = closing(text, mark[0], i, find);
      if (end > 0) {
        flush();
        const element = h(mark[1]);
        inline(element, text.slice(i + mark[0].length, end), depth + 1);
        parent.append(element);
        i = end + mark[0].length;
        continue;
      }
      plain += mark[0];
      i += mark[0].length;
      continue;
    }
    plain += char;
    i++;
  }
  flush();
}

// A mark opens before a word and closes behind one; underscores not within words.
function closing(text, sign, at, find) {
  const start = at + sign.length;
  if (/\s|^$/.test(text[start] ?? "") || (sign[0] === "_" && /\w/.test(text[at - 1] ?? ""))) return -1;
  for (let end = find(sign, start + 1), tries = 0; end > 0 && tries < 100; end = find(sign, end + 1), tries++) {
    const isDoubled = sign.length === 1 && (text[end + 1] === sign || text[end - 1] === sign);
    if (!isDoubled && !/\s/.test(text[end - 1]) && !(sign[0] === "_" && /\w/.test(text[end + sign.length] ?? ""))) return end;
    if (isDoubled && text[end + 1] === sign) end++;
  }
  return -1;
}

function readLink(text, open, find) {
  if (find("](", open) < 0) return null;
  let depth = 0;
  let close = open;
  for (; close < text.length && close - open < MAX_LABEL; close++) {
    if (text[close] === "\\") close++;
    else if (text[close] === "[") depth++;
    else if (text[close] === "]" && --depth === 0) break;
  }
  if (text[close] !== "]" || text[close + 1] !== "(") return null;
  const end = text.slice(close + 2, close + 2 + MAX_URL).indexOf(")");
  if (end < 0) return null;
  const url = text
    .slice(close + 2, close + 2 + end)
    .trim()
    .replace(/\s+["'][^"']*["']$/, "")
    .replace(/^<(.*)>$/, "$1");
  return { label: text.slice(open + 1, close), url, end: close + 3 + end };
}
