// Numbers as people read them; a dash where there is none, so that nothing moves when one comes.

export const NONE = "–";
const whole = new Intl.NumberFormat("en");

export const count = (value) => (value === null || value === undefined ? NONE : whole.format(value));

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value >= 100 || Number.isInteger(value) ? whole.format(Math.round(value)) : value.toFixed(1);
}

export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 100000) return `${whole.format(Math.round(value / 1000))} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10000 ? 1 : 2)} s`;
  return value >= 100 ? `${value.toFixed(0)} ms` : `${value.toFixed(1)} ms`;
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const value = Math.max(0, Math.round(seconds));
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 172800) return `${Math.floor(value / 3600)} h`;
  return `${Math.floor(value / 86400)} d`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 1000) return `${value} B`;
  if (value < 1e6) return `${(value / 1e3).toFixed(1)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

export function clock(text) {
  if (!text) return NONE;
  const at = new Date(text), pad = (value, size = 2) => String(value).padStart(size, "0");
  const day = at.toDateString() === new Date().toDateString() ? "" : `${pad(at.getMonth() + 1)}-${pad(at.getDate())} `;
  return `${day}${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}

export const between = (from, to) => (from && to ? new Date(to) - new Date(from) : null);
