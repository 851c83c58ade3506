// Two uPlot charts over the same hours: the averages with their range, and the completeness of each
// hour. The slider below moves the cursor of both from hour to hour.

import { count, day, degrees, hour, HOUR_MS, percent, time, weekday } from "./format.js";

const { uPlot } = window;
const SECOND_MS = 1000;
const HOUR_S = HOUR_MS / SECOND_MS;
const DAY_S = 24 * HOUR_S;
const AXIS_WIDTH = 46;
const RIGHT = 34; // room for half a label
const FONT = "12px system-ui, sans-serif";
const WIDE = 600;
const SYNC = "hours";

const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name);

function dayOrTime(at, wide) {
  if (at % (DAY_S * SECOND_MS)) return time(at);
  return wide ? `${weekday(at)} ${day(at)}` : day(at);
}

const days = {
  stroke: colour("--muted"),
  grid: { stroke: colour("--grid"), width: 1 },
  ticks: { show: false },
  font: FONT,
  size: 28,
  incrs: [12 * HOUR_S, DAY_S, 2 * DAY_S],
  space: 50,
  values: (plot, splits) => splits.map((at) => dayOrTime(at * SECOND_MS, plot.width > WIDE)),
};
const shared = {
  legend: { show: false },
  tzDate: (at) => uPlot.tzDate(new Date(at * SECOND_MS), "Etc/UTC"),
};
/** Only the average, and the hour in progress, have a point at the cursor. */
const hasPoint = (size) => (_, series) => (series === 3 || series === 4 ? size : 0);
/** A diamond, so that shape and not only colour distinguishes it from a ring. */
function diamonds(plot, series, from, to) {
  const path = new Path2D();
  const reach = 5.5 * devicePixelRatio;
  for (let index = from; index <= to; index += 1) {
    const value = plot.data[series][index];
    if (value === null) continue;
    const x = plot.valToPos(plot.data[0][index], "x", true);
    const y = plot.valToPos(value, "y", true);
    path.moveTo(x, y - reach);
    for (const [right, down] of [[1, 0], [0, 1], [-1, 0]]) path.lineTo(x + right * reach, y + down * reach);
    path.closePath();
  }
  return { stroke: path, fill: path };
}
const cursor = {
  y: false,
  drag: { x: false, y: false },
  sync: { key: SYNC, setSeries: false },
};

export class Chart {
  #grid = []; // the start of each hour shown, in ms; #hours has its average, or null
  #hours = [];
  #shown = "";

