// Moving devices between hubs: always a dry run first, then what it said is carried out, or not.

import { post } from "./api.js";
import { h, mark, say, show, toast } from "./dom.js";
import { count } from "./format.js";
import { rowOf } from "./flow.js";
import { under } from "./live.js";

const COLUMNS = [["From", "30%"], ["To", "30%"], ["Devices", "18%", true], ["", "22%"]];

export function planDialog(name) {
  const action = h("select", { id: "what" }, h("option", { value: "move" }, "Send devices to the hubs they belong to"), h("option", { value: "drain", disabled: !name }, "Drain: send all away, then restart the hub"));
  const from = h("select", { id: "from" }, h("option", { value: "" }, "All hubs"), under("hub/").map((hub) => h("option", { value: hub.name, selected: hub.name === name }, hub.name)));
  const to = h("select", { id: "to" }, h("option", { value: "" }, "Wherever they belong"), under("hub/").map((hub) => h("option", { value: hub.name }, hub.name)));
  const toField = h("label", { class: "field", for: "to" }, "Only those that belong to", to);
  const look = h("button", { type: "submit" }, "Dry run"), go = h("button", { type: "button", class: "main", disabled: true }, "Carry out"), close = h("button", { type: "button", class: "quiet" }, "Close");
  const result = h("div", { "aria-live": "polite" });
  result.style.minHeight = "132px";
  const form = h("form", { method: "dialog" }, h("h2", { id: "plan" }, "Move devices"),
    h("label", { class: "field", for: "what" }, "What", action), h("label", { class: "field", for: "from" }, "From", from), toField, result,
    h("div", { class: "buttons" }, close, look, go));
  const dialog = h("dialog", { "aria-labelledby": "plan" }, form);
  let plan = null;

  const question = () => ({ action: action.value, hub: from.value || null, to: action.value === "move" ? to.value || null : null });

  function forget() {
    plan = null;
    go.disabled = true;
    toField.hidden = action.value === "drain";
    action.options[1].disabled = !from.value;
    if (!from.value && action.value === "drain") { action.value = "move"; toField.hidden = false; }
    say(go, "Carry out");
    go.className = action.value === "drain" ? "danger sure" : "main";
    result.replaceChildren(h("p", { class: "faint" }, "A dry run asks the hubs who would go where. Nothing is done."));
  }

  async function run() {
    look.disabled = true;
    try {
      plan = await post("/api/v1/hubs/plan", question());
      const rows = plan.moves.map((move) => {
        const { element, cells } = rowOf(COLUMNS);
        say(cells[0], move.from); say(cells[1], move.to || "nobody"); say(cells[2], count(move.devices)); say(cells[3], move.refused ? `is ${move.refused}` : "");
        if (move.refused) mark(cells[3], "data-is", "warn");
        return element;
      });
      show(result,
        h("p", {}, h("strong", {}, `${count(plan.devices)} devices would move`), `, ${count(plan.stay)} stay.`),
        rows.length ? h("table", {}, h("caption", { class: "sr" }, "Who would go where"), h("thead", {}, h("tr", {}, COLUMNS.map(([title, , number]) => h("th", { scope: "col", class: number ? "num" : null }, title)))), h("tbody", {}, rows)) : null,
        ...plan.warnings.map((text) => h("p", { class: "said", "data-is": "warn" }, text)), ...plan.problems.map((text) => h("p", { class: "said", "data-is": "bad" }, text)));
      go.disabled = !plan.confirm || (plan.action === "move" && !plan.devices);
      say(go, plan.action === "drain" ? `Drain ${plan.hub}` : `Move ${count(plan.devices)} devices`);
    } catch (error) {
      plan = null;
      result.replaceChildren(h("p", { class: "said", "data-is": "bad" }, error.message));
    }
    look.disabled = false;
  }

  async function carryOut() {
    go.disabled = true;
    try {
      const done = await post("/api/v1/hubs/carry-out", { ...question(), confirm: plan.confirm });
      toast(plan.action === "drain" ? `${plan.hub} drains: ${count(done.devices)} devices.` : `${count(done.devices)} devices are on their way.`);
      dialog.close();
    } catch (error) {
      result.replaceChildren(h("p", { class: "said", "data-is": "bad" }, error.message));
    }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
  for (const input of [action, from, to]) input.addEventListener("change", forget);
  go.addEventListener("click", carryOut);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  forget();
  dialog.showModal();
}

// Pause and stop, there while something moves; their place is kept.
export function steering(name) {
  const pause = h("button", { type: "button", class: "small" }, "Pause"), abort = h("button", { type: "button", class: "small danger" }, "Stop");
  const steer = async (what) => {
    try { await post(`/api/v1/hubs/${name}/moves`, { do: what }); } catch (error) { toast(error.message, "bad"); }
  };
  pause.addEventListener("click", () => steer(pause.dataset.what));
  abort.addEventListener("click", () => steer("abort"));
  const element = h("span", { class: "steer" }, pause, abort);
  return { element, set(moving) {
    mark(element, "data-idle", moving && (moving.left || moving.paused) ? null : "");
    pause.dataset.what = moving && moving.paused ? "resume" : "pause";
    say(pause, moving && moving.paused ? "Go on" : "Pause");
    mark(pause, "aria-label", `${moving && moving.paused ? "Go on with" : "Pause"} the moves of ${name}`);
    mark(abort, "aria-label", `Stop the moves of ${name}`);
  } };
}
