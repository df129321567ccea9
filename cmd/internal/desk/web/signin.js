// The form that lets people in by their token.

import { h } from "./dom.js";
import { post, sentence } from "./api.js";

/** Shows the form; done is called with who it is. */
export function signIn(main, done) {
  const token = h("input", {
    type: "password", id: "token", name: "token", required: true, autocomplete: "current-password",
    spellcheck: "false", autocapitalize: "off", "aria-describedby": "sign-in-error",
  });
  const error = h("p", { class: "error", id: "sign-in-error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h("form", { class: "signin" },
    h("h1", {}, "Sign in to the desk"),
    h("p", {}, "Calls are shown to people who have a token. Whoever runs callwarden here gives it."),
    h("label", { for: "token" }, "Your token"), token, error, button);
  form.addEventListener("submit", async e => {
    e.preventDefault();
    error.textContent = "";
    token.removeAttribute("aria-invalid");
    button.disabled = true;
    try {
      const me = await post("/api/signin", { token: token.value.trim() });
      token.value = "";
      done(me);
    } catch (err) {
      error.textContent = err.body?.retry_s ? `${err.message} Try again in ${Math.ceil(err.body.retry_s)} s.` : sentence(err);
      token.setAttribute("aria-invalid", "true");
      token.select();
      token.focus();
    } finally {
      button.disabled = false;
    }
  });
  main.replaceChildren(form);
  token.focus();
}
