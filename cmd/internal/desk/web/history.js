// Ended calls: looked for, taken along, deleted.

import { h, ask, toast, unseen } from "./dom.js";
import { get, post, request, sentence } from "./api.js";
import { Row, Roving } from "./row.js";
import { pageKeys } from "./keys.js";
import { keyOf } from "./board.js";
import * as words from "./words.js";

const atOnce = 100;
const fields = ["q", "spoken", "number", "level", "tactic", "verdict", "source", "tenant", "from", "to"];

/** What the API is asked for, of the fields of an address: days become moments. */
function parameters(query) {
  const out = new URLSearchParams();
  for (const key of fields) {
    const value = query.get(key);
    if (!value) continue;
    if (key !== "from" && key !== "to") {
      out.set(key, value);
      continue;
    }
    const day = new Date(`${value}T00:00:00`); // where the reader is
    if (Number.isNaN(day.getTime())) continue;
    if (key === "to") day.setDate(day.getDate() + 1);
    out.set(key, day.getTime());
  }
  return out;
}

export function history({ main, board, me, query }) {
  const manyTenants = me.tenants?.[0] === "*" || me.tenants?.length > 1;
  const admin = me.role === "admin";
  const input = (name, label, { wide, ...props } = {}) => h("label", { class: wide && "wide" }, label, h("input", { type: "text", name, autocomplete: "off", spellcheck: "false", ...props }));
  const select = (name, label, options) => h("label", {}, label, h("select", { name }, ...options.map(([value, text]) => h("option", { value }, text))));
  const form = h("form", { class: "search", role: "search", "aria-label": "Search the history" },
    input("q", "Words, name or call", { type: "search", wide: true }),
    input("number", "Number", { type: "search", inputmode: "tel" }),
    select("level", "Level", [["", "Every level"], ["notice", "Notice or worse"], ["warning", "Warning or worse"], ["critical", "Critical"]]),
    select("tactic", "Tactic", [["", "Every tactic"], ...words.tacticNames.map(t => [t, words.tactic(t).label])]),
    select("verdict", "Judged", [["", "Judged or not"], ["scam", "Scam"], ["not_scam", "Not a scam"], ["none", "Not judged"]]),
    input("source", "Source"),
    manyTenants && input("tenant", "Tenant"),
    input("from", "From day", { type: "date" }),
    input("to", "To day", { type: "date" }),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "spoken", value: "1" }), "Also in what was said"),
    h("div", { class: "go-search" }, h("button", { type: "submit", class: "primary" }, "Search"), h("a", { class: "button", href: "#/history" }, "Clear")));
  const shown = h("span", { class: "shown", role: "status" });
  const csv = h("a", { class: "button", download: "calls.csv" }, "CSV"), json = h("a", { class: "button", download: "calls.json" }, "JSON");
  const removeNumber = h("button", { type: "button", onclick: deleteNumber }, "Delete a number…");
  const tools = h("div", { class: "tools" }, shown,
    me.role !== "viewer" && [h("span", { class: "empty", id: "export-label" }, "Export"), csv, json], admin && removeNumber);
  const list = h("ol", { class: "calls hist-list", "aria-label": "Ended calls, latest first" });
  const nothing = h("div", { class: "nothing", hidden: true });
  const more = h("button", { type: "button", class: "more-calls", hidden: true, onclick: () => load(next) }, "More calls");
  const roving = new Roving(list);
  let next = "", asked = 0, n = 0;

  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, "History"), h("p", { class: "hint" }, "Ended calls: what was said and found, and what people did. Audio is not kept.")),
    form, tools, list, nothing, more);

  form.addEventListener("submit", e => {
    e.preventDefault();
    const q = new URLSearchParams();
    for (const [key, value] of new FormData(form)) if (value.trim()) q.set(key, value.trim());
    const to = q.size ? `#/history?${q}` : "#/history";
    if (location.hash === to) load("");
    else location.hash = to;
  });

  function turn(to) {
    query = to;
    for (const field of form.elements) {
      if (field.type === "checkbox") field.checked = query.get(field.name) === field.value;
      else if (field.name) field.value = query.get(field.name) || "";
    }
    const p = parameters(query);
    csv.href = `/api/history/export.csv?${p}`;
    json.href = `/api/history/export.json?${p}`;
    load("");
  }

  async function load(cursor) {
    const mine = ++asked;
    const p = parameters(query);
    p.set("limit", atOnce);
    if (cursor) p.set("cursor", cursor);
    more.disabled = true;
    let got;
    try {
      got = await get(`/api/history?${p}`);
    } catch (err) {
      if (mine !== asked) return;
      list.replaceChildren();
      tell(sentence(err), "");
      return;
    } finally {
      more.disabled = false;
    }
    if (mine !== asked) return;
    if (!cursor) {
      n = 0;
      list.replaceChildren();
    }
    const calls = got.calls || [];
    n += calls.length;
    const first = calls.length ? item(calls[0]) : null;
    if (first) list.append(first, ...calls.slice(1).map(item));
    next = got.next || "";
    more.hidden = !next;
    shown.textContent = `${words.count(n, "call", "calls")}${next ? " and more" : ""}`;
    roving.keep();
    if (n) {
      nothing.hidden = true;
      if (cursor) first?.querySelector("a.go")?.focus();
    } else {
      tell([...parameters(query)].length ? "No ended call fits the search." : "No ended calls are kept yet.",
        query.get("number") ? "Calls whose numbers are masked are not found by a number." : [...parameters(query)].length ? "" : "A call comes here when it is over.");
    }
  }

  function tell(what, detail) {
    nothing.hidden = false;
    nothing.replaceChildren(h("p", {}, h("b", {}, what)), detail && h("p", {}, detail));
    shown.textContent = "";
    more.hidden = true;
  }

  function item(row) {
    const r = new Row({ tenants: manyTenants, dated: true });
    r.update(row, board.now());
    if (!admin) return r.el;
    const el = h("li", {}, h("div", { class: r.el.className }, ...r.el.childNodes),
      h("button", { type: "button", class: "remove quiet", onclick: () => deleteCall(row, el) }, "Delete", unseen(` the call from ${words.party(row.from, row.from_name)} of ${words.when(row.start)}`)));
    return el;
  }

  async function deleteCall(row, el) {
    const answer = await ask({
      title: "Delete this call?", yes: "Delete it", danger: true,
      body: h("p", {}, "What was said and found in the call from ", h("bdi", {}, words.party(row.from, row.from_name)), ` of ${words.when(row.start)} is deleted, here and among the kept events. It cannot be brought back.`),
    });
    if (answer !== "yes") return;
    try {
      await request("DELETE", `/api/history/calls/${keyOf(row).split("/").map(encodeURIComponent).join("/")}`);
      el.remove();
      n--;
      shown.textContent = words.count(n, "call", "calls");
      roving.keep();
      toast("The call is deleted.");
    } catch (err) {
      toast(sentence(err), { bad: true });
    }
  }

  async function deleteNumber() {
    const field = h("input", { type: "text", id: "delete-number", required: true, autofocus: true, autocomplete: "off", inputmode: "tel", value: query.get("number") || "" });
    const answer = await ask({
      title: "Delete a number", yes: "Count its calls",
      body: h("div", {}, h("label", { for: "delete-number" }, "The whole number. Calls whose numbers are masked are not found by it: delete them one by one."), field),
    });
    const number = field.value.trim();
    if (answer !== "yes" || !number) return;
    try {
      const { calls } = await post("/api/history/delete", { number, dry: true });
      if (!calls) {
        toast("No ended call has this number.");
        return;
      }
      const sure = await ask({
        title: `Delete ${words.count(calls, "call", "calls")}?`, yes: `Delete ${words.count(calls, "call", "calls")}`, danger: true,
        body: h("p", {}, "Everything that is kept of the calls with ", h("bdi", {}, number), " is deleted. It cannot be brought back."),
      });
      if (sure !== "yes") return;
      const { deleted } = await post("/api/history/delete", { number });
      toast(`${words.count(deleted, "call is", "calls are")} deleted.`);
      load("");
    } catch (err) {
      toast(sentence(err), { bad: true });
    }
  }

  pageKeys({
    j: ["next call", () => roving.move(1)],
    k: ["call before", () => roving.move(-1)],
    "/": ["search", () => form.elements.q.focus()],
  });
  turn(query);
  return { title: "History", turn: to => { turn(to); return true; } };
}
