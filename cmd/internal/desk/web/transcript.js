// What is said, side by side as it is spoken, with what was found marked in it.

import { h, order, unseen } from "./dom.js";
import { get } from "./api.js";
import { mark } from "./timeline.js";
import * as words from "./words.js";

const slack = 0.03; // s: word times of two hypotheses differ by a few frames
const atOnce = 400; // segments that are asked for
const most = 1000; // segments that are held: of a call with more, those that nobody looks at go
const near = 60; // pixels from the end that count as the end

/** Orders segments by when they were spoken. */
const spoken = (a, b) => a.start - b.start || a.n - b.n;

export class Transcript {
  constructor({ path, onPrompt }) {
    this.path = path;
    this.onPrompt = onPrompt;
    this.segments = new Map(); // n -> {segment, el, drawn}
    this.sorted = [];
    this.findings = [];
    this.steps = [];
    this.earlier = 0;
    this.dropped = 0;
    this.atEnd = true; // what is said now is among the segments
    this.stick = true;
    this.changes = new Map(); // key of a step -> element
    this.list = h("ol", { class: "turns" });
    this.more = h("button", { type: "button", class: "quiet earlier", hidden: true, onclick: () => this.loadEarlier() });
    this.gone = h("p", { class: "quiet-note", hidden: true });
    this.hint = h("div", { class: "empty", hidden: true });
    this.now = h("button", { type: "button", class: "to-now", hidden: true, onclick: () => this.toNow() }, "To what is said now ↓");
    this.scroller = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "What is said" }, this.gone, this.more, this.hint, this.list);
    this.el = h("section", { class: "card transcript", "aria-label": "Transcript" },
      h("div", { class: "head" }, h("h2", {}, "What is said")),
      h("div", { class: "turn-heads", "aria-hidden": "true" }, h("span"), h("span", {}, "Caller"), h("span", {}, "Callee")),
      this.scroller, this.now);
    this.scroller.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.scroller;
      this.stick = this.atEnd && scrollHeight - scrollTop - clientHeight < near;
      this.now.hidden = this.stick || !this.sorted.length;
      this.tip.follow();
      if (scrollTop < near && !this.more.hidden && this.touched) this.loadEarlier();
    }, { passive: true });
    for (const event of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      this.scroller.addEventListener(event, () => { this.touched = true; }, { passive: true });
    }
    this.tip = new Tip(this.el, this.scroller);
  }

  close() {
    this.tip.close();
  }

  /** Takes segments that are new or have changed. */
  take(list) {
    let grown = false;
    for (const segment of list) {
      const held = this.segments.get(segment.n);
      if (held) {
        held.segment = segment;
        held.stale = true;
      } else if (this.atEnd || segment.n < this.sorted.at(-1)?.segment.n) {
        this.segments.set(segment.n, { segment, el: null, stale: true });
        grown = true;
      }
    }
    if (grown) this.sort();
    return grown;
  }

  sort() {
    this.sorted = [...this.segments.values()].sort((a, b) => spoken(a.segment, b.segment));
  }

  all() {
    return this.sorted.map(held => held.segment);
  }

  /** Draws what has changed. */
  draw({ findings, steps, hint }) {
    const changed = findings !== this.findings;
    this.findings = findings;
    this.steps = steps;
    if (this.stick && this.sorted.length > most) this.forget(this.sorted.slice(0, this.sorted.length - most / 2));
    const opens = this.sorted.filter(({ segment: s }) => s.heard === "open" || !s.heard);
    const rows = [];
    let next = 0;
    const first = this.sorted[0]?.segment.start ?? Infinity;
    const pending = steps.filter(s => s.at >= first || !this.earlier);
    for (const held of this.sorted) {
      const s = held.segment;
      while (next < pending.length && pending[next].at < s.start) rows.push(this.change(pending[next++]));
      const hidden = !s.text || ((s.heard === "screen" || s.heard === "digits") && opens.some(o => o.segment.leg === s.leg && o.segment.start <= (s.start + s.end) / 2 && (s.start + s.end) / 2 <= o.segment.end));
      if (hidden) continue;
      if (held.stale || (changed && this.signature(s) !== held.signature) || !held.el) this.drawTurn(held);
      rows.push(held.el);
    }
    if (this.atEnd) while (next < pending.length) rows.push(this.change(pending[next++]));
    order(this.list, rows);
    const none = !this.sorted.length;
    this.hint.hidden = !none;
    if (none) this.hint.replaceChildren(...hint);
    this.more.hidden = !this.earlier;
    this.more.textContent = `${words.count(this.earlier, "earlier stretch", "earlier stretches")} of talk`;
    this.gone.hidden = !this.dropped || this.earlier > 0;
    this.gone.textContent = `The call was longer than is kept: the first ${words.number(this.dropped)} stretches of talk are gone.`;
    if (this.stick) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.now.hidden = this.stick || none;
  }

  forget(list) {
    for (const held of list) this.segments.delete(held.segment.n);
    this.earlier += list.length;
    this.sort();
  }

  /** The findings in a segment. */
  within(s) {
    return this.findings.filter(f => (f.leg === s.leg || f.leg === "unknown" || s.leg === "unknown") && f.start - slack <= s.end && f.end + slack >= s.start);
  }

  signature(s) {
    return this.within(s).map(f => `${f.number} ${f.id} ${f.state} ${f.muted_by || ""} ${f.share ?? f.points}`).join();
  }

  drawTurn(held) {
    const s = held.segment, found = this.within(s);
    held.stale = false;
    held.signature = this.signature(s);
    const side = s.leg === "caller" || s.leg === "callee" ? s.leg : "both";
    const tokens = s.words?.length ? s.words.map(([w, start, end]) => ({ w, start, end })) : (s.text || "").split(/\s+/).filter(Boolean).map(w => ({ w }));
    const covers = tokens.map(() => []);
    const notes = [];
    for (const f of found) {
      let marked = false;
      if (f.state !== "retracted") {
        tokens.forEach((t, i) => {
          const mid = (t.start + t.end) / 2;
          if (mid >= f.start - slack && mid <= f.end + slack) { covers[i].push(f); marked = true; }
        });
        if (!marked && tokens[0]?.start === undefined) marked = cover(f, tokens, covers);
      } else if ((f.start + f.end) / 2 >= s.start && (f.start + f.end) / 2 <= s.end) {
        notes.push(f);
      }
    }
    const p = h("p", { dir: "auto" });
    for (let i = 0; i < tokens.length;) {
      let to = i + 1;
      while (to < tokens.length && same(covers[to], covers[i])) to++;
      const run = tokens.slice(i, to).map(t => t.w);
      if (i) p.append(" ");
      if (covers[i].length) {
        const fs = covers[i], top = fs.reduce((a, b) => (weight(b) > weight(a) ? b : a));
        const el = h("mark", {
          class: `k-${words.tactic(top.tactic).family}${mark(top)}`, tabindex: "0", role: "button", "aria-expanded": "false",
          "data-findings": fs.map(f => f.id).join(" "),
        }, ...masked(run), h("sup", {}, unseen(" finding "), fs.map(f => f.number).join(",")));
        el.found = fs;
        p.append(el);
      } else {
        p.append(...masked(run));
      }
      i = to;
    }
    if (!s.final) p.append(h("span", { class: "unfinished" }, " …", unseen(" not finished")));
    const said = h("div", { class: "said" }, h("b", { class: "who" }, words.who(s.leg)), p,
      ...notes.map(f => h("p", { class: `note k-${words.tactic(f.tactic).family}` }, `${f.number} · ${words.tactic(f.tactic).label}: withdrawn, the words did not hold`)));
    const kids = [h("time", { datetime: `PT${s.start.toFixed(1)}S` }, words.clock(s.start)), said];
    const kind = `turn ${side}${s.final ? "" : " open"}${found.length ? " has" : ""}${s.heard === "keypad" ? " keypad" : ""}`;
    if (!held.el) held.el = h("li", { "data-n": s.n });
    held.el.className = kind;
    if (this.tip.of && held.el.contains(this.tip.of)) this.tip.hide();
    if (held.el.contains(document.activeElement)) { // words go on while one of them is looked at
      const id = document.activeElement.dataset.findings;
      held.el.replaceChildren(...kids);
      held.el.querySelector(`[data-findings="${CSS.escape(id || "")}"]`)?.focus({ preventScroll: true });
    } else {
      held.el.replaceChildren(...kids);
    }
  }

  /** A change of level between what is said. */
  change(step) {
    const key = `${step.at} ${step.level}`;
    let el = this.changes.get(key);
    if (!el) {
      const level = words.level(step.level);
      el = h("li", { class: `change l-${level}` }, h("time", { datetime: `PT${step.at.toFixed(1)}S` }, words.clock(step.at)),
        h("span", {}, h("b", {}, words.levelWords[level].name), ` with ${words.points(step.score)} points`));
      this.changes.set(key, el);
    }
    return el;
  }

  async loadEarlier() {
    if (this.loading || !this.sorted.length) return;
    this.loading = true;
    this.more.disabled = true;
    try {
      const before = Math.min(...[...this.segments.keys()]);
      const got = await get(`${this.path}/segments?before=${before}&limit=${atOnce}`);
      const box = this.scroller, height = box.scrollHeight, top = box.scrollTop;
      this.take(got.segments || []);
      this.earlier = got.earlier || 0;
      if (this.sorted.length > most) { // the newest go: nobody looks at them
        for (const held of this.sorted.slice(most)) this.segments.delete(held.segment.n);
        this.sort();
        this.atEnd = false;
      }
      this.stick = false;
      this.draw({ findings: this.findings, steps: this.steps, hint: [] });
      box.scrollTop = top + box.scrollHeight - height;
    } catch {
      // the button is still there
    } finally {
      this.loading = false;
      this.more.disabled = false;
    }
  }

  async toNow() {
    if (!this.atEnd) {
      const got = await get(`${this.path}/segments?before=2000000000&limit=${atOnce}`).catch(() => null);
      if (!got) return;
      this.segments.clear();
      this.atEnd = true;
      this.take(got.segments || []);
      this.sort();
      this.earlier = got.earlier || 0;
    }
    this.stick = true;
    this.draw({ findings: this.findings, steps: this.steps, hint: [] });
    this.scroller.focus({ preventScroll: true });
  }

  /** Goes to a finding and says what it is; false where its words are not here. */
  show(finding) {
    const el = [...this.list.querySelectorAll("mark")].find(m => m.found.some(f => f.id === finding.id)) || this.turnAt(finding.start);
    if (!el) return false;
    this.stick = false;
    el.scrollIntoView({ block: "center" });
    if (el.matches("mark")) el.focus({ preventScroll: true });
    return true;
  }

  turnAt(t) {
    return this.sorted.findLast(held => held.el?.isConnected && held.segment.start <= t + 0.05)?.el;
  }

  showTime(t) {
    const el = this.turnAt(t);
    if (!el) return;
    this.stick = false;
    el.scrollIntoView({ block: "center" });
    el.classList.remove("lit");
    void el.offsetWidth; // begins the highlight anew
    el.classList.add("lit");
  }

  /** The next or previous marked words. */
  step(by) {
    const marks = [...this.list.querySelectorAll("mark")];
    if (!marks.length) return;
    const at = marks.indexOf(document.activeElement);
    const to = marks[at < 0 ? (by > 0 ? 0 : marks.length - 1) : (at + by + marks.length) % marks.length];
    this.stick = false;
    to.scrollIntoView({ block: "center" });
    to.focus({ preventScroll: true });
  }
}

