// Alerts over time: one lane for each, out of the series that the server writes about its own alerts.
import { useMemo } from "preact/hooks";
import { useApi } from "../lib/api";
import { formatTime, humanSeconds, parseDuration, promDuration, seriesText } from "../lib/format";
import { fits } from "../lib/fuzzy";
import { href, params, setParams } from "../lib/router";
import { Badge, Empty, SearchBox, Select, Show, Table, useWindow } from "../lib/ui";
import { queryLink } from "../query/state";
import type { MatrixSeries } from "../query/types";

interface Span {
  from: number;
  to: number;
  state: "pending" | "firing";
}

interface Lane {
  key: string;
  name: string;
  labels: Record<string, string>;
  spans: Span[];
  firingS: number;
  times: number;
}

/// What the ledger of the server has about an alert.
interface History {
  labels: Record<string, string>;
  group: string;
  entries: ({ type: "state"; state: string; time: string; value: string } | { type: "delivery"; alertmanager: string; resolved: boolean; firstAttempt: string; lastAttempt: string; attempts: number; error: string })[];
}

/// Rows of the ledger that are shown.
const LEDGER_MAX = 200;

function Ledger({ start, end, search }: { start: number; end: number; search: string }) {
  const found = useApi<{ alerts: History[]; truncated: boolean }>("ext/alerts/history", { start, end });
  const rows = (found.data?.alerts ?? [])
    .filter((alert) => fits(search, seriesText(alert.labels)))
    .flatMap((alert) => alert.entries.map((entry) => ({ alert, entry, time: Date.parse(entry.type === "state" ? entry.time : entry.lastAttempt) })))
    .sort((a, b) => b.time - a.time);
  return (
    <Show of={found}>
      {() => rows.length === 0 ? <Empty>Nothing happened to an alert in this time.</Empty> : (
        <>
          <Table
            caption="Changes of state and what Alertmanagers were told"
            rows={rows.slice(0, LEDGER_MAX)}
            columns={[
              { title: "Time", cell: (r) => <span class="nowrap-text">{formatTime(r.time)}</span>, key: (r) => r.time },
              { title: "What", cell: (r) => r.entry.type === "state" ? <Badge tone={r.entry.state === "firing" ? "bad" : r.entry.state === "pending" ? "warn" : "good"}>{r.entry.state}</Badge> : <Badge tone={r.entry.error ? "bad" : "info"}>{r.entry.error ? "not sent" : r.entry.resolved ? "sent as resolved" : "sent"}</Badge> },
              { title: "Alert", wide: true, cell: (r) => <code class="break">{seriesText(r.alert.labels)}</code>, key: (r) => seriesText(r.alert.labels) },
              { title: "Details", wide: true, cell: (r) => <span class="break">{r.entry.type === "state" ? `value ${Number(r.entry.value)}` : `${r.entry.alertmanager}, ${r.entry.attempts} time${r.entry.attempts === 1 ? "" : "s"}${r.entry.error ? `: ${r.entry.error}` : ""}`}</span> },
            ]}
          />
          {rows.length > LEDGER_MAX && <p class="muted">{rows.length - LEDGER_MAX} more are not shown.</p>}
        </>
      )}
    </Show>
  );
}

const RANGES = ["1h", "6h", "12h", "1d", "2d", "7d"] as const;
const POINTS = 400;
const LANE_PX = 34;

function lanes(result: MatrixSeries[], step: number): Lane[] {
  const found = new Map<string, Lane>();
  for (const { metric, values = [] } of result) {
    const { __name__: _name, alertstate = "", alertname = "", ...labels } = metric;
    const key = seriesText({ __name__: alertname, ...labels });
    const lane = found.get(key) ?? { key, name: alertname, labels: { alertname, ...labels }, spans: [], firingS: 0, times: 0 };
    const state = alertstate === "firing" ? "firing" : "pending";
    let open: Span | null = null;
    for (const [t] of values) {
      if (open && t - open.to <= step * 1.01) open.to = t;
      else {
        open = { from: t, to: t, state };
        lane.spans.push(open);
        if (state === "firing") lane.times += 1;
      }
    }
    found.set(key, lane);
  }
  for (const lane of found.values()) lane.firingS = lane.spans.filter((s) => s.state === "firing").reduce((sum, s) => sum + s.to - s.from + step, 0);
  return [...found.values()].sort((a, b) => b.firingS - a.firingS || a.key.localeCompare(b.key));
}

