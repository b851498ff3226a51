// Charts by uPlot, over the drawing that the page came with. What the tooltip says are the words
// of the chart's own table, so that there is one way to write a figure.

const DAY = 86_400_000;
const HEIGHT = 280;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const drawn = new Map();

function colour(name, place) {
  const probe = document.createElement("i");
  probe.hidden = true;
  place.append(probe);
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function tick(value, spec) {
  if (spec.unit === "share") return `${compact.format(value * 100)} %`;
  if (spec.unit === "ms") return value >= 1000 ? `${compact.format(value / 1000)} s` : `${compact.format(value)} ms`;
  return spec.sign + compact.format(value);
}

function times(_, splits) {
  const span = splits.length > 1 ? (splits[1] - splits[0]) * 1000 : DAY;
  return splits.map((at, index) => {
    const moment = new Date(at * 1000);
    const first = index === 0 || new Date(splits[index - 1] * 1000).getDate() !== moment.getDate();
    if (span >= DAY) return date.format(moment);
    return first && index > 0 ? date.format(moment) : clock.format(moment);
  });
}

// Bars of one time stand on each other: each series holds itself and all below it.
function stacked(series) {
  const sums = [];
  let below = series[0].map(() => 0);
  for (const values of series) {
    below = below.map((sum, index) => sum + (values[index] ?? 0));
    sums.push(below);
  }
  return sums;
}

function tooltip(figure, spec, area) {
  const rows = figure.querySelector("tbody").rows;
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  const said = document.createElement("p");
  said.className = "sr";
  said.setAttribute("aria-live", "polite");
  area.append(tip);
  figure.append(said);
  return {
    show(index, left, top) {
      tip.hidden = index === null || index === undefined || !rows[index];
      if (tip.hidden) return;
      const cells = [...rows[index].cells];
      const head = document.createElement("p");
      head.textContent = cells[0].textContent;
      const lines = spec.series.map((each, place) => [each, cells[place + 1], spec.values[place][index]]);
      const shown = spec.kind === "bars" ? lines.filter(([, , value]) => value).reverse() : lines;
      const parts = shown.map(([each, cell]) => line(each.name, cell.textContent, `k${each.colour}`));
      for (const [place, name] of spec.more.entries()) {
        const cell = cells[spec.series.length + 1 + place];
        if (cell) parts.push(line(name, cell.textContent, "", place === 0 && spec.kind === "bars"));
      }
      tip.replaceChildren(head, ...parts);
      const room = area.clientWidth - tip.offsetWidth - 4;
      tip.style.left = `${Math.max(0, left + 16 > room ? Math.min(room, left - tip.offsetWidth - 12) : left + 16)}px`;
      tip.style.top = `${Math.max(0, Math.min(top - 12, area.clientHeight - tip.offsetHeight))}px`;
    },
    say(index) {
      if (rows[index]) said.textContent = [...tip.children].map((each) => each.textContent).join(", ");
    },
  };
}

function line(name, value, swatch, isTotal = false) {
  const place = document.createElement("div");
  if (isTotal) place.className = "total";
  if (swatch) {
    const mark = document.createElement("span");
    mark.className = `swatch ${swatch}`;
    place.append(mark);
  }
  const label = document.createElement("span");
  label.className = "label";
  label.textContent = name;
  const amount = document.createElement("span");
  amount.textContent = value;
  place.append(label, amount);
  return place;
}

function zoomTo(spec, first, last) {
  if (!spec.zoom) return;
  const since = new Date(spec.at[first]).toISOString().slice(0, 19);
  const until = new Date(spec.at[last] + spec.slot).toISOString().slice(0, 19);
  location.assign(`${spec.zoom}since=${since}Z&until=${until}Z`);
}

function draw(figure) {
  const spec = JSON.parse(figure.dataset.chart);
  const area = figure.querySelector(".area");
  const place = (name) => colour(name, area);
  const isBars = spec.kind === "bars";
  const ys = isBars ? stacked(spec.values) : spec.values;
  const xs = spec.at.map((at) => (at + (isBars ? spec.slot / 2 : 0)) / 1000);
  area.replaceChildren();
  const tip = tooltip(figure, spec, area);
  const order = spec.series.map((_, index) => index);
  if (isBars) order.reverse(); // the whole first, so that what is below is drawn over it
  const paths = isBars ? uPlot.paths.bars({ size: [0.8, 40], gap: 0 }) : uPlot.paths.linear();
  const series = order.map((index) => {
    const ink = place(`--c${spec.series[index].colour}`);
    return isBars
      ? { fill: ink, stroke: ink, width: 0, paths, points: { show: false } }
      : { stroke: ink, width: 2, paths, points: { show: spec.at.length < 3, size: 6 }, spanGaps: true };
  });
  const data = [xs, ...order.map((index) => ys[index])];
  if (spec.before) {
    series.push({ stroke: place("--edge"), width: 1.5, dash: [3, 4], points: { show: false } });
    data.push(spec.before);
  }
  const rule = { stroke: place("--rule"), width: 1 };
  const soft = place("--soft");
  const font = "11px Inter Variable, system-ui, sans-serif";
  const half = spec.slot / 2000;
  const plot = new uPlot(
    {
      width: area.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: {
        points: { show: !isBars, size: 7 },
        drag: { x: Boolean(spec.zoom), y: false, setScale: false },
        y: false,
      },
      scales: {
        x: { time: true, range: () => (isBars ? [xs[0] - half, xs.at(-1) + half] : [xs[0], xs.at(-1) + (xs.length < 2 ? 1 : 0)]) },
        y: { range: (_, low, high) => (spec.unit === "share" && high <= 1 ? [0, Math.max(high * 1.1, 0.01)] : [0, high > 0 ? high * 1.08 : 1]) },
      },
      axes: [
        { stroke: soft, font, grid: { show: false }, ticks: { ...rule, size: 4 }, values: times, space: 72, gap: 4, size: 30 },
        { stroke: soft, font, grid: rule, ticks: { show: false }, values: (_, splits) => splits.map((each) => tick(each, spec)), space: 40, gap: 6,
          size: (self, values) => (values ? 18 + Math.max(...values.map((each) => each.length)) * 6.2 : 40) },
      ],
      series: [{}, ...series],
      hooks: {
        setCursor: [(self) => tip.show(self.cursor.left < 0 ? null : self.cursor.idx, self.cursor.left + self.over.offsetLeft, self.cursor.top + self.over.offsetTop)],
        setSelect: [(self) => {
          const { left, width } = self.select;
          if (width < 6 || !spec.zoom) return;
          const places = [left, left + width].map((x) => (self.posToVal(x, "x") * 1000 - spec.at[0]) / spec.slot);
          const most = spec.at.length - 1;
          const [first, last] = places.map((x) => Math.min(most, Math.max(0, Math.floor(x))));
          zoomTo(spec, first, last);
        }],
      },
    },
    data,
    area,
  );
  keyboard(figure, area, spec, plot, tip, xs);
  return plot;
}

function keyboard(figure, area, spec, plot, tip, xs) {
  area.tabIndex = 0;
  area.setAttribute("role", "group");
  const zooms = spec.zoom ? " With Shift they mark a time, Enter zooms in." : "";
  area.setAttribute("aria-label", `${spec.title}. Arrow keys move through it.${zooms}`);
  let at = null;
  let from = null;
  const mark = (index) => {
    at = Math.max(0, Math.min(spec.at.length - 1, index));
    const left = plot.valToPos(xs[at], "x");
    plot.setCursor({ left, top: 40 });
    const begin = plot.valToPos(xs[Math.min(at, from ?? at)], "x");
    const end = plot.valToPos(xs[Math.max(at, from ?? at)], "x");
    plot.setSelect({ left: begin, width: from === null ? 0 : Math.max(end - begin, 1), top: 0, height: plot.over.clientHeight }, false);
    tip.say(at);
  };
  area.onkeydown = (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      if (event.shiftKey) from ??= at ?? spec.at.length - 1;
      else from = null;
      mark((at ?? (steps[event.key] < 0 ? spec.at.length : -1)) + steps[event.key]);
    } else if (event.key === "Enter" && at !== null && spec.zoom) {
      zoomTo(spec, Math.min(at, from ?? at), Math.max(at, from ?? at));
    } else if (event.key === "Escape") {
      at = from = null;
      plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      plot.setCursor({ left: -10, top: -10 });
    } else return;
    event.preventDefault();
  };
  area.onblur = () => plot.setCursor({ left: -10, top: -10 });
}

function drawAll() {
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    drawn.get(figure)?.destroy();
    figure.querySelector(".sr[aria-live]")?.remove();
    drawn.set(figure, draw(figure));
  }
}

document.fonts.ready.then(() => {
  drawAll();
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const plot = drawn.get(target.closest("figure"));
      if (plot && target.clientWidth && target.clientWidth !== plot.width) plot.setSize({ width: target.clientWidth, height: HEIGHT });
    }
  });
  for (const figure of drawn.keys()) resized.observe(figure.querySelector(".area"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.addEventListener("themechange", drawAll);
