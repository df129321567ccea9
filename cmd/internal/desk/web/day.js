// A day in figures: when the alerts came, of what, how soon, and whether the
// people who judged the calls agree.

import { h, s, icon } from "./dom.js";
import { get, sentence } from "./api.js";
import * as words from "./words.js";

const shift = (day, by) => {
  const d = new Date(`${day}T12:00:00`);
  d.setDate(d.getDate() + by);
  return words.isoDay(d.getTime());
};

export function day({ main, board, parts, rename }) {
  const today = words.isoDay(board.now());
  const at = /^\d{4}-\d\d-\d\d$/.test(parts[0] || "") ? parts[0] : today;
  const name = words.longDayName(new Date(`${at}T12:00:00`).getTime());
  const pick = h("input", { type: "date", value: at, max: today, "aria-label": "Day", onchange: () => { if (pick.value) location.hash = `#/day/${pick.value}`; } });
  const other = h("select", { "aria-label": "Days with calls", hidden: true, onchange: () => { location.hash = `#/day/${other.value}`; } });
  const content = h("div", { "aria-live": "polite" }, h("p", { class: "waiting" }, "Asking for the day…"));
  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, name), h("div", { class: "day-nav" },
      h("a", { class: "button", href: `#/day/${shift(at, -1)}` }, icon("back"), "Day before"),
      at < today && h("a", { class: "button", href: `#/day/${shift(at, 1)}` }, "Day after", icon("next")),
      pick, other, h("a", { class: "button", href: `#/history?from=${at}&to=${at}` }, "Its calls"))),
    content);
  let closed = false;

  async function load() {
    try {
      const zone = encodeURIComponent(words.zone);
      const [of, days] = await Promise.all([get(`/api/history/day/${at}?tz=${zone}`), get(`/api/history/days?tz=${zone}`).catch(() => ({}))]);
      if (closed) return;
      content.replaceChildren(...(of.calls ? figures(of, at) : [h("div", { class: "nothing" }, h("p", {}, h("b", {}, "No calls ended on this day.")))]));
      const list = (days.days || []).filter(d => d.day);
      if (list.length) {
        other.hidden = false;
        other.replaceChildren(h("option", { value: at }, "Days with calls"), ...list.map(d => h("option", { value: d.day }, `${d.day}: ${words.count(d.calls, "call", "calls")}, ${words.count(d.alerts || 0, "alert", "alerts")}`)));
      }
    } catch (err) {
      if (!closed) content.replaceChildren(h("div", { class: "nothing" }, h("p", {}, h("b", {}, sentence(err)))));
    }
  }
  load();
  rename?.(name);
  return { title: name, close: () => { closed = true; } };
}

const card = (title, hint, kind, ...kids) => h("section", { class: `card ${kind}`, "aria-label": title }, h("div", { class: "head" }, h("h2", {}, title), hint && h("p", { class: "hint" }, hint)), ...kids);

function figures(d, at) {
  const warning = d.precision?.warning, critical = d.precision?.critical;
  const fact = (name, value, small) => h("div", {}, h("dt", {}, name), h("dd", {}, value, small && h("small", {}, ` ${small}`)));
  const judged = p => (p && p.precision !== null && p.precision !== undefined ? [words.percent(p.precision), `of ${(p.scam || 0) + (p.not_scam || 0)} judged`] : ["–", "none judged"]);
  const soon = d.time_to_alert || {};
  const rate = d.calls ? ` ${words.percent((d.alerts || 0) / d.calls)}` : "";
  return [h("div", { class: "days-grid" },
    h("section", { class: "card wide", "aria-label": "The day" }, h("dl", { class: "facts" },
      fact("Calls", words.number(d.calls)),
      fact("Alerts", words.number(d.alerts || 0), `warning or worse,${rate}`),
      fact("Critical", words.number(d.by_level?.critical || 0)),
      fact("Half of the alerts came within", soon.p50 === undefined || soon.p50 === null ? "–" : words.span(soon.p50), "of the call’s beginning"),
      fact("Precision, warning or worse", ...judged(warning)),
      fact("Precision, critical", ...judged(critical)))),
    hours(d.by_hour || [], at), tactics(d.by_tactic || []), timeToAlert(soon), verdicts(d.verdicts || {}), heard(d))];
}

