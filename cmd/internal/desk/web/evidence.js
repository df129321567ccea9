// A call as plain text, for a case file or a colleague.

import * as words from "./words.js";

/** The call in lines: who, how bad, why, and what was said. */
export function evidence(state, segments) {
  const row = state.row, out = [];
  const line = (...parts) => out.push(parts.filter(Boolean).join(""));
  line(`Call from ${words.party(row.from, row.from_name)} to ${words.party(row.to, row.to_name)}`);
  line(`id ${row.id}, tenant ${row.tenant}, by ${row.source}`);
  if (row.start) line(`began ${new Date(row.start).toISOString()}, lasts ${words.clock(state.lasted)}`);
  line(`highest level ${words.levelWords[words.level(row.peak)].name.toLowerCase()}, ${words.points(row.peak_score)} points`);
  if (row.hearing !== "listening") line(`heard: ${(words.hearingWords[row.hearing] || "").toLowerCase()}${row.reason ? `, ${row.reason}` : ""}`);
  if (row.verdict) line(`judged: ${row.verdict === "scam" ? "scam" : "not a scam"}${row.verdict_by ? ` by ${row.verdict_by}` : ""}`);
  const found = state.findings.filter(f => f.state !== "retracted");
  if (found.length) {
    line("");
    line("Found:");
    for (const f of found) {
      line(`  ${words.clock(f.start)}  ${words.who(f.leg)}: ${words.tactic(f.tactic).label}`, f.words && `: “${f.words}”`,
        f.muted_by ? ` (no points: guard ${f.muted_by})` : f.points ? ` (${words.points(f.points)} points, ${f.rule})` : f.rule && ` (${f.rule})`, f.state === "provisional" && " (not final)");
    }
  }
  if (state.steps.length) {
    line("");
    line("Levels:");
    for (const s of state.steps) line(`  ${words.clock(s.at)}  ${words.levelWords[words.level(s.level)].name}, ${words.points(s.score)} points`);
  }
  const notes = state.actions.filter(a => !a.undone_by && a.note);
  if (notes.length) {
    line("");
    line("Notes:");
    for (const a of notes) line(`  ${new Date(a.when).toISOString()}  ${a.who}: ${a.note}`);
  }
  const said = segments.filter(s => s.text && s.heard !== "screen" && s.heard !== "digits");
  if (said.length) {
    line("");
    line("Said (digits masked):");
    for (const s of said) line(`  ${words.clock(s.start)}  ${words.who(s.leg)}: ${s.text}${s.final ? "" : " …"}`);
  }
  return `${out.join("\n")}\n`;
}

/** Puts text into the clipboard; false where the browser does not let it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Not over plain HTTP from another machine: the old way works there.
    const field = document.createElement("textarea");
    field.value = text;
    field.setAttribute("class", "unseen");
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