  constructor() {
    this.averagesAt = document.getElementById("chart");
    this.completenessAt = document.getElementById("completeness");
    this.slider = document.getElementById("scrubber");
    this.readout = document.getElementById("readout");
    this.averages = new uPlot(this.#averagesOptions(), [[], [], [], [], [], []], this.averagesAt);
    this.completeness = new uPlot(this.#completenessOptions(), [[], [], []], this.completenessAt);
    // For inspection in the browser's developer tools.
    this.averagesAt.plot = this.averages;
    this.completenessAt.plot = this.completeness;
    this.slider.addEventListener("input", () => this.#pointAt(Number(this.slider.value)));
    for (const { over } of [this.averages, this.completeness]) {
      over.addEventListener("mouseleave", () => setTimeout(() => this.#pointAt(Number(this.slider.value))));
    }
    new ResizeObserver(() => this.#resize()).observe(this.averagesAt);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  /** An hour without an average is a gap, the hour in progress a ring, a revised hour a diamond. */
  show({ start, end, hours }, openHours) {
    const open = openHours.filter((each) => each.observations);
    const shown = JSON.stringify([start, end, hours, open]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const known = new Map(hours.map((each) => [Date.parse(each.hour), each]));
    const inProgress = new Map(open.map((each) => [Date.parse(each.hour), each]));
    const grid = [];
    for (let at = Date.parse(start); at < Date.parse(end); at += HOUR_MS) grid.push(at);
    const before = this.#follows() ? undefined : this.#grid[Number(this.slider.value)];
    this.#grid = grid;
    this.#hours = grid.map((at) => known.get(at) ?? inProgress.get(at) ?? null);
    const column = (from, field) => grid.map((at) => from.get(at)?.[field] ?? null);
    const x = grid.map((at) => at / SECOND_MS);
    this.averages.setData([
      x,
      column(known, "max_temp_f"),
      column(known, "min_temp_f"),
      column(known, "average_temp_f"),
      grid.map((at) => (known.has(at) ? null : (inProgress.get(at)?.average_temp_f ?? null))),
      grid.map((at) => (known.get(at)?.revision ? known.get(at).average_temp_f : null)),
    ]);
    const complete = column(known, "completeness");
    this.completeness.setData([
      x,
      complete.map((share) => (share === 1 ? share : null)),
      complete.map((share) => (share === 1 ? null : share)),
    ]);
    this.slider.max = String(Math.max(0, grid.length - 1));
    // uPlot applies new data in a microtask that is queued before this one.
    const kept = grid.indexOf(before);
    queueMicrotask(() => this.#pointAt(kept < 0 ? this.#last() : kept));
  }

  /** The last hour that has an average. */
  #last() {
    return this.#hours.reduce((last, each, at) => (each && "in_warehouse" in each ? at : last), 0);
  }

  /** Whether the slider is at the latest hour, and moves on with new ones. */
  #follows() {
    return !this.#hours.length || Number(this.slider.value) === this.#last();
  }

  #pointAt(index) {
    this.slider.value = String(index);
    if (!(index in this.#grid)) return;
    const at = this.#grid[index] / SECOND_MS;
    for (const plot of [this.averages, this.completeness]) {
      plot.setCursor({ left: plot.valToPos(at, "x"), top: plot.over.clientHeight / 2 }, false);
    }
    this.#readOff(index);
  }

  #readOff(index) {
    const each = this.#hours[index];
    const start = this.#grid[index];
    const facts = each
      ? [
          ["Average", `${degrees(each.average_temp_f)} °F`],
          ["from", `${degrees(each.min_temp_f)}`],
          ["to", `${degrees(each.max_temp_f)} °F`],
          ["Readings", count(each.observations)],
          ["in_warehouse" in each ? "Complete" : "In progress", percent(each.completeness)],
          ...(each.revision ? [["Revision", count(each.revision)]] : []),
        ]
      : [["Average", "none"]];
    const all = [["Hour", hour(start)], ...facts];
    this.slider.setAttribute("aria-valuetext", all.map((fact) => fact.join(" ")).join(", "));
    this.readout.replaceChildren(
      ...all.map(([name, value]) => {
        const group = document.createElement("div");
        group.append(document.createElement("dt"), document.createElement("dd"));
        group.firstChild.textContent = name;
        group.lastChild.textContent = value;
        return group;
      }),
    );
  }

  #averagesOptions() {
    const range = { width: 1, stroke: colour("--range"), points: { show: false }, spanGaps: false };
    return {
      ...shared,
      ...this.#size(this.averagesAt),
      padding: [8, RIGHT, 0, 0],
      cursor: { ...cursor, points: { size: hasPoint(9), width: hasPoint(2), stroke: colour("--accent"), fill: colour("--card") } },
      scales: { y: { range: (_, low, high) => (low === null ? [0, 100] : uPlot.rangeNum(low, high, 0.08, true)) } },
      axes: [
        days,
        { ...days, incrs: undefined, size: AXIS_WIDTH, space: 40, values: (_, splits) => splits.map((at) => `${at}°`) },
      ],
      bands: [{ series: [1, 2], fill: colour("--band") }],
      series: [
        {},
        { label: "maximum", ...range },
        { label: "minimum", ...range },
        { label: "average", stroke: colour("--accent"), width: 2, points: { show: false }, spanGaps: false },
        {
          label: "in progress",
          stroke: colour("--accent"),
          paths: () => null,
          points: { show: true, size: 9, width: 2, stroke: colour("--accent"), fill: colour("--card") },
        },
        {
          label: "revised",
          stroke: colour("--revised"),
          paths: () => null,
          points: { show: true, width: 1, stroke: colour("--card"), fill: colour("--revised"), paths: diamonds },
        },
      ],
      hooks: {
        setCursor: [
          (plot) => {
            const { idx, event } = plot.cursor;
            if (event && typeof idx === "number" && Number(this.slider.value) !== idx) {
              this.slider.value = String(idx);
              this.#readOff(idx);
            }
          },
        ],
      },
    };
  }

  #completenessOptions() {
    const bars = uPlot.paths.bars({ size: [0.7, 12], align: 1 });
    const series = { points: { show: false }, paths: bars, width: 0 };
    return {
      ...shared,
      ...this.#size(this.completenessAt),
      padding: [9, RIGHT, 7, 0],
      cursor: { ...cursor, points: { show: false } },
      scales: { y: { range: [0, 1] } },
      axes: [
        { ...days, show: false },
        {
          ...days,
          incrs: undefined,
          size: AXIS_WIDTH,
          splits: () => [0, 1],
          values: (_, splits) => splits.map((at) => percent(at)),
        },
      ],
      series: [
        {},
        { label: "complete", ...series, fill: colour("--whole") },
        { label: "incomplete", ...series, fill: colour("--part") },
      ],
    };
  }

  #size(element) {
    return { width: element.clientWidth, height: element.clientHeight };
  }

  #resize() {
    this.averages.setSize(this.#size(this.averagesAt));
    this.completeness.setSize(this.#size(this.completenessAt));
    this.#pointAt(Number(this.slider.value));
  }

  #redraw() {
    for (const plot of [this.averages, this.completeness]) plot.redraw();
  }
}
