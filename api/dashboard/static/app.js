// What is shown where: signing in, the views by the address after `#`, and the bar above them.

import { session, signIn, signOut, whenSessionEnds } from "./api.js";
import { h, say, mark, toast } from "./dom.js";
import { begin, end, look, state, watch } from "./live.js";
import { fleet } from "./fleet.js";
import { flow } from "./flow.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";

const VIEWS = [
  { path: "fleet", name: "Fleet", show: fleet },
  { path: "flow", name: "Flow", show: flow },
  { path: "jobs", name: "Jobs", show: (main, where) => (where.rest.length ? job : jobs)(main, where) },
];

const main = document.getElementById("main"), bar = document.querySelector("header.bar");
const nav = bar.querySelector("nav"), live = bar.querySelector(".live");
let leave = () => {};

for (const view of VIEWS.filter((one) => one.name)) {
  nav.append((view.link = h("a", { href: `#/${view.path}` }, view.name)));
}

function show() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const view = VIEWS.find((one) => one.path === name) || VIEWS[0];
  leave();
  look([]);
  main.replaceChildren();
  for (const one of VIEWS) if (one.link) mark(one.link, "aria-current", (view.under || view.path) === one.path ? "page" : null);
  leave = view.show(main, { rest, query: new URLSearchParams(query) }) || (() => {});
  const title = main.querySelector("h1");
  document.title = `${title ? `${title.textContent} · ` : ""}Fleetwire`;
  if (title && entered) { title.tabIndex = -1; title.focus({ preventScroll: true }); }
  entered = true;
  scrollTo(0, 0);
}
let entered = false;

function enter(said) {
  bar.hidden = false;
  say(bar.querySelector(".subject"), said.subject);
  begin({ whenOver: askToSignIn, whenStatus: status });
  addEventListener("hashchange", show);
  show();
}

function status(word, store) {
  const text = word === "late" && store && !store.ok ? `database silent ${store.silent_s} s` : word === "late" ? "reconnecting" : word === "lost" ? "no connection" : word;
  mark(live, "data-is", word);
  say(live.lastElementChild, text);
}

function askToSignIn() {
  end();
  leave();
  leave = () => {};
  removeEventListener("hashchange", show);
  bar.hidden = true;
  const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "how" });
  const said = h("p", { class: "said", "data-is": "bad", role: "alert", hidden: true });
  const button = h("button", { class: "main", type: "submit" }, "Sign in");
  const form = h("form", { class: "alone" },
    h("input", { type: "text", name: "username", autocomplete: "username", value: "operator", hidden: true }),
    h("h1", {}, "Fleetwire"),
    h("label", { class: "field", for: "token" }, "Operator token"), token, said, button,
    h("div", { class: "soft", id: "how" }, h("p", {}, "A token with the scope operator. On this machine:"),
      h("code", {}, ".venv/bin/fleetwire token --scope operator --subject you")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    said.hidden = true;
    try {
      const who = await signIn(token.value.trim());
      token.value = "";
      entered = false;
      enter(who);
    } catch (error) {
      say(said, error.message);
      said.hidden = false;
      token.focus();
    }
    button.disabled = false;
  });
  main.replaceChildren(form);
  document.title = "Sign in · Fleetwire";
  token.focus();
}

// What stands after `#` is the view's address, so the link must not put its own there.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
bar.querySelector("#leave").addEventListener("click", async () => { await signOut(); askToSignIn(); });
whenSessionEnds(() => { toast("The session is over."); askToSignIn(); });
watch(() => {
  const dead = state.get("dead"), jobs = VIEWS.find((one) => one.path === "jobs");
  if (!jobs || !jobs.link || dead === undefined) return;
  if (!jobs.count) jobs.link.append((jobs.count = h("b", { hidden: true, title: "dead jobs" })));
  jobs.count.hidden = !dead;
  say(jobs.count, dead >= 1000 ? "1000+" : dead);
});

try { enter(await session()); } catch (error) { askToSignIn(); }
// A session that is used goes on.
setInterval(() => { if (!bar.hidden && !document.hidden) session().catch(() => {}); }, 300000);
