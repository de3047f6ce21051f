// The fleet: what matters at the top, hubs as cards, devices as a list that is searched at the server.

import { get } from "./api.js";
import { badge, h, list, mark, say, setBadge, spark } from "./dom.js";
import { age, count, ms, NONE, rate } from "./format.js";
import { planDialog, steering } from "./hubs.js";
import { look, state, trails, under, watch } from "./live.js";

const PAGE = 50;

function tile(name, trail, href) {
  const value = h("span", { class: "v" }, NONE), line = trail ? spark() : null;
  const element = h(href ? "a" : "div", { class: "tile", href }, h("span", { class: "k" }, name), value, line && line.element);
  return { element, set(text, unit, kind) {
    if (value.shown !== text + unit) { value.shown = text + unit; value.replaceChildren(text, unit ? h("small", {}, unit) : ""); }
    mark(element, "data-is", kind);
    if (line) line.draw(trails[trail]);
  } };
}

function hubCard(hub) {
  const name = h("h3", {}, hub.name), word = badge(hub.state), connections = h("b", {}, NONE), of = h("span", { class: "faint" });
  const load = meter(`load of ${hub.name}`, "meter"), progress = meter(`moves of ${hub.name}`, "progressbar");
  const slots = h("dd"), own = h("dd"), others = h("dd"), note = h("p", { class: "note" }), steer = steering(hub.name);
  progress.element.classList.add("thin");
  const element = h("article", { class: "card" },
    h("div", { class: "top" }, name, word, h("button", { type: "button", class: "small", "aria-label": `Move devices of ${hub.name}`, onclick: () => planDialog(hub.name) }, "Move…")),
    h("div", { class: "load" }, connections, of), load.element,
    h("dl", {}, h("div", {}, h("dt", {}, "slots"), slots), h("div", {}, h("dt", {}, "own devices"), own), h("div", {}, h("dt", {}, "of others"), others)),
    h("div", { class: "foot" }, note, steer.element), progress.element);
  return { element, word, connections, of, load, slots, own, others, note, steer, progress };
}

// A bar whose length is a share. Its box has one size whether or not it shows something.
function meter(name, role) {
  const fill = h("i"), element = h("div", { class: "meter", role, "aria-label": name, "aria-valuemin": 0 }, fill);
  return { element, set(value, most, kind) {
    fill.style.transform = `scaleX(${most ? Math.min(1, value / most).toFixed(3) : 0})`;
    mark(element, "aria-valuenow", value);
    mark(element, "aria-valuemax", most);
    mark(element, "data-is", kind);
  } };
}

function fillHub(part, hub) {
  const share = hub.capacity ? hub.connections / hub.capacity : 0, { moving } = hub;
  mark(part.element, "data-is", ["silent", "deaf", "not ready"].includes(hub.state) ? "bad" : ["ready", "full"].includes(hub.state) ? null : "warn");
  setBadge(part.word, hub.state);
  say(part.connections, count(hub.connections));
  say(part.of, `of ${count(hub.capacity)} devices`);
  part.load.set(hub.connections, hub.capacity, share >= 1 ? "bad" : share > 0.88 ? "warn" : null);
  say(part.slots, count(hub.slots));
  say(part.own, count(hub.own));
  say(part.others, count(hub.strangers));
  const said = hubNote(hub);
  say(part.note, said);
  mark(part.note, "title", said);
  const isMoving = Boolean(moving && (moving.left || moving.leaving));
  part.steer.set(moving);
  mark(part.progress.element, "data-idle", isMoving ? null : "");
  part.progress.set(isMoving ? moving.done : 0, isMoving ? moving.left + moving.done : 0, moving && moving.paused ? "warn" : null);
}

