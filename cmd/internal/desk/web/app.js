// Who looks, which page, and what every page has: signs of the connection,
// keys, colours, and a voice for what is urgent.

import { h, text, say } from "./dom.js";
import { get, post, signedOut, sentence, Refusal } from "./api.js";
import { Board } from "./board.js";
import { help, keysEverywhere, pageKeys } from "./keys.js";
import { overview } from "./overview.js";
import * as words from "./words.js";

const $ = id => document.getElementById(id);
const main = $("main");
const board = new Board();
let me = null;
let page = null; // what is shown: {name, title, turn?, close?}
let turning = 0;

// Pages but the first are loaded when they are asked for.
const pages = {
  overview: async () => overview,
  call: async () => (await import("./call.js")).call,
  history: async () => (await import("./history.js")).history,
  day: async () => (await import("./day.js")).day,
  audit: async () => (await import("./audit.js")).audit,
};

/** "#/call/T/ID?x=y" as {name, parts, query}. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(part => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const name = parts[0] && Object.hasOwn(pages, parts[0]) ? parts.shift() : "overview";
  return { name, parts, query: new URLSearchParams(query) };
}

async function show() {
  if (!me) return;
  const { name, parts, query } = route();
  const same = page?.name === name && page.parts === parts.join("/");
  if (same && page.turn?.(query)) return;
  const turn = ++turning;
  let open;
  try {
    open = await pages[name]();
  } catch {
    main.replaceChildren(h("p", { class: "waiting" }, "The page could not be loaded: the desk cannot be reached."));
    return;
  }
  if (turn !== turning || !me) return;
  const first = !page;
  page?.close?.();
  pageKeys({});
  main.className = `page-${name}`;
  page = { parts: parts.join("/"), name, ...open({ main, board, me, parts, query, rename }) };
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  rename();
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

/** The title: what is shown, and how many critical calls nobody looks after. */
function rename(title) {
  if (title && page) page.title = title;
  let open = 0;
  for (const row of board.rows.values()) if (row.level === "critical" && row.state === "live" && !row.ack && !row.verdict) open++;
  const name = `${open ? `(${open}) ` : ""}${page?.title || "Sign in"} – callwarden`;
  if (document.title !== name) document.title = name;
}

async function signIn() {
  me = null;
  board.close();
  page?.close?.();
  page = null;
  turning++;
  pageKeys({});
  for (const id of ["nav", "user", "sign-out", "help", "pulse"]) $(id).hidden = true;
  banners();
  const { signIn } = await import("./signin.js");
  main.className = "page-signin";
  rename();
  await signIn(main, start);
}

function start(who) {
  me = who;
  $("nav").hidden = $("help").hidden = $("pulse").hidden = false;
  for (const name of ["history", "day"]) document.querySelector(`#nav [data-page=${name}]`).hidden = me.history === false;
  $("nav-audit").hidden = me.role !== "admin" || me.history === false;
  $("user").hidden = me.signin === "open";
  $("user").firstElementChild.textContent = me.user || "";
  $("user").lastElementChild.textContent = me.role || "";
  $("sign-out").hidden = me.signin !== "token";
  main.replaceChildren(h("p", { class: "waiting" }, "Connecting…"));
  board.open();
  show();
}

// What is wrong, in a sentence each, above everything else.
const shownBanners = new Map(); // id -> {el, said}
function banners() {
  const list = [];
  if (me && !board.connected && board.cut) {
    const ago = (Date.now() - board.cut) / 1000;
    list.push(["cut", "bad", h("p", {}, h("b", {}, "The connection is cut: "), `${board.why}. What you see is ${words.span(ago)} old; it is tried again.`)]);
  } else if (me && board.status.nats && board.status.nats !== "up") {
    const st = board.status;
    const since = st.since ? ` since ${words.preciseTime(st.since)}` : "";
    list.push(["nats", "bad", st.nats === "away"
      ? h("p", {}, h("b", {}, `The desk hears no events${since}: `), `${st.why || "NATS cannot be reached"}. Calls may go on that you do not see.`)
      : h("p", {}, h("b", {}, "The desk is catching up "), "with what happened while NATS was away.")]);
  }
  if (me && board.connected) {
    for (const [i, notice] of [...new Set([...(me.notices || []), ...(board.status.notices || [])])].entries()) list.push([`notice${i}`, "part", h("p", {}, notice)]);
    if (board.status.missed) list.push(["missed", "part", h("p", {}, `${words.count(board.status.missed, "event was", "events were")} missed while the desk could not follow.`)]);
  }
  const box = $("banners"), now = new Set(list.map(([id]) => id));
  for (const [id, el] of shownBanners) if (!now.has(id)) { el.remove(); shownBanners.delete(id); }
  for (const [id, kind, content] of list) {
    const el = shownBanners.get(id);
    if (!el) {
      const made = h("div", { class: `banner ${kind}`, "data-banner": id }, content);
      shownBanners.set(id, made);
      box.append(made);
    } else if (id === "cut") { // its age is seen to grow; it is not read out each second
      text(el.lastElementChild.lastChild, content.lastChild.textContent);
    } else if (el.textContent !== content.textContent) {
      el.replaceChildren(content);
    }
  }
  const pulse = $("pulse");
  const state = !board.connected ? "cut" : board.status.nats && board.status.nats !== "up" ? "away" : "live";
  pulse.className = `pulse ${state}`;
  text(pulse.lastElementChild, { cut: "Cut", away: "No events", live: "Live" }[state]);
}

board.listeners.add(() => {
  banners();
  rename();
});
setInterval(() => {
  if (board.cut) banners();
}, 1000);

board.onCritical = rows => {
  const one = row => {
    const tactics = (row.tactics || []).filter(t => !t.muted).map(t => words.tactic(t.tactic).label);
    return `Critical: call from ${words.party(row.from, row.from_name)} to ${words.party(row.to, row.to_name)}${tactics.length ? `, ${words.listing(tactics.slice(0, 2))}` : ""}.`;
  };
  say(rows.length > 2 ? `${rows.length} calls are now critical.` : rows.map(one).join(" "), true);
};

board.onBye = m => {
  if (m.code === "sign_in" && me) signIn();
};
signedOut(() => signIn());

for (const box of document.querySelectorAll("#theme input")) {
  box.checked = box.value === document.documentElement.dataset.theme;
  box.addEventListener("change", () => {
    document.documentElement.dataset.theme = box.value;
    try {
      localStorage.setItem("callwarden-theme", box.value);
    } catch {
      // kept until the page is closed
    }
    dispatchEvent(new Event("theme"));
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));

const showHelp = () => help([["Tab", "next button or field"], ["↓ ↑", "next and previous call, in a list"], ["Enter", "open the call"]]);
$("help").addEventListener("click", showHelp);
keysEverywhere({
  "?": ["these keys", showHelp],
  1: ["calls now", () => { location.hash = "#/"; }],
  2: ["history", () => { location.hash = "#/history"; }],
  3: ["the day", () => { location.hash = "#/day"; }],
});
$("skip").addEventListener("click", e => {
  e.preventDefault();
  main.focus();
});
$("sign-out").addEventListener("click", async () => {
  await post("/api/signout").catch(() => {});
  signIn();
});
addEventListener("hashchange", show);

board.open(); // does not wait until it is known who asks
try {
  start(await get("/api/me"));
} catch (err) {
  board.close();
  if (err instanceof Refusal && err.status === 401) await signIn();
  else {
    main.replaceChildren(h("div", { class: "waiting" }, h("p", {}, sentence(err)),
      h("button", { type: "button", onclick: () => location.reload() }, "Try again")));
  }
}
