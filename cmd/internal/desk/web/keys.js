// Shortcuts of single keys. Who dictates or types by mistake can turn them off
// (WCAG 2.1.4); they never work while something is typed.

import { h, ask } from "./dom.js";

let page = {}; // key -> [what, fn], of the page that is shown
const everywhere = {};

const stored = () => {
  try {
    return localStorage.getItem("callwarden-keys") !== "off";
  } catch {
    return true;
  }
};
let on = stored();

/** The keys of the page that is shown now: {key: [what it does, function]}. */
export function pageKeys(keys) {
  page = keys;
}

/** Keys that work on every page. */
export function keysEverywhere(keys) {
  Object.assign(everywhere, keys);
}

addEventListener("keydown", e => {
  if (e.ctrlKey || e.altKey || e.metaKey || e.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (e.target.closest?.("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]")) {
    if (e.key === "Escape") e.target.blur();
    return;
  }
  if (!on && e.key !== "Escape") return;
  const found = page[e.key] || everywhere[e.key];
  if (!found) return;
  e.preventDefault();
  found[1]();
});

const names = { Escape: "Esc", Enter: "Enter", ArrowDown: "↓", ArrowUp: "↑" };

/** Shows what the keys do. */
export async function help(always = []) {
  const line = (key, what) => h("div", {}, h("dt", {}, h("kbd", {}, names[key] || key)), h("dd", {}, what));
  const box = h("input", { type: "checkbox" });
  box.checked = on;
  box.addEventListener("change", () => {
    on = box.checked;
    try {
      localStorage.setItem("callwarden-keys", on ? "on" : "off");
    } catch {
      // kept until the page is closed
    }
  });
  const of = keys => Object.entries(keys).filter(([, [what]]) => what).map(([key, [what]]) => line(key, what));
  await ask({
    title: "Keys", no: "Close",
    body: h("div", {},
      h("dl", { class: "keys" }, ...always.map(([key, what]) => line(key, what)), ...of(page), ...of(everywhere)),
      h("label", { class: "check" }, box, "Single keys do something")),
  });
}
