// The metrics explorer: find a metric by parts of its name or help, look at its labels, and make a selector of them.
import { useEffect, useMemo, useState } from "preact/hooks";
import { useApi } from "../lib/api";
import { count, labelName, quote, seriesText } from "../lib/format";
import { score } from "../lib/fuzzy";
import { CopyButton, Dialog, Empty, Failure, IconButton, Note, SearchBox, Skeleton, useDebounced, useWindow } from "../lib/ui";

type Metadata = Record<string, { type: string; help: string; unit: string }[]>;

/// Names that are loaded; the search of the server finds the others.
const NAMES_MAX = 10_000;
/// Series that are looked at for the labels of a metric.
const SERIES_MAX = 10_000;
const ROW_PX = 34;
/// Values of a label that are listed.
const VALUES_MAX = 50;

interface Found {
  name: string;
  type: string;
  help: string;
}

export function Explorer({ onClose, onInsert }: { onClose: () => void; onInsert: (query: string) => void }) {
  const [pattern, setPattern] = useState("");
  const [metric, setMetric] = useState<string | null>(null);
  const names = useApi<string[]>("label/__name__/values", { limit: NAMES_MAX });
  const metadata = useApi<Metadata>("metadata", { limit_per_metric: 1, limit: 50_000 });
  const wanted = useDebounced(pattern, 80).trim().toLowerCase();
  const more = (names.data?.length ?? 0) >= NAMES_MAX && wanted.length > 1;
  const searched = useApi<string[]>(more ? "label/__name__/values" : null, { limit: 1000, "match[]": `{__name__=~${quote(`(?i).*${wanted.replace(/[^a-z0-9_:]+/g, ".*")}.*`)}}` });
  const found = useMemo(() => {
    const all = more ? (searched.data ?? []) : (names.data ?? []);
    const meta = metadata.data ?? {};
    const describe = (name: string): Found => {
      const known = meta[name]?.[0] ?? meta[name.replace(/_(bucket|count|sum|total)$/, "")]?.[0];
      return { name, type: known?.type ?? "", help: known?.help ?? "" };
    };
    if (wanted === "") return all.map(describe);
    return all
      .map(describe)
      .map((item) => ({ item, points: score(wanted, item.name.toLowerCase()) ?? (item.help.toLowerCase().includes(wanted) ? 0 : null) }))
      .filter((hit) => hit.points !== null)
      .sort((a, b) => (b.points ?? 0) - (a.points ?? 0))
      .map((hit) => hit.item);
  }, [names.data, searched.data, metadata.data, wanted, more]);
  const { frame, first, last, before, after } = useWindow(found.length, ROW_PX);
  return (
    <Dialog title={metric ?? "Metrics explorer"} onClose={onClose} wide>
      {metric !== null ? (
        <Metric name={metric} onBack={() => setMetric(null)} onInsert={onInsert} />
      ) : (
        <>
          <div class="toolbar">
            <SearchBox value={pattern} onInput={setPattern} label="Search names and help texts" />
            <span class="muted" role="status">{count(found.length)} metrics</span>
          </div>
          {names.error && <Failure error={names.error} />}
          {names.answer?.warnings.length ? <Note tone="info">More metrics than are listed: search to find the others.</Note> : null}
          {!names.data && !names.error ? <Skeleton /> : (
            <div class="rows windowed" ref={frame} tabIndex={0} role="region" aria-label="Metrics">
              <table>
                <thead><tr><th scope="col">Metric</th><th scope="col">Type</th><th scope="col">Help</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
                <tbody>
                  {before > 0 && <tr aria-hidden="true"><td colSpan={4} style={{ height: `${before}px`, padding: 0, border: 0 }} /></tr>}
                  {found.slice(first, last).map(({ name, type, help }) => (
                    <tr key={name} style={{ height: `${ROW_PX}px` }}>
                      <td class="series-cell"><button type="button" class="link mono" onClick={() => setMetric(name)} title={name}>{name}</button></td>
                      <td class="muted">{type}</td>
                      <td class="help-cell" title={help}>{help}</td>
                      <td class="row tight nowrap"><CopyButton text={name} label={`Copy ${name}`} /><IconButton icon="play" label={`Query ${name}`} onClick={() => onInsert(seriesText({ __name__: name }))} /></td>
                    </tr>
                  ))}
                  {after > 0 && <tr aria-hidden="true"><td colSpan={4} style={{ height: `${after}px`, padding: 0, border: 0 }} /></tr>}
                </tbody>
              </table>
              {found.length === 0 && <Empty>No metric fits.</Empty>}
            </div>
          )}
        </>
      )}
    </Dialog>
  );
}

function Metric({ name, onBack, onInsert }: { name: string; onBack: () => void; onInsert: (query: string) => void }) {
  const [chosen, setChosen] = useState<Record<string, string>>({});
  const selector = seriesText({ __name__: name, ...chosen });
  const series = useApi<Record<string, string>[]>("series", { "match[]": selector, limit: SERIES_MAX, start: Math.floor(Date.now() / 1000) - 3600 });
  const [all, setAll] = useState<Record<string, string>[]>([]);
  useEffect(() => {
    if (series.data) setAll(series.data);
  }, [series.data]);
  const labels = useMemo(() => {
    const out = new Map<string, Map<string, number>>();
    for (const one of all) {
      for (const [label, value] of Object.entries(one)) {
        if (label === "__name__") continue;
        const seen = out.get(label) ?? new Map<string, number>();
        seen.set(value, (seen.get(value) ?? 0) + 1);
        out.set(label, seen);
      }
    }
    return [...out].sort((a, b) => a[1].size - b[1].size);
  }, [all]);
  return (
    <div class="stack">
      <div class="toolbar">
        <IconButton icon="left" label="Back to all metrics" onClick={onBack} />
        <code class="grow">{selector}</code>
        <span class="muted" role="status">{count(all.length)} series{all.length >= SERIES_MAX ? " or more" : ""}</span>
        <CopyButton text={selector} label="Copy selector" />
        <button type="button" class="button primary" onClick={() => onInsert(selector)}>Insert</button>
      </div>
      {series.error && <Failure error={series.error} />}
      {labels.map(([label, values]) => (
        <section key={label}>
          <h3 class="mono">{labelName(label)} <span class="muted">{values.size}</span></h3>
          <div class="labels">
            {[...values].sort((a, b) => b[1] - a[1]).slice(0, VALUES_MAX).map(([value, n]) => (
              <button key={value} type="button" class="label value-button" aria-pressed={chosen[label] === value} onClick={() => setChosen((old) => {
                const { [label]: had, ...rest } = old;
                return had === value ? rest : { ...rest, [label]: value };
              })}>
                {value || '""'} <span class="muted">{n}</span>
              </button>
            ))}
            {values.size > VALUES_MAX && <span class="muted">and {values.size - VALUES_MAX} more</span>}
          </div>
        </section>
      ))}
    </div>
  );
}