export function Timeline() {
  const query = params.value;
  const rangeText = RANGES.find((r) => r === query.get("range")) ?? "6h";
  const range = (parseDuration(rangeText) ?? 0) / 1000;
  const search = query.get("search") ?? "";
  const step = Math.max(5, Math.floor(range / POINTS));
  // The end moves with each step only, so that the request does not change with every rendering.
  const end = Math.floor(Date.now() / 1000 / step) * step;
  const start = end - range;
  const found = useApi<{ result: MatrixSeries[] }>("query_range", { query: "ALERTS", start, end, step });
  const all = useMemo(() => lanes(found.data?.result ?? [], step), [found.data, step]);
  const shown = useMemo(() => all.filter((lane) => fits(search, lane.key)), [all, search]);
  const { frame, first, last, before, after } = useWindow(shown.length, LANE_PX);
  const place = (t: number) => `${Math.max(0, Math.min(100, ((t - start) / range) * 100))}%`;
  const flapping = all.filter((lane) => lane.times > 2).sort((a, b) => b.times - a.times).slice(0, 5);
  return (
    <div class="stack">
      <div class="toolbar">
        <Select label="Range" value={rangeText} options={RANGES.map((r) => [r, `last ${r}`] as const)} onChange={(r) => setParams({ range: r })} />
        <SearchBox value={search} onInput={(s) => setParams({ search: s })} label="Filter by name or labels" />
        <span class="row tight muted"><i class="swatch pending" /> pending <i class="swatch firing" /> firing</span>
      </div>
      <Show of={found}>
        {() =>
          shown.length === 0 ? <Empty>No alert was pending or firing in the last {promDuration(range * 1000)}.</Empty> : (
            <>
              <div class="card timeline" ref={frame} tabIndex={0} role="region" aria-label="Timeline of alerts">
                <div class="axis" aria-hidden="true">{[0, 0.25, 0.5, 0.75, 1].map((part) => <span key={part} style={{ left: `${part * 100}%` }}>{formatTime((start + part * range) * 1000).slice(range > 86_400 ? 5 : 11, 16)}</span>)}</div>
                <div style={{ height: `${before}px` }} />
                {shown.slice(first, last).map((lane) => (
                  <div class="lane" key={lane.key}>
                    <a href={href(queryLink(seriesText({ __name__: "ALERTS", ...lane.labels }), "graph"))} title={lane.key}>{lane.key}</a>
                    <div class="track" role="img" aria-label={`${lane.key}: fired ${lane.times} times, ${humanSeconds(lane.firingS)}`}>
                      {lane.spans.map((span) => (
                        <i key={`${span.state}${span.from}`} class={span.state} style={{ left: place(span.from), width: `max(2px, ${((span.to - span.from + step) / range) * 100}%)` }} title={`${span.state} ${formatTime(span.from * 1000)} – ${formatTime(span.to * 1000)}`} />
                      ))}
                    </div>
                  </div>
                ))}
                <div style={{ height: `${after}px` }} />
              </div>
              {flapping.length > 0 && (
                <section>
                  <h2>Flapping</h2>
                  <Table caption="Flapping alerts" rows={flapping} columns={[{ title: "Alert", cell: (l) => l.key, wide: true }, { title: "Times fired", right: true, cell: (l) => l.times, key: (l) => l.times }, { title: "Firing", right: true, cell: (l) => humanSeconds(l.firingS), key: (l) => l.firingS }]} />
                </section>
              )}
              <section class="card"><header><h2>What happened, and what was sent</h2></header><Ledger start={start} end={end} search={search} /></section>
              <details class="card">
                <summary>As a table</summary>
                <Table caption="Times of alerts" rows={shown.slice(0, 200).flatMap((lane) => lane.spans.map((span) => ({ lane, span })))} columns={[{ title: "Alert", cell: (r) => r.lane.key, key: (r) => r.lane.key, wide: true }, { title: "State", cell: (r) => r.span.state, key: (r) => r.span.state }, { title: "From", cell: (r) => formatTime(r.span.from * 1000), key: (r) => r.span.from }, { title: "To", cell: (r) => formatTime(r.span.to * 1000), key: (r) => r.span.to }]} />
              </details>
            </>
          )
        }
      </Show>
    </div>
  );
}
