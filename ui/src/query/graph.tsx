// The graph of a range query: lines, stacked areas or a heatmap, its legend, and the ways to move through time.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get } from "../lib/api";
import { count, preciseTime, promDuration, seriesText, short } from "../lib/format";
import { isDark, traceLink } from "../lib/settings";
import { Check, download, Empty, Failure, Icon, Labels, SearchBox, Segments, Select, Skeleton, useWindow } from "../lib/ui";
import { Annotations, Cost } from "./annotations";
import { Chart, type Mark } from "./chart";
import { colour, columns, heat, stack } from "./series";
import { change, stepMs, type Density, type Panel, type Resolution } from "./state";
import { DurationInput, longer, shorter, TimeInput } from "./time";
import type { MatrixSeries } from "./types";
import { useQuery } from "./use-query";

const FIXED_S = [10, 30, 60, 300, 900, 3600];

function ResolutionInput({ panel }: { panel: Panel }) {
  const now = panel.resolution;
  const value = now.type === "auto" ? now.density : now.type === "custom" ? "custom" : String(now.stepMs);
  const options: [string, string][] = [
    ["low", "Low resolution"],
    ["medium", "Medium resolution"],
    ["high", "High resolution"],
    ...FIXED_S.map((s): [string, string] => [String(s * 1000), `Every ${promDuration(s * 1000)}`]),
    ["custom", "Custom step"],
  ];
  if (now.type === "fixed" && !FIXED_S.includes(now.stepMs / 1000)) options.push([String(now.stepMs), `Every ${promDuration(now.stepMs)}`]);
  const choose = (text: string) => {
    const resolution: Resolution = text === "custom" ? { type: "custom", stepMs: stepMs(panel) } : /^\d+(\.\d+)?$/.test(text) ? { type: "fixed", stepMs: Number(text) } : { type: "auto", density: text as Density };
    change(panel.id, { resolution });
  };
  return (
    <>
      <Select label="Resolution" value={value} options={options} onChange={choose} />
      {now.type === "custom" && <DurationInput label="Step" valueMs={now.stepMs} onChange={(ms) => change(panel.id, { resolution: { type: "custom", stepMs: ms } })} />}
    </>
  );
}

interface ExemplarSeries {
  seriesLabels: Record<string, string>;
  exemplars: { labels: Record<string, string>; value: string; timestamp: number }[];
}

/// Exemplars that are drawn.
const EXEMPLARS_MAX = 1000;

function useExemplars(panel: Panel, run: number, start: number, end: number): { marks: Mark[]; found: ExemplarSeries[] } {
  const [found, setFound] = useState<ExemplarSeries[]>([]);
  useEffect(() => {
    if (!panel.exemplars || panel.expr === "" || end <= start) {
      setFound([]);
      return;
    }
    const abort = new AbortController();
    get<ExemplarSeries[]>("query_exemplars", { query: panel.expr, start, end }, abort.signal).then(
      ({ data }) => setFound(data),
      () => abort.signal.aborted || setFound([]),
    );
    return () => abort.abort();
  }, [panel.exemplars, panel.expr, start, end, run]);
  const marks = useMemo(() => found.flatMap((series) => series.exemplars.map((e) => ({ t: e.timestamp, v: Number(e.value), labels: { ...e.labels }, series: series.seriesLabels }))).slice(-EXEMPLARS_MAX), [found]);
  return { marks, found };
}

const LEGEND_ROW_PX = 26;

