// Listens to the event stream and shows what comes. Each event carries one document of the API, whole.

import { showAverages, showConnection, showNoChart, showPartitions, showStatus } from "./show.js";

// A status comes every second: after this long without one the connection is dead, whatever it says.
const SILENT_MS = 8_000;
const AGAIN_MS = 3_000;

const known = { averages: null, status: null, partitions: null };
let chart = null;
let source;
let heardAt;

// The chart comes by itself: where it cannot be drawn, all the rest is there without it.
function draw() {
  if (!chart || !known.averages) return;
  try {
    chart.show(known.averages, known.status?.open_hours ?? []);
  } catch (error) {
    doWithoutChart(error);
  }
}

function doWithoutChart(error) {
  chart = null;
  console.error("the chart cannot be drawn:", error);
  showNoChart();
}

import("./chart.js")
  .then(({ Chart }) => {
    chart = new Chart();
    draw();
  })
  .catch(doWithoutChart);

const shows = {
  averages() {
    showAverages(known.averages);
    draw();
  },
  status() {
    showStatus(known.status);
    showConnection(known.status, true);
    draw();
    if (known.partitions) showPartitions(known.partitions, known.status);
  },
  partitions() {
    if (known.status) showPartitions(known.partitions, known.status);
  },
};

function connect() {
  source?.close();
  source = new EventSource("api/events");
  heardAt = performance.now();
  for (const [name, show] of Object.entries(shows)) {
    source.addEventListener(name, (event) => {
      heardAt = performance.now();
      known[name] = JSON.parse(event.data);
      show();
    });
  }
  source.addEventListener("error", () => {
    showConnection(known.status, false);
    // The browser tries again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  });
}

connect();
setInterval(() => {
  if (source.readyState === EventSource.OPEN && performance.now() - heardAt > SILENT_MS) {
    showConnection(known.status, false);
    connect();
  }
}, 1_000);
