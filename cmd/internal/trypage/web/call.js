// What is known of a call, from its events: CloudEvents whose data are the
// messages of proto/callwarden/v1/events.proto as JSON. Nothing here draws.

export const levels = ["none", "notice", "warning", "critical"];

// seconds of a protobuf duration such as "12.340s"; 0 where it is absent.
export const seconds = (duration) => Number.parseFloat(duration) || 0;

const lower = (name, prefix) => (name ?? "").replace(prefix, "").toLowerCase();
const levelOf = (name) => { const l = lower(name, "LEVEL_"); return levels.includes(l) ? l : "none"; };
const legOf = (name) => { const l = lower(name, "LEG_"); return l === "caller" || l === "callee" ? l : "unknown"; };

export class Call {
  events = [];
  at = 0; // media clock, seconds
  hearing = null; // {state, reason, listen, shed}
  legs = [];
  level = "none";
  peak = "none";
  score = 0;
  advice = null; // {text, language}
  curve = [{ at: 0, score: 0 }];
  findings = new Map(); // by id, in the order in which they came
  turns = new Map(); // what was said, by leg, way of hearing and utterance
  ended = null;
  started = null;

  // take takes one event; events of types that it does not know are kept only.
  take(event) {
    this.events.push(event);
    const d = event.data ?? {};
    switch (event.type) {
      case "callwarden.call.started.v1":
        this.started = { id: d.context?.call ?? "", listen: d.listen ?? "", backend: d.backend ?? "", model: d.model ?? "" };
        this.legs = (d.legs ?? []).map(legOf);
        break;
      case "callwarden.call.status.v1":
        this.at = Math.max(this.at, seconds(d.at));
        this.hearing = {
          state: lower(d.hearing, "HEARING_"), reason: d.reason ?? "", listen: d.listen ?? "", shed: Boolean(d.shed),
          legs: (d.legs ?? []).map((l) => ({ leg: legOf(l.leg), state: lower(l.hearing, "HEARING_"), reason: l.reason ?? "" })),
        };
        break;
      case "callwarden.transcript.segment.v1":
        this.#segment(d);
        break;
      case "callwarden.risk.finding.v1":
        this.#finding(d);
        break;
      case "callwarden.risk.level.v1":
        this.#mark(seconds(d.at), d.score);
        this.level = levelOf(d.level);
        if (levels.indexOf(this.level) > levels.indexOf(this.peak)) this.peak = this.level;
        this.advice = d.advice?.text ? { text: d.advice.text, language: d.advice.language ?? "" } : this.level === "none" ? null : this.advice;
        break;
      case "callwarden.call.ended.v1":
        this.at = Math.max(this.at, seconds(d.duration));
        this.ended = { reason: d.reason ?? "", complete: Boolean(d.complete), level: levelOf(d.level), warnings: d.warnings ?? [] };
        break;
    }
  }

  #segment(d) {
    const leg = legOf(d.leg);
    const heard = lower(d.heard, "HEARD_") || "open";
    const key = `${leg} ${heard} ${d.utterance ?? 0}`;
    const turn = {
      key, leg, heard, final: Boolean(d.final), start: seconds(d.start), end: seconds(d.end), text: d.text ?? "",
      words: (d.words ?? []).map((w) => ({ text: w.text ?? "", start: seconds(w.start), end: seconds(w.end) })),
    };
    this.at = Math.max(this.at, turn.end);
    if (turn.text) this.turns.set(key, turn);
    else this.turns.delete(key);
  }

  #finding(d) {
    const f = d.finding ?? {};
    const finding = {
      id: f.id, tactic: f.tactic ?? "", stage: lower(f.stage, "STAGE_"), leg: legOf(f.leg), start: seconds(f.start), end: seconds(f.end),
      words: f.words ?? "", state: lower(f.state, "FINDING_STATE_"), mutedBy: f.muted_by ?? "", rule: f.rule ?? "",
      points: f.points ?? this.findings.get(f.id)?.points ?? 0, confidence: f.confidence ?? 0,
    };
    this.findings.set(f.id, finding);
    this.#mark(seconds(d.at), d.score);
    this.level = levelOf(d.level);
  }

  #mark(at, score = 0) {
    this.at = Math.max(this.at, at);
    this.score = score;
    const last = this.curve.at(-1);
    if (last.at === at) last.score = score;
    else this.curve.push({ at, score });
  }

  // transcript is what was said by time. What was heard against a closed list
  // is left out where all the words of that stretch are there.
  transcript() {
    const turns = [...this.turns.values()];
    const open = turns.filter((t) => t.heard === "open");
    return turns
      .filter((t) => {
        if (t.heard !== "screen" && t.heard !== "digits") return true;
        const middle = (t.start + t.end) / 2;
        return !open.some((o) => o.leg === t.leg && o.start <= middle && middle <= o.end);
      })
      .sort((a, b) => a.start - b.start || (a.leg < b.leg ? -1 : a.leg > b.leg ? 1 : 0));
  }

  // standing are the findings that were not taken back, heaviest first where
  // they weigh anything.
  standing() {
    return [...this.findings.values()].filter((f) => f.state !== "retracted").sort((a, b) => b.start - a.start);
  }

  // runs is a turn's text in pieces, each with the finding that covers it.
  runs(turn) {
    const over = this.standing().filter((f) => f.leg === turn.leg);
    if (!turn.words.length) return [{ text: turn.text, finding: null }];
    const runs = [];
    for (const w of turn.words) {
      const middle = (w.start + w.end) / 2;
      const finding = over.filter((f) => f.start - 0.03 <= middle && middle <= f.end + 0.03)
        .reduce((best, f) => !best || (!f.mutedBy && f.points > best.points) ? f : best, null);
      const last = runs.at(-1);
      if (last && last.finding === finding) last.text += " " + w.text;
      else runs.push({ text: w.text, finding });
    }
    return runs;
  }
}
