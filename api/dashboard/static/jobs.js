// Jobs as pages of the API's own list; filters stand in the address, so that a list can be sent to somebody.

import { command, get } from "./api.js";
import { badge, h, say, setBadge, toast } from "./dom.js";
import { fillRows, rowOf } from "./flow.js";
import { between, bytes, clock, count, ms } from "./format.js";

const PAGE = 50;
const COLUMNS = [["Request", "24%"], ["Status", "11%"], ["Device", "15%"], ["Kind", "9%"], ["Created", "15%"], ["Took", "9%", true], ["Tries", "7%", true], ["Size", "10%", true]];
const STATUSES = ["queued", "running", "retry", "done", "dead", "cancelled"];

function fill({ cells }, job) {
  if (!cells[0].link) {
    cells[0].append((cells[0].link = h("a", { href: `#/jobs/${job.job_id}` }, job.name)));
    cells[1].append((cells[1].word = badge(job.status)));
  }
  setBadge(cells[1].word, job.status);
  say(cells[2], job.device_id);
  say(cells[3], job.kind);
  say(cells[4], clock(job.created_at));
  say(cells[5], ms(between(job.created_at, job.finished_at)));
  say(cells[6], count(job.attempts));
  say(cells[7], bytes(job.size));
}

export function jobs(main, { query }) {
  const status = h("select", { "aria-label": "Status" }, h("option", { value: "" }, "All states"), STATUSES.map((one) => h("option", { value: one }, one)));
  const kind = h("input", { type: "search", placeholder: "Kind", "aria-label": "Kind", maxlength: 64, autocomplete: "off" });
  const device = h("input", { type: "search", placeholder: "Device", "aria-label": "Device id", maxlength: 64, autocomplete: "off", spellcheck: "false" });
  const since = h("select", { "aria-label": "Created" }, [["", "Any time"], ["900", "Last 15 min"], ["3600", "Last hour"], ["86400", "Last day"], ["604800", "Last week"]].map(([value, text]) => h("option", { value }, text)));
  const inputs = { status, kind, device_id: device, since };
  for (const [name, input] of Object.entries(inputs)) input.value = query.get(name) || "";
  const body = h("tbody"), said = h("span", { class: "soft", role: "status" });
  const more = h("button", { type: "button", hidden: true }, "Show more"), again = h("button", { type: "button" }, "Refresh");
  const anew = h("button", { type: "button", hidden: true }, "Queue all shown anew");
  main.append(h("div", { class: "head" }, h("h1", {}, "Jobs"), h("span", { class: "grow" }), h("div", { class: "filters", role: "search", "aria-label": "Filter jobs" }, status, kind, device, since, again)),
    h("section", { class: "panel", "aria-label": "Jobs" },
      h("table", { class: "stack" }, h("caption", { class: "sr" }, "Jobs, newest first"),
        h("colgroup", {}, COLUMNS.map(([, width]) => { const col = h("col"); col.style.width = width; return col; })),
        h("thead", {}, h("tr", {}, COLUMNS.map(([title, , number]) => h("th", { scope: "col", class: number ? "num" : null }, title)))), body),
      h("footer", { class: "late" }, said, h("span", { class: "grow" }), anew, more)));
  let rows = [], next = null, asked = 0, timer = 0;

  async function load(cursor) {
    const mine = ++asked, wanted = new URLSearchParams({ limit: PAGE });
    for (const name of ["status", "kind", "device_id"]) if (inputs[name].value.trim()) wanted.set(name, inputs[name].value.trim());
    if (since.value) wanted.set("created_from", from());
    if (cursor) wanted.set("cursor", cursor);
    try {
      const page = await get(`/api/v1/jobs?${wanted}`);
      if (mine !== asked) return;
      rows = cursor ? [...rows, ...page.jobs] : page.jobs;
      next = page.next;
      more.hidden = !next;
      anew.hidden = status.value !== "dead" || !rows.length;
      say(said, rows.length ? `${count(rows.length)} shown${next ? ", there are more" : ""}` : "");
      fillRows(body, COLUMNS, rows, (job) => job.job_id, () => rowOf(COLUMNS), fill, next ? "None among the first; look further with “Show more”." : "No job is like that.");
      main.querySelector(".late")?.classList.remove("late");
    } catch (error) {
      if (mine === asked) { say(said, error.message); }
    }
  }

  // A page is continued by the same question, so the moment that "the last hour" began at is kept with it.
  let began = { since: null, at: null };
  function from() {
    if (began.since !== since.value || !next) began = { since: since.value, at: new Date(Date.now() - since.value * 1000).toISOString() };
    return began.at;
  }

  function changed() {
    const named = new URLSearchParams();
    for (const [name, input] of Object.entries(inputs)) if (input.value.trim()) named.set(name, input.value.trim());
    history.replaceState(null, "", `#/jobs${named.size ? `?${named}` : ""}`);
    next = null;
    load();
  }

  anew.addEventListener("click", async () => {
    anew.disabled = true;
    let done = 0, failed = 0;
    for (const job of rows.filter((one) => one.status === "dead")) {
      try { await command(`/api/v1/jobs/${job.job_id}/redrive`); done++; } catch { failed++; }
      say(said, `${done} queued anew`);
    }
    toast(`${count(done)} dead jobs queued anew${failed ? `, ${count(failed)} not` : ""}.`, failed ? "bad" : null);
    anew.disabled = false;
    next = null;
    load();
  });
  for (const input of [kind, device]) input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(changed, 250); });
  for (const input of [status, since]) input.addEventListener("change", changed);
  more.addEventListener("click", () => load(next));
  again.addEventListener("click", () => { next = null; load(); });
  load();
  return () => clearTimeout(timer);
}
