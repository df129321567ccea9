import { Call } from "./call.js";
import { View, clock } from "./view.js";
import { Problem, publish } from "./whip.js";
import { canListen, fromMicrophones, fromRecording, meter, microphones } from "./microphone.js";

const $ = (id) => document.getElementById(id);
const endpoint = "../v1/whip/";

let about = { whip: true, listen: "screen", notice: 1, warning: 6, critical: 12, recordings: [] };
let view;
let current = null; // the call that goes on

// tell shows a problem where somebody looks who has just pressed Start.
function tell(problem) {
  const titles = {
    token: "An access token is needed.", busy: "The server is busy.", unavailable: "Not available.", refused: "The call was not taken.",
    unreachable: "The server does not answer.", path: "No connection.", lost: "The connection was lost.", microphone: "No microphone.",
    insecure: "The microphone is closed to this page.", recording: "The recording cannot be played.", config: "Not switched on.",
  };
  $("problem-title").textContent = titles[problem.kind] ?? "That did not work.";
  const again = problem.retryAfter ? ` Try again in ${problem.retryAfter} seconds.` : "";
  const text = titles[problem.kind] === problem.message ? "" : problem.message;
  $("problem-text").textContent = text + again + (problem.detail ? ` (${problem.detail})` : "");
  $("problem").hidden = false;
  if (problem.kind === "token") {
    $("token-row").hidden = false;
    $("token").focus();
  }
}

const way = () => document.querySelector("input[name=way]:checked").value;

function showWay() {
  for (const part of document.querySelectorAll(".with[data-way]")) part.hidden = part.dataset.way !== way();
  $("say").hidden = way() === "file" || way() === "demo";
  for (const option of document.querySelectorAll(".way")) option.classList.toggle("on", option.querySelector("input").checked);
}

async function fillMicrophones() {
  const devices = await microphones();
  for (const [id, index] of [["mic", 0], ["mic-caller", 0], ["mic-callee", 1]]) {
    const select = $(id), before = select.value;
    select.replaceChildren(...(devices.length ? devices : [{ id: "", name: "The usual one" }]).map((d) => new Option(d.name, d.id)));
    select.value = devices.some((d) => d.id === before) && before ? before : devices[Math.min(index, devices.length - 1)]?.id ?? "";
  }
}

// sound opens what was chosen: tracks, and whose they are.
async function sound() {
  switch (way()) {
    case "one":
      return { ...await fromMicrophones([$("mic").value]), legs: [$("leg").value] };
    case "two":
      return { ...await fromMicrophones([$("mic-caller").value, $("mic-callee").value]), legs: ["caller", "callee"] };
    case "file": {
      const file = $("file").files[0];
      if (!file) throw new Problem("recording", "Choose a file first.");
      return recording(await file.arrayBuffer(), $("file"));
    }
    case "demo": {
      const response = await fetch("calls/" + encodeURIComponent($("demo").value)).catch(() => null);
      if (!response?.ok) throw new Problem("unreachable", "The server does not answer.");
      return recording(await response.arrayBuffer(), $("demo"));
    }
  }
}

async function recording(bytes, field) {
  const aloud = field.closest(".with").querySelector(".aloud").checked;
  const s = await fromRecording(bytes, aloud);
  return { ...s, legs: s.tracks.length === 2 ? ["caller", "callee"] : ["unknown"] };
}

async function start() {
  $("problem").hidden = true;
  if (!about.whip) { tellMissing(); return; }
  $("start").disabled = true;
  $("start").textContent = "Connecting…";
  let source;
  try {
    source = await sound();
    await begin(source);
  } catch (e) {
    source?.stop();
    current = null;
    tell(e instanceof Problem ? e : new Problem("refused", e.message || String(e)));
  } finally {
    $("start").disabled = false;
    $("start").textContent = "Start";
  }
}

async function begin(source) {
  const call = new Call();
  const query = new URLSearchParams({ hypotheses: "1", listen: "full" });
  if (source.legs[0] !== "unknown") query.set("leg", source.legs[0]); // a second track is the other side
  const session = current = { call, source, stops: [] };
  view.show(call);
  session.publication = await publish({
    url: `${endpoint}?${query}`,
    token: $("token").value.trim(),
    tracks: source.tracks,
    onEvent(event) { call.take(event); view.changed(); },
    onEnd(problem) { over(session, problem); },
    onRemote(track) { speak(session, track); },
  });
  if (current !== session) return; // it was over before it began
  fillMicrophones(); // which have names now
  show("live");
  document.body.classList.add("in-call");
  $("bar").hidden = false;
  $("mute").hidden = way() === "file" || way() === "demo";
  $("mute").setAttribute("aria-pressed", "false");
  $("level").focus();
  meters(session);
  const began = performance.now();
  const ticking = setInterval(() => { $("clock").textContent = clock((performance.now() - began) / 1000); }, 250);
  session.stops.push(() => clearInterval(ticking));
  source.play();
  source.ended.then(() => hangUp(session), (problem) => { hangUp(session); session.problem = problem; });
}

