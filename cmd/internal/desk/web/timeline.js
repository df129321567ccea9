// The time line of a call: how loud each side was, what was found in it, how
// it was heard, the curve of the risk, and the levels.

import { h, text, attr, colour, unseen } from "./dom.js";
import { Curve } from "./curve.js";
import * as words from "./words.js";

const nothing = 255; // in a strip: no audio came
const quietest = 60; // dB below full scale that is drawn as silence
const flagRoom = 26; // pixels that a flag takes
const flagRows = 3;
const flagsMost = 60;
const shortest = 20; // seconds that the time line has at least

/** How loud a leg was, growing: a byte a step. */
export class Strip {
  constructor() {
    this.step = 0.1;
    this.data = new Uint8Array(0);
    this.length = 0;
  }

  take({ step, from = 0, below }) {
    const bytes = Uint8Array.from(atob(below || ""), c => c.charCodeAt(0));
    this.step = step || this.step;
    const length = from + bytes.length;
    if (length > this.data.length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.data.length)).fill(nothing);
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    this.data.fill(nothing, Math.min(from, this.length), from);
    this.data.set(bytes, from);
    this.length = length;
  }

  /** The loudest of a stretch, in dB below full scale; undefined before the beginning and after the end. */
  loudest(from, to) {
    const a = Math.max(0, Math.floor(from / this.step)), b = Math.min(this.length, Math.max(a + 1, Math.ceil(to / this.step)));
    if (a >= b) return undefined;
    let best = nothing;
    for (let i = a; i < b; i++) if (this.data[i] < best) best = this.data[i];
    return best;
  }
}

export class Timeline {
  /** onFinding is called with a finding whose flag was pressed, onTime with a place that was pressed. */
  constructor({ onFinding, onTime }) {
    this.onFinding = onFinding;
    this.onTime = onTime;
    this.window = 0; // seconds that are seen; 0: all
    this.lanes = new Map();
    this.flags = h("div", { class: "flags" });
    this.laneBox = h("div", { class: "lanes" });
    this.ears = h("div", { class: "ears" });
    this.riskBox = h("div", { class: "riskbox" });
    this.scale = h("span", { class: "scale", "aria-hidden": "true" });
    this.strip = h("div", { class: "strip" });
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.read = h("output");
    this.cursor = h("div", { class: "cursor", hidden: true, "aria-hidden": "true" }, this.read);
    this.plot = h("div", { class: "plot" }, this.flags, this.laneBox, this.ears,
      h("div", { class: "risk" }, h("span", { class: "name" }, "Risk"), this.scale, this.riskBox), this.strip, this.axis, this.cursor);
    const zoom = h("div", { class: "switch", role: "group", "aria-label": "What the time line shows" },
      ...[[0, "Whole call"], [600, "10 min"], [120, "2 min"]].map(([seconds, name]) =>
        h("button", { type: "button", "aria-pressed": String(!seconds), "data-seconds": seconds, onclick: e => {
          this.window = seconds;
          for (const b of e.target.parentNode.children) b.setAttribute("aria-pressed", String(b === e.target));
          this.draw(this.call);
        } }, name)));
    this.summary = h("p", { class: "unseen" });
    this.el = h("section", { class: "card timeline", "aria-label": "Time line" },
      h("div", { class: "head" }, h("h2", {}, "As it went"), h("p", { class: "hint" }, "Loudness of each side, what was found, and the risk that came of it."), zoom),
      this.summary, this.plot);
    this.plot.addEventListener("pointermove", e => this.point(e));
    this.plot.addEventListener("pointerleave", () => { this.cursor.hidden = true; });
    this.plot.addEventListener("click", e => {
      if (!e.target.closest("button")) this.onTime(this.timeAt(e));
    });
    this.inks = {};
    this.theme = () => {
      this.inks = {};
      this.curve?.make();
      if (this.call) this.draw(this.call);
    };
    addEventListener("theme", this.theme);
    this.resize = new ResizeObserver(() => this.call && this.draw(this.call));
    this.resize.observe(this.plot);
  }

  close() {
    removeEventListener("theme", this.theme);
    this.resize.disconnect();
    this.curve?.close();
  }

  ink(name) {
    return (this.inks[name] ||= colour(name));
  }

  timeAt(e) {
    const box = this.plot.getBoundingClientRect();
    return this.from + Math.min(1, Math.max(0, (e.clientX - box.left) / box.width)) * (this.to - this.from);
  }

  point(e) {
    const at = this.timeAt(e);
    if (at > this.end) {
      this.cursor.hidden = true;
      return;
    }
    const [, score, level] = this.call.curve.findLast(p => p[0] <= at) || [0, 0, "none"];
    this.cursor.hidden = false;
    this.cursor.style.left = `${this.percent(at)}%`;
    this.cursor.classList.toggle("flip", this.percent(at) > 70);
    text(this.read, `${words.clock(at)}  risk ${words.points(score)}  ${words.levelWords[words.level(level)].name}`);
  }

