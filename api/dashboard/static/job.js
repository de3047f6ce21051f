// One job: what is known of it, when each of its stages was, every change of its state, and the files that it made.

import { command, get } from "./api.js";
import { badge, h, show, svg, toast } from "./dom.js";
import { bytes, clock, count, ms, NONE } from "./format.js";

const OPEN = new Set(["queued", "running", "retry"]);

function trace(job, last) {
  const times = [["detected", job.detected_at], ["queued", job.created_at], ["claimed", job.started_at], [job.status === "done" ? "recorded" : job.status, job.finished_at]].filter(([, at]) => at);
  if (times.length < 2) return null;
  const began = new Date(times[0][1]), whole = Math.max(1, new Date(times.at(-1)[1]) - began);
  const rows = [];
  for (let at = 1; at < times.length; at++) {
    const from = new Date(times[at - 1][1]) - began, to = new Date(times[at][1]) - began;
    rows.push(h("span", {}, times[at][0]),
      svg("svg", { viewBox: "0 0 1000 16", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { x: from / whole * 1000, y: 3, height: 10, width: Math.max(3, (to - from) / whole * 1000), rx: 2 })),
      h("span", { class: "num" }, ms(to - from)));
  }
  return h("section", { class: "panel", "aria-labelledby": "trace" }, h("header", {}, h("h2", { id: "trace" }, "Stages"), h("span", { class: "soft" }, `${ms(whole)} from ${times[0][0]} to ${times.at(-1)[0]}`)), h("div", { class: "body" }, h("div", { class: "trace" }, rows)));
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...(value.some((one) => one !== null && one !== undefined && one !== "") ? value : [NONE])));

export function job(main, { rest: [id] }) {
  const box = h("div", { "aria-busy": "true" });
  box.style.display = "contents";
  main.append(box);
  let gone = false, timer = 0;

  async function load(focus) {
    try {
      const [job, past, made] = await Promise.all([get(`/api/v1/jobs/${id}`), get(`/api/v1/jobs/${id}/history?limit=100`), get(`/api/v1/jobs/${id}/files`)]);
      if (gone) return;
      draw(job, past, made.files, focus);
      if (OPEN.has(job.status)) timer = setTimeout(load, 2000);
    } catch (error) {
      if (!gone) box.replaceChildren(h("div", { class: "head" }, h("h1", {}, "Job")), h("p", { class: "said", "data-is": "bad" }, error.message));
    }
  }

  async function act(what, said, button) {
    button.disabled = true;
    try { await command(`/api/v1/jobs/${id}/${what}`); toast(said); } catch (error) { toast(error.message, "bad"); }
    clearTimeout(timer);
    load(true);
  }

  function draw(job, past, files, focus) {
    const anew = job.status === "dead" && h("button", { type: "button", class: "main", onclick: () => act("redrive", "Queued anew.", anew) }, "Queue anew");
    const stop = OPEN.has(job.status) && h("button", { type: "button", class: "danger", onclick: () => {
      if (stop.sure) act("cancel", "Cancelled.", stop);
      else { stop.sure = true; stop.textContent = "Cancel it, surely"; stop.classList.add("sure"); clearTimeout(timer); timer = setTimeout(load, 6000); }
    } }, "Cancel job");
    const title = h("h1", { tabindex: "-1" }, job.name);
    show(box,
      h("nav", { "aria-label": "Back" }, h("a", { href: "#/jobs" }, "← Jobs")),
      h("div", { class: "head" }, title, badge(job.status), h("span", { class: "grow" }), anew, stop),
      job.error && h("p", { class: "said", "data-is": job.status === "dead" ? "bad" : "warn" }, job.error),
      h("section", { class: "panel", "aria-label": "Facts" }, h("dl", { class: "facts body" },
        fact("Device", h("span", { class: "mono" }, job.device_id)), fact("Kind", job.kind), fact("Queue", job.queue), job.priority ? fact("Priority", job.priority) : null, fact("Tries", count(job.attempts)),
        fact("Size", bytes(job.size)), fact("Created", clock(job.created_at)), fact("Started", clock(job.started_at)), fact("Finished", clock(job.finished_at)),
        job.run_at && fact("Runs at", clock(job.run_at)), fact("Worker", job.worker), fact("Outcome", job.outcome), fact("Queued anew", job.redrives ? `${job.redrives} times` : null),
        fact("Asked for by", job.requested_by || "a file"), fact("Event", job.event_id && h("span", { class: "mono" }, job.event_id)), fact("Job", h("span", { class: "mono" }, job.job_id)))),
      trace(job),
      h("div", { class: "two" },
        h("section", { class: "panel", "aria-labelledby": "history" }, h("header", {}, h("h2", { id: "history" }, "History")), h("div", { class: "body" },
          h("ol", { class: "history" }, past.history.map((one) => h("li", {}, h("time", { datetime: one.at }, clock(one.at)), h("span", {}, badge(one.status)), h("span", { class: "soft" }, [one.worker, one.detail].filter(Boolean).join(" · ") || "")))),
          past.next && h("p", { class: "faint" }, "There are older changes."))),
        h("section", { class: "panel", "aria-labelledby": "files" }, h("header", {}, h("h2", { id: "files" }, "Files")),
          files.length ? h("table", { class: "stack" }, h("caption", { class: "sr" }, "Files of the response"),
            h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Name"), h("th", { scope: "col" }, "Type"), h("th", { scope: "col", class: "num" }, "Size"))),
            h("tbody", {}, files.map((file) => h("tr", {}, h("td", { "data-label": "Name" }, h("a", { href: file.url, download: file.name, title: `sha256 ${file.sha256}` }, file.name)), h("td", { "data-label": "Type" }, file.content_type), h("td", { class: "num", "data-label": "Size" }, bytes(file.size))))))
            : h("div", { class: "body faint" }, "None yet."))));
    document.title = `${job.name} · Fleetwire`;
    if (focus) title.focus({ preventScroll: true });
  }

  load(true);
  return () => { gone = true; clearTimeout(timer); };
}