function hubNote(hub) {
  if (hub.state === "silent") return `not heard for ${age(hub.silent_s)}`;
  const said = hub.state === "draining" ? [`${count(hub.connections)} devices are still to go`] : [...hub.why], { moving } = hub;
  if (moving && (moving.left || moving.leaving)) {
    said.push(`${count(moving.done)} of ${count(moving.left + moving.done)} told to move${moving.paused ? ", paused" : moving.eta_s > 1 ? `, ${Math.ceil(moving.eta_s)} s left` : ""}`);
    if (moving.leaving) said.push(`${count(moving.leaving)} on their way`);
  } else if (moving && moving.held) said.push("held: half of the hubs vanished at once");
  else if (moving && moving.paused) said.push("moves are paused");
  if (moving) for (const [why, number] of Object.entries(moving.skipped)) said.push(`${count(number)} wait: their hub is ${why}`);
  if (hub.settled === false) said.push("its view of the hubs changes");
  return said.join("; ") || (hub.up_m ? `up ${age(hub.up_m * 60)}` : "up since a moment ago");
}

const COLUMNS = [["Device", "18%"], ["Class", "9%"], ["State", "11%"], ["Hub", "12%"], ["Acked", "12%"], ["Head", "9%"], ["Behind", "9%"], ["Round trip", "10%"], ["Since", "10%"]];
const NUMBERS = new Set(["Acked", "Head", "Behind", "Round trip", "Since"]);

function deviceRow(device) {
  const cells = Object.fromEntries(COLUMNS.map(([name]) => [name, h("td", { "data-label": name, class: NUMBERS.has(name) ? "num" : null })]));
  const word = badge("away");
  cells.Device.append(h("a", { class: "mono", href: `#/jobs?device_id=${device.device_id}`, title: "Its jobs" }, device.device_id));
  cells.State.append(word);
  return { element: h("tr", {}, Object.values(cells)), cells, word };
}

function fillDevice(part, device) {
  const { cells } = part, now = state.get(`dev/${device.device_id}`);
  const hub = now ? now.hub : device.hub, lag = now ? now.lag : device.lag;
  const known = hub && state.get(`hub/${hub}`);
  const gone = hub && known && known.state === "silent";
  setBadge(part.word, !hub ? "away" : gone ? "lost" : now && now.moving ? "moving" : now && now.behind ? "behind" : "connected");
  say(cells.Class, now ? now.class : device.class);
  say(cells.Hub, hub || NONE);
  say(cells.Acked, now ? `${now.epoch}:${now.acked}` : device.position);
  say(cells.Head, count(now ? now.head : device.head));
  say(cells.Behind, count(lag));
  mark(cells.Behind, "data-is", lag > 1000 ? "bad" : lag > 20 ? "warn" : null);
  say(cells["Round trip"], ms(now ? now.rtt_ms : null));
  say(cells.Since, age(now ? now.since_s : null));
}

