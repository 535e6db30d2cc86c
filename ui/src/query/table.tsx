// The result of an instant query as a table: searched, sorted, by labels or as selectors, of ten thousand series as well.
import { useMemo, useState } from "preact/hooks";
import { labelName, preciseTime, seriesText } from "../lib/format";
import { CopyButton, download, Empty, Failure, Menu, SearchBox, Segments, SeriesName, Skeleton, useDebounced, useWindow, Icon } from "../lib/ui";
import { Annotations, Cost } from "./annotations";
import { HistogramView } from "./histogram";
import { change, type Panel } from "./state";
import { TimeInput } from "./time";
import { number, type HistogramValue, type QueryData, type Sample } from "./types";
import { useQuery } from "./use-query";

interface Row {
  labels: Record<string, string>;
  text: string;
  value: string;
  histogram?: HistogramValue;
  samples?: Sample[];
  histograms?: [number, HistogramValue][];
}

/// Rows from which on only those in sight are drawn, in one line each.
const WINDOW_FROM = 150;
const ROW_PX = 29;
/// Samples of one series that a table shows.
const SAMPLES_MAX = 1000;

function rowsOf(data: QueryData): Row[] {
  switch (data.resultType) {
    case "vector":
      return data.result.map((series) => ({ labels: series.metric, text: seriesText(series.metric), value: series.value?.[1] ?? "", histogram: series.histogram?.[1] }));
    case "matrix":
      return data.result.map((series) => ({ labels: series.metric, text: seriesText(series.metric), value: "", samples: series.values ?? [], histograms: series.histograms ?? [] }));
    default:
      return [{ labels: {}, text: data.resultType, value: data.result[1] }];
  }
}

