// Copying, asking before what cannot be undone, and the live figures. Everything works without it
// but the live figures.

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS there is no clipboard: the text is marked, so that it can be copied by hand.
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      button.textContent = "Marked";
    }
  });
}

for (const button of document.querySelectorAll("[data-confirm]")) {
  button.addEventListener("click", (event) => {
    if (!confirm(button.dataset.confirm)) event.preventDefault();
  });
}

const live = document.querySelector("[data-live]");
if (live) {
  const source = new EventSource(live.dataset.live);
  source.onopen = () => live.classList.add("is-live");
  source.onerror = () => live.classList.remove("is-live");
  source.onmessage = (event) => {
    const { alerts, figures, calls } = JSON.parse(event.data);
    warn(alerts);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const value = figures[place.dataset.figure];
      if (value !== undefined && place.textContent !== value) place.textContent = value;
    }
    const body = document.querySelector("[data-newest]");
    body.replaceChildren(...calls.map((call) => row(call, body.dataset.newest)));
  };
}

function warn(alerts) {
  const place = document.querySelector("[data-alerts]");
  if (!place) return;
  const shown = [...place.children].map((each) => each.textContent);
  if (shown.join("\n") === alerts.join("\n")) return; // else it is read out every two seconds
  place.replaceChildren(
    ...alerts.map((text) => {
      const line = document.createElement("p");
      line.className = "problem";
      line.textContent = text;
      return line;
    }),
  );
}

function when(at) {
  const time = document.createElement("time");
  time.dateTime = `${at.replace(" ", "T")}Z`;
  const year = document.createElement("span");
  if (at.slice(0, 4) === String(new Date().getUTCFullYear())) year.className = "year";
  year.textContent = at.slice(0, 5);
  time.append(year, at.slice(5));
  return time;
}

function row(call, path) {
  const status = document.createElement("span");
  status.className = `status s${Math.floor(call.status / 100)}`;
  status.textContent = call.status;
  const link = document.createElement("a");
  link.href = path + encodeURIComponent(call.id);
  link.textContent = call.id.slice(-7);
  const line = document.createElement("tr");
  const cells = [when(call.at), call.alias, status, call.tokens, call.ttft, call.cost, link];
  cells.forEach((content, index) => {
    const cell = document.createElement("td");
    cell.append(content);
    if ([3, 4, 5].includes(index)) cell.className = "n";
    line.append(cell);
  });
  return line;
}
