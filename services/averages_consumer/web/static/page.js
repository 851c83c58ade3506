// Listens to the event stream and shows what comes. Each event carries one document of the API, whole.

import { Chart } from "./chart.js";
import { showAverages, showConnection, showPartitions, showStatus } from "./show.js";

// A status comes every second: after this long without one the connection is dead, whatever it says.
const SILENT_MS = 8_000;
const AGAIN_MS = 3_000;

const chart = new Chart();
const known = { averages: null, status: null, partitions: null };
let source;
let heardAt;

const shows = {
  averages() {
    showAverages(known.averages);
    chart.show(known.averages, known.status?.open_hours ?? []);
  },
  status() {
    showStatus(known.status);
    showConnection(known.status, true);
    if (known.averages) chart.show(known.averages, known.status.open_hours);
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
