// One call in a list: of the overview, and of the history.

import { h, s, icon, text, attr, unseen } from "./dom.js";
import { callHash } from "./api.js";
import { lasted } from "./board.js";
import * as words from "./words.js";

const width = 132, height = 30; // of the line of risk, in its own units
const shown = 3; // chips

/** The path of a step function [t, score, t, score, …] over length seconds. */
export function stepPath(line, length, top, w = width, hgt = height) {
  const x = t => (Math.min(1, Math.max(0, t / length)) * w).toFixed(1);
  const y = v => (hgt - 1 - Math.min(1, Math.max(0, v / top)) * (hgt - 3)).toFixed(1);
  let d = `M0 ${y(0)}`;
  for (let i = 0; i + 1 < line.length; i += 2) d += `H${x(line[i])}V${y(line[i + 1])}`;
  return `${d}H${w}`;
}

/** A badge of level: its symbol and name. */
export function badge(name) {
  const level = words.level(name);
  return h("span", { class: `badge l-${level}` }, icon(level), words.levelWords[level].name);
}

export class Row {
  /** tenants says whether the tenant is worth telling, dated whether the day is. */
  constructor({ tenants, dated }) {
    this.tenants = tenants;
    this.dated = dated;
    this.use = s("use", { href: "#i-none" });
    this.level = h("b");
    this.score = h("span", { class: "score" });
    this.from = h("bdi");
    this.to = h("bdi");
    this.about = h("small");
    this.area = s("path", { class: "fill" });
    this.line = s("path", { class: "line" });
    this.chips = h("span", { class: "chips" });
    this.ear = s("use", { href: "#i-listening" });
    this.hears = h("span");
    this.hearing = h("span", { class: "c-hear" }, s("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, this.ear), this.hears);
    this.time = h("time");
    this.done = h("span", { class: "c-done" });
    this.link = h("a", { class: "go", tabindex: "-1" },
      h("span", { class: "c-level" },
        s("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, this.use), this.level, unseen(", risk "), this.score),
      h("span", { class: "c-who" },
        h("span", { class: "parties" }, unseen("from "), this.from, h("span", { class: "to", "aria-hidden": "true" }, "→"), unseen(" to "), this.to),
        this.about),
      s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" }, this.area, this.line),
      this.chips, this.hearing,
      h("span", { class: "c-time" }, unseen("lasts "), this.time),
      this.done);
    this.el = h("li", { class: "call" }, this.link);
    // Of a row that is scrolled away the words are kept right, for who looks
    // for them in the page; its line and its clock wait until it comes back.
    this.away = false;
    this.el.addEventListener("contentvisibilityautostatechange", e => {
      this.away = e.skipped;
      if (!this.away && this.stale) this.drawLine();
    });
  }

  update(row, now) {
    this.row = row;
    this.now = now;
    this.draw(now);
  }

  /** Moves the clock on, of a call that goes on and is in view. */
  tick(now) {
    this.now = now;
    if (!this.away && this.row.state === "live") text(this.time, words.clock(lasted(this.row, now)));
  }

  draw(now) {
    const row = this.row, level = words.level(row.level), live = row.state === "live";
    const state = live ? "" : row.state === "lost" ? " lost" : " ended";
    const shownLevel = live ? level : words.level(row.peak || row.level);
    attr(this.el, "class", `call l-${shownLevel}${state}${row.ack || row.verdict ? " handled" : ""}`);
    attr(this.use, "href", `#i-${shownLevel}`);
    text(this.level, words.levelWords[shownLevel].name);
    text(this.score, words.points(live ? row.score : row.peak_score));
    text(this.from, words.party(row.from, row.from_name));
    text(this.to, words.party(row.to, row.to_name));
    const about = [row.from && row.from_name && words.isolate(row.from_name), row.to && row.to_name && `to ${words.isolate(row.to_name)}`, row.source,
      this.tenants && row.tenant !== "default" && row.tenant, row.direction,
      this.dated ? words.when(row.start) : !live && (row.state === "lost" ? "lost sight of" : `ended ${words.time(row.ended || row.seen)}`)];
    text(this.about, about.filter(Boolean).join(" · "));
    attr(this.link, "href", callHash(row.tenant, row.id));
    this.stale = true;
    if (!this.away) this.drawLine();
    this.drawChips(row.tactics || []);
    const hearing = words.hearingWords[row.hearing] ? row.hearing : "unknown";
    attr(this.hearing, "class", `c-hear h-${hearing}`);
    attr(this.ear, "href", `#i-${words.hearingIcon(hearing)}`);
    const late = live && row.lag >= 2 ? `, ${words.span(row.lag)} late` : "";
    text(this.hears, words.hearingWords[hearing] + late);
    attr(this.hearing, "title", row.reason || (row.shed ? "It should be transcribed, and the machine has no room." : ""));
    text(this.time, words.clock(lasted(row, now)));
    this.drawDone(row);
  }

  drawLine() {
    const row = this.row;
    this.stale = false;
    const path = stepPath(row.line || [], Math.max(lasted(row, this.now), 10), Math.max(16, row.peak_score || 0));
    attr(this.line, "d", path);
    attr(this.area, "d", `${path}V${height}H0Z`);
  }

  drawChips(list) {
    const signature = list.map(t => `${t.tactic} ${t.state} ${t.muted} ${t.n}`).join();
    if (signature === this.chipsSignature) return;
    this.chipsSignature = signature;
    this.chips.replaceChildren(...list.slice(0, shown).map(chip), ...(list.length > shown ? [h("span", { class: "more" }, `+${list.length - shown}`)] : []));
  }

  drawDone(row) {
    const signature = [row.verdict, row.verdict_by, row.ack, row.notes, row.prompts].join();
    if (signature === this.doneSignature) return;
    this.doneSignature = signature;
    this.done.replaceChildren(...done(row));
  }
}

/** What people have done about a call, in small signs. */
export function done(row) {
  const out = [];
  if (row.verdict) {
    const scam = row.verdict === "scam";
    out.push(h("span", { class: scam ? "sign scam" : "sign honest", title: row.verdict_by && `by ${row.verdict_by}` }, icon(scam ? "scam" : "honest"), scam ? "Scam" : "No scam"));
  } else if (row.ack) {
    out.push(h("span", { class: "sign" }, icon("check"), h("bdi", {}, row.ack)));
  }
  if (row.notes) out.push(h("span", { class: "sign" }, icon("note"), String(row.notes), unseen(row.notes === 1 ? " note" : " notes")));
  return out;
}

/** A tactic as a chip: filled where it counts, hollow where it does not. */
export function chip(t) {
  const { label, family, short } = words.tactic(t.tactic);
  const off = t.muted || t.state === "retracted";
  return h("span", { class: `chip k-${family}${off ? " off" : ""}${t.state === "provisional" ? " open" : ""}`, title: label },
    h("i", { "aria-hidden": "true" }), h("span", { class: "name" }, short),
    t.n > 1 && h("b", {}, `×${t.n}`), off && unseen(" not counted"), unseen(". "));
}

/**
 * Lets the arrow keys, j and k, Home and End move between the links of a list,
 * of which only one is in the order of the Tab key.
 */
export class Roving {
  constructor(...lists) {
    this.lists = lists;
    this.at = null;
    for (const list of lists) {
      list.addEventListener("focusin", e => this.set(e.target.closest("a.go")));
      list.addEventListener("keydown", e => {
        const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[e.key];
        if (step === undefined || e.ctrlKey || e.altKey || e.metaKey) return;
        e.preventDefault();
        this.move(step);
      });
    }
  }

  links() {
    return this.lists.flatMap(list => [...list.querySelectorAll("a.go")]);
  }

  set(link) {
    if (!link || link === this.at) return;
    this.at?.setAttribute("tabindex", "-1");
    this.at = link;
    link.setAttribute("tabindex", "0");
  }

  /** Keeps one link reachable after the lists have changed. */
  keep() {
    if (!this.at?.isConnected) this.set(this.lists.map(list => list.querySelector("a.go")).find(Boolean));
  }

  move(step) {
    const links = this.links();
    if (!links.length) return;
    const active = links.indexOf(document.activeElement);
    const from = active >= 0 ? active : step > 0 ? -1 : links.length;
    const to = links[Math.max(0, Math.min(links.length - 1, Number.isFinite(step) ? from + step : step > 0 ? links.length - 1 : 0))];
    this.set(to);
    to.focus();
    to.scrollIntoView({ block: "nearest" });
  }
}
