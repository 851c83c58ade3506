// Shows the documents in the page. Elements without a change are not touched, so that a screen reader
// keeps its position and announces only changes.

import { count, day, degrees, entries, exact, hour, isoDay, left, percent, time } from "./format.js";

const of = (id) => document.getElementById(id);

function put(element, text, className) {
  if (element.textContent !== text) element.textContent = text;
  if (className !== undefined && element.className !== className) element.className = className;
}

/** Fills a table. A row is an array of cells; a cell is a text or [text, class]; the first is a heading. */
function fill(table, rows) {
  const body = of(table).tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((cell, column) => {
      const [text, className = ""] = [cell].flat();
      put(row.cells[column] ?? newCell(row, column), text, className);
    });
  });
}

function newCell(row, column) {
  const cell = document.createElement(column ? "td" : "th");
  if (!column) cell.scope = "row";
  return row.appendChild(cell);
}

export function showAverages({ hours }) {
  const latest = hours.at(-1);
  const revision = latest?.revision ? `; revision ${count(latest.revision)}` : "";
  put(of("latest"), latest ? `${degrees(latest.average_temp_f)} °F` : "–");
  put(
    of("latest-about"),
    latest
      ? `${hour(latest.hour)}; from ${degrees(latest.min_temp_f)} to ${degrees(latest.max_temp_f)} °F${revision}`
      : "No hour has been published yet.",
  );
  const rows = [...hours].reverse().map((each) => [
    `${isoDay(each.hour)} ${time(each.hour)}`,
    degrees(each.average_temp_f),
    degrees(each.min_temp_f),
    degrees(each.max_temp_f),
    [percent(each.completeness), each.completeness !== null && each.completeness < 1 ? "odd" : ""],
    count(each.observations),
    count(each.devices),
    [count(each.late), each.late > 0 ? "odd" : ""],
    each.revision ? [`revision ${count(each.revision)}`, "odd"] : each.in_warehouse ? "yes" : ["not yet", "odd"],
    [each.trace_id ?? "–", each.trace_id ? "trace" : ""],
  ]);
  fill("hours", rows);
}

export function showPartitions({ partitions }, { real_time, clock }) {
  const now = Date.parse(real_time);
  fill(
    "partitions",
    partitions.map((each) => [
      each.stream,
      count(each.length),
      [count(each.lag), each.lag === null ? "odd" : ""],
      count(each.pending),
      [count(each.lag_readings), each.lag_readings === null ? "odd" : ""],
      each.expires === null ? ["never", "bad"] : left((Date.parse(each.expires) - now) * clock.speed),
      count(each.counted),
      [count(each.late), each.late > 0 ? "odd" : ""],
      [count(each.quarantined), each.quarantined > 0 ? "odd" : ""],
      count(each.consumers),
      each.shard,
    ]),
  );
}

export function showStatus(status) {
  const { clock } = status;
  const pace = clock.mode === "simulated" && clock.speed !== 1 ? `, ${count(clock.speed)} times as fast` : "";
  put(of("clock"), `Pipeline clock ${exact(clock.time)}${clock.mode === "wall" ? "" : ` (${clock.mode}${pace})`}`);
  showProblems(status.problems);
  showOpenHour(status.open_hours);
  put(of("lag"), count(status.lag_readings), status.lag_readings === null ? "figure odd" : "figure");
  put(of("lag-about"), `readings to be counted, ${entries(status.pending)} pending`);
  const loading = status.to_load === null ? "unknown" : status.to_load ? `${count(status.to_load)} to load` : "complete";
  put(of("load"), status.warehouse.answers ? loading : "unreachable", status.warehouse.answers ? "figure" : "figure bad");
  const until = status.published_until;
  put(of("load-about"), until ? `published until ${day(until)}, ${time(until)}` : "nothing published yet");
  for (const id of ["late", "quarantined"]) {
    put(of(id), count(status[id]), status[id] === 0 ? "figure" : "figure odd");
  }
  put(of("served-by"), `Served by ${status.served_by}.`);
}

const WORDS = { error: "Error", warning: "Warning", info: "Note" };

const NOTHING = { code: "", about: "", severity: "nothing", text: "None: every hour that is due is published." };

