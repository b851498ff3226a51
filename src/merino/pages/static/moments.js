// Moments in the reader's own time, and how long ago they were. Pages come with UTC; hovering
// still tells it.

const short = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const whole = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];

export function agoText(at, now = Date.now()) {
  let value = (at - now) / 1000;
  for (const [unit, size] of STEPS) {
    if (Math.abs(value) < size) return ago.format(Math.round(value), unit);
    value /= size;
  }
  return "";
}

export function momentText(at) {
  return (at.getFullYear() === new Date().getFullYear() ? short : whole).format(at);
}

export function showMoments(root = document) {
  for (const time of root.querySelectorAll("time[data-moment]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const kind = time.dataset.moment;
    const utc = time.dataset.utc ?? time.title;
    time.dataset.utc = utc;
    const text = kind === "ago" ? agoText(at) : kind === "day" ? day.format(at) : momentText(at);
    if (time.textContent !== text) time.textContent = text;
    time.title = `${kind === "ago" ? whole.format(at) : agoText(at)} · ${utc}`;
  }
}

showMoments();
setInterval(showMoments, 20_000);
