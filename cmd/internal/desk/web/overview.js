// The calls of the moment, worst first.

import { h, s, icon, text, attr, order, nextFrame, unseen } from "./dom.js";
import { keyOf, worst } from "./board.js";
import { Row, Roving } from "./row.js";
import { pageKeys } from "./keys.js";
import * as words from "./words.js";

const unheard = row => row.hearing === "deaf" || row.hearing === "not_monitored";
const alerting = row => words.severity(row.peak || row.level) >= 2;
let marked = false; // that calls were shown
const tacticChips = 8; // of the tactics of the moment

/** The filters of an address. */
function filters(query) {
  return {
    level: new Set((query.get("level") || "").split(",").filter(level => words.levelWords[level])),
    hearing: query.get("hearing") === "unheard" ? "unheard" : "",
    tactic: query.get("tactic") || "",
    source: query.get("source") || "",
    tenant: query.get("tenant") || "",
    q: query.get("q") || "",
    ended: ["all", "none"].includes(query.get("ended")) ? query.get("ended") : "alerts",
  };
}

function address(f) {
  const query = new URLSearchParams();
  if (f.level.size) query.set("level", [...f.level].join());
  for (const key of ["hearing", "tactic", "source", "tenant", "q"]) if (f[key]) query.set(key, f[key]);
  if (f.ended !== "alerts") query.set("ended", f.ended);
  const text = query.toString().replaceAll("%2C", ",");
  return text ? `#/?${text}` : "#/";
}

// A number is found however it is written.
const plain = text => text.toLowerCase().replace(/[\s().-]/g, "");

function matches(row, f, q) {
  if (f.hearing && !unheard(row)) return false;
  if (f.tactic && !row.tactics?.some(t => t.tactic === f.tactic)) return false;
  if (f.source && row.source !== f.source) return false;
  if (f.tenant && row.tenant !== f.tenant) return false;
  return !q || plain([row.from, row.from_name, row.to, row.to_name, row.id].filter(Boolean).join("|")).includes(q);
}

