// What every page does: copying, asking before what cannot be undone, dialogs, menus, rows that are
// links, light and dark. Pages can be read, and forms sent, without it.

import "./moments.js";
import "./live.js";

const root = document.documentElement;
root.classList.remove("no-script");

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest?.(selector);
  const copied = on("[data-copy]");
  if (copied) return copy(copied);
  const asked = on("[data-confirm]");
  if (asked && !asked.dataset.confirmed) {
    event.preventDefault();
    return ask(asked);
  }
  if (on("[data-dismiss]")) return on(".toast").remove();
  const opener = on("[data-dialog]");
  if (opener) {
    event.preventDefault();
    return open(document.getElementById(opener.hash.slice(1)));
  }
  if (on("[data-close]")) {
    event.preventDefault();
    return on("dialog").close();
  }
  const menu = on("[data-menu]");
  if (menu) return menu.setAttribute("aria-expanded", String(menu.getAttribute("aria-expanded") !== "true"));
  if (on("[data-theme-switch]")) return switchTheme();
  for (const each of document.querySelectorAll("details.drop[open]")) {
    if (!each.contains(event.target)) each.open = false;
  }
  const row = on("tr[data-href]");
  if (row && !on("a, button, input, label, summary, select") && !getSelection().toString()) {
    if (event.ctrlKey || event.metaKey) window.open(row.dataset.href);
    else location.assign(row.dataset.href);
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const each of document.querySelectorAll("details.drop[open]")) each.open = false;
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    toast("Copied");
  } catch {
    // Without HTTPS there is no clipboard: the text is marked, so that it can be copied by hand.
    getSelection().selectAllChildren(source);
    toast("Marked: copy it with your keyboard");
  }
}

export function toast(words) {
  const place = document.createElement("p");
  place.className = "toast";
  place.setAttribute("role", "status");
  place.textContent = words;
  document.querySelector(".toasts").append(place);
  setTimeout(() => place.remove(), 4000);
}

function open(dialog) {
  dialog.classList.remove("is-open");
  if (!dialog.open) dialog.showModal();
}

for (const dialog of document.querySelectorAll("dialog.is-open")) open(dialog);
if (location.hash) {
  const dialog = document.querySelector(`dialog${CSS.escape ? `#${CSS.escape(location.hash.slice(1))}` : location.hash}`);
  if (dialog) open(dialog);
}

function ask(button) {
  const dialog = document.createElement("dialog");
  const body = document.createElement("div");
  const words = document.createElement("p");
  const answers = document.createElement("div");
  const yes = document.createElement("button");
  const no = document.createElement("button");
  body.className = "dialog-body";
  answers.className = "actions";
  words.textContent = button.dataset.confirm;
  yes.className = "btn primary";
  yes.textContent = button.textContent.trim();
  no.className = "btn";
  no.textContent = "Cancel";
  answers.append(yes, no);
  body.append(words, answers);
  dialog.append(body);
  dialog.setAttribute("aria-label", yes.textContent);
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  no.addEventListener("click", () => dialog.close());
  yes.addEventListener("click", () => {
    button.dataset.confirmed = "yes";
    dialog.close();
    button.click();
  });
  dialog.showModal();
  no.focus();
}

function switchTheme() {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  document.cookie = `merino_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  document.dispatchEvent(new Event("themechange"));
}

for (const each of document.querySelectorAll("[data-theme-switch]")) each.hidden = false;
for (const each of document.querySelectorAll("[data-send-on-change]")) {
  each.addEventListener("change", () => each.form.requestSubmit());
}