// speak lets a prompt that the server says into the call be heard.
function speak(session, track) {
  const audio = new Audio();
  audio.srcObject = new MediaStream([track]);
  audio.play().catch(() => {});
  session.stops.push(() => { audio.srcObject = null; });
}

function meters(session) {
  const bars = session.source.tracks.map((track, i) => {
    const bar = document.createElement("span");
    bar.className = `meter ${session.source.legs[i]}`;
    const level = document.createElement("i");
    bar.append(level);
    session.stops.push(meter(track, (loud) => { level.style.transform = `scaleX(${loud.toFixed(3)})`; }));
    return bar;
  });
  $("meters").replaceChildren(...bars);
}

function hangUp(session) {
  if (current !== session) return;
  $("end").disabled = true;
  $("end").textContent = "Ending…";
  session.publication.end();
}

// over is called once a call has ended, whoever ended it.
function over(session, problem) {
  if (current !== session) return;
  current = null;
  for (const stop of session.stops) stop();
  session.source.stop();
  document.body.classList.remove("in-call");
  $("bar").hidden = true;
  $("end").disabled = false;
  $("end").textContent = "End call";
  problem ??= session.problem;
  const { call } = session;
  if ($("live").hidden) { // it ended while it was being made
    tell(problem ?? new Problem("lost", "The server ended the call at once."));
    return;
  }
  const ended = call.ended;
  call.ended ??= { reason: "", complete: false, level: call.peak, warnings: [] };
  view.changed();
  $("ended").hidden = $("after").hidden = false;
  $("ended").className = problem ? "note bad" : "note";
  const length = call.at ? `The call lasted ${clock(call.at)}.` : "";
  const all = !ended ? "" : ended.complete ? "All of it was heard." : "Not all of it was heard" + (ended.warnings[0] ? ": " + ended.warnings[0] : ".");
  $("ended").textContent = [problem?.message, length, all].filter(Boolean).join(" ");
  last = call;
  $("again").focus({ preventScroll: true });
}

let last = null;

function save() {
  const lines = last.events.map((e) => JSON.stringify(e)).join("\n") + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines], { type: "application/x-ndjson" }));
  link.download = `callwarden-${last.started?.id || "call"}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function show(section) {
  for (const id of ["setup", "live"]) $(id).hidden = id !== section;
  document.body.dataset.shows = section;
}

function tellMissing() {
  tell(new Problem("config", "Calls from browsers are not switched on here. Set sources.whip.enabled: true in callwarden.yml and start callwarden again."));
}

async function prepare() {
  showWay();
  try {
    const response = await fetch("about.json", { cache: "no-store" });
    if (response.ok) about = { ...about, ...await response.json() };
  } catch { /* the first Start says it */ }
  view = new View(about);
  $("demo").replaceChildren(...about.recordings.map((r) => new Option(r.title, r.name)));
  await fillMicrophones();
  if (!about.whip) tellMissing();
  else if (!canListen()) {
    for (const value of ["one", "two"]) document.querySelector(`input[name=way][value=${value}]`).disabled = true;
    document.querySelector("input[name=way][value=demo]").checked = true;
    showWay();
    tell(new Problem("insecure", `Browsers give one only to pages that come over https, or from this machine itself (http://localhost). Recordings can be played all the same.`));
  }
  document.body.dataset.ready = "yes";
}

$("form").addEventListener("submit", (e) => { e.preventDefault(); if (!current) start(); });
for (const input of document.querySelectorAll("input[name=way]")) input.addEventListener("change", showWay);
$("end").addEventListener("click", () => current && hangUp(current));
$("mute").addEventListener("click", () => {
  const muted = $("mute").getAttribute("aria-pressed") !== "true";
  $("mute").setAttribute("aria-pressed", String(muted));
  for (const track of current?.source.tracks ?? []) track.enabled = !muted;
});
$("again").addEventListener("click", () => { show("setup"); $("problem").hidden = true; $("start").focus(); });
$("save").addEventListener("click", save);
navigator.mediaDevices?.addEventListener?.("devicechange", fillMicrophones);
addEventListener("online", () => current?.publication?.restart()); // another network than before
addEventListener("pagehide", () => current?.publication?.close());
prepare();
