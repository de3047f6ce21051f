// Elements without markup in text: everything that comes from outside becomes text nodes and attributes, nothing else.

const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

// What is shown instead of all there was; nothing stands for nothing.
export const show = (parent, ...children) => parent.replaceChildren(...children.flat().filter((one) => one !== null && one !== undefined && one !== false && one !== ""));

export const h = (name, attributes, ...children) => build(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => build(document.createElementNS(SVG, name), attributes, children);

// Only what differs is written, so what stands still is neither laid out nor read out again.
export function say(element, text) {
  const said = String(text);
  if (element.textContent !== said) element.textContent = said;
}

export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

// Children by key: those that stay keep their element, focus and place; `make` builds one, `fill` writes its values.
export function list(parent, items, keyOf, make, fill) {
  const known = parent.known || (parent.known = new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, part] of known) {
    if (!wanted.has(key)) { part.element.remove(); known.delete(key); }
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let part = known.get(key);
    if (!part) known.set(key, (part = make(item)));
    if (part.element === place) place = place.nextElementSibling;
    else parent.insertBefore(part.element, place);
    fill(part, item);
  }
}

export function badge(state) { return h("span", { class: "badge", "data-is": KINDS[state] || null }, state); }

export function setBadge(element, state) { say(element, state); mark(element, "data-is", KINDS[state]); }

const KINDS = {
  ready: "good", full: "warn", doubt: "warn", degraded: "warn", draining: "warn", "not ready": "bad", deaf: "bad",
  silent: "bad", unasked: "warn", done: "good", queued: null, running: "run", retry: "warn", dead: "bad", cancelled: null,
  connected: "good", behind: "warn", moving: "run", away: null, lost: "bad",
};

// A line of the last minutes. Its box has one size from the start.
export function spark() {
  const area = svg("polygon"), line = svg("polyline");
  const element = svg("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  return { element, draw(points) {
    if (points.length < 2) return;
    const most = Math.max(...points), least = Math.min(0, ...points), span = most - least || 1, from = 90 - points.length;
    const said = points.map((value, at) => `${((from + at) / 89 * 100).toFixed(1)},${(27 - (value - least) / span * 25).toFixed(1)}`);
    line.setAttribute("points", said.join(" "));
    area.setAttribute("points", `${(from / 89 * 100).toFixed(1)},28 ${said.join(" ")} 100,28`);
  } };
}

export function toast(text, kind) {
  const shown = h("p", { "data-is": kind || null }, text);
  document.querySelector(".toasts").append(shown);
  setTimeout(() => shown.remove(), kind === "bad" ? 9000 : 5000);
}