function csv(rows: Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.labels)))].sort();
  const cell = (text: string) => {
    // What a spreadsheet would run is text.
    const safe = /^[=+@\t\r]|^-(?!\d)/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const lines = rows.flatMap((row) => {
    const labels = names.map((name) => row.labels[name] ?? "");
    if (row.samples) return row.samples.map(([t, v]) => [...labels, String(t), v]);
    return [[...labels, "", row.histogram ? JSON.stringify(row.histogram) : row.value]];
  });
  return [[...names, "timestamp", "value"], ...lines].map((line) => line.map((text, at) => (at === names.length + 1 ? text.replace(/^"?$/, text) : cell(text))).join(",")).join("\r\n");
}

function ValueCell({ row, compact }: { row: Row; compact: boolean }) {
  if (row.samples) {
    const shown = row.samples.slice(-SAMPLES_MAX);
    return (
      <div class="samples">
        {shown.length < row.samples.length && <span class="muted">the last {SAMPLES_MAX} of {row.samples.length} samples</span>}
        {shown.map(([t, v]) => (
          <div key={t} title={preciseTime(t * 1000)}>
            {v} <span class="muted">@{t}</span>
          </div>
        ))}
        {row.histograms?.map(([t, h]) => (
          <div key={t}>
            <span class="muted">@{t}</span> <HistogramView of={h} />
          </div>
        ))}
      </div>
    );
  }
  if (row.histogram) return compact ? <>count {row.histogram.count}, sum {row.histogram.sum}</> : <HistogramView of={row.histogram} />;
  return <>{row.value}</>;
}

type Order = "none" | "up" | "down" | "label";

export function Rows({ data, label }: { data: QueryData; label: string }) {
  const all = useMemo(() => rowsOf(data), [data]);
  const [pattern, setPattern] = useState("");
  const [order, setOrder] = useState<Order>("none");
  const [view, setView] = useState<"series" | "columns" | "json">("series");
  const wanted = useDebounced(pattern, all.length > 500 ? 120 : 0).trim().toLowerCase();
  const rows = useMemo(() => {
    const found = wanted === "" ? all : all.filter((row) => row.text.toLowerCase().includes(wanted));
    if (order === "none") return found;
    const sorted = [...found];
    if (order === "label") sorted.sort((a, b) => a.text.localeCompare(b.text, undefined, { numeric: true }));
    else {
      const key = (row: Row) => number(row.histogram?.count ?? row.value);
      sorted.sort((a, b) => (order === "up" ? key(a) - key(b) : key(b) - key(a)) || 0);
    }
    return sorted;
  }, [all, wanted, order]);
  const names = useMemo(() => (view === "columns" ? [...new Set(all.flatMap((row) => Object.keys(row.labels)))].sort() : []), [all, view]);
  const long = rows.length > WINDOW_FROM && data.resultType !== "matrix";
  const { frame, first, last, before, after } = useWindow(long ? rows.length : 0, ROW_PX);
  const shown = long ? rows.slice(first, last) : rows;
  const columns = view === "columns" ? names.length + 1 : 2;
  const byValue = () => setOrder(order === "down" ? "up" : order === "up" ? "none" : "down");
  const mark = (wantedOrders: Order[]) => (wantedOrders.includes(order) ? (order === "down" ? " ▼" : " ▲") : "");
  return (
    <div class="stack">
      <div class="toolbar">
        <SearchBox value={pattern} onInput={setPattern} label={`Filter ${label}`} />
        <Segments label="Form" value={view} options={[["series", "Series"], ["columns", "Columns"], ["json", "JSON"]]} onChange={setView} />
        <Menu label="Download" trigger={<span class="button"><Icon name="download" />Download</span>}>
          {(close) => (
            <>
              <button type="button" onClick={() => (close(), download("result.csv", "text/csv", csv(rows)))}>CSV</button>
              <button type="button" onClick={() => (close(), download("result.json", "application/json", JSON.stringify(data, null, 1)))}>JSON</button>
            </>
          )}
        </Menu>
        {wanted !== "" && <span class="muted" role="status">{rows.length} of {all.length}</span>}
      </div>
      {view === "json" ? (
        <pre class="code json-view" tabIndex={0} aria-label="Result as JSON">{JSON.stringify(data.result.slice(0, 500), null, 1)}{data.result.length > 500 ? "\n… the first 500; download has all" : ""}</pre>
      ) : (
        <div class={`rows ${long ? "windowed" : ""}`} ref={frame} tabIndex={long ? 0 : undefined} role={long ? "region" : undefined} aria-label={long ? "Result" : undefined}>
          <table aria-rowcount={rows.length + 1}>
            <caption class="hidden">{label}</caption>
            <thead>
              <tr>
                {view === "columns" ? (
                  names.map((name) => <th key={name} scope="col">{labelName(name)}</th>)
                ) : (
                  <th scope="col" aria-sort={order === "label" ? "ascending" : undefined}>
                    <button type="button" class="sort" onClick={() => setOrder(order === "label" ? "none" : "label")}>
                      Series<span aria-hidden="true">{mark(["label"])}</span>
                    </button>
                  </th>
                )}
                <th scope="col" class="right" aria-sort={order === "down" ? "descending" : order === "up" ? "ascending" : undefined}>
                  <button type="button" class="sort" onClick={byValue}>
                    Value<span aria-hidden="true">{mark(["up", "down"])}</span>
                  </button>
                </th>
              </tr>
            </thead>
            <tbody>
              {before > 0 && <tr aria-hidden="true"><td colSpan={columns} style={{ height: `${before}px`, padding: 0, border: 0 }} /></tr>}
              {shown.map((row, at) => (
                <tr key={long ? first + at : row.text + at} aria-rowindex={(long ? first : 0) + at + 2}>
                  {view === "columns" ? (
                    names.map((name) => <td key={name} class="mono">{row.labels[name] ?? ""}</td>)
                  ) : (
                    <td class="series-cell" title={long ? row.text : undefined}>
                      {long ? row.text : data.resultType === "scalar" || data.resultType === "string" ? <span class="mono">{row.text}</span> : <><SeriesName labels={row.labels} /> <CopyButton text={row.text} label="Copy series" /></>}
                    </td>
                  )}
                  <td class="right mono">
                    <ValueCell row={row} compact={long || view === "columns"} />
                  </td>
                </tr>
              ))}
              {after > 0 && <tr aria-hidden="true"><td colSpan={columns} style={{ height: `${after}px`, padding: 0, border: 0 }} /></tr>}
            </tbody>
          </table>
          {rows.length === 0 && <Empty>{all.length === 0 ? "Empty query result. This query returned no data." : "No series fits."}</Empty>}
        </div>
      )}
    </div>
  );
}

export function TableTab({ panel, run, onError }: { panel: Panel; run: number; onError: (text: string | null) => void }) {
  const { answer, error, loading } = useQuery("query", panel.expr, () => ({ time: (panel.endMs ?? Date.now()) / 1000, stats: "true" }), [panel.endMs, run], onError);
  return (
    <div class="stack">
      <div class="toolbar">
        <TimeInput label="Evaluation time" valueMs={panel.endMs} stepMs={panel.rangeMs / 2} onChange={(endMs) => change(panel.id, { endMs })} />
        <span class="push" aria-live="polite">
          {loading ? <span class="muted">running…</span> : answer && <Cost answer={answer} series={Array.isArray(answer.data.result) && answer.data.resultType !== "scalar" && answer.data.resultType !== "string" ? answer.data.result.length : 1} />}
        </span>
      </div>
      {error && <Failure error={error} title="Error executing query" />}
      {answer && <Annotations answer={answer} />}
      {answer ? <Rows data={answer.data} label="series of the result" /> : loading ? <Skeleton /> : !error && <Empty>No data queried yet</Empty>}
    </div>
  );
}