  percent(t) {
    return Math.min(100, Math.max(0, 100 * (t - this.from) / (this.to - this.from)));
  }

  /** call is the call view's state: legs, strips, findings, status, curve, steps, segments(), lasted. */
  draw(call) {
    this.call = call;
    this.end = call.lasted;
    this.to = Math.max(call.lasted, shortest);
    this.from = this.window ? Math.max(0, this.to - this.window) : 0;
    if (this.from > 0 || this.window) this.to = Math.max(this.to, this.from + Math.min(this.window, shortest));
    this.drawFlags(call.findings);
    this.drawLanes(call);
    this.drawEars(call.status);
    this.drawStrip(call.curve);
    this.drawAxis();
    this.curve ||= new Curve(this.riskBox);
    this.curve.draw(call.curve, this.end, this.from, this.to);
    text(this.scale, words.points(this.curve.top));
    text(this.summary, this.told(call));
  }

  /** What the drawing shows, for who does not see it. */
  told(call) {
    const steps = call.steps.map(s => `${words.levelWords[words.level(s.level)].name} at ${words.clock(s.at)} with ${words.points(s.score)} points`);
    return `The call lasts ${words.span(call.lasted)}. ${words.count(call.findings.length, "finding", "findings")}. ${steps.length ? `${steps.join(", ")}.` : "The level has not changed."}`;
  }

  drawFlags(findings) {
    const seen = findings.filter(f => f.end >= this.from && f.start <= this.to);
    const shown = seen.length > flagsMost ? [...seen].sort((a, b) => b.points - a.points).slice(0, flagsMost).sort((a, b) => a.number - b.number) : seen;
    const width = this.plot.clientWidth || 1000;
    const rows = Array(flagRows).fill(-Infinity);
    const signature = `${width}|${this.from.toFixed(1)}|${this.to.toFixed(0)}|${shown.map(f => `${f.id}${f.number}${f.state}${f.muted_by}`).join()}`;
    if (signature === this.flagsDrawn) return;
    this.flagsDrawn = signature;
    const focused = this.flags.contains(document.activeElement) ? document.activeElement.dataset.finding : "";
    let used = 0;
    this.flags.replaceChildren(...shown.map(f => {
      const x = this.percent(Math.max(f.start, this.from)) * width / 100;
      let row = rows.findIndex(last => x - last >= flagRoom);
      if (row < 0) row = rows.indexOf(Math.min(...rows));
      rows[row] = x;
      used = Math.max(used, row);
      const { label, family } = words.tactic(f.tactic);
      const el = h("button", {
        type: "button", class: `flag k-${family} row-${row}${mark(f)}`, "data-finding": f.id, title: `${f.number} · ${label}`,
        onclick: () => this.onFinding(f),
      }, unseen("finding "), String(f.number), unseen(`, ${label}, at ${words.clock(f.start)}`));
      el.style.left = `${this.percent(Math.max(f.start, this.from))}%`;
      return el;
    }));
    this.flags.dataset.rows = shown.length ? used + 1 : 0;
    if (focused) this.flags.querySelector(`[data-finding="${CSS.escape(focused)}"]`)?.focus();
  }

  drawLanes(call) {
    for (const leg of call.legs) {
      if (this.lanes.has(leg)) continue;
      const canvas = h("canvas", { "aria-hidden": "true" });
      this.lanes.set(leg, canvas);
      this.laneBox.append(h("div", { class: "lane", "data-leg": leg }, h("span", { class: "name" }, words.who(leg)), canvas));
    }
    if (call.legs.length < this.lanes.size) {
      for (const [leg, canvas] of this.lanes) if (!call.legs.includes(leg)) { canvas.parentNode.remove(); this.lanes.delete(leg); }
    }
    for (const [leg, canvas] of this.lanes) this.drawLane(canvas, leg, call);
  }

