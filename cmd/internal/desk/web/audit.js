// Who looked at which call, and what else was done at the desk.

import { h } from "./dom.js";
import { get, sentence, callHash } from "./api.js";
import * as words from "./words.js";

const atOnce = 200;

export function audit({ main }) {
  const rows = h("tbody");
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...["When", "Who", "From", "What", "Call", "More"].map(n => h("th", { scope: "col" }, n)))), rows);
  const more = h("button", { type: "button", class: "more-calls", hidden: true, onclick: () => load() }, "Earlier");
  const note = h("p", { class: "nothing", hidden: true });
  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, "Who looked at what"), h("p", { class: "hint" }, "Every look at a call, every action, export and deletion, latest first.")),
    h("div", { class: "card audit-card" }, table), note, more);
  let before = 0;

  async function load() {
    more.disabled = true;
    try {
      const { entries = [] } = await get(`/api/audit?limit=${atOnce}${before ? `&before=${before}` : ""}`);
      for (const e of entries) {
        rows.append(h("tr", {}, h("td", { class: "nowrap" }, `${words.dayName(e.when)}, ${words.preciseTime(e.when)}`), h("td", {}, h("bdi", {}, e.who || "–")), h("td", {}, e.from || ""),
          h("td", {}, String(e.what || "").replaceAll("_", " ")), h("td", {}, e.call ? h("a", { href: callHash(e.tenant, e.call) }, e.call) : e.tenant || ""), h("td", {}, e.detail || "")));
      }
      before = entries.at(-1)?.when || 0;
      more.hidden = entries.length < atOnce;
      note.hidden = rows.childElementCount > 0;
      note.textContent = "Nothing was looked at yet.";
    } catch (err) {
      note.hidden = false;
      note.textContent = sentence(err);
    } finally {
      more.disabled = false;
    }
  }
  load();
  return { title: "Who looked at what" };
}
