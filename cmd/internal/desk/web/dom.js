// The few lines that stand between us and the DOM. Text goes in as text nodes
// only: whatever a caller calls himself is never markup.

const SVG = "http://www.w3.org/2000/svg";

function build(el, props, kids) {
  for (const key in props) {
    const value = props[key];
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "class") el.setAttribute("class", value);
    else el.setAttribute(key, value === true ? "" : value);
  }
  for (const kid of kids.flat()) if (kid !== undefined && kid !== null && kid !== false) el.append(kid);
  return el;
}

/** An element with its attributes, listeners (onclick: …) and children. */
export const h = (tag, props, ...kids) => build(document.createElement(tag), props, kids);

/** An SVG element. */
export const s = (tag, props, ...kids) => build(document.createElementNS(SVG, tag), props, kids);

/** One of the symbols of index.html; it says nothing that is not said in words beside it. */
export const icon = name => s("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, s("use", { href: `#i-${name}` }));

/** Sets text only where it differs, which spares layout. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** Sets or removes an attribute only where it differs. */
export function attr(el, name, value) {
  if (value === undefined || value === null || value === false) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else if (el.getAttribute(name) !== String(value)) {
    el.setAttribute(name, value === true ? "" : value);
  }
}

/** Text for who cannot see. */
export const unseen = what => h("span", { class: "unseen" }, what);

/**
 * Brings the children of a list into the order of els, moving as few as
 * possible: one that stands right is not touched, and one that is moved keeps
 * the focus where the browser can.
 */
export function order(list, els) {
  const wanted = new Set(els);
  for (const el of [...list.children]) if (!wanted.has(el)) el.remove();
  const move = (el, before) => {
    if (list.moveBefore && el.parentNode === list) list.moveBefore(el, before);
    else list.insertBefore(el, before);
  };
  let at = list.firstElementChild;
  for (const el of els) {
    if (at && at !== el && at.nextElementSibling === el) { // at has gone down: it is placed when its turn comes
      const down = at;
      at = el;
      move(down, null);
    }
    if (at === el) at = at.nextElementSibling;
    else move(el, at);
  }
}

let frame = 0;
const waiting = new Set();

/** Runs draw once before the next frame, however often it is asked for. */
export function nextFrame(draw) {
  waiting.add(draw);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const now = [...waiting];
    waiting.clear();
    for (const each of now) each();
  });
}

/** Says something to who listens to the page; urgent interrupts. */
export function say(what, urgent) {
  const region = document.getElementById(urgent ? "urgent" : "polite");
  region.replaceChildren(h("p", {}, what));
}

/** A short message, with something to take it back where there is. */
export function toast(what, { undo, bad } = {}) {
  const box = document.getElementById("toasts");
  const el = h("div", { class: bad ? "toast bad" : "toast" }, h("span", {}, what));
  const close = () => el.remove();
  if (undo) {
    el.append(h("button", { type: "button", onclick: () => { close(); undo(); } }, "Undo"));
  }
  el.append(h("button", { type: "button", class: "close", "aria-label": "Close this message", onclick: close }, "×"));
  box.append(el);
  while (box.children.length > 3) box.firstElementChild.remove();
  let timer = setTimeout(close, bad ? 12000 : 8000);
  const hold = () => clearTimeout(timer);
  const go = () => { clearTimeout(timer); timer = setTimeout(close, 4000); };
  el.addEventListener("pointerenter", hold);
  el.addEventListener("focusin", hold);
  el.addEventListener("pointerleave", go);
  el.addEventListener("focusout", go);
}

/**
 * A dialog that answers when it closes: with the value of the button that
 * closed it, or "" for Escape. fill gets the form.
 */
export function ask({ title, body, yes, danger, no = "Cancel" }) {
  return new Promise(resolve => {
    const label = `dialog-${Math.random().toString(36).slice(2)}`;
    const form = h("form", { method: "dialog" },
      h("h2", { id: label }, title), body,
      h("div", { class: "choices" },
        yes && h("button", { type: "submit", class: danger ? "danger" : "primary", value: "yes" }, yes),
        h("button", { type: "submit", value: "", formnovalidate: true }, no)));
    const dialog = h("dialog", { "aria-labelledby": label }, form);
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); });
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  });
}

/** A colour of the style sheet as a canvas takes it. */
export function colour(name) {
  const probe = h("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
