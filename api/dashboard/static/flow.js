// How events flow: how long each stage takes, who follows the feeds, what the queues hold.

import { badge, h, list, mark, say, svg } from "./dom.js";
import { age, count, ms, NONE, rate } from "./format.js";
import { state, under, watch } from "./live.js";

const STAGES = {
  detected: ["Detected", "file seen, job queued"], claimed: ["Claimed", "waited for a worker"], recorded: ["Recorded", "answered, event recorded"],
  fanned_out: ["Fanned out", "published, taken up by its hub"], sent: ["Sent", "written to the socket"], acked: ["Acked", "on the line, taken by the device"],
};

function stageRow(row) {
  const bars = ["p99", "p95", "p50"].map((name) => svg("rect", { class: name, x: 0, y: name === "p50" ? 4 : 2, height: name === "p50" ? 10 : 14, width: 0, rx: 2 }));
  const picture = svg("svg", { viewBox: "0 0 1000 18", preserveAspectRatio: "none", role: "img" }, svg("line", { class: "lane", x1: 0, x2: 1000, y1: 9, y2: 9 }), ...bars);
  const values = [0, 1, 2].map(() => h("span"));
  const of = h("span", { class: "faint" });
  const element = h("div", { class: "stage" }, h("div", { class: "what" }, h("b", {}, STAGES[row.stage][0]), h("small", { title: row.what }, row.what)),
    h("div", { class: "lanes" }, picture), ...values.map((value) => h("div", { class: "num" }, value)), h("div", { class: "num of" }, of));
  return { element, bars, picture, values, of };
}

// A stage begins where the one before it ended, at the median; what is small beside the rest still shows.
function drawStages(parts, rows) {
  const longest = rows.reduce((sum, row) => sum + (row.ms[0] || 0), 0);
  let from = 0, most = 1;
  for (const row of rows) { most = Math.max(most, from + (row.ms[2] || 0)); from += row.ms[0] || 0; }
  const width = (value) => (value === null ? 0 : Math.max(3, value / most * 1000));
  from = 0;
  for (const row of rows) {
    const part = parts.get(row.stage), at = from / most * 1000;
    [2, 1, 0].forEach((which, place) => {
      mark(part.bars[place], "x", at.toFixed(1));
      mark(part.bars[place], "width", Math.min(1000 - at, width(row.ms[which])).toFixed(1));
    });
    mark(part.picture, "aria-label", `${STAGES[row.stage][0]}: median ${ms(row.ms[0])}, 95 of a hundred within ${ms(row.ms[1])}`);
    row.ms.forEach((value, which) => say(part.values[which], ms(value)));
    say(part.of, row.of ? count(row.of) : NONE);
    from += row.ms[0] || 0;
  }
  return longest;
}

function table(name, columns) {
  const body = h("tbody");
  const element = h("table", { class: "stack" }, h("caption", { class: "sr" }, name),
    h("colgroup", {}, columns.map(([, width]) => { const col = h("col"); if (width) col.style.width = width; return col; })),
    h("thead", {}, h("tr", {}, columns.map(([title, , number]) => h("th", { scope: "col", class: number ? "num" : null }, title)))), body);
  return { element, body };
}

export function rowOf(columns) {
  const cells = columns.map(([title, , number]) => h("td", { "data-label": title, class: number ? "num" : null }));
  return { element: h("tr", {}, cells), cells };
}

export function fillRows(body, columns, items, keyOf, make, fill, none) {
  if (!items.length) {
    body.known = null;
    if (!body.querySelector(".empty")) body.replaceChildren(h("tr", {}, h("td", { class: "empty", colspan: columns.length }, none)));
    return;
  }
  if (body.querySelector(".empty")) body.replaceChildren();
  list(body, items, keyOf, make, fill);
}

const FEEDS = [["Store", "18%"], ["Owner", "22%"], ["Feeds", "12%", true], ["Terms", "14%", true], ["Cursor age", "16%", true], ["Last change", "18%", true]];
const QUEUES = [["Queue", "22%"], ["Waiting", "13%", true], ["Later", "12%", true], ["Running", "13%", true], ["Oldest", "13%", true], ["In", "13%", true], ["Done", "14%", true]];

