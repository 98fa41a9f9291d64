// Draws the charts of a page with uPlot: each `figure.chart` holds its data as JSON, and a table of it.

const SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB"];
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const FORMATS = {
  bytes(value) {
    let unit = 0;
    while (value >= 1024 && unit < SIZES.length - 1) { value /= 1024; unit += 1; }
    return `${number.format(value)} ${SIZES[unit]}`;
  },
  cores: (value) => `${+value.toFixed(3)} ${value === 1 ? "core" : "cores"}`,
  count: (value) => number.format(value),
  ms: (value) => (value < 1000 ? `${Math.round(value)} ms` : `${number.format(value / 1000)} s`),
  percent: (value) => `${+value.toFixed(1)} %`,
  usd: (value) => `$${value.toFixed(2)}`,
};
const STEPS = { bytes: Array.from({ length: 51 }, (_, power) => 2 ** power) };
const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const utc = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";

/** A time below a chart: the hour, or the day where one begins or steps are longer. */
function clock(seconds, step) {
  const time = new Date(seconds * 1000);
  if (step < 86400 && seconds % 86400 !== 0) return time.toISOString().slice(11, 16);
  return time.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}

function highest(data) {
  let most = data.limit ?? 0;
  for (const { values } of data.series) for (const value of values) if (value > most) most = value;
  return most || (data.unit === "bytes" ? 1024 : 1);
}

function options(data, size, readout) {
  const format = FORMATS[data.unit];
  const axis = { stroke: colour("--dim"), font: "12px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: colour("--line"), width: 1 };
  return {
    ...size,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false, x: false }, points: { size: 6 } },
    scales: { y: { range: [0, highest(data) * 1.08] } },
    axes: [
      { ...axis, grid: { show: false }, space: 64, size: 28, values: (_, splits, __, ___, step) => splits.map((at) => clock(at, step)) },
      { ...axis, grid, size: 76, incrs: STEPS[data.unit], values: (_, splits) => splits.map(format) },
    ],
    series: [{}, ...data.series.map(({ values }, index) => ({
      stroke: colour(`--series-${index + 1}`), width: 1.75, points: { show: values.filter((each) => each !== null).length < 30 },
      fill: data.series.length === 1 ? `${colour("--series-1")}22` : undefined,
    }))],
    hooks: { draw: [(plot) => drawLines(plot, data)], setCursor: [(plot) => tell(plot, data, format, readout)] },
  };
}

function drawLines(plot, data) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  if (data.limit !== null) {
    const y = plot.valToPos(data.limit, "y", true);
    ctx.strokeStyle = colour("--bad");
    stroke(ctx, [bbox.left, y], [bbox.left + bbox.width, y]);
  }
  ctx.strokeStyle = colour("--edge");
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const { at } of data.markers) {
    const x = plot.valToPos(at, "x", true);
    if (x >= bbox.left && x <= bbox.left + bbox.width) stroke(ctx, [x, bbox.top], [x, bbox.top + bbox.height]);
  }
  ctx.restore();
}

function stroke(ctx, from, to) {
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}

/** Says below the chart what the values under the cursor are. */
function tell(plot, data, format, readout) {
  const { idx } = plot.cursor;
  if (idx === null || idx === undefined) { readout.textContent = readout.dataset.hint; return; }
  const values = data.series.map(({ name, values: of }) => `${name} ${of[idx] === null ? "not measured" : format(of[idx])}`);
  const near = data.times.length > 1 ? data.times[1] - data.times[0] : 60;
  const markers = data.markers.filter(({ at }) => Math.abs(at - data.times[idx]) <= near).map(({ label }) => label);
  readout.textContent = [utc(data.times[idx]), ...values, ...markers].join(" · ");
}

function draw(figure) {
  const place = figure.querySelector(".plot");
  const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const readout = figure.querySelector(".readout");
  const size = () => ({ width: place.clientWidth, height: place.clientHeight });
  const columns = [data.times, ...data.series.map(({ values }) => values)];
  let plot = null;
  const paint = () => {
    plot?.destroy();
    plot = new uPlot(options(data, size(), readout), columns, place);
  };
  paint();
  figure.classList.add("drawn");
  const resized = new ResizeObserver(() => plot.setSize(size()));
  resized.observe(place);
  const theme = matchMedia("(prefers-color-scheme: dark)");
  theme.addEventListener("change", paint);
  place.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    const last = data.times.length - 1;
    const idx = Math.max(0, Math.min(last, (plot.cursor.idx ?? last) + KEYS[event.key]));
    plot.setCursor({ left: plot.valToPos(data.times[idx], "x"), top: 0 });
  });
  document.addEventListener("htmx:after:swap", function tidy() {
    if (figure.isConnected) return;
    resized.disconnect();
    theme.removeEventListener("change", paint);
    document.removeEventListener("htmx:after:swap", tidy);
    plot.destroy();
  });
}

function drawAll() {
  for (const figure of document.querySelectorAll("figure.chart:has(.readout):not(.drawn)")) draw(figure);
}

document.addEventListener("htmx:after:swap", drawAll);
drawAll();
