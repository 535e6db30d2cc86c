// From the answer of a range query to the columns that a chart draws.
import { number, type MatrixSeries } from "./types";

export interface Columns {
  /// Seconds.
  times: number[];
  /// One column for each series; `null` where it has no sample.
  values: (number | null)[][];
}

/// Aligns all series on the steps of the query. A series that ends gets a gap and not a line across it.
export function columns(result: MatrixSeries[], start: number, end: number, step: number): Columns {
  const count = Math.floor((end - start) / step + 1e-6) + 1;
  const times = Array.from({ length: count }, (_, at) => start + at * step);
  const values = result.map((series) => {
    const column: (number | null)[] = new Array(count).fill(null);
    const put = (t: number, v: number) => {
      const at = Math.round((t - start) / step);
      // uPlot draws no infinities.
      if (at >= 0 && at < count && Number.isFinite(v)) column[at] = v;
    };
    for (const [t, text] of series.values ?? []) put(t, number(text));
    // A native histogram as a line is its sum, as in Prometheus' UI.
    for (const [t, histogram] of series.histograms ?? []) put(t, number(histogram.sum));
    return column;
  });
  return { times, values };
}

/// Each series on top of those before it. Gaps count as nothing and stay gaps.
export function stack(values: (number | null)[][], shown: boolean[]): (number | null)[][] {
  const sums: number[] = [];
  return values.map((column, at) => {
    if (!shown[at]) return column;
    return column.map((v, i) => {
      if (v === null) return null;
      sums[i] = (sums[i] ?? 0) + v;
      return sums[i] ?? null;
    });
  });
}

export interface Heat {
  times: number[];
  /// Limits of the buckets, ascending: bucket i reaches from limits[i] to limits[i + 1].
  limits: number[];
  /// Of each time, what each bucket has.
  cells: (number | null)[][];
}

/// Buckets of a heatmap at most; more are too fine to see.
const BUCKETS_MAX = 400;

/// A heatmap of native histograms or of classic buckets (label `le`, one line each); `null` where there are neither.
export function heat(result: MatrixSeries[], start: number, end: number, step: number): Heat | null {
  const count = Math.floor((end - start) / step + 1e-6) + 1;
  const times = Array.from({ length: count }, (_, at) => start + at * step);
  const native = result.filter((series) => series.histograms?.length);
  if (native.length > 0) {
    const edges = new Set<number>();
    for (const series of native) for (const [, h] of series.histograms ?? []) for (const b of h.buckets ?? []) edges.add(number(b[1])).add(number(b[2]));
    const limits = [...edges].filter(Number.isFinite).sort((a, b) => a - b);
    if (limits.length < 2 || limits.length > BUCKETS_MAX * 4) return null;
    const cells: (number | null)[][] = times.map(() => new Array(limits.length - 1).fill(null));
    const place = new Map(limits.map((limit, at) => [limit, at]));
    for (const series of native) {
      for (const [t, h] of series.histograms ?? []) {
        const row = cells[Math.round((t - start) / step)];
        if (!row) continue;
        for (const [, low, high, n] of h.buckets ?? []) {
          const from = place.get(number(low));
          const to = place.get(number(high));
          if (from === undefined || to === undefined || to <= from) continue;
          for (let at = from; at < to; at += 1) row[at] = (row[at] ?? 0) + number(n) / (to - from);
        }
      }
    }
    return { times, limits, cells };
  }
  // Classic buckets are cumulative: what a bucket has is the difference to the one below.
  const byLe = new Map<number, (number | null)[]>();
  for (const series of result) {
    const text = series.metric["le"];
    if (text === undefined) return null;
    const le = number(text);
    if (Number.isNaN(le)) return null;
    const column = byLe.get(le) ?? new Array<number | null>(count).fill(null);
    for (const [t, v] of series.values ?? []) {
      const at = Math.round((t - start) / step);
      const n = number(v);
      if (at >= 0 && at < count && Number.isFinite(n)) column[at] = (column[at] ?? 0) + n;
    }
    byLe.set(le, column);
  }
  const les = [...byLe.keys()].sort((a, b) => a - b);
  const finite = les.filter(Number.isFinite);
  if (finite.length < 1 || finite.length > BUCKETS_MAX) return null;
  const first = finite[0]!;
  const last = finite[finite.length - 1]!;
  const ratio = finite.length > 1 ? last / finite[finite.length - 2]! : 2;
  const limits = [first > 0 ? 0 : first - 1, ...finite];
  if (les.length > finite.length) limits.push(last > 0 && ratio > 1 ? last * Math.min(ratio, 10) : last + 1);
  const cells = times.map((_, i) =>
    les.map((le, at) => {
      const v = byLe.get(le)?.[i] ?? null;
      if (v === null) return null;
      const below = at === 0 ? 0 : (byLe.get(les[at - 1]!)?.[i] ?? 0);
      return Math.max(0, v - below);
    }),
  );
  return { times, limits, cells };
}

/// Colours that differ in both themes; more series than colours begin anew.
const LIGHT = ["#1f77b4", "#c8501e", "#2a8a3e", "#b8245f", "#7a56c2", "#8a5a2b", "#0f8a8a", "#9a7d00", "#3b3fb6", "#6f8f1f", "#c0392b", "#5f6b78"];
const DARK = ["#6cb2f0", "#ff9d66", "#6fd088", "#ff7fb0", "#b89bff", "#d6a877", "#4fd0d0", "#f2d24b", "#8f97ff", "#b5d94c", "#ff6f61", "#a9b4c0"];
export const colour = (at: number, dark: boolean): string => (dark ? DARK : LIGHT)[at % LIGHT.length]!;
