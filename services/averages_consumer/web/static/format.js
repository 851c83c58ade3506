// Formats numbers and times for display. All times are UTC.

const whole = new Intl.NumberFormat("en-US");
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const HOUR_MS = 3_600_000;

export const count = (number) => (number === null ? "unknown" : whole.format(number));
export const entries = (number) => (number === 1 ? "1 entry" : `${count(number)} entries`);
export const degrees = (number) => (number === null ? "–" : number.toFixed(1));

/** Rounds down, so that only 1 is 100 %: 0.9999 is 99 %. */
export const percent = (share) => (share === null ? "–" : `${Math.floor(share * 100)} %`);

const two = (number) => String(number).padStart(2, "0");

export const time = (at) => {
  const date = new Date(at);
  return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
};
export const day = (at) => {
  const date = new Date(at);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
};
export const weekday = (at) => DAYS[new Date(at).getUTCDay()];
export const isoDay = (at) => new Date(at).toISOString().slice(0, 10);
export const exact = (at) => `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** The hour that starts at `at`: 3 Jan, 09:00 to 10:00. */
export const hour = (at) => {
  const start = new Date(at).getTime();
  return `${day(start)}, ${time(start)} to ${time(start + HOUR_MS)}`;
};

/** A remaining time, in its two largest units. */
export const left = (ms) => {
  const minutes = Math.max(0, Math.floor(ms / 60_000));
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.max(0, Math.ceil(ms / 1000))} s`;
};