export function overview({ main, board, me, query }) {
  let f = filters(query);
  const rows = new Map(); // key -> Row
  const live = h("ol", { class: "calls", "aria-label": "Calls now, worst first" });
  const ended = h("ol", { class: "calls", "aria-label": "Ended calls, latest first" });
  const roving = new Roving(live, ended);
  const manyTenants = me.tenants?.[0] === "*" || me.tenants?.length > 1;

  const set = change => {
    f = { ...f, ...change };
    history.replaceState(null, "", address(f));
    show();
    draw();
  };

  // Counts, which are filters too.
  const tiles = {};
  const tile = (name, label, symbol, press) => {
    const n = h("b", {}, "0");
    const el = h("button", { type: "button", class: `tile l-${name}`, "aria-pressed": "false", onclick: press }, icon(symbol), n, h("span", {}, label));
    tiles[name] = { el, n };
    return el;
  };
  const levelTiles = h("div", { class: "tiles", role: "group", "aria-label": "Calls by level" },
    ...words.levels.map(level => tile(level, words.levelWords[level].name, level, () => {
      const next = new Set(f.level);
      if (!next.delete(level)) next.add(level);
      set({ level: next });
    })),
    tile("unheard", "Not heard", "deaf", () => set({ hearing: f.hearing ? "" : "unheard" })));

  const tacticBox = h("div", { class: "now-tactics", role: "group", "aria-label": "Calls by tactic" });
  const hours = h("div", { class: "hours" });
  const machines = h("div", { class: "machines" });
  const figures = h("div", { class: "figures-row" },
    h("section", { class: "panel grow", "aria-label": "Tactics now" }, h("h2", {}, "Tactics now"), tacticBox),
    h("section", { class: "panel", "aria-label": "Alerts" }, h("h2", {}, "Alerts per hour"), hours),
    h("section", { class: "panel", "aria-label": "Machine" }, h("h2", {}, "Machine"), machines));

  // Filters.
  const search = h("input", { type: "search", placeholder: "Number, name or call", "aria-label": "Number, name or call", autocomplete: "off", spellcheck: "false", oninput: () => set({ q: search.value }) });
  const choice = (label, key, all) => {
    const el = h("select", { "aria-label": label, onchange: () => set({ [key]: el.value }) });
    el.fill = values => {
      const signature = values.map(v => v.join("=")).join();
      if (signature !== el.signature) {
        el.signature = signature;
        el.replaceChildren(h("option", { value: "" }, all), ...values.map(([value, name]) => h("option", { value }, name)));
      }
      if (el.value !== f[key]) el.value = f[key];
    };
    return el;
  };
  const tactic = choice("Tactic", "tactic", "Every tactic");
  const source = choice("Source", "source", "Every source");
  const tenant = choice("Tenant", "tenant", "Every tenant");
  const keep = h("select", { "aria-label": "Ended calls", onchange: () => set({ ended: keep.value }) },
    h("option", { value: "alerts" }, "Ended: with an alert"), h("option", { value: "all" }, "Ended: all"), h("option", { value: "none" }, "Ended: none"));
  const shownCount = h("span", { class: "shown", role: "status" });
  const clear = h("button", { type: "button", class: "quiet", onclick: () => { set({ level: new Set(), hearing: "", tactic: "", source: "", tenant: "", q: "", ended: "alerts" }); search.focus(); } }, "Clear filters");
  const bar = h("div", { class: "filters", role: "search" }, search, tactic, source, manyTenants && tenant, keep, shownCount, clear);

  const columns = h("div", { class: "columns", "aria-hidden": "true" },
    ...["Level", "From → to", "Risk", "Tactics", "Hearing", "Time", ""].map(name => h("span", {}, name)));
  const nothing = h("div", { class: "nothing" });
  const endedHead = h("h2", { class: "ended-head" }, "Ended");
  main.replaceChildren(h("h1", { class: "unseen" }, "Calls now"), levelTiles, figures, bar, columns, live, nothing, endedHead, ended);

  function show() {
    for (const level of words.levels) attr(tiles[level].el, "aria-pressed", String(f.level.has(level)));
    attr(tiles.unheard.el, "aria-pressed", String(Boolean(f.hearing)));
    if (search.value !== f.q) search.value = f.q;
    keep.value = f.ended;
  }

  function draw() {
    const now = board.now(), q = plain(f.q);
    const counts = { none: 0, notice: 0, warning: 0, critical: 0, unheard: 0 };
    const tacticCounts = new Map(), sources = new Set(), tenants = new Set();
    const shownLive = [], shownEnded = [];
    let going = 0;
    for (const row of board.rows.values()) {
      sources.add(row.source);
      tenants.add(row.tenant);
      const goes = row.state === "live", fits = matches(row, f, q);
      if (goes) {
        going++;
        if (fits) counts[words.level(row.level)]++;
        if (unheard(row)) counts.unheard++;
        for (const t of row.tactics || []) if (!t.muted) tacticCounts.set(t.tactic, (tacticCounts.get(t.tactic) || 0) + 1);
      }
      const level = words.level(goes ? row.level : row.peak || row.level);
      if (!fits || (f.level.size && !f.level.has(level))) continue;
      if (goes) shownLive.push(row);
      else if (f.ended === "all" || (f.ended === "alerts" && alerting(row))) shownEnded.push(row);
    }
    for (const name in counts) {
      text(tiles[name].n, String(counts[name]));
      tiles[name].el.classList.toggle("zero", !counts[name]);
    }
    shownLive.sort(worst);
    shownEnded.sort(worst);
    const seen = new Set();
    const els = list => list.map(row => {
      const key = keyOf(row);
      seen.add(key);
      let r = rows.get(key);
      if (!r) rows.set(key, (r = new Row({ tenants: manyTenants })));
      if (r.row !== row) r.update(row, now);
      return r.el;
    });
    order(live, els(shownLive));
    order(ended, els(shownEnded));
    for (const key of rows.keys()) if (!seen.has(key)) rows.delete(key);
    roving.keep();
    endedHead.hidden = ended.hidden = !shownEnded.length;
    columns.hidden = live.hidden = !shownLive.length;
    drawNothing(shownLive.length, going);
    const filtered = f.level.size || f.hearing || f.tactic || f.source || f.tenant || f.q || f.ended !== "alerts";
    clear.hidden = !filtered;
    text(shownCount, filtered ? `${words.number(shownLive.length)} of ${words.count(going, "call", "calls")}` : words.count(going, "call", "calls"));
    source.fill(names(sources, f.source));
    tenant.fill(names(tenants, f.tenant));
    tactic.fill([...new Set([...tacticCounts.keys(), ...(f.tactic ? [f.tactic] : [])])].map(t => [t, words.tactic(t).label]).sort((a, b) => (a[1] < b[1] ? -1 : 1)));
    if (shownLive.length && !marked) {
      marked = true;
      requestAnimationFrame(() => performance.mark("calls shown")); // for our figures
    }
    drawTactics([...tacticCounts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)));
  }

  const names = (set, chosen) => [...new Set([...set, ...(chosen ? [chosen] : [])])].sort().map(v => [v, v]);

  function drawNothing(n, going) {
    nothing.hidden = n > 0;
    if (n) return;
    const what = going
      ? ["No call fits the filters.", `${words.count(going, "call goes", "calls go")} on at the moment.`]
      : ["No calls at the moment.", "A call appears here as soon as it is listened to, and what was heard in it a second after it was said."];
    if (nothing.dataset.what !== what.join()) {
      nothing.dataset.what = what.join();
      nothing.replaceChildren(icon("listening"), h("p", {}, h("b", {}, what[0])), h("p", {}, what[1]));
    }
  }

  let chips = "";
  function drawTactics(list) {
    const signature = list.map(t => t.join(":")).join() + f.tactic;
    if (signature === chips) return;
    chips = signature;
    const focused = tacticBox.contains(document.activeElement) && document.activeElement.dataset.tactic;
    const top = list.slice(0, tacticChips);
    tacticBox.replaceChildren(...(top.length ? top.map(([name, n]) => {
      const { label, family } = words.tactic(name);
      return h("button", {
        type: "button", class: `chip k-${family}`, "data-tactic": name, "aria-pressed": String(f.tactic === name),
        onclick: () => set({ tactic: f.tactic === name ? "" : name }),
      }, h("i", { "aria-hidden": "true" }), h("span", { class: "name" }, label), " ", h("b", {}, String(n)));
    }) : [h("p", { class: "empty" }, "None was heard in the calls of the moment.")]));
    if (focused) tacticBox.querySelector(`[data-tactic="${CSS.escape(focused)}"]`)?.focus();
  }

  function drawStatus() {
    const { alerts, machines: list } = board.status;
    drawHours(alerts || {});
    drawMachines(list || []);
  }

  let hoursDrawn = "";
  function drawHours({ by_hour: by = [], hour = 0, today = 0 }) {
    const signature = [by.join(), hour, today].join(";");
    if (signature === hoursDrawn) return;
    hoursDrawn = signature;
    const top = Math.max(1, ...by);
    hours.replaceChildren(
      h("p", {}, h("b", {}, words.number(hour)), " in the last hour, ", h("b", {}, words.number(today)), " today"),
      s("svg", { viewBox: "0 0 240 40", preserveAspectRatio: "none", role: "img", "aria-label": `Alerts per hour, the last ${by.length} hours, oldest first: ${by.join(", ")}` },
        ...by.map((n, i) => s("rect", { x: i * 10 + 1, width: 8, y: 40 - Math.max(1, (n / top) * 38), height: Math.max(1, (n / top) * 38), class: n ? "bar" : "bar zero" }))),
      h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, `${by.length || 24} h ago`), h("span", {}, "now")));
  }

  let machinesDrawn = "";
  function drawMachines(list) {
    const signature = JSON.stringify(list.map(m => [m.name, m.calls, m.legs, Math.round((m.load || 0) * 100), m.lag_p95, m.full, m.gone, m.drains, m.shed]));
    if (signature === machinesDrawn) return;
    machinesDrawn = signature;
    if (!list.length) {
      machines.replaceChildren(h("p", { class: "empty" }, "No machine has reported yet."));
      return;
    }
    machines.replaceChildren(...list.slice(0, 3).map(m => {
      const fill = s("rect", { x: 0, y: 0, height: 6, width: 100 * Math.min(1, m.load || 0), class: (m.load || 0) > 0.9 ? "fill hot" : "fill" });
      const trouble = m.gone ? "gone" : m.drains ? "takes no new calls" : m.full ? "full" : m.shed ? `${words.count(m.shed, "call", "calls")} without room` : "";
      return h("div", { class: m.gone ? "machine gone" : "machine" },
        h("p", {}, h("bdi", {}, list.length > 1 ? m.name : words.count(m.calls || 0, "call", "calls")), list.length > 1 && ` ${words.count(m.calls || 0, "call", "calls")}`,
          trouble && h("span", { class: "trouble" }, trouble)),
        s("svg", { class: "meter", viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": `Load ${words.percent(m.load)}` }, fill),
        h("p", { class: "axis" }, h("span", {}, `load ${words.percent(m.load)}`), h("span", { class: m.lag_p95 > 2 ? "trouble" : "" }, m.lag_p95 === undefined ? "" : `heard ${words.span(m.lag_p95)} late`)));
    }), ...(list.length > 3 ? [h("p", { class: "axis" }, `and ${list.length - 3} more`)] : []));
  }

  const listener = what => {
    if (what === "status" || what === "all") nextFrame(drawStatus);
    if (what === "calls" || what === "all") nextFrame(draw);
  };
  board.listeners.add(listener);
  const ticking = setInterval(() => {
    if (document.hidden) return;
    const now = board.now();
    for (const r of rows.values()) r.tick(now);
  }, 1000);
  pageKeys({
    j: ["next call", () => roving.move(1)],
    k: ["call before", () => roving.move(-1)],
    "/": ["search", () => search.focus()],
    c: ["only critical calls, or all again", () => set({ level: f.level.size ? new Set() : new Set(["critical"]) })],
    x: ["clear the filters", () => clear.hidden || clear.click()],
  });
  show();
  draw();
  drawStatus();
  return {
    title: "Calls",
    // Another address of this page, as by Back: only the filters change.
    turn(next) {
      f = filters(next);
      show();
      draw();
      return true;
    },
    close() {
      board.listeners.delete(listener);
      clearInterval(ticking);
    },
  };
}
