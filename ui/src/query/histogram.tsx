// A native histogram: its buckets as bars, and as numbers.
import { useState } from "preact/hooks";
import { short } from "../lib/format";
import { Segments } from "../lib/ui";
import { number, type Bucket, type HistogramValue } from "./types";

/// The spelling of a bucket's limits: which of them belong to it.
const limits = ([boundary, low, high]: Bucket) => {
  const closedLow = boundary === 1 || boundary === 3;
  const closedHigh = boundary === 0 || boundary === 3;
  return `${closedLow ? "[" : "("}${low}, ${high}${closedHigh ? "]" : ")"}`;
};

const WIDTH = 420;
const HEIGHT = 90;

function Bars({ buckets, log }: { buckets: Bucket[]; log: boolean }) {
  const parsed = buckets.map(([, low, high, n]) => ({ low: number(low), high: number(high), n: number(n) })).filter((b) => Number.isFinite(b.low) && Number.isFinite(b.high));
  if (parsed.length === 0) return null;
  const first = parsed[0]!.low;
  const last = parsed[parsed.length - 1]!.high;
  // Density on a linear axis, so that areas are comparable; counts on the exponential one, where buckets are equally wide.
  const heights = parsed.map((b) => (log ? b.n : b.n / Math.max(b.high - b.low, 1e-300)));
  const max = Math.max(...heights, 1e-300);
  const place = (v: number, at: number) => (log ? (at / parsed.length) * WIDTH : ((v - first) / Math.max(last - first, 1e-300)) * WIDTH);
  return (
    <svg class="bars" viewBox={`0 0 ${WIDTH} ${HEIGHT + 14}`} role="img" aria-label={`Histogram of ${parsed.length} buckets from ${short(first)} to ${short(last)}`}>
      {parsed.map((b, at) => {
        const x = place(b.low, at);
        const w = Math.max(0.7, place(b.high, at + 1) - x - 0.5);
        const h = ((heights[at] ?? 0) / max) * HEIGHT;
        return <rect key={at} x={x} y={HEIGHT - h} width={w} height={h}><title>{`${b.low} – ${b.high}: ${b.n}`}</title></rect>;
      })}
      <text x={0} y={HEIGHT + 12}>{short(first)}</text>
      <text x={WIDTH} y={HEIGHT + 12} text-anchor="end">{short(last)}</text>
    </svg>
  );
}

export function HistogramView({ of }: { of: HistogramValue }) {
  const [axis, setAxis] = useState<"log" | "linear">("log");
  const [table, setTable] = useState(false);
  const buckets = of.buckets ?? [];
  const max = Math.max(...buckets.map((b) => number(b[3])), 1e-300);
  return (
    <div class="histogram">
      <div class="row tight">
        <span>count {of.count}, sum {of.sum}</span>
        <Segments label="Axis" value={axis} options={[["log", "Exponential"], ["linear", "Linear"]]} onChange={setAxis} />
        <button type="button" class="button" aria-expanded={table} onClick={() => setTable(!table)}>Buckets</button>
      </div>
      <Bars buckets={buckets} log={axis === "log"} />
      {table && (
        <table>
          <thead>
            <tr><th scope="col">Bucket</th><th scope="col" class="right">Count</th></tr>
          </thead>
          <tbody>
            {buckets.map((bucket, at) => (
              <tr key={at}>
                <td>{limits(bucket)}</td>
                <td class="right"><span class="bar"><i style={{ width: `${(number(bucket[3]) / max) * 100}%` }} /></span> {bucket[3]}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
