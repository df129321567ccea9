// One call: what to say, what was said and found, and what to do about it.

import { h, icon, text, attr, nextFrame, say, toast, ask, unseen } from "./dom.js";
import { get, post, sentence, callPath } from "./api.js";
import { Stream } from "./stream.js";
import { lasted } from "./board.js";
import { badge } from "./row.js";
import { Timeline, Strip, mark } from "./timeline.js";
import { Transcript, points } from "./transcript.js";
import { evidence, copy } from "./evidence.js";
import { pageKeys } from "./keys.js";
import * as words from "./words.js";

const ownAdvice = {
  unheard: "This call is not heard. Nothing can be said about it.",
  none: "No sign of fraud was heard. That is no proof that the call is honest.",
  notice: "A weak sign was heard. Read the marked words before you judge.",
  warning: "Stop, hang up, and call back on a number that you know to be right.",
  critical: "Stop, hang up, and call back on a number that you know to be right.",
};

export function call({ main, board, me, parts, rename }) {
  const [tenant, id] = parts;
  const path = callPath(tenant, id);
  const analyst = me.role !== "viewer";
  const state = {
    row: null, legs: ["caller", "callee"], strips: new Map(), byId: new Map(), findings: [], status: [], curve: [], steps: [],
    shares: [], advice: [], actions: [], hearing: [], facts: {}, end: null, lasted: 0, segments: () => transcript.all(),
  };
  let offset = 0, chosen = -1, stream = null, settled = false;
  const now = () => Date.now() + offset;

  const transcript = new Transcript({ path });
  const timeline = new Timeline({
    onFinding: f => transcript.show(f) || document.getElementById(`f-${f.number}`)?.scrollIntoView({ block: "center" }),
    onTime: t => transcript.showTime(t),
  });

  // The head: who, how bad, and what to say.
  const title = h("h1", { class: "parties" });
  const level = h("div", { class: "level-now" });
  const about = h("p", { class: "about-call" });
  const figures = h("dl", { class: "figures" });
  const figure = name => {
    const value = h("dd");
    const el = h("div", {}, h("dt", {}, name), value);
    figures.append(el);
    return { el, value };
  };
  const score = figure("Risk"), duration = figure("Lasts"), hearing = figure("Hearing"), begun = figure("Began");
  const advice = h("p", { class: "advice", dir: "auto" });
  const adviceLabel = h("h2", { class: "advice-label" }, "Say now");
  const chips = h("ul", { class: "chips" });
  const buttons = h("div", { class: "buttons", role: "group", "aria-label": "What to do about the call" });
  const others = h("p", { class: "others", role: "status", hidden: true });
  const verdict = h("section", { class: "verdict", "aria-label": "The call" },
    h("div", { class: "verdict-main" }, h("div", { class: "verdict-top" }, level, title), about, adviceLabel, advice, chips, buttons, others),
    figures);
  const banner = h("div", { role: "status" });

  const actions = {
    acknowledged: { name: "Acknowledge", done: "Acknowledged", icon: "check", key: "a" },
    scam: { name: "Scam", done: "Scam", icon: "scam", key: "s" },
    not_scam: { name: "Not a scam", done: "Not a scam", icon: "honest", key: "h" },
  };
  for (const [name, a] of Object.entries(actions)) {
    a.label = h("span", {}, a.name);
    a.el = h("button", { type: "button", class: `act-${name}`, "aria-pressed": "false", onclick: () => toggle(name) }, icon(a.icon), a.label);
    buttons.append(a.el);
  }
  const noteButton = h("button", { type: "button", class: "act-note", onclick: note }, icon("note"), "Note");
  const copyButton = h("button", { type: "button", class: "act-copy", onclick: copyEvidence }, icon("copy"), "Copy evidence");
  const playButton = h("button", { type: "button", class: "act-play", onclick: play }, icon("say"), "Play a warning");
  buttons.append(noteButton, copyButton, playButton);
  if (!analyst) {
    for (const b of [...Object.values(actions).map(a => a.el), noteButton, playButton]) {
      b.setAttribute("aria-disabled", "true");
      b.title = "Your role is viewer: an analyst can do this.";
    }
  }

  // Beside what is said: why, what was found, what people did, and how it is heard.
  const steps = h("div", { class: "steps switch", role: "group", "aria-label": "Change of level to explain" });
  const shares = h("div", { class: "tablebox" });
  const why = h("section", { class: "card why", "aria-label": "Why" }, h("div", { class: "head" }, h("h2", {}, "Why")), steps, shares);
  const findingList = h("ol", { class: "finding-list" });
  const findingCard = h("section", { class: "card", "aria-label": "Findings" }, h("div", { class: "head" }, h("h2", {}, "Findings")), findingList);
  const log = h("ol", { class: "log" });
  const logCard = h("section", { class: "card", "aria-label": "What people did" }, h("div", { class: "head" }, h("h2", {}, "What people did")), log);
  const details = h("dl", { class: "details" });
  const detailCard = h("section", { class: "card", "aria-label": "Details" }, h("div", { class: "head" }, h("h2", {}, "Details")), details);

  const back = h("a", { class: "back", href: "#/" }, icon("back"), "Calls");
  const content = h("div", { class: "call-view", hidden: true }, banner, verdict, timeline.el,
    h("div", { class: "call-columns" }, transcript.el, h("div", { class: "side" }, why, findingCard, logCard, detailCard)));
  const waiting = h("p", { class: "waiting" }, "Asking for the call…");
  main.replaceChildren(back, waiting, content);

  function take(m, whole) {
    if (m.now) offset = m.now - Date.now();
    if (whole) {
      state.strips.clear();
      state.byId.clear();
      Object.assign(state, { status: [], curve: [], steps: [], shares: [], advice: [], actions: [], hearing: [], facts: m, end: null });
      transcript.segments.clear();
      transcript.sort();
      transcript.atEnd = true;
      transcript.earlier = m.earlier || 0;
    }
    if (m.row) state.row = m.row;
    if (m.facts) state.facts = m.facts;
    if (m.legs) state.hearing = m.legs;
    for (const key of ["shares", "advice", "curve", "steps", "status", "actions"]) if (m[key]) state[key] = m[key];
    if (m.curve_add) state.curve = [...state.curve, ...m.curve_add];
    if (m.ended) state.end = m.ended;
    if (m.history) state.history = true;
    if (m.dropped) transcript.dropped = m.dropped;
    for (const f of m.findings || []) state.byId.set(f.id, f);
    if (m.shares) {
      const by = new Map(m.shares.map(s => [s.finding, s]));
      for (const [fid, f] of state.byId) state.byId.set(fid, { ...f, share: by.get(fid)?.points || 0, why: by.get(fid)?.why || f.why });
    }
    if (m.findings || m.shares || whole) {
      state.findings = [...state.byId.values()].sort((a, b) => a.start - b.start || (a.id < b.id ? -1 : 1));
      state.findings.forEach((f, i) => { f.number = i + 1; });
    }
    for (const s of m.levels || []) {
      if (!state.strips.has(s.leg) || (!s.from && !whole)) state.strips.set(s.leg, new Strip());
      state.strips.get(s.leg).take(s);
    }
    if (m.segments) transcript.take(m.segments);
    const legs = new Set([...state.hearing.map(l => l.leg), ...state.strips.keys(), ...state.findings.map(f => f.leg), ...transcript.all().map(s => s.leg)].filter(Boolean));
    if (legs.size > 1) legs.delete("unknown");
    state.legs = legs.size ? ["caller", "callee", "unknown"].filter(leg => legs.has(leg)) : ["caller", "callee"];
    nextFrame(draw);
  }

  let drawnLevel = "";
  function draw() {
    const row = state.row;
    if (!row || closed) return;
    waiting.hidden = true;
    content.hidden = false;
    state.lasted = lasted(row, now());
    const live = row.state === "live";
    const shown = words.level(live ? row.level : row.peak || row.level);
    verdict.className = `verdict l-${shown}`;
    if (drawnLevel !== `${shown}${live}`) {
      drawnLevel = `${shown}${live}`;
      level.replaceChildren(badge(shown), h("span", { class: "means" }, live ? words.levelWords[shown].means : "This was the highest level."));
    }
    const from = words.party(row.from, row.from_name), to = words.party(row.to, row.to_name);
    const names = `${from}\n${to}`;
    if (title.dataset.names !== names) {
      title.dataset.names = names;
      title.replaceChildren(unseen("From "), h("bdi", {}, from), h("span", { class: "to", "aria-hidden": "true" }, "→"), unseen(" to "), h("bdi", {}, to));
      rename(`${from} → ${to}`);
    }
    text(about, [row.from && row.from_name && words.isolate(row.from_name), row.to && row.to_name && `to ${words.isolate(row.to_name)}`, row.source, row.tenant !== "default" && row.tenant, row.direction, row.language,
      row.listen && { full: "fully transcribed", screen: "screened" }[row.listen], live ? "" : row.state === "lost" ? "lost sight of" : `ended: ${state.end?.reason || "over"}`].filter(Boolean).join(" · "));
    text(score.value, words.points(live ? row.score : row.peak_score));
    text(duration.value, words.clock(state.lasted));
    attr(hearing.value, "class", `h-${row.hearing}`);
    text(hearing.value, words.hearingWords[row.hearing] || "Not known yet");
    attr(hearing.el, "title", row.reason);
    text(begun.value, row.start ? words.when(row.start) : "–");
    text(adviceLabel, live ? "Say now" : "What was to be said");
    drawAdvice(row, shown);
    drawChips(row.tactics || []);
    drawButtons(row, live);
    drawBanner(row);
    timeline.draw(state);
    transcript.draw({ findings: state.findings, steps: state.steps, hint: transcriptHint(row) });
    drawWhy();
    drawFindings();
    drawLog();
    drawDetails(row);
  }

  function drawAdvice(row, shown) {
    const last = state.advice.at(-1);
    const unheard = row.hearing === "deaf" || row.hearing === "not_monitored";
    const own = ownAdvice[unheard && shown === "none" ? "unheard" : shown];
    const use = last && shown !== "none" ? last : { text: own, language: "en" };
    if (advice.textContent === use.text) return;
    advice.textContent = use.text;
    advice.lang = use.language || "en";
    if (settled && last) say(`Advice: ${use.text}`, shown === "critical");
    settled = true;
  }

  let chipsDrawn = "";
  function drawChips(list) {
    const signature = JSON.stringify(list);
    if (signature === chipsDrawn) return;
    chipsDrawn = signature;
    chips.replaceChildren(...list.map(t => {
      const { label, family } = words.tactic(t.tactic), off = t.muted || t.state === "retracted";
      return h("li", { class: `chip k-${family}${off ? " off" : ""}` }, h("i", { "aria-hidden": "true" }), label, t.n > 1 && h("b", {}, ` ×${t.n}`), off && h("em", {}, " not counted"));
    }));
  }

  /** The action of that kind that stands. */
  const standing = name => state.actions.findLast(a => a.action === name && !a.undone_by);

  function drawButtons(row, live) {
    const stands = {
      acknowledged: standing("acknowledged"),
      scam: row.verdict === "scam" && standing("scam"),
      not_scam: row.verdict === "not_scam" && standing("not_scam"),
    };
    for (const [name, a] of Object.entries(actions)) {
      const by = stands[name];
      attr(a.el, "aria-pressed", String(Boolean(by)));
      text(a.label, by ? `${a.done}: ${by.who}` : a.name);
    }
    const can = live && row.can_play;
    playButton.hidden = !live;
    if (analyst) {
      attr(playButton, "aria-disabled", can ? null : "true");
      attr(playButton, "title", can ? null : `The way in “${row.source}” cannot speak into this call.`);
    }
    const other = state.actions.findLast(a => !a.undone_by && a.who !== me.user && a.action === "acknowledged");
    others.hidden = !other;
    text(others, other ? `${other.who} looks after this call since ${words.time(other.when)}.` : "");
  }

  function drawBanner(row) {
    const list = [];
    if (row.hearing === "deaf" || row.hearing === "not_monitored" || row.hearing === "degraded") {
      const what = { deaf: "Nothing is heard of this call", not_monitored: "This call is not listened to", degraded: "Not all of this call is heard" }[row.hearing];
      list.push([row.hearing === "degraded" ? "part" : "bad", row.state === "live" ? what : what.replace("is heard", "was heard").replace("is not", "was not"), row.reason]);
    }
    if (row.skew) list.push(["part", "A clock is wrong", `that of the machine that took the call is ${words.span(Math.abs(row.skew))} ${row.skew > 0 ? "ahead" : "behind"}; times here are of the desk's clock`]);
    for (const w of state.end?.warnings || []) list.push(["part", "Audio", w]);
    if (cut) list.push(["bad", "The connection is cut", `${cut}. This is how the call was; it is tried again`]);
    const signature = JSON.stringify(list);
    if (signature === banner.dataset.shown) return;
    banner.dataset.shown = signature;
    banner.replaceChildren(...list.map(([kind, what, more]) => h("div", { class: `banner inset ${kind}` }, h("b", {}, what), more ? `: ${more}.` : ".")));
  }

  function transcriptHint(row) {
    const keys = board.status.keys || [];
    if (board.status.transcripts === false && row.state === "live") {
      return [h("p", {}, "What is said is not published."), h("p", {}, "Set ", h("code", {}, keys.find(k => /transcript/.test(k)) || "sinks.nats.transcripts"), " to true in callwarden.yml to read it here. What is found is shown without it.")];
    }
    return [h("p", {}, row.state === "live" ? "Nothing was said yet." : "No words of this call were kept.")];
  }

  let whyDrawn = "";
  function drawWhy() {
    const list = state.steps.length ? state.steps : state.shares.length ? [{ at: state.row.level_at || 0, level: state.row.level, score: state.row.score, shares: state.shares }] : [];
    const at = chosen < 0 || chosen >= list.length ? list.length - 1 : chosen;
    const step = list[at];
    why.hidden = !step;
    const signature = JSON.stringify([list.map(s => [s.at, s.level]), at, step, state.findings.length]);
    if (!step || signature === whyDrawn) return;
    whyDrawn = signature;
    const focused = steps.contains(document.activeElement) ? [...steps.children].indexOf(document.activeElement) : -1;
    steps.hidden = list.length < 2;
    steps.replaceChildren(...list.map((s, i) => h("button", {
      type: "button", class: `l-${words.level(s.level)}`, "aria-pressed": String(i === at),
      onclick: () => { chosen = i === list.length - 1 ? -1 : i; drawWhy(); },
    }, words.clock(s.at), " ", h("b", {}, words.levelWords[words.level(s.level)].name))));
    if (focused >= 0) steps.children[focused]?.focus();
    const most = Math.max(...(step.shares || []).map(s => s.points), 0.1);
    shares.replaceChildren(h("table", { class: "parts" },
      h("caption", {}, `At ${words.clock(step.at)} the risk was `, h("b", {}, `${words.points(step.score)} points`), ". They came from:"),
      h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "Finding"), h("th", { scope: "col" }, "Points"))),
      h("tbody", {}, ...(step.shares || []).map(s => {
        const f = state.byId.get(s.finding), { label, family } = s.tactic ? words.tactic(s.tactic) : { label: "the talk as a whole", family: "other" };
        const bar = h("i");
        bar.style.width = `${Math.max(2, 100 * Math.abs(s.points) / most)}%`;
        return h("tr", { class: `k-${family}` },
          h("td", {}, h("i", { class: "key", "aria-hidden": "true" }), f && h("b", {}, `${f.number} `), label, f?.words && h("q", { dir: "auto" }, f.words), s.why && h("small", {}, s.why)),
          h("td", { class: "n" }, h("b", {}, words.points(s.points)), h("span", { class: "share", "aria-hidden": "true" }, bar)));
      }))));
  }

  let findingsDrawn = null;
  function drawFindings() {
    if (findingsDrawn === state.findings) return;
    findingsDrawn = state.findings;
    findingCard.hidden = !state.findings.length;
    findingList.replaceChildren(...state.findings.map(f => {
      const { label, family } = words.tactic(f.tactic);
      return h("li", { id: `f-${f.number}`, class: `k-${family}${mark(f)}` },
        h("button", { type: "button", class: "ref", onclick: () => transcript.show(f) }, unseen("Show finding "), String(f.number)),
        h("div", {}, h("b", {}, label), f.words && h("q", { dir: "auto" }, f.words),
          h("small", {}, [words.who(f.leg), words.clock(f.start), f.muted_by ? `no points: guard “${f.muted_by}”` : f.state === "retracted" ? "withdrawn" : `${f.state === "provisional" ? "not final, " : ""}${points(f)}`, f.rule].filter(Boolean).join(" · "))));
    }));
  }

  let logDrawn = "";
  function drawLog() {
    const signature = JSON.stringify(state.actions);
    if (signature === logDrawn) return;
    logDrawn = signature;
    logCard.hidden = !state.actions.length;
    log.replaceChildren(...[...state.actions].reverse().map(a => h("li", { class: a.undone_by ? "undone" : "" },
      h("time", { datetime: new Date(a.when).toISOString() }, words.when(a.when)), h("div", {}, h("bdi", {}, a.who), ` ${words.actionWords[a.action] || a.action}`,
        a.note && h("q", { dir: "auto" }, a.note), a.undone_by && h("small", {}, `taken back by ${a.undone_by}`)),
      analyst && !a.undone_by && a.id && undoable.has(a.action) && h("button", { type: "button", class: "quiet undo", onclick: () => undo(a) }, "Undo", unseen(` what ${a.who} did`)))));
  }

  let detailsDrawn = "";
  function drawDetails(row) {
    const legs = state.hearing;
    const list = [];
    const add = (name, value) => value !== undefined && value !== "" && value !== null && list.push([name, String(value)]);
    add("Call", row.id);
    add("Tenant", row.tenant);
    for (const [key, value] of Object.entries(state.facts.attributes || {})) add(key.replaceAll("_", " "), value);
    add("Recogniser", [state.facts.backend, state.facts.model].filter(Boolean).join(", "));
    for (const l of legs) {
      add(words.who(l.leg), [words.hearingWords[l.hearing], l.reason, l.heard && `${words.span(l.heard)} heard`, l.dropped && `${words.span(l.dropped)} dropped`, l.lost && `${words.span(l.lost)} never came`,
        l.lag && `${words.span(l.lag)} late`, l.rate_hz && `${l.rate_hz / 1000} kHz`, l.high_hz && `${l.low_hz || 0} to ${l.high_hz} Hz`, l.noise_dbfs !== undefined && `noise ${Math.round(l.noise_dbfs)} dBFS`, l.hum_hz && `hum of ${l.hum_hz} Hz`, l.clipped && "clipped"].filter(Boolean).join(", "));
    }
    if (state.end) add("Ended", `${state.end.reason}${state.end.complete ? "" : "; not all was heard"}`);
    const signature = JSON.stringify(list);
    if (signature === detailsDrawn) return;
    detailsDrawn = signature;
    details.replaceChildren(...list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }, value))));
  }

  // What people do.

  const undoable = new Set(["acknowledged", "scam", "not_scam", "note"]);

  async function act(body, said) {
    if (!analyst) {
      toast("Your role is viewer: an analyst can do this.", { bad: true });
      return null;
    }
    try {
      const done = await post(`${path}/actions`, body);
      if (said) toast(said, { undo: undoable.has(body.action) && !body.undoes ? () => undo({ action: body.action, id: done.id }) : undefined });
      return done;
    } catch (err) {
      toast(sentence(err), { bad: true });
      return null;
    }
  }

  const undo = a => act({ action: a.action, undoes: a.id }, "Taken back.");

  function toggle(name) {
    const row = state.row;
    if (!row) return;
    const by = name === "acknowledged" ? standing(name) : row.verdict === name && standing(name);
    if (by) undo(by);
    else act({ action: name }, { acknowledged: "You look after this call.", scam: "Told: it is a scam.", not_scam: "Told: it is not a scam." }[name]);
  }

  async function note() {
    if (!analyst) return act({});
    const field = h("textarea", { id: "note", maxlength: "2000", autofocus: true, required: true });
    const answer = await ask({
      title: "Note", yes: "Keep it",
      body: h("div", {}, h("label", { for: "note" }, "What others should know about this call. Digits are masked."), field),
    });
    if (answer === "yes" && field.value.trim()) act({ action: "note", note: field.value.trim() }, "Noted.");
  }

  async function copyEvidence() {
    if (!state.row) return;
    let list = transcript.all();
    for (let before = Math.min(...list.map(s => s.n)), left = transcript.earlier; left > 0 && list.length < 20000;) {
      const got = await get(`${path}/segments?before=${before}&limit=1000`).catch(() => null);
      if (!got?.segments?.length) break;
      list = [...got.segments, ...list];
      before = Math.min(...got.segments.map(s => s.n));
      left = got.earlier || 0;
    }
    if (await copy(evidence(state, list))) {
      toast("The evidence is in the clipboard.");
      if (analyst) act({ action: "evidence_copied" });
    } else {
      toast("The browser does not let the page use the clipboard.", { bad: true });
    }
  }

  async function play() {
    if (!analyst) return act({});
    if (playButton.getAttribute("aria-disabled") === "true") {
      toast(playButton.title, { bad: true });
      return;
    }
    const answer = await ask({
      title: "Play a warning", yes: "Play it now", danger: true,
      body: h("p", {}, "A spoken warning is played into the call now. It cannot be taken back."),
    });
    if (answer !== "yes") return;
    try {
      await post(`${path}/prompt`, { prompt: "customer" });
      toast("The warning is being played.");
    } catch (err) {
      toast(sentence(err), { bad: true });
    }
  }

  pageKeys({
    a: ["acknowledge", () => toggle("acknowledged")],
    s: ["it is a scam", () => toggle("scam")],
    h: ["it is not a scam", () => toggle("not_scam")],
    m: ["write a note", note],
    e: ["copy the evidence", copyEvidence],
    p: ["play a warning", () => playButton.hidden || play()],
    u: ["take the last back", () => { const last = state.actions.findLast(a => !a.undone_by && a.who === me.user && undoable.has(a.action)); if (last) undo(last); }],
    n: ["next marked words", () => transcript.step(1)],
    N: ["marked words before", () => transcript.step(-1)],
    Escape: ["back to the calls", () => { location.hash = "#/"; }],
  });

  // How it is kept up to date.

  let cut = "", closed = false;
  async function plain() {
    try {
      take(await get(path), true);
    } catch (err) {
      if (!state.row) waiting.replaceChildren(sentence(err), " ", h("a", { href: "#/history" }, "Search the history"));
    }
  }
  stream = new Stream(`${path}/live`, {
    snapshot: m => { cut = ""; take(m, true); },
    update: m => take(m, false),
    beat: m => { if (m.now) offset = m.now - Date.now(); },
    gone: () => { stream.close(); plain(); },
    bye: m => { if (m.code === "sign_in") stream.close(); },
    up: () => { cut = ""; nextFrame(draw); },
    down: why => { cut = why; nextFrame(draw); },
    refused: status => { if (status !== 401) plain(); },
  });
  const ticking = setInterval(() => {
    if (!document.hidden && state.row?.state === "live") nextFrame(draw);
  }, 1000);

  return {
    title: "Call",
    turn: () => true,
    close() {
      closed = true;
      stream.close();
      clearInterval(ticking);
      timeline.close();
      transcript.close();
    },
  };
}
