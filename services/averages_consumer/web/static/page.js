// Reads the event stream and shows its documents. Each event contains one complete document of the API.

import { showAverages, showConnection, showNoChart, showPartitions, showStatus } from "./show.js";

// The server sends a status every second: without an event for this long the connection is dead,
// even if the browser reports it as open.
const SILENT_MS = 8_000;
const RETRY_MS = 3_000;

const known = { averages: null, status: null, partitions: null };
let chart = null;
let source;
let heardAt;

// The chart is optional: if it cannot be drawn, the rest of the page works without it.
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
    // The browser reconnects by itself, unless the server rejected the request.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  });
}

connect();
setInterval(() => {
  if (source.readyState === EventSource.OPEN && performance.now() - heardAt > SILENT_MS) {
    showConnection(known.status, false);
    connect();
  }
}, 1_000);
