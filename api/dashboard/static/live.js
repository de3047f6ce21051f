// The live stream: one flat map of what the fleet is like, and who wants to know when it changes. While the page is
// hidden there is no stream; what is read is read once for everybody.

import { session } from "./api.js";

export const state = new Map();
const TRAIL = 90;
export const trails = { connections: [], sent_per_s: [], ack_ms: [], waiting: [], behind: [] };

const watchers = new Set();
let source = null, devices = "", waiting = false, lastAt = 0, wanted = false, over = () => {}, onStatus = () => {};

export function watch(call) { watchers.add(call); call(); return () => watchers.delete(call); }

export function begin({ whenOver, whenStatus }) {
  over = whenOver; onStatus = whenStatus; wanted = true;
  open();
}

export function end() { wanted = false; close(); state.clear(); }

// Which devices are to be told of: those on the screen.
export function look(ids) {
  const named = [...ids].sort().join(",");
  if (named === devices) return;
  devices = named;
  if (source) { close(); open(); }
}

function close() { if (source) source.close(); source = null; }

function open() {
  if (!wanted || source || document.hidden) return;
  const mine = (source = new EventSource(`/api/v1/dashboard/live${devices ? `?devices=${devices}` : ""}`));
  mine.addEventListener("whole", (event) => { state.clear(); apply(event); });
  mine.addEventListener("patch", apply);
  mine.addEventListener("over", () => { close(); over(); });
  mine.onerror = () => {
    if (source !== mine || mine.readyState !== EventSource.CLOSED) return;
    // It was refused: for a session that is over, or for the moment.
    close();
    setTimeout(async () => {
      try { await session(); open(); } catch (error) { if (error.status === 401) over(); else setTimeout(open, 3000); }
    }, 1000 + Math.random() * 2000);
  };
}

function apply(event) {
  const { set, drop } = JSON.parse(event.data);
  for (const key of drop) state.delete(key);
  for (const [key, value] of Object.entries(set)) state.set(key, value);
  lastAt = performance.now();
  if (!waiting) { waiting = true; requestAnimationFrame(tell); }
}

function tell() {
  waiting = false;
  for (const call of watchers) call();
}

export function under(prefix) {
  const found = [];
  for (const [key, value] of state) if (key.startsWith(prefix)) found.push(value);
  return found;
}

document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });

setInterval(() => {
  if (!wanted || document.hidden) return;
  const store = state.get("store"), quiet = performance.now() - lastAt;
  // The stream itself says something at least every fifteen seconds only when nothing changes.
  onStatus(!lastAt ? "connecting" : !source || source.readyState !== EventSource.OPEN ? (quiet > 6000 ? "lost" : "late") : store && !store.ok ? "late" : "live", store);
  const total = state.get("total");
  if (!total || !source) return;
  for (const [name, trail] of Object.entries(trails)) {
    const value = total[name];
    trail.push((Array.isArray(value) ? value[1] : value) ?? 0);
    if (trail.length > TRAIL) trail.shift();
  }
  tell();
}, 1000);