/** Calls with a sign, by hour of the day and level. */
function hours(list, at) {
  const by = Array.from({ length: 24 }, (_, i) => list[i] || {});
  const total = b => (b.notice || 0) + (b.warning || 0) + (b.critical || 0);
  const top = Math.max(1, ...by.map(total)), unit = 150 / top;
  const bars = by.flatMap((b, i) => {
    let y = 156;
    const out = [s("rect", { class: "base", x: i * 40 + 5, y: 157, width: 30, height: 2 })];
    for (const level of ["critical", "warning", "notice"]) {
      const height = (b[level] || 0) * unit;
      if (height) out.push(s("rect", { class: level, x: i * 40 + 5, y: (y -= height), width: 30, height: Math.max(1, height - 1) }));
    }
    out.push(s("title", {}, `${i}:00`));
    return out;
  });
  return card("By hour", "Calls with a sign, by the highest level they reached.", "wide",
    h("p", { class: "legend" }, ...["critical", "warning", "notice"].map(l => h("span", { class: `l-${l}` }, h("i", { "aria-hidden": "true" }), words.levelWords[l].name))),
    s("svg", { class: "hour-chart", viewBox: "0 0 960 160", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" }, ...bars),
    h("div", { class: "hour-axis", "aria-hidden": "true" }, ...by.map((_, i) => h("span", {}, i % 3 ? "" : String(i)))),
    h("table", { class: "unseen" }, h("caption", {}, `Calls by hour, ${at}`), h("thead", {}, h("tr", {}, ...["Hour", "Calls", "Notice", "Warning", "Critical"].map(n => h("th", { scope: "col" }, n)))),
      h("tbody", {}, ...by.map((b, i) => h("tr", {}, h("th", { scope: "row" }, `${i} to ${i + 1}`), ...[b.calls, b.notice, b.warning, b.critical].map(v => h("td", {}, String(v || 0))))))));
}

const share = (part, whole, kind) => {
  const el = h("i", { class: kind });
  el.style.width = `${100 * part / whole}%`;
  return part ? el : null;
};

function tactics(list) {
  const top = Math.max(1, ...list.map(t => t.calls || 0));
  return card("By tactic", "Calls in which it was confirmed, and how they were judged.", "",
    list.length ? h("table", { class: "bars" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Tactic"), h("td"), h("th", { scope: "col", class: "n" }, "Calls"), h("th", { scope: "col", class: "n" }, "Scam"), h("th", { scope: "col", class: "n" }, "Not"))),
      h("tbody", {}, ...list.map(t => {
        const { label, family } = words.tactic(t.tactic);
        return h("tr", { class: `k-${family}` }, h("th", { scope: "row" }, h("a", { href: `#/history?tactic=${encodeURIComponent(t.tactic)}` }, label)),
          h("td", {}, h("div", { class: "track", "aria-hidden": "true" }, share(t.calls || 0, top))), h("td", { class: "n" }, words.number(t.calls)), h("td", { class: "n" }, words.number(t.scam)), h("td", { class: "n" }, words.number(t.not_scam)));
      }))) : h("p", { class: "empty" }, "None was found."));
}

function timeToAlert({ buckets = [], p50, p90 }) {
  const top = Math.max(1, ...buckets.map(b => b.n || 0));
  let from = 0;
  return card("Time to alert", p50 === undefined || p50 === null ? "No alert on this day." : `Half within ${words.span(p50)}, nine of ten within ${words.span(p90)}.`, "",
    buckets.length > 0 && h("table", { class: "bars" }, h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "After"), h("td"), h("th", { scope: "col" }, "Alerts"))),
      h("tbody", {}, ...buckets.map(b => {
        const name = b.to ? `${from ? `${words.span(from)} to ` : "under "}${words.span(b.to)}` : `over ${words.span(from)}`;
        from = b.to || from;
        return h("tr", { class: "l-warning" }, h("th", { scope: "row" }, name), h("td", {}, h("div", { class: "track", "aria-hidden": "true" }, share(b.n || 0, top))), h("td", { class: "n" }, words.number(b.n)));
      }))));
}

/** Levels against what the analysts said. */
function verdicts(of) {
  return card("Levels and verdicts", "What the analysts said of the calls of each level.", "judged",
    h("p", { class: "legend" }, ...[["scam", "Scam"], ["honest", "Not a scam"], ["unjudged", "Not judged"]].map(([kind, name]) => h("span", {}, h("i", { class: kind, "aria-hidden": "true" }), name))),
    h("table", { class: "bars" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Level"), h("td"), h("th", { scope: "col", class: "n" }, "Scam"), h("th", { scope: "col", class: "n" }, "Not"), h("th", { scope: "col", class: "n" }, "Open"))),
      h("tbody", {}, ...words.levels.map(level => {
        const v = of[level] || {}, scam = v.scam || 0, not = v.not_scam || 0, open = v.open || 0, all = Math.max(1, scam + not + open);
        return h("tr", { class: `l-${level}` }, h("th", { scope: "row" }, h("span", { class: "badge" }, icon(level), words.levelWords[level].name)),
          h("td", {}, h("div", { class: "track", "aria-hidden": "true" }, share(scam, all, "scam"), share(not, all, "honest"), share(open, all, "unjudged"))),
          h("td", { class: "n" }, words.number(scam)), h("td", { class: "n" }, words.number(not)), h("td", { class: "n" }, words.number(open)));
      }))));
}

function heard(d) {
  const table = (caption, rows) => h("table", { class: "bars" }, h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, caption), h("th", { scope: "col" }, "Calls"))),
    h("tbody", {}, ...rows.map(([name, n]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "n" }, words.number(n))))));
  const hearing = Object.entries(d.hearing || {}).map(([name, n]) => [words.hearingWords[name] || name, n]);
  const sources = Object.entries(d.sources || {}).sort((a, b) => b[1] - a[1]);
  return card("How they were heard, and where they came from", "", "", table("Hearing", hearing), table("Source", sources));
}
