// Draws a call. Whatever came from outside becomes text, never markup.

const $ = (id) => document.getElementById(id);

const levelWords = {
  none: "Nothing found so far",
  notice: "A weak sign of fraud",
  warning: "Probably a fraud",
  critical: "Act now",
};
const calm = { none: "", notice: "Be careful with what is asked for.", warning: "Warn the person who is being called.", critical: "Stop this call." };

const tactics = {
  lure_charge: ["claims a charge or order", "lure"],
  lure_account: ["claims an account is locked or hacked", "lure"],
  lure_legal: ["threatens with the law or the authorities", "lure"],
  lure_refund: ["offers a refund", "lure"],
  lure_delivery: ["claims trouble with a delivery", "lure"],
  press_key: ["says to press a key or call back", "lure"],
  impersonation: ["claims to be a known organisation", "lure"],
  remote_access_request: ["asks for remote access", "remote"],
  remote_access_compliance: ["gives remote access", "remote"],
  gift_card_request: ["asks for gift cards", "card"],
  gift_card_readback: ["reads out a gift card number", "card"],
  otp_request: ["asks for a one-time code", "code"],
  otp_readback: ["reads out a one-time code", "code"],
  disable_mfa: ["asks to turn off two-step verification", "code"],
  credential_request: ["asks for a card number, PIN or password", "code"],
  money_transfer_request: ["asks to move money", "money"],
  overpayment: ["claims to have paid too much", "money"],
  secrecy: ["asks to keep it secret", "pressure"],
  urgency: ["puts under time pressure", "pressure"],
  cross_channel: ["points to an email, text or other app", "pressure"],
  official_counter_advice: ["warns about fraud", "guard"],
};
const tactic = (name) => tactics[name] ?? [name.replaceAll("_", " ") || "unnamed tactic", "other"];

const who = { caller: "Caller", callee: "Called person", unknown: "Voice" };
const someone = { caller: "The caller", callee: "The called person", unknown: "Somebody" };
export const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

function element(name, className, text) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

const hearingWords = {
  listening: "Listening",
  degraded: "Listening in part",
  deaf: "Hears nothing",
  not_monitored: "Not listened to",
};

export class View {
  #call; #thresholds; #rows = new Map(); #finds = new Map(); #pending = false; #said = ""; #alerted = "";

  constructor(thresholds) { this.#thresholds = thresholds; }

  // show draws call, and draws it anew with every call of changed.
  show(call) {
    this.#call = call;
    this.#rows.clear();
    this.#finds.clear();
    this.#said = this.#alerted = "";
    $("turns").replaceChildren();
    $("found").replaceChildren();
    $("alert").textContent = "";
    $("ended").hidden = $("after").hidden = true;
    this.draw();
  }

  changed() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => { this.#pending = false; this.draw(); });
  }

  draw() {
    const call = this.#call;
    this.#verdict(call);
    this.#curve(call);
    this.#turns(call);
    this.#found(call);
    this.#hearing(call);
  }

  #hearing(call) {
    const ears = $("ears");
    const state = call.ended ? "over" : call.hearing?.state || "connecting";
    if (ears.dataset.state !== state) ears.dataset.state = state;
    let text = state === "over" ? "Call is over" : hearingWords[state] ?? "Connecting";
    if (!call.ended && state !== "listening" && call.hearing?.reason) text += ": " + call.hearing.reason;
    else if (state === "degraded" || state === "deaf") {
      const legs = call.hearing.legs.filter((l) => l.reason);
      if (legs.length) text += ": " + legs[0].reason;
    }
    if (text !== $("ears-text").textContent) $("ears-text").textContent = text;
  }

  #verdict(call) {
    const over = Boolean(call.ended);
    const level = over ? call.ended.level : call.level;
    const verdict = $("verdict");
    // Of what was not heard nothing good can be said.
    const unheard = level === "none" && (over ? !call.ended.complete : ["deaf", "not_monitored"].includes(call.hearing?.state));
    const words = unheard ? (over && call.turns.size ? "Nothing found in what was heard" : "Not heard") :
      level === "none" && over ? "Nothing found" : levelWords[level];
    const look = unheard ? "unheard" : level;
    if (verdict.dataset.level !== look) {
      verdict.dataset.level = look;
      verdict.className = `verdict l-${look}`;
    }
    if ($("level").textContent !== words) $("level").textContent = words;
    const heavy = call.advice && level !== "none";
    const advice = heavy ? call.advice.text : level !== "none" ? calm[level] :
      unheard ? (over ? "The call was not heard to its end: nobody knows what was said." : "Nobody hears what is said in this call.") :
      over ? "No sign of a fraud was heard in this call." : call.turns.size ? "No sign of a fraud in what was said." : "Talk. The words appear below.";
    if ($("advice").textContent !== advice) {
      $("advice").textContent = advice;
      $("advice").lang = heavy ? call.advice.language : "";
      $("advice").dir = heavy ? "auto" : "";
    }
    $("eyebrow").textContent = over ? "The highest risk of this call" : "Risk of this call";
    // Spoken out by a screen reader at once, and only where it is worth that.
    const alarm = level === "warning" || level === "critical" ? `${words}. ${advice}` : "";
    if (alarm && alarm !== this.#alerted) $("alert").textContent = this.#alerted = alarm;
  }

