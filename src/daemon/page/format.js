// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// Three digits that count, of a number of zero and more.
function short(number) {
  const digits = number >= 100 || Number.isInteger(number) ? 0 : number >= 10 ? 1 : 2;
  return number.toFixed(digits);
}

function scaled(number, units) {
  let place = 0;
  while (number >= 999.5 && place + 1 < units.length) {
    number /= 1000;
    place += 1;
  }
  return `${short(number)} ${units[place]}`;
}

export const known = (number) => typeof number === "number" && Number.isFinite(number);
const or = (format) => (number) => (known(number) ? format(number) : "–");

export const count = or((number) => whole.format(number));
export const bits = or((number) => scaled(number, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]));
export const packets = or((number) => (number < 999.5 ? `${short(number)} /s` : `${scaled(number, ["", "k", "M", "G"])} /s`));
export const perSecond = packets;
export const percent = or((part) => `${short(Math.round(part * 1000) / 10)} %`);
export const decimal = or((number) => short(number));
export const milliseconds = or((ms) => (ms < 1000 ? `${short(ms < 10 ? ms : Math.round(ms))} ms` : duration(ms / 1000)));

export const duration = or((seconds) => {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
});

export const ago = or((seconds) => (seconds < 1 ? "just now" : `${duration(seconds)} ago`));

export const clock = (seconds) => (known(seconds) ? new Date(seconds * 1000).toLocaleString() : "–");