function devicePanel() {
  const search = h("input", { type: "search", placeholder: "Id begins with…", "aria-label": "Device id begins with", autocomplete: "off", spellcheck: "false", maxlength: 64 });
  const where = h("select", { "aria-label": "State" }, h("option", { value: "" }, "All states"), h("option", { value: "connected" }, "Connected"), h("option", { value: "behind" }, "Behind"), h("option", { value: "away" }, "Away"));
  const hub = h("select", { "aria-label": "Hub" }, h("option", { value: "" }, "All hubs"));
  const body = h("tbody"), more = h("button", { type: "button", hidden: true }, "Next page"), first = h("button", { type: "button", hidden: true }, "First page");
  const said = h("span", { class: "soft", role: "status" });
  const element = h("section", { class: "panel", "aria-labelledby": "devices" },
    h("header", {}, h("h2", { id: "devices" }, "Devices"), h("span", { class: "grow" }), h("div", { class: "filters" }, search, where, hub)),
    h("table", { class: "stack" }, h("caption", { class: "sr" }, "Devices, with where they are and how far behind"),
      h("colgroup", {}, COLUMNS.map(([, width]) => { const col = h("col"); col.style.width = width; return col; })),
      h("thead", {}, h("tr", {}, COLUMNS.map(([name]) => h("th", { scope: "col", class: NUMBERS.has(name) ? "num" : null }, name)))), body),
    h("footer", { class: "late" }, said, h("span", { class: "grow" }), first, more));
  let rows = [], next = null, asked = 0, timer = 0;

  async function load(cursor) {
    const mine = ++asked, query = new URLSearchParams({ limit: PAGE });
    const prefix = search.value.trim().toLowerCase();
    if (prefix) query.set("prefix", prefix);
    if (where.value) query.set("state", where.value);
    if (hub.value) query.set("hub", hub.value);
    if (cursor) query.set("cursor", cursor);
    try {
      let page = await get(`/api/v1/devices?${query}`);
      // A walk may end before it has found a page full; a few more go on from there.
      for (let tries = 0; page.next && page.devices.length < PAGE / 2 && tries < 5 && mine === asked; tries++) {
        query.set("cursor", page.next);
        query.set("limit", PAGE - page.devices.length);
        const following = await get(`/api/v1/devices?${query}`);
        page = { devices: [...page.devices, ...following.devices], next: following.next };
      }
      if (mine !== asked) return;
      rows = page.devices;
      next = page.next;
      first.hidden = !cursor;
      more.hidden = !next;
      say(said, rows.length ? `${count(rows.length)} shown${next ? ", there are more" : ""}` : "");
      look(rows.map((row) => row.device_id));
      draw();
      element.lastElementChild.classList.remove("late");
    } catch (error) {
      if (mine === asked) say(said, error.message);
    }
  }

  function draw() {
    if (!rows.length) {
      body.known = null;
      if (!body.querySelector(".empty")) body.replaceChildren(h("tr", {}, h("td", { class: "empty", colspan: COLUMNS.length }, asked ? "No device is like that." : "")));
      return;
    }
    if (body.querySelector(".empty")) body.replaceChildren();
    list(body, rows, (row) => row.device_id, deviceRow, fillDevice);
  }

  function hubs(names) {
    if (hub.names === names.join()) return;
    hub.names = names.join();
    const chosen = hub.value;
    hub.replaceChildren(h("option", { value: "" }, "All hubs"), ...names.map((name) => h("option", { value: name }, name)));
    hub.value = names.includes(chosen) ? chosen : "";
  }

  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(load, 200); });
  where.addEventListener("change", () => load());
  hub.addEventListener("change", () => load());
  more.addEventListener("click", () => load(next));
  first.addEventListener("click", () => load());
  load();
  return { element, draw, hubs };
}

export function fleet(main) {
  const tiles = {
    connected: tile("Devices connected", "connections"), sent: tile("Events sent", "sent_per_s"), ack: tile("Recorded to acked", "ack_ms"),
    behind: tile("Devices behind", "behind"), waiting: tile("Jobs waiting", "waiting"), dead: tile("Dead jobs", null, "#/jobs?status=dead"),
  };
  const banner = h("p", { class: "banner", role: "alert", hidden: true }), cards = h("div", { class: "cards" }, h("div", { class: "card" }));
  const devices = devicePanel();
  main.append(h("div", { class: "head" }, h("h1", {}, "Fleet"), h("span", { class: "grow" }), h("button", { type: "button", onclick: () => planDialog("") }, "Move devices…")), banner, h("section", { class: "tiles", "aria-label": "Totals" }, Object.values(tiles).map((one) => one.element)),
    h("section", { "aria-label": "Hubs" }, cards), devices.element);

  return watch(() => {
    const total = state.get("total") || {}, store = state.get("store"), dead = state.get("dead");
    banner.hidden = !store || store.ok;
    if (store && !store.ok) say(banner, `Postgres has not answered for ${age(store.silent_s)}; what is shown is as old as that.`);
    tiles.connected.set(count(total.connections), total.devices === undefined || total.devices === null ? "" : `of ${count(total.devices)}`);
    tiles.sent.set(rate(total.sent_per_s), "per s");
    const ack = total.ack_ms ? total.ack_ms[1] : null;
    tiles.ack.set(ms(ack), "p95", ack > 1000 ? "warn" : null);
    tiles.behind.set(count(total.behind), total.backlog ? `${count(total.backlog)} events` : "", total.behind > 0 && ack > 1000 ? "warn" : null);
    tiles.waiting.set(count(total.waiting), total.running === undefined ? "" : `${count(total.running)} running`);
    tiles.dead.set(dead === undefined ? NONE : dead >= 1000 ? "1000+" : count(dead), "", dead ? "bad" : null);
    const hubs = under("hub/").sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
    if (!hubs.length) return;
    if (!cards.known) cards.replaceChildren();
    list(cards, hubs, (hub) => hub.name, hubCard, fillHub);
    devices.hubs(hubs.map((hub) => hub.name));
    devices.draw();
  });
}