const weight = f => (f.muted_by ? -1 : f.points || 0);
const same = (a, b) => a.length === b.length && a.every((f, i) => f === b[i]);

/** Finds a finding's words where they are written, for backends that give no times. */
function cover(f, tokens, covers) {
  const list = (f.words || "").split(/\s+/).filter(Boolean);
  for (let k = 0; list.length && k + list.length <= tokens.length; k++) {
    if (!list.every((w, j) => w === tokens[k + j].w)) continue;
    list.forEach((_, j) => covers[k + j].push(f));
    return true;
  }
  return false;
}

/** Words with masked digits told as such. */
function masked(list) {
  const out = [];
  for (let i = 0; i < list.length;) {
    const hidden = /^[#.\- ]*#[#.\- ]*$/.test(list[i]);
    let to = i + 1;
    while (to < list.length && /^[#.\- ]*#[#.\- ]*$/.test(list[to]) === hidden) to++;
    const words = list.slice(i, to).join(" ");
    if (out.length) out.push(" ");
    const digits = hidden ? words.replace(/[^#]/g, "").length : 0;
    out.push(hidden ? h("span", { class: "mask", title: `${digits} masked digits` }, h("span", { "aria-hidden": "true" }, words), unseen(`${digits} masked digits`)) : words);
    i = to;
  }
  return out;
}

/** What was found in the words under the pointer, or that have the focus. */
class Tip {
  /** It stands in el, and tells of the words in box. */
  constructor(el, box) {
    this.el = h("div", { class: "tip", role: "tooltip", id: "tip", hidden: true });
    el.append(this.el);
    this.box = box;
    this.of = null;
    const markOf = e => e.target.closest?.("mark");
    box.addEventListener("pointerover", e => markOf(e) && this.show(markOf(e)));
    box.addEventListener("pointerout", e => markOf(e) && this.later());
    box.addEventListener("focusin", e => markOf(e) && this.show(markOf(e)));
    box.addEventListener("focusout", e => markOf(e) && this.hide());
    box.addEventListener("click", e => {
      const m = markOf(e);
      if (!m) return;
      if (document.activeElement !== m) m.focus({ preventScroll: true });
      this.show(m);
    });
    box.addEventListener("keydown", e => {
      const m = markOf(e);
      if (m && (e.key === "Enter" || e.key === " ")) {
        e.preventDefault();
        if (this.of === m) this.hide();
        else this.show(m);
      }
    });
    this.el.addEventListener("pointerenter", () => clearTimeout(this.timer));
    this.el.addEventListener("pointerleave", () => this.later());
    this.escape = e => {
      if (e.key === "Escape" && this.of) {
        e.stopPropagation();
        this.hide();
      }
    };
    addEventListener("keydown", this.escape, true);
  }

  close() {
    removeEventListener("keydown", this.escape, true);
    this.el.remove();
  }

  /** Stays with its words when they are scrolled, while they can be seen. */
  follow() {
    if (!this.of) return;
    const box = this.box.getBoundingClientRect(), at = this.of.getBoundingClientRect();
    if (at.bottom < box.top || at.top > box.bottom) this.hide();
    else this.place();
  }

  place() {
    const at = this.of.getClientRects()[0] || this.of.getBoundingClientRect();
    const { offsetWidth: w, offsetHeight: hgt } = this.el;
    const below = at.bottom + 8 + hgt < innerHeight;
    this.el.style.left = `${Math.max(10, Math.min(innerWidth - w - 10, at.left))}px`;
    this.el.style.top = `${below ? at.bottom + 8 : Math.max(10, at.top - 8 - hgt)}px`;
  }

  show(m) {
    clearTimeout(this.timer);
    if (this.of && this.of !== m) this.hide();
    this.of = m;
    this.el.replaceChildren(...m.found.map(about));
    this.el.hidden = false;
    m.setAttribute("aria-expanded", "true");
    m.setAttribute("aria-describedby", "tip");
    this.place();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.of !== document.activeElement) this.hide();
    }, 160);
  }

  hide() {
    clearTimeout(this.timer);
    this.of?.setAttribute("aria-expanded", "false");
    this.of?.removeAttribute("aria-describedby");
    this.of = null;
    this.el.hidden = true;
  }
}

/** A finding in a few lines: tactic, state, points, pattern, guard. */
export function about(f) {
  const { label, family } = words.tactic(f.tactic);
  const [rulePack, pattern] = (f.rule || "").split("/");
  const line = (name, value) => value && h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h("div", { class: `about k-${family}` },
    h("b", {}, h("i", { class: "key", "aria-hidden": "true" }), `${f.number} · ${label}`),
    h("dl", {},
      line("Points", f.muted_by ? "none: a guard took them" : f.state === "retracted" ? "none: withdrawn" : points(f)),
      line("Guard", f.muted_by && h("code", {}, f.muted_by)),
      line("Pattern", f.rule && h("code", {}, pattern ? `${rulePack} / ${pattern}` : f.rule)),
      line("State", { provisional: "not final yet: the words may still change", confirmed: "confirmed", retracted: "withdrawn: the words did not hold" }[f.state] || f.state),
      line("Sure", f.confidence ? words.percent(f.confidence) : ""),
      line("Stage", words.stageWords[f.stage])));
}

/** What a finding has given to the risk. */
export function points(f) {
  const now = f.share === undefined || f.share === 0 ? "" : `${words.points(f.share)} of the risk`;
  const then = f.points ? `${words.points(f.points)} when heard` : "";
  return [now, then].filter(Boolean).join(", ") || "none";
}