  #curve(call) {
    const t = this.#thresholds;
    const width = 320, height = 110;
    const end = Math.max(30, Math.ceil(call.at / 15) * 15);
    const top = Math.max(t.critical * 1.4, ...call.curve.map((p) => p.score * 1.1));
    const x = (s) => (s / end) * width, y = (score) => height - 2 - (Math.max(0, score) / top) * (height - 8);
    const points = [];
    let last = 0;
    for (const p of call.curve) {
      points.push(`${x(p.at).toFixed(1)},${y(last).toFixed(1)}`, `${x(p.at).toFixed(1)},${y(p.score).toFixed(1)}`);
      last = p.score;
    }
    points.push(`${x(call.at).toFixed(1)},${y(last).toFixed(1)}`);
    const chart = $("chart");
    if (!chart.firstChild) {
      for (const level of ["notice", "warning", "critical"]) {
        const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
        line.setAttribute("class", `limit l-${level}`);
        chart.append(line);
      }
      for (const name of ["polygon", "polyline"]) {
        const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
        shape.setAttribute("class", name === "polygon" ? "area" : "line");
        chart.append(shape);
      }
    }
    for (const level of ["notice", "warning", "critical"]) {
      const line = chart.querySelector(`.l-${level}`);
      for (const [k, v] of [["x1", 0], ["x2", width], ["y1", y(t[level])], ["y2", y(t[level])]]) line.setAttribute(k, v);
    }
    chart.querySelector(".line").setAttribute("points", points.join(" "));
    chart.querySelector(".area").setAttribute("points", `0,${height} ${points.join(" ")} ${x(call.at).toFixed(1)},${height}`);
    const score = call.score ? call.score.toFixed(1).replace(/\.0$/, "") : "0";
    $("score").textContent = score;
    $("chart-end").textContent = clock(end);
    chart.setAttribute("aria-label", `The risk over time. It is ${score} now; a warning begins at ${t.warning}, critical at ${t.critical}.`);
  }

  #turns(call) {
    const list = $("turns");
    const turns = call.transcript();
    $("said-empty").hidden = turns.length > 0;
    if (!turns.length && this.#said === "") $("said-empty").textContent = call.ended ? "Nothing was understood." : "Nothing yet.";
    const follow = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    const seen = new Set();
    let before = null;
    for (const turn of turns) {
      const runs = call.runs(turn);
      const look = JSON.stringify([turn.final, turn.start, runs.map((r) => [r.text, r.finding?.id, r.finding?.state])]);
      let row = this.#rows.get(turn.key);
      if (!row) {
        row = element("li");
        this.#rows.set(turn.key, row);
      }
      if (row.look !== look) {
        row.look = look;
        row.className = `turn ${turn.leg}${turn.final ? "" : " soon"}`;
        const text = element("p", "text");
        for (const run of runs) {
          if (text.firstChild) text.append(" ");
          if (!run.finding) { text.append(run.text); continue; }
          const [label, family] = tactic(run.finding.tactic);
          const mark = element("mark", `k-${family}${run.finding.mutedBy ? " muted" : ""}${run.finding.state === "provisional" ? " soon" : ""}`, run.text);
          mark.title = label + (run.finding.mutedBy ? ", which is no reason to worry here" : "");
          text.append(mark);
        }
        const head = element("p", "by");
        head.append(element("b", "", who[turn.leg]), " ", element("time", "", clock(turn.start)));
        if (turn.heard === "keypad") head.append(" ", element("span", "", "pressed"));
        row.replaceChildren(head, text);
      }
      if (before ? before.nextSibling !== row : list.firstChild !== row) list.insertBefore(row, before ? before.nextSibling : list.firstChild);
      before = row;
      seen.add(turn.key);
    }
    for (const [key, row] of this.#rows) if (!seen.has(key)) { row.remove(); this.#rows.delete(key); }
    if (follow) list.scrollTop = list.scrollHeight;
  }

  #found(call) {
    const list = $("found");
    const findings = [...call.findings.values()];
    $("found-empty").hidden = findings.length > 0;
    if (call.ended) $("found-empty").textContent = "Nothing.";
    else $("found-empty").textContent = "Nothing yet.";
    for (const f of findings) {
      const look = JSON.stringify(f);
      let item = this.#finds.get(f.id);
      if (!item) {
        item = element("li");
        this.#finds.set(f.id, item);
        list.prepend(item);
      }
      if (item.look === look) continue;
      item.look = look;
      const [label, family] = tactic(f.tactic);
      item.className = `find k-${family} ${f.state}${f.mutedBy ? " muted" : ""}`;
      const head = element("p", "what");
      head.append(element("i", "key"), " ", element("b", "", `${someone[f.leg]} ${label}`));
      const words = element("p", "words", f.words ? `“${f.words}”` : "");
      const small = element("p", "small");
      const points = f.mutedBy ? "no weight: " + f.mutedBy.replaceAll("_", " ") : f.points ? `+${f.points.toFixed(1).replace(/\.0$/, "")} points` : "";
      small.append(element("time", "", clock(f.start)), ...[
        { provisional: "still listening", confirmed: "", retracted: "taken back" }[f.state] ?? "", points,
      ].filter(Boolean).flatMap((t) => [" · ", t]));
      item.replaceChildren(head, words, small);
    }
  }
}
