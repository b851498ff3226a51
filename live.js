// Puts the newest figures into the page as the relay sends them.
import { showLocalTimes } from "./app.js";

const state = document.getElementById("live-state");
const figures = document.getElementById("figures");
const source = new EventSource(state.dataset.live);

function say(text, isLive) {
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle("on", isLive);
}

source.addEventListener("open", () => say("Live", true));
source.addEventListener("error", () => say("Connecting…", false));
source.addEventListener("signed-out", () => {
  source.close();
  say("Signed out", false);
});
source.addEventListener("figures", (event) => {
  // While somebody reads with the keyboard inside, nothing is taken from under them.
  if (figures.contains(document.activeElement)) return;
  const scrolled = [...figures.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  // The relay has rendered and escaped it; scripts inside would not run.
  figures.innerHTML = JSON.parse(event.data).html;
  figures.querySelectorAll(".scroll").forEach((each, index) => {
    each.scrollLeft = scrolled[index] ?? 0;
  });
  showLocalTimes(figures);
});
addEventListener("pagehide", () => source.close());
