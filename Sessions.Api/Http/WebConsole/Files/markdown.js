// Markdown, as models write it, into elements. What is HTML in it stays text. docs/console.md says what is understood.
import { h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { copy } from "./dialogs.js";
import { inline } from "./inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]{0,40})/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])( +|$)/;
const TABLE = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const MAX_DEPTH = 6;
const MAX_RULE = 1000;

/** How much is shown at first, and with each step after that: a page stays quick however long an answer is. */
const STEP = 48 * 1024;

/** Renders a text; what is very long is shown in steps. */
export function markdown(text) {
  const root = h("div", { class: "markdown" });
  showMore(root, text, 0);
  return root;
}

function showMore(root, text, from) {
  let end = text.length;
  if (end - from > STEP * 1.5) {
    end = text.lastIndexOf("\n\n", from + STEP);
    if (end <= from) end = from + STEP;
  }
  blocks(root, text.slice(from, end).split("\n"), 0);
  if (end < text.length) {
    const more = h(
      "button",
      {
        type: "button",
        class: "button more",
        onclick: () => {
          more.remove();
          showMore(root, text, end);
        },
      },
      `Show more (${Math.ceil((text.length - end) / 1024)} KiB left)`,
    );
    root.append(more);
  }
}

/** A text that grows: what is settled is not touched again. */
export class GrowingMarkdown {
  element = h("div", { class: "markdown" });
  #settled = 0;
  #tail = h("div", { class: "tail" });

  constructor() {
    this.element.append(this.#tail);
  }

  update(text) {
    if (text.length < this.#settled) {
      this.#settled = 0;
      this.element.replaceChildren(this.#tail);
    }
    const end = settledEnd(text, this.#settled);
    if (end > this.#settled) {
      const part = h("div");
      blocks(part, text.slice(this.#settled, end).split("\n"), 0);
      this.#tail.before(...part.childNodes);
      this.#settled = end;
    }
    this.#tail.replaceChildren();
    const rest = text.slice(this.#settled);
    if (rest.length > STEP) this.#tail.append(h("p", { dir: "auto" }, rest.slice(-STEP)));
    else blocks(this.#tail, rest.split("\n"), 0);
  }
}

// Behind the last empty line that is not within code.
function settledEnd(text, from) {
  let end = from;
  let fence = null;
  for (let at = from; at < text.length;) {
    const next = text.indexOf("\n", at);
    if (next < 0) break;
    const line = text.slice(at, next);
    const mark = FENCE.exec(line)?.[1];
    if (mark && !fence) fence = mark;
    else if (mark && mark[0] === fence[0] && mark.length >= fence.length) fence = null;
    else if (!fence && line.trim() === "") end = next + 1;
    at = next + 1;
  }
  return end;
}

function blocks(parent, lines, depth) {
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    let match;
    if (line.trim() === "") {
      i++;
    } else if ((match = FENCE.exec(line))) {
      i = code(parent, lines, i, match);
    } else if ((match = HEADING.exec(line))) {
      // One page has one first heading, and it is not the model's.
      const heading = h(`h${Math.min(6, match[1].length + 2)}`, { class: `h${match[1].length}`, dir: "auto" });
      inline(heading, match[2].trimEnd());
      parent.append(heading);
      i++;
    } else if (RULE.test(line)) {
      parent.append(h("hr"));
      i++;
    } else if (/^ {0,3}>/.test(line) && depth < MAX_DEPTH) {
      const quoted = [];
      for (; i < lines.length && lines[i].trim() !== "" && (/^ {0,3}>/.test(lines[i]) || !isBlockStart(lines[i])); i++)
        quoted.push(lines[i].replace(/^ {0,3}> ?/, ""));
      const quote = h("blockquote", { dir: "auto" });
      blocks(quote, quoted, depth + 1);
      parent.append(quote);
    } else if (ITEM.test(line) && depth < MAX_DEPTH) {
      i = list(parent, lines, i, depth);
    } else if (line.includes("|") && (lines[i + 1]?.length ?? 0) < MAX_RULE && TABLE.test(lines[i + 1] ?? "")) {
      i = table(parent, lines, i);
    } else {
      const start = i++;
      while (i < lines.length && lines[i].trim() !== "" && !isBlockStart(lines[i])) i++;
      const paragraph = h("p", { dir: "auto" });
      inline(paragraph, lines.slice(start, i).join("\n"));
      parent.append(paragraph);
    }
  }
}

const isBlockStart = line => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || /^ {0,3}>/.test(line) || ITEM.test(line);

function code(parent, lines, start, [, mark, language]) {
  let end = start + 1;
  while (end < lines.length && !(lines[end].trim().startsWith(mark) && lines[end].trim().replaceAll(mark[0], "") === "")) end++;
  const text = lines.slice(start + 1, end).join("\n");
  parent.append(
    h(
      "figure",
      { class: "code" },
      h("figcaption", {}, h("span", {}, language || "text"), iconButton("Copy code", icon("copy"), () => copy(text))),
      h("pre", { tabindex: 0, role: "region", "aria-label": `Code${language ? ` in ${language}` : ""}` }, h("code", {}, text)),
    ),
  );
  return end + 1;
}

function list(parent, lines, start, depth) {
  const [, indent, sign] = ITEM.exec(lines[start]);
  const isOrdered = /\d/.test(sign);
  const element = h(isOrdered ? "ol" : "ul", isOrdered && parseInt(sign, 10) !== 1 ? { start: parseInt(sign, 10) } : {});
  let i = start;
  while (i < lines.length) {
    const match = ITEM.exec(lines[i]);
    if (
      !match ||
      match[1].length > indent.length + 1 ||
      match[1].length < indent.length ||
      /\d/.test(match[2]) !== isOrdered ||
      RULE.test(lines[i])
    )
      break;
    const width = match[0].length;
    const inner = [lines[i++].slice(width)];
    while (i < lines.length) {
      const isEmpty = lines[i].trim() === "";
      const isInner = /^\s*/.exec(lines[i])[0].length >= Math.min(width, indent.length + 2);
      if (isEmpty ? !/^ {2,}\S/.test(lines[i + 1] ?? "") : !isInner && (isBlockStart(lines[i]) || lines[i - 1].trim() === "")) break;
      inner.push(isInner ? lines[i].slice(Math.min(width, /^\s*/.exec(lines[i])[0].length)) : lines[i]);
      i++;
    }
    const task = /^\[([ xX])\] /.exec(inner[0]);
    const item = h("li", { dir: "auto", class: task ? "task" : undefined });
    if (task) {
      inner[0] = inner[0].slice(4);
      item.append(
        h("span", { class: "box", role: "img", "aria-label": task[1] === " " ? "open" : "done" }, task[1] === " " ? "☐" : "☑"),
        " ",
      );
    }
    blocks(item, inner, depth + 1);
    unwrap(item);
    element.append(item);
    // One empty line between two entries is one list still.
    if (lines[i]?.trim() === "" && ITEM.test(lines[i + 1] ?? "")) i++;
  }
  parent.append(element);
  return i;
}

// An entry of one paragraph is no paragraph.
function unwrap(item) {
  const paragraphs = [...item.children].filter(child => child.tagName === "P");
  if (paragraphs.length === 1) paragraphs[0].replaceWith(...paragraphs[0].childNodes);
}

function table(parent, lines, start) {
  const cells = line =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split("|")
      .slice(0, 40);
  const aligned = cells(lines[start + 1]).map(cell =>
    /^\s*:-+:\s*$/.test(cell) ? "center" : /-+:\s*$/.test(cell) ? "right" : undefined,
  );
  const row = (line, tag) =>
    h(
      "tr",
      {},
      cells(line).map((text, i) => {
        const cell = h(tag, { dir: "auto", class: aligned[i], scope: tag === "th" ? "col" : undefined });
        inline(cell, text.trim());
        return cell;
      }),
    );
  const body = h("tbody");
  let i = start + 2;
  for (; i < lines.length && lines[i].includes("|") && lines[i].trim() !== ""; i++) body.append(row(lines[i], "td"));
  parent.append(
    h(
      "div",
      { class: "table", tabindex: 0, role: "region", "aria-label": "Table" },
      h("table", {}, h("thead", {}, row(lines[start], "th")), body),
    ),
  );
  return i;
}