export function GraphTab({ panel, run, onError }: { panel: Panel; run: number; onError: (text: string | null) => void }) {
  const step = stepMs(panel) / 1000;
  const asked = useRef({ start: 0, end: 0 });
  const { answer, error, loading, asked: params } = useQuery(
    "query_range",
    panel.expr,
    () => {
      const end = (panel.endMs ?? Date.now()) / 1000;
      asked.current = { start: end - panel.rangeMs / 1000, end };
      return { ...asked.current, step, stats: "true" };
    },
    [panel.endMs, panel.rangeMs, step, run],
    onError,
  );
  const start = Number(params?.["start"] ?? 0);
  const end = Number(params?.["end"] ?? 0);
  const usedStep = Number(params?.["step"] ?? step);
  const { marks } = useExemplars(panel, run, start, end);
  const zoom = (from: number, to: number) => {
    const rangeMs = Math.max(1000, Math.round(to - from) * 1000);
    change(panel.id, { rangeMs, endMs: Math.round(to) * 1000 });
  };
  const move = (share: number) => {
    const endMs = (panel.endMs ?? Date.now()) + share * panel.rangeMs;
    change(panel.id, { endMs: endMs >= Date.now() ? null : Math.round(endMs / 1000) * 1000 });
  };
  const scale = (factor: number) => change(panel.id, { rangeMs: factor > 1 ? longer(panel.rangeMs) : shorter(panel.rangeMs) });
  const result = answer?.data.resultType === "matrix" ? answer.data.result : [];
  return (
    <div class="stack">
      <div class="toolbar">
        <DurationInput label="Range" valueMs={panel.rangeMs} withSteps onChange={(rangeMs) => change(panel.id, { rangeMs })} />
        <TimeInput label="End time" valueMs={panel.endMs} stepMs={panel.rangeMs / 2} onChange={(endMs) => change(panel.id, { endMs })} />
        <ResolutionInput panel={panel} />
        <Segments label="Display" value={panel.mode} options={[["lines", "Lines"], ["stacked", "Stacked"], ["heatmap", "Heatmap"]]} onChange={(mode) => change(panel.id, { mode })} />
        {panel.mode !== "heatmap" && (
          <>
            <Check label="From 0" checked={panel.yMin === 0} onChange={(on) => change(panel.id, { yMin: on ? 0 : null })} />
            <Check label="Log" checked={panel.log} onChange={(on) => change(panel.id, { log: on })} />
          </>
        )}
        <Check label="Exemplars" checked={panel.exemplars} onChange={(on) => change(panel.id, { exemplars: on })} />
        <span class="push" aria-live="polite">
          {loading ? <span class="muted">running…</span> : answer && <Cost answer={answer} series={result.length} />}
        </span>
      </div>
      {error && <Failure error={error} title="Error executing query" />}
      {answer && <Annotations answer={answer} />}
      {answer && answer.data.resultType === "matrix" ? (
        result.length > 0 ? <Plot panel={panel} result={result} start={start} end={end} step={usedStep} marks={marks} onZoom={zoom} onMove={move} onScale={scale} /> : <Empty>Empty query result. This query returned no data.</Empty>
      ) : loading ? <Skeleton /> : !error && <Empty>No data queried yet</Empty>}
    </div>
  );
}

interface PlotProps {
  panel: Panel;
  result: MatrixSeries[];
  start: number;
  end: number;
  step: number;
  marks: Mark[];
  onZoom: (from: number, to: number) => void;
  onMove: (share: number) => void;
  onScale: (factor: number) => void;
}

function Plot({ panel, result, start, end, step, marks, onZoom, onMove, onScale }: PlotProps) {
  const dark = isDark();
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [asTable, setAsTable] = useState(false);
  const [near, setNear] = useState<Mark | null>(null);
  const names = useMemo(() => result.map((series) => seriesText(series.metric)), [result]);
  const data = useMemo(() => columns(result, start, end, step), [result, start, end, step]);
  const heatmap = useMemo(() => (panel.mode === "heatmap" ? heat(result, start, end, step) : null), [panel.mode, result, start, end, step]);
  const shown = useMemo(() => names.map((name) => !hidden.has(name)), [names, hidden]);
  const drawn = useMemo(() => (panel.mode === "stacked" ? stack(data.values, shown) : data.values), [data, panel.mode, shown]);
  useEffect(() => setHidden(new Set()), [panel.expr]);
  const colours = useMemo(() => names.map((_, at) => colour(at, dark)), [names, dark]);
  const csv = () => {
    const cell = (text: string) => `"${text.replace(/"/g, '""')}"`;
    return [["time", ...names.map(cell)].join(","), ...data.times.map((t, i) => [new Date(t * 1000).toISOString(), ...data.values.map((column) => column[i] ?? "")].join(","))].join("\r\n");
  };
  const toggle = (name: string, add: boolean) => {
    const next = new Set(hidden);
    if (add) {
      if (!next.delete(name)) next.add(name);
    } else if (!next.has(name) && next.size === names.length - 1) next.clear();
    else {
      next.clear();
      for (const other of names) if (other !== name) next.add(other);
    }
    setHidden(next);
  };
  return (
    <>
      {panel.mode === "heatmap" && !heatmap && <Empty>A heatmap needs native histograms, or buckets with the label le, such as sum by (le) (rate(x_bucket[5m])). Lines are shown.</Empty>}
      <Chart
        key={heatmap ? "heat" : "lines"}
        times={data.times}
        values={drawn}
        raw={data.values}
        names={names}
        metrics={result.map((series) => series.metric)}
        colours={colours}
        shown={shown}
        stacked={panel.mode === "stacked"}
        heat={heatmap}
        log={panel.log}
        yMin={panel.yMin}
        dark={dark}
        marks={marks}
        onZoom={onZoom}
        onMove={onMove}
        onScale={onScale}
        onMark={setNear}
      />
      {near && (
        <div class="note info">
          <Icon name="dot" />
          <div>
            Exemplar {short(near.v)} at {preciseTime(near.t * 1000)} <Labels of={near.labels} />
            <TraceLink labels={near.labels} />
          </div>
        </div>
      )}
      <div class="toolbar">
        <Check label="Show as table" checked={asTable} onChange={setAsTable} />
        <button type="button" class="button" onClick={() => download("graph.csv", "text/csv", csv())}>
          <Icon name="download" />
          CSV
        </button>
        {hidden.size > 0 && (
          <button type="button" class="button" onClick={() => setHidden(new Set())}>
            Show all {names.length} series
          </button>
        )}
      </div>
      {asTable && <LastPoints times={data.times} values={data.values} names={names} />}
      {!heatmap && <Legend names={names} colours={colours} hidden={hidden} last={data.values} onToggle={toggle} />}
    </>
  );
}

