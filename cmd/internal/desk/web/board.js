// The calls of the moment, as the desk's stream tells them.

import { Stream } from "./stream.js";
import { severity } from "./words.js";

export const keyOf = row => `${row.tenant}/${row.id}`;

/** Seconds that a call has lasted, at a moment of the desk's clock. */
export const lasted = (row, now) => Math.max(0, (row.dur || 0) + (row.state === "live" ? (now - row.seen) / 1000 : 0));

export const handled = row => Boolean(row.ack || row.verdict);

/** Worst first: calls that go on, by level, those that nobody has looked after, by their worst score, the latest. */
export function worst(a, b) {
  return (a.state === "live" ? 0 : 1) - (b.state === "live" ? 0 : 1) ||
    (a.state === "live" ? 0 : (b.ended || 0) - (a.ended || 0)) ||
    severity(b.level) - severity(a.level) ||
    handled(a) - handled(b) ||
    (b.peak_score || 0) - (a.peak_score || 0) ||
    (b.start || 0) - (a.start || 0) ||
    (a.id < b.id ? -1 : 1);
}

export class Board {
  constructor() {
    this.rows = new Map();
    this.status = {};
    this.offset = 0; // of the desk's clock to ours, ms
    this.connected = false;
    this.cut = 0; // since when the stream is cut, on our clock
    this.why = "";
    this.listeners = new Set();
    this.onCritical = () => {};
    this.onBye = () => {};
  }

  /** The desk's clock. */
  now() {
    return Date.now() + this.offset;
  }

  open() {
    if (this.stream) return;
    this.stream = new Stream("/api/live", {
      snapshot: m => {
        const before = this.rows;
        this.rows = new Map(m.calls?.map(row => [keyOf(row), row]));
        if (m.status) this.status = m.status;
        this.clock(m);
        this.up();
        if (before.size) this.alert([...this.rows.values()].filter(row => before.get(keyOf(row))?.level !== "critical"));
        this.tell("all");
      },
      delta: m => {
        this.clock(m);
        const worse = [];
        for (const row of m.calls || []) {
          if (this.rows.get(keyOf(row))?.level !== "critical") worse.push(row);
          this.rows.set(keyOf(row), row);
        }
        for (const key of m.gone || []) this.rows.delete(key);
        this.alert(worse);
        this.tell("calls");
      },
      status: m => {
        this.status = m;
        this.tell("status");
      },
      beat: m => this.clock(m),
      bye: m => this.onBye(m),
      up: () => this.up(),
      down: why => {
        if (this.connected || !this.cut) this.cut = Date.now();
        this.connected = false;
        this.why = why;
        this.tell("connection");
      },
      refused: (status, body) => this.onBye({ code: status === 401 ? "sign_in" : body.code, ...body }),
    }, { hidden: "board" });
  }

  up() {
    if (this.connected) return;
    this.connected = true;
    this.cut = 0;
    this.tell("connection");
  }

  close() {
    this.stream?.close();
    this.stream = null;
    this.connected = false;
    this.cut = 0;
    this.rows = new Map();
    this.status = {};
  }

  clock(m) {
    if (m.now) this.offset = m.now - Date.now();
  }

  alert(rows) {
    const critical = rows.filter(row => row.level === "critical" && row.state === "live");
    if (critical.length) this.onCritical(critical);
  }

  tell(what) {
    for (const each of this.listeners) each(what);
  }
}
