// How things are told to a person.

/** What the side that uses a tactic does, the family that gives its colour, and the same where there is little room. */
const tactics = {
  lure_charge: ["claims a charge or order", "lure", "charge or order"],
  lure_account: ["claims an account is locked or hacked", "lure", "account locked"],
  lure_legal: ["threatens with the law or the authorities", "lure", "law threatened"],
  lure_refund: ["offers a refund", "lure", "refund"],
  lure_delivery: ["claims trouble with a delivery", "lure", "delivery"],
  press_key: ["says to press a key or call back", "lure", "press a key"],
  impersonation: ["claims to be a known organisation", "lure", "claims a name"],
  remote_access_request: ["asks for remote access", "remote", "asks for remote access"],
  remote_access_compliance: ["gives remote access", "remote", "gives remote access"],
  gift_card_request: ["asks for gift cards", "card", "asks for gift cards"],
  gift_card_readback: ["reads out a gift card number", "card", "reads gift card"],
  otp_request: ["asks for a one-time code", "code", "asks for code"],
  otp_readback: ["reads out a one-time code", "code", "reads out code"],
  disable_mfa: ["asks to turn off two-step verification", "code", "two-step off"],
  credential_request: ["asks for a card number, PIN or password", "code", "asks for card or PIN"],
  money_transfer_request: ["asks to move money", "money", "asks for money"],
  overpayment: ["claims to have paid too much", "money", "paid too much"],
  secrecy: ["asks to keep it secret", "pressure", "secrecy"],
  urgency: ["puts under time pressure", "pressure", "time pressure"],
  cross_channel: ["points to an email, text or other app", "pressure", "other channel"],
  official_counter_advice: ["warns about fraud", "guard", "warns about fraud"],
};

export const tacticNames = Object.keys(tactics);

/** {label, family, short} of any tactic, known or not. */
export function tactic(name) {
  const [label, family, short] = tactics[name] || [String(name || "unnamed tactic").replaceAll("_", " "), "other"];
  return { label, family, short: short || label };
}

export const levels = ["critical", "warning", "notice", "none"];

export const levelWords = {
  none: { name: "No sign", means: "Nothing that points to a fraud was heard." },
  notice: { name: "Notice", means: "A weak sign: look when there is time." },
  warning: { name: "Warning", means: "A fraud is likely." },
  critical: { name: "Critical", means: "This goes the way of a fraud: act now." },
};

export const level = name => (levelWords[name] ? name : "none");

/** 0 for none to 3 for critical. */
export const severity = name => 3 - Math.max(0, levels.indexOf(level(name)));

export const hearingWords = {
  listening: "Listening",
  degraded: "Partly heard",
  deaf: "Deaf",
  not_monitored: "Not monitored",
  unknown: "Not known yet",
};

/** The symbol of a hearing state. */
export const hearingIcon = name => ({ listening: "listening", degraded: "degraded" })[name] || "deaf";

export const stageWords = {
  lure: "lure", ask: "ask", instruct: "instruction", pressure: "pressure",
  comply: "compliance", loss: "loss", protective: "protective",
};

export const actionWords = {
  acknowledged: "acknowledged the call", scam: "said that it is a scam", not_scam: "said that it is not a scam",
  note: "wrote a note", evidence_copied: "copied the evidence", prompt_played: "had a warning spoken into the call",
};

export const who = leg => ({ caller: "Caller", callee: "Callee" })[leg] || "Both sides";

const two = n => (n < 10 ? "0" : "") + n;

/** A place on the media clock in seconds, to the second: 4:07 or 1:04:07. */
export function clock(seconds) {
  const t = Math.max(0, Math.floor(seconds || 0)), m = Math.floor(t / 60), hours = Math.floor(m / 60);
  return (hours ? `${hours}:${two(m % 60)}` : m) + ":" + two(t % 60);
}

/** A length of time in words: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 days. */
export function span(seconds) {
  const t = Math.max(0, seconds || 0);
  if (t < 9.95 && Number.isInteger(t)) return `${t} s`;
  if (t < 9.95) return `${t.toFixed(1)} s`;
  if (t < 60) return `${Math.round(t)} s`;
  if (t < 3600) return `${Math.floor(t / 60)} min${Math.floor(t % 60) ? ` ${Math.floor(t % 60)} s` : ""}`;
  if (t < 172800) return `${Math.floor(t / 3600)} h ${Math.floor(t / 60) % 60} min`;
  return `${Math.floor(t / 86400)} days`;
}

/** A score: one decimal where it is not whole. */
export function points(p) {
  const t = (Math.round((p || 0) * 10) / 10).toString();
  return t === "-0" ? "0" : t.replace("-", "−");
}

export const percent = p => `${Math.round(100 * (p || 0))} %`;

export const count = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

const grouped = new Intl.NumberFormat("en-GB");
export const number = n => grouped.format(n || 0).replaceAll(",", " ");

const timeFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const preciseFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
const longDayFormat = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });

/** Wall times, from milliseconds since 1970. */
export const time = ms => timeFormat.format(ms);
export const preciseTime = ms => preciseFormat.format(ms);
export const dayName = ms => dayFormat.format(ms);
export const longDayName = ms => longDayFormat.format(ms);

/** Time today, day and time else. */
export function when(ms) {
  return new Date(ms).toDateString() === new Date().toDateString() ? time(ms) : `${dayName(ms)}, ${time(ms)}`;
}

/** YYYY-MM-DD of a moment where the reader is. */
export const isoDay = ms => {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
};

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The party at one end: its number, or its name, or what is known. */
export const party = (number, name) => number || name || "unknown";

/** A name whose direction does not turn what stands around it (Unicode's first strong isolate). */
export const isolate = name => `\u2068${name}\u2069`;

/** "a", "a and b", "a, b and c". */
export function listing(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
