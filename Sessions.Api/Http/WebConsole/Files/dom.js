// The only way in which this console makes elements: every text becomes a text node, and is never read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. Keys that begin with "on" are listeners, `class` and other names attributes; `value`, `checked` are properties. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  return add(element, children);
}

/** Makes an element of a drawing. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value !== undefined) element.setAttribute(name, value);
  return add(element, children);
}

/** Replaces everything in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** A button that is an icon; the label is for those who don't see it, and for those who wonder. */
export function iconButton(label, icon, onclick, props) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon);
}

function set(element, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "value" || name === "checked" || name === "selected" || name === "indeterminate") element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

let ids = 0;

/** An id that nothing else on the page has. */
export const newId = prefix => `${prefix}-${++ids}`;

/** Calls once after things have been quiet for a while. */
export function debounce(milliseconds, action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), milliseconds);
  };
}