function fillFeed({ cells }, feed) {
  say(cells[0], feed.provider);
  mark(cells[0], "title", feed.root);
  if (!cells[1].word) cells[1].append((cells[1].name = h("span")), (cells[1].word = badge("lost")));
  say(cells[1].name, feed.owner || "");
  cells[1].word.hidden = Boolean(feed.owner);
  say(cells[1].word, "nobody");
  say(cells[2], count(feed.feeds));
  say(cells[3], feed.terms[0] === null ? NONE : feed.terms[0] === feed.terms[1] ? feed.terms[0] : `${feed.terms[0]}–${feed.terms[1]}`);
  say(cells[4], feed.full ? `whole run, ${feed.full}` : age(feed.stale_s));
  mark(cells[4], "data-is", feed.stale_s > 300 ? "bad" : feed.stale_s > 120 ? "warn" : null);
  say(cells[5], age(feed.changed_s));
}

function fillQueue({ cells }, queue) {
  say(cells[0], queue.queue);
  say(cells[1], count(queue.waiting));
  say(cells[2], count(queue.delayed));
  say(cells[3], count(queue.running));
  say(cells[4], queue.waiting ? age(queue.oldest_s) : NONE);
  mark(cells[4], "data-is", queue.waiting && queue.oldest_s > 60 ? "bad" : queue.waiting && queue.oldest_s > 10 ? "warn" : null);
  say(cells[5], `${rate(queue.per_s.queued || 0)}/s`);
  say(cells[6], `${rate(queue.per_s.done || 0)}/s`);
}

export function flow(main) {
  const grid = h("div", { class: "stages", role: "group", "aria-label": "Stages of an event" },
    h("div", { class: "stage th" }, h("div", {}, "Stage"), h("div", { class: "lanes" }, ""), h("div", { class: "num" }, "median"), h("div", { class: "num" }, "p95"), h("div", { class: "num" }, "p99"), h("div", { class: "num of" }, "timed")));
  const total = h("span", { class: "soft" });
  const feeds = table("Feeds by store and owner", FEEDS), queues = table("Queues of jobs", QUEUES), parts = new Map();
  main.append(h("div", { class: "head" }, h("h1", {}, "Flow")),
    h("section", { class: "panel", "aria-labelledby": "stages" }, h("header", {}, h("h2", { id: "stages" }, "From file to ack"), total, h("span", { class: "grow" }),
      h("span", { class: "legend", "aria-hidden": "true" }, ...["p50", "p95", "p99"].map((name) => h("span", {}, h("i", { class: name }), name === "p50" ? "median" : name)))), grid,
      h("footer", {}, h("span", { class: "faint" }, "Up to recorded: jobs that ended within five minutes, 500 at most. From there: what hubs timed in the last minute."))),
    h("div", { class: "two" },
      h("section", { class: "panel", "aria-labelledby": "feeds" }, h("header", {}, h("h2", { id: "feeds" }, "Feeds")), feeds.element),
      h("section", { class: "panel", "aria-labelledby": "queues" }, h("header", {}, h("h2", { id: "queues" }, "Queues")), queues.element)));

  for (const [stage, [, what]] of Object.entries(STAGES)) {
    const part = stageRow({ stage, what });
    parts.set(stage, part);
    grid.append(part.element);
  }
  return watch(() => {
    const rows = state.get("stages") || [];
    if (rows.length) {
      const median = drawStages(parts, rows);
      say(total, median ? `${ms(median)} in the median` : "nothing went through lately");
    }
    fillRows(feeds.body, FEEDS, state.get("feeds") || [], (feed) => `${feed.provider} ${feed.root} ${feed.owner}`, () => rowOf(FEEDS), fillFeed, "No feed is set up.");
    fillRows(queues.body, QUEUES, under("queue/"), (queue) => queue.queue, () => rowOf(QUEUES), fillQueue, "Nothing waits, and nothing happened lately.");
  });
}
