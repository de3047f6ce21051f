// The fleet: what matters at the top, hubs as cards, devices as a list that is searched at the server.

import { get } from "./api.js";
import { badge, h, list, mark, say, setBadge, spark } from "./dom.js";
import { age, count, ms, NONE, rate } from "./format.js";
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

export function hubCard(actions) {
  return (hub) => {
    const name = h("h3", {}, hub.name), word = badge(hub.state), connections = h("b", {}, NONE), of = h("span", { class: "faint" });
    const fill = h("i"), meter = h("div", { class: "meter", role: "meter", "aria-label": `load of ${hub.name}`, "aria-valuemin": 0 }, fill);
    const slots = h("dd"), own = h("dd"), others = h("dd"), note = h("p", { class: "note" });
    const element = h("article", { class: "card" },
      h("div", { class: "top" }, name, word, actions && h("button", { type: "button", class: "small", "aria-label": `Move devices of ${hub.name}`, onclick: () => actions(hub.name) }, "Move…")),
      h("div", { class: "load" }, connections, of), meter,
      h("dl", {}, h("div", {}, h("dt", {}, "slots"), slots), h("div", {}, h("dt", {}, "own devices"), own), h("div", {}, h("dt", {}, "of others"), others)), note);
    return { element, word, connections, of, fill, meter, slots, own, others, note };
  };
}

export function fillHub(part, hub) {
  const share = hub.capacity ? hub.connections / hub.capacity : 0;
  const kind = ["silent", "deaf", "not ready"].includes(hub.state) ? "bad" : ["ready", "full"].includes(hub.state) ? null : "warn";
  mark(part.element, "data-is", kind);
  setBadge(part.word, hub.state);
  say(part.connections, count(hub.connections));
  say(part.of, `of ${count(hub.capacity)} devices`);
  part.fill.style.transform = `scaleX(${Math.min(1, share).toFixed(3)})`;
  mark(part.meter, "data-is", share >= 1 ? "bad" : share > 0.88 ? "warn" : null);
  mark(part.meter, "aria-valuenow", hub.connections);
  mark(part.meter, "aria-valuemax", hub.capacity);
  say(part.slots, count(hub.slots));
  say(part.own, count(hub.own));
  say(part.others, count(hub.strangers));
  say(part.note, hubNote(hub));
}

export function hubNote(hub) {
  if (hub.state === "silent") return `not heard for ${age(hub.silent_s)}`;
  const said = [...hub.why];
  const moving = hub.moving;
  if (moving && (moving.left || moving.leaving)) said.push(`sends ${count(moving.left + moving.leaving)} devices on${moving.paused ? ", paused" : ""}`);
  else if (moving && moving.held) said.push("moves are held: half of the hubs vanished at once");
  else if (moving && moving.paused) said.push("moves are paused");
  if (hub.settled === false) said.push("its view of the hubs changes");
  return said.join("; ") || `up ${age(hub.up_m * 60)}`;
}

const COLUMNS = [["Device", "18%"], ["Class", "9%"], ["State", "11%"], ["Hub", "12%"], ["Acked", "12%"], ["Head", "9%"], ["Behind", "9%"], ["Round trip", "10%"], ["Since", "10%"]];
const NUMBERS = new Set(["Acked", "Head", "Behind", "Round trip", "Since"]);

function deviceRow(device) {
  const cells = Object.fromEntries(COLUMNS.map(([name]) => [name, h("td", { "data-label": name, class: NUMBERS.has(name) ? "num" : null })]));
  const word = badge("away");
  cells.Device.append(h("span", { class: "mono" }, device.device_id));
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
  mark(cells.Behind, "data-is", lag > 100 ? "bad" : lag > 0 ? "warn" : null);
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
    h("footer", {}, said, h("span", { class: "grow" }), first, more));
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
    connected: tile("Devices connected", "connections"), sent: tile("Events sent", "sent_per_s"), ack: tile("Recorded to acked, p95", "ack_ms"),
    behind: tile("Devices behind", "behind"), waiting: tile("Jobs waiting", "waiting"), dead: tile("Dead jobs", null, "#/jobs?status=dead"),
  };
  const banner = h("p", { class: "banner", role: "alert", hidden: true }), cards = h("div", { class: "cards" });
  const devices = devicePanel();
  main.append(h("div", { class: "head" }, h("h1", {}, "Fleet")), banner, h("section", { class: "tiles", "aria-label": "Totals" }, Object.values(tiles).map((one) => one.element)),
    h("section", { "aria-label": "Hubs" }, cards), devices.element);

  return watch(() => {
    const total = state.get("total") || {}, store = state.get("store"), dead = state.get("dead");
    banner.hidden = !store || store.ok;
    if (store && !store.ok) say(banner, `Postgres has not answered for ${age(store.silent_s)}; what is shown is as old as that.`);
    tiles.connected.set(count(total.connections), total.devices === undefined || total.devices === null ? "" : `of ${count(total.devices)}`);
    tiles.sent.set(rate(total.sent_per_s), "per s");
    tiles.ack.set(ms(total.ack_ms), "", total.ack_ms > 1000 ? "warn" : null);
    tiles.behind.set(count(total.behind), total.backlog ? `${count(total.backlog)} events` : "", total.behind > 0 && total.ack_ms > 1000 ? "warn" : null);
    tiles.waiting.set(count(total.waiting), total.running === undefined ? "" : `${count(total.running)} running`);
    tiles.dead.set(dead === undefined ? NONE : dead >= 1000 ? "1000+" : count(dead), "", dead ? "bad" : null);
    const hubs = under("hub/").sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
    list(cards, hubs, (hub) => hub.name, hubCard(null), fillHub);
    devices.hubs(hubs.map((hub) => hub.name));
    devices.draw();
  });
}