/** A problem keeps its list item as long as it lasts; only the text of the item changes. */
function showProblems(problems) {
  const list = of("problems");
  const before = new Map([...list.children].map((item) => [item.dataset.problem, item]));
  const shown = new Map((problems.length ? problems : [NOTHING]).map((each) => [`${each.code} ${each.about}`, each]));
  const gone = [...before].filter(([name]) => !shown.has(name)).map(([, item]) => item);
  const come = [];
  gone.forEach((item) => item.remove());
  [...shown].forEach(([name, { severity, text }], at) => {
    const item = before.get(name) ?? newProblem(name, severity);
    if (!before.has(name)) come.push(item);
    put(item.lastChild, text);
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
  announce(come, gone);
}

function newProblem(name, severity) {
  const item = document.createElement("li");
  item.dataset.problem = name;
  item.className = severity;
  if (WORDS[severity]) {
    const word = document.createElement("b");
    word.textContent = WORDS[severity];
    item.append(word, " ");
  }
  item.append(document.createElement("span"));
  return item;
}

/** Announces new and resolved problems to a screen reader, but not their numbers, which change each second. */
function announce(come, gone) {
  const isProblem = (item) => item.className !== NOTHING.severity;
  const over = gone.filter(isProblem).map((item) => `Resolved: ${item.lastChild.textContent}`);
  const messages = [...come.map((item) => item.textContent), ...over];
  if (!messages.length) return;
  of("news").replaceChildren(
    ...messages.map((text) => {
      const line = document.createElement("p");
      line.textContent = text;
      return line;
    }),
  );
}

/** Hides the chart; the rest of the page does not need it. */
export function showNoChart() {
  of("charts").hidden = true;
  of("legend").hidden = true;
  of("no-chart").hidden = false;
}

function showOpenHour(openHours) {
  const open = openHours.filter((each) => !each.over).at(-1) ?? openHours.at(-1);
  put(of("open"), !open ? "–" : open.observations ? `${degrees(open.average_temp_f)} °F so far` : "no reading yet");
  const waiting = openHours.filter((each) => each.over).length;
  const parts = [];
  if (open) {
    const expected = open.expected === null ? "" : ` of ${count(open.expected)}`;
    parts.push(`${hour(open.hour)}; ${count(open.observations)}${expected} readings`);
  }
  if (waiting) parts.push(`${count(waiting)} before it to be sealed`);
  put(of("open-about"), parts.join("; "));
  const meter = of("progress");
  const share = !open ? null : open.observations ? open.completeness : 0;
  meter.classList.toggle("unknown", share === null);
  meter.querySelector(".fill").style.width = `${100 * (share ?? 0)}%`;
  meter.querySelector(".mark").style.left = `calc(${100 * (open?.elapsed ?? 0)}% - 1px)`;
  // A progress bar without a value is indeterminate.
  if (share === null) meter.removeAttribute("aria-valuenow");
  else meter.setAttribute("aria-valuenow", String(Math.floor(100 * share)));
  meter.setAttribute("aria-valuetext", open ? `${filled(open, share)}, ${percent(open.elapsed)} of the hour` : "no hour is known to be open");
}

function filled({ observations }, share) {
  if (!observations) return "no reading yet";
  return share === null ? `${count(observations)} readings of an unknown number` : `${percent(share)} of the readings`;
}

/** Shows whether the data is current. `connected`: events from the server arrive. */
export function showConnection(status, connected) {
  const [state, label, banner] = connection(status, connected);
  document.documentElement.dataset.state = state;
  document.title = banner ? `Stale – Hourglass` : "Hourglass";
  put(of("state"), label);
  put(of("stale"), banner);
  if (of("stale").hidden !== !banner) of("stale").hidden = !banner;
}

function connection(status, connected) {
  if (!connected) {
    const since = status ? ` The data shown is as of ${exact(status.real_time)}.` : "";
    return ["offline", "No connection", `Stale: this page has no connection to its server.${since}`];
  }
  if (!status.redis.answers) {
    return ["stale", "Redis is unreachable", `Stale: Redis does not answer. The data shown is as of ${exact(status.redis.as_of)}.`];
  }
  if (status.redis.readable === false) {
    const since = exact(status.redis.as_of);
    return ["unreadable", "Redis cannot be read", `Stale: this page cannot read the data in Redis. The data shown is as of ${since}.`];
  }
  if (status.redis.readable === null) return ["connecting", "Loading", ""];
  return status.warehouse.answers ? ["live", "Live", ""] : ["warehouse-away", "Warehouse is unreachable", ""];
}