function TraceLink({ labels }: { labels: Record<string, string> }) {
  const template = traceLink.value;
  if (!/^https?:\/\//.test(template)) return null;
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(labels[name] ?? ""));
  return (
    <a href={filled} target="_blank" rel="noreferrer">
      Open the trace
    </a>
  );
}

/// Points of a series in the table of a graph.
const POINTS_MAX = 50;

function LastPoints({ times, values, names }: { times: number[]; values: (number | null)[][]; names: string[] }) {
  const from = Math.max(0, times.length - POINTS_MAX);
  return (
    <div class="table-frame rows" tabIndex={0} role="region" aria-label="Points of the graph">
      <table>
        <caption class="muted">The last {Math.min(POINTS_MAX, times.length)} points of {Math.min(20, names.length)} series</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {names.slice(0, 20).map((name) => <th scope="col" key={name} class="right">{name}</th>)}
          </tr>
        </thead>
        <tbody>
          {times.slice(from).map((t, at) => (
            <tr key={t}>
              <th scope="row">{preciseTime(t * 1000)}</th>
              {values.slice(0, 20).map((column, s) => <td key={s} class="right mono">{column[from + at] ?? ""}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Legend({ names, colours, hidden, last, onToggle }: { names: string[]; colours: string[]; hidden: ReadonlySet<string>; last: (number | null)[][]; onToggle: (name: string, add: boolean) => void }) {
  const [pattern, setPattern] = useState("");
  const wanted = pattern.trim().toLowerCase();
  const rows = useMemo(() => names.map((name, at) => ({ name, at })).filter(({ name }) => name.toLowerCase().includes(wanted)), [names, wanted]);
  const { frame, first, last: end, before, after } = useWindow(rows.length, LEGEND_ROW_PX);
  return (
    <div class="legend">
      {names.length > 8 && <SearchBox value={pattern} onInput={setPattern} label="Filter legend" />}
      <div class="legend-rows" ref={frame} tabIndex={rows.length > 12 ? 0 : undefined} role={rows.length > 12 ? "region" : undefined} aria-label={rows.length > 12 ? "Legend" : undefined}>
        <div style={{ height: `${before}px` }} />
        {rows.slice(first, end).map(({ name, at }) => (
          <button key={at} type="button" class="legend-row" aria-pressed={!hidden.has(name)} title={`${name}\nclick: only this one; with Ctrl: hide or show`} onClick={(e) => onToggle(name, e.ctrlKey || e.metaKey)} onKeyDown={(e) => e.key === "h" && onToggle(name, true)}>
            <i style={{ background: colours[at] }} />
            <span>{name}</span>
            <b>{lastValue(last[at])}</b>
          </button>
        ))}
        <div style={{ height: `${after}px` }} />
      </div>
      {names.length > 8 && <p class="muted">{count(rows.length)} of {count(names.length)} series. Click: only this one. Ctrl+click or h: hide or show.</p>}
    </div>
  );
}

function lastValue(column: (number | null)[] | undefined): string {
  const v = column?.findLast((value) => value !== null);
  return v === null || v === undefined ? "" : short(v);
}