  drawLane(canvas, leg, call) {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const c = canvas.getContext("2d"), mid = height / 2;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    const perPixel = (this.to - this.from) / width;
    const strip = call.strips.get(leg);
    c.fillStyle = this.ink("wave");
    if (strip?.length) {
      for (let x = 0; x < width; x += 2) {
        const at = this.from + x * perPixel;
        if (at > this.end) break;
        const below = strip.loudest(at, at + 2 * perPixel);
        if (below === undefined) continue;
        if (below === nothing) {
          if (x % 6 === 0) c.fillRect(x, mid - 0.5, 2, 1);
          continue;
        }
        const amplitude = Math.max(0.02, 1 - below / quietest) * (mid - 2);
        c.fillRect(x, mid - amplitude, 1.4, 2 * amplitude);
      }
    } else { // no loudness is published: where words were spoken is known
      c.globalAlpha = 0.55;
      c.fillRect(0, mid - 0.5, width * this.percent(this.end) / 100, 1);
      for (const s of call.segments()) {
        if (s.leg !== leg || s.end < this.from) continue;
        const x = (s.start - this.from) / perPixel;
        c.fillRect(x, mid - 8, Math.max(1.5, (s.end - s.start) / perPixel), 16);
      }
      c.globalAlpha = 1;
    }
    for (const f of call.findings) {
      if ((f.leg !== leg && f.leg !== "unknown") || f.end < this.from || f.start > this.to) continue;
      const off = f.muted_by || f.state === "retracted";
      const x = (f.start - this.from) / perPixel, w = Math.max(3, (f.end - f.start) / perPixel);
      const ink = this.ink(`k-${words.tactic(f.tactic).family}`);
      c.fillStyle = c.strokeStyle = ink;
      c.globalAlpha = off ? 0.05 : f.stage === "comply" || f.stage === "loss" ? 0.4 : 0.25;
      c.fillRect(x, 1, w, height - 2);
      c.globalAlpha = off ? 0.5 : 0.8;
      c.setLineDash(off || f.state === "provisional" ? [3, 3] : []);
      c.lineWidth = 1;
      c.strokeRect(Math.round(x) + 0.5, 1.5, Math.round(w), height - 3);
    }
    c.globalAlpha = 1;
    c.setLineDash([]);
  }

  /** Where the call was not well heard. */
  drawEars(status) {
    const bad = [];
    status.forEach((s, i) => {
      const to = i + 1 < status.length ? status[i + 1].at : this.end;
      if (s.hearing !== "listening" && s.hearing !== "unknown" && to >= this.from) bad.push({ ...s, to });
    });
    const signature = bad.map(s => `${s.at} ${s.to.toFixed(0)} ${s.hearing}`).join() + this.from.toFixed(1) + this.to.toFixed(0);
    if (signature === this.earsDrawn) return;
    this.earsDrawn = signature;
    this.ears.hidden = !bad.length;
    this.ears.replaceChildren(...bad.map(s => {
      const what = `${words.hearingWords[s.hearing] || s.hearing} from ${words.clock(s.at)} to ${words.clock(s.to)}${s.reason ? `: ${s.reason}` : ""}`;
      const el = h("span", { class: `ear h-${s.hearing}`, title: what }, words.hearingWords[s.hearing], unseen(` ${what}`));
      el.style.left = `${this.percent(s.at)}%`;
      el.style.width = `${this.percent(s.to) - this.percent(s.at)}%`;
      return el;
    }));
  }

  /** Stretches of one level each. */
  drawStrip(curve) {
    const stretches = [{ at: 0, level: "none" }];
    for (const [t, , level] of curve) {
      if (t <= 0) stretches[0].level = level;
      else if (stretches.at(-1).level !== level) stretches.push({ at: t, level });
    }
    stretches.forEach((s, i) => { s.to = i + 1 < stretches.length ? stretches[i + 1].at : this.end; });
    const seen = stretches.filter(s => s.to >= this.from);
    const signature = `${this.plot.clientWidth} ${seen.map(s => `${this.percent(s.at).toFixed(1)} ${this.percent(s.to).toFixed(1)} ${s.level}`).join()}`;
    if (signature === this.stripDrawn) return;
    this.stripDrawn = signature;
    const width = this.plot.clientWidth || 1000;
    this.strip.replaceChildren(...seen.map(s => {
      const level = words.level(s.level), left = this.percent(s.at), w = this.percent(s.to) - left;
      const name = words.levelWords[level].name;
      const el = h("span", { class: `l-${level}`, title: `${name} from ${words.clock(s.at)}` }, w * width / 100 > 64 ? name : unseen(name));
      el.style.left = `${left}%`;
      el.style.width = `${w}%`;
      return el;
    }));
  }

  drawAxis() {
    const room = Math.max(2, Math.floor((this.plot.clientWidth || 800) / 90));
    const length = this.to - this.from;
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find(s => length / s <= room) || 14400;
    const ticks = [];
    for (let t = Math.ceil(this.from / step) * step; t <= this.to; t += step) ticks.push(t);
    const signature = `${this.from.toFixed(2)} ${this.to.toFixed(2)} ${step}`;
    if (signature === this.axisDrawn) return;
    this.axisDrawn = signature;
    this.axis.replaceChildren(...ticks.map(t => {
      const el = h("span", {}, words.clock(t));
      el.style.left = `${this.percent(t)}%`;
      return el;
    }));
  }
}

/** The classes of how a finding stands. */
export function mark(f) {
  return (f.stage === "comply" || f.stage === "loss" ? " complies" : "") +
    (f.state === "retracted" ? " is-withdrawn" : f.muted_by ? " is-muted" : f.state === "provisional" ? " is-provisional" : "");
}
