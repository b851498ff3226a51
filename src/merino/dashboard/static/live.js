// What happens now: the figures of the overview, and new calls at the top of the list, by
// server-sent events.

import { showMoments } from "./moments.js";

const live = document.querySelector("[data-live]");
if (live) follow(live);

function follow(place) {
  const pause = document.querySelector("[data-pause]");
  let source = null;
  const start = () => {
    source = new EventSource(place.dataset.live);
    source.onopen = () => place.classList.add("is-live");
    source.onerror = () => place.classList.remove("is-live");
    source.onmessage = (event) => show(JSON.parse(event.data));
  };
  pause?.addEventListener("click", () => {
    const isPaused = pause.getAttribute("aria-pressed") === "true";
    pause.setAttribute("aria-pressed", String(!isPaused));
    if (isPaused) return start();
    source.close();
    place.classList.remove("is-live");
  });
  if (pause?.getAttribute("aria-pressed") !== "true") start();
}

function show({ alerts, figures, rows }) {
  if (alerts) warn(alerts);
  for (const place of document.querySelectorAll("[data-figure]")) {
    const value = figures?.[place.dataset.figure];
    if (value !== undefined && place.innerText !== value) place.textContent = value;
  }
  const body = document.querySelector("[data-newest]");
  if (!body || rows === undefined) return;
  // Our own template's rows, with everything in them escaped.
  const made = new DOMParser().parseFromString(`<table><tbody>${rows}</tbody></table>`, "text/html");
  const lines = [...made.querySelectorAll("tr")];
  const known = new Set([...body.rows].map((each) => each.dataset.call));
  if (lines.every((each) => known.has(each.dataset.call)) && lines.length === body.rows.length) return;
  body.replaceChildren(...lines);
  showMoments(body);
}

function warn(alerts) {
  const place = document.querySelector("[data-alerts]");
  if (!place) return;
  const shown = [...place.children].map((each) => each.textContent);
  if (shown.join("\n") === alerts.join("\n")) return; // else it is read out every two seconds
  place.replaceChildren(
    ...alerts.map((text) => {
      const line = document.createElement("p");
      line.className = "callout bad";
      line.textContent = text;
      return line;
    }),
  );
}
