// Times, durations and sizes as people read them, and durations as Prometheus writes them.
import { useLocalTime } from "./settings";

const pad = (n: number, width = 2) => String(n).padStart(width, "0");

/// `2026-11-21 19:00:05`, in UTC or in the browser's zone as the settings say.
export function formatTime(ms: number, zone = useLocalTime.value): string {
  const d = new Date(ms);
  if (Number.isNaN(d.getTime())) return "–";
  return zone
    ? `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`
    : utcTime(ms);
}

export function utcTime(ms: number): string {
  const d = new Date(ms);
  return `${d.getUTCFullYear()}-${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())} ${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}:${pad(d.getUTCSeconds())}`;
}

/// With the milliseconds and the name of the zone.
export function preciseTime(ms: number): string {
  const fraction = Math.round(ms) % 1000;
  return `${formatTime(ms)}${fraction ? `.${pad(fraction, 3)}` : ""}${useLocalTime.value ? "" : " UTC"}`;
}

/// A time from the API; those before 1970 (Go's zero) mean never.
export function apiTime(text: string | undefined): number | null {
  const ms = Date.parse(text ?? "");
  return Number.isNaN(ms) || ms <= 0 ? null : ms;
}

const UNITS: [string, number][] = [
  ["y", 365 * 86_400_000],
  ["w", 7 * 86_400_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];

/// A duration as Prometheus writes it: `1d12h`. Years and weeks only where they are exact.
export function promDuration(ms: number): string {
  let rest = Math.round(ms);
  if (rest === 0) return "0s";
  let out = "";
  for (const [unit, length] of UNITS) {
    if ((unit === "y" || unit === "w") && rest % length !== 0) continue;
    const n = Math.floor(rest / length);
    if (n > 0) {
      out += `${n}${unit}`;
      rest -= n * length;
    }
  }
  return out;
}

/// The reverse, in ms; `null` for anything else. A plain `0` is a duration too.
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (trimmed === "0") return 0;
  const found = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(trimmed);
  if (trimmed === "" || !found) return null;
  return UNITS.reduce((sum, [, length], at) => sum + Number(found[at + 1] ?? 0) * length, 0);
}

/// A span for people: `1.4ms`, `12.3s`, `2h 5m`.
export function humanSeconds(s: number): string {
  if (!Number.isFinite(s)) return String(s);
  const a = Math.abs(s);
  if (a === 0) return "0s";
  if (a < 0.001) return `${round(s * 1e6)}µs`;
  if (a < 1) return `${round(s * 1e3)}ms`;
  if (a < 60) return `${round(s)}s`;
  const parts: [string, number][] = [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]];
  let rest = Math.round(a);
  const out: string[] = [];
  for (const [unit, length] of parts) {
    const n = Math.floor(rest / length);
    if (n > 0) out.push(`${n}${unit}`);
    rest -= n * length;
    if (out.length === 2) break;
  }
  return (s < 0 ? "-" : "") + out.join(" ");
}

const round = (x: number) => String(Number(x.toPrecision(3)));

export const ago = (ms: number, now = Date.now()) => `${humanSeconds(Math.max(0, (now - ms) / 1000))} ago`;

export function bytes(n: number): string {
  if (!Number.isFinite(n)) return String(n);
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  let v = n;
  while (Math.abs(v) >= 1024 && at < units.length - 1) {
    v /= 1024;
    at += 1;
  }
  return `${at === 0 ? v : round(v)} ${units[at]}`;
}

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });
export const count = (n: number) => grouped.format(n);

/// A value on an axis or in a tooltip: `1.2k`, `3.5M`.
export function short(v: number): string {
  if (!Number.isFinite(v)) return v > 0 ? "+Inf" : v < 0 ? "-Inf" : "NaN";
  const a = Math.abs(v);
  if (a === 0) return "0";
  if (a >= 1e15 || a < 1e-9) return v.toExponential(2);
  for (const [unit, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (a >= size) return `${Number((v / size).toPrecision(6))}${unit}`;
  }
  if (a >= 1e-3) return String(Number(v.toPrecision(6)));
  for (const [unit, size] of [["m", 1e-3], ["µ", 1e-6], ["n", 1e-9]] as const) {
    if (a >= size) return `${Number((v / size).toPrecision(4))}${unit}`;
  }
  return String(v);
}

const LEGACY_LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const LEGACY_METRIC = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

export const quote = (text: string) => `"${text.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n")}"`;
export const labelName = (name: string) => (LEGACY_LABEL.test(name) ? name : quote(name));

/// A series as a selector: `up{job="x"}`, names beyond the old alphabet in quotes.
export function seriesText(labels: Record<string, string>): string {
  const { __name__: name = "", ...rest } = labels;
  const plain = name === "" || LEGACY_METRIC.test(name);
  const inner = Object.entries(rest).map(([key, value]) => `${labelName(key)}=${quote(value)}`);
  if (!plain) inner.unshift(quote(name));
  const body = inner.length || name === "" ? `{${inner.join(", ")}}` : "";
  return (plain ? name : "") + body;
}
