// Copying, menus, choices that are sent at once, calls as they come. Every page can be read, and
// every form sent, without it.

import { showMoments } from "./moments.js";

const root = document.documentElement;
root.classList.remove("no-script");

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest?.(selector);
  const copied = on("[data-copy]");
  if (copied) return copy(copied);
  const menu = on("[data-menu]");
  if (menu) return menu.setAttribute("aria-expanded", String(menu.getAttribute("aria-expanded") !== "true"));
  if (on("[data-print]")) return window.print();
  for (const each of document.querySelectorAll("details.drop[open]")) {
    if (!each.contains(event.target)) each.open = false;
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-send]")) event.target.form.submit();
});

for (const each of document.querySelectorAll("[data-print]")) each.hidden = false;

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    toast(button.dataset.copied);
  } catch {
    // Without HTTPS there is no clipboard: the text is marked, so that it can be copied by hand.
    getSelection().selectAllChildren(source);
    toast(button.dataset.marked);
  }
}

function toast(words) {
  const place = document.createElement("p");
  place.className = "toast";
  place.setAttribute("role", "status");
  place.textContent = words;
  document.querySelector(".toasts").append(place);
  setTimeout(() => place.remove(), 4000);
}

for (const each of document.querySelectorAll("[data-poll]")) poll(each);

function poll(place) {
  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(place.dataset.poll, { redirect: "error" });
        if (answer.ok) {
          const text = await answer.text();
          if (text !== place.dataset.shown) {
            place.dataset.shown = text;
            place.innerHTML = text; // our own page's part, with everything in it escaped
            showMoments(place);
          }
        }
      } catch {
        // The relay may be starting anew: ask again.
      }
    }
    setTimeout(look, 2000);
  };
  setTimeout(look, 1000);
}
