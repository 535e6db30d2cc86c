// Where the series come from: by metric, label, value or target, now and some time ago, with what to do about it. All of it out of
// queries, so that it works for any selector and any past the server still has.
import { useMemo, useState } from "preact/hooks";
import { useApi } from "../lib/api";
import { count, labelName, parseDuration, quote } from "../lib/format";
import { href, params, setParams } from "../lib/router";
import { Bar, CopyButton, Dialog, Empty, Failure, Note, Page, SearchBox, Segments, Select, Show, Table } from "../lib/ui";
import { queryLink } from "../query/state";
import type { VectorSeries } from "../query/types";

const AGO = ["1h", "6h", "1d", "7d"] as const;
const LIMIT = 50;

interface Row {
  name: string;
  now: number;
  before: number;
}

const values = (data: { result: VectorSeries[] } | null, label: string) => new Map((data?.result ?? []).map((series) => [series.metric[label] ?? "", Number(series.value?.[1] ?? 0)]));

/// What the rows are: values of this label.
const BY: [string, string][] = [["__name__", "By metric"], ["job", "By job"], ["instance", "By target"]];

function Snippet({ label, name, selector, series, onClose }: { label: string; name: string; selector: string; series: number; onClose: () => void }) {
  const text = `metric_relabel_configs:\n  - source_labels: [${label}]\n    regex: ${JSON.stringify(name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"))}\n    action: drop\n`;
  return (
    <Dialog title="Drop these series" onClose={onClose}>
      <p>In the scrape section that brings them, this drops the {count(series)} series of <code>{selector}</code> from now on. What is stored stays until its retention ends.</p>
      <div class="row"><pre class="code padded grow">{text}</pre><CopyButton text={text} /></div>
    </Dialog>
  );
}

export default function CardinalityPage() {
  const query = params.value;
  const selector = query.get("selector") || "";
  const by = query.get("by") || "__name__";
  const agoText = AGO.find((a) => a === query.get("ago")) ?? "1h";
  const order = query.get("order") === "growth" ? "growth" : "size";
  const [draft, setDraft] = useState(selector);
  const [dropping, setDropping] = useState<Row | null>(null);
  const inner = selector || '{__name__!=""}';
  const grouped = (offset: string) => `count by (${labelName(by)}) (${offset ? withOffset(inner, offset) : inner})`;
  const now = useApi<{ result: VectorSeries[] }>("query", { query: `topk(${order === "growth" ? LIMIT * 5 : LIMIT}, ${grouped("")})` });
  const before = useApi<{ result: VectorSeries[] }>("query", { query: grouped(agoText) });
  const total = useApi<{ result: VectorSeries[] }>("query", { query: `count(${inner})` });
  const labels = useApi<string[]>("labels", selector ? { "match[]": selector } : {});
  const all = Number(total.data?.result[0]?.value?.[1] ?? 0);
  const rows = useMemo(() => {
    const old = values(before.data, by);
    const out: Row[] = [...values(now.data, by)].map(([name, n]) => ({ name, now: n, before: old.get(name) ?? 0 }));
    out.sort((a, b) => (order === "growth" ? b.now - b.before - (a.now - a.before) : b.now - a.now));
    return out.slice(0, LIMIT);
  }, [now.data, before.data, by, order]);
  const drill = (name: string) => {
    const part = `${labelName(by)}=${quote(name)}`;
    const next = selector ? selector.replace(/\}\s*$/, `${/\{\s*\}$/.test(selector) ? "" : ","}${part}}`) : `{${part}}`;
    return next;
  };
  const nextLabel = by === "__name__" ? "job" : "__name__";
  return (
    <Page title="Cardinality">
      <form class="toolbar" onSubmit={(e) => (e.preventDefault(), setParams({ selector: draft.trim() }, false))}>
        <SearchBox value={draft} onInput={setDraft} label={'Selector, such as {job="node"}; empty: everything'} />
        <button type="submit" class="button primary">Look</button>
        <Select label="Rows" value={by} options={[...BY, ...(labels.data ?? []).filter((l) => !BY.some(([b]) => b === l)).map((l): [string, string] => [l, `By ${l}`])]} onChange={(b) => setParams({ by: b })} />
        <Select label="Compared with" value={agoText} options={AGO.map((a) => [a, `compared with ${a} ago`] as const)} onChange={(a) => setParams({ ago: a })} />
        <Segments label="Order" value={order} options={[["size", "Largest"], ["growth", "What grew"]]} onChange={(o) => setParams({ order: o })} />
      </form>
      {selector && <p class="row"><code>{selector}</code><button type="button" class="link" onClick={() => (setDraft(""), setParams({ selector: null }, false))}>everything</button></p>}
      <div class="tiles">
        <div class="tile"><span>Series with samples now</span><b>{count(all)}</b></div>
        <div class="tile"><span>Labels</span><b>{count(labels.data?.length ?? 0)}</b></div>
        <div class="tile"><span>Rows</span><b>{count(rows.length)}</b></div>
      </div>
      {before.error && <Failure error={before.error} title="The comparison failed" />}
      {before.data && before.data.result.length === 0 && <Note tone="info">There are no samples of {agoText} ago to compare with.</Note>}
      <Show of={now}>
        {() => (rows.length === 0 ? <Empty>No series.</Empty> : (
          <div class="card">
            <Table
              caption="Series"
              rows={rows}
              rowKey={(r) => r.name}
              columns={[
                { title: by === "__name__" ? "Metric" : by, cell: (r) => <button type="button" class="link mono" onClick={() => (setDraft(drill(r.name)), setParams({ selector: drill(r.name), by: nextLabel }, false))}>{r.name || '""'}</button>, key: (r) => r.name, wide: true },
                { title: "Series", right: true, cell: (r) => count(r.now), key: (r) => r.now },
                { title: "Share", right: true, cell: (r) => <span class="nowrap-text"><Bar part={all > 0 ? r.now / all : 0} label={`${((r.now / Math.max(1, all)) * 100).toFixed(1)} %`} /> {((r.now / Math.max(1, all)) * 100).toFixed(1)} %</span>, key: (r) => r.now },
                { title: `${agoText} ago`, right: true, cell: (r) => (before.data?.result.length ? count(r.before) : "–"), key: (r) => r.before },
                { title: "Change", right: true, cell: (r) => before.data?.result.length ? <span class={r.now > r.before ? "bad-text" : ""}>{r.now > r.before ? "+" : ""}{count(r.now - r.before)}</span> : "–", key: (r) => r.now - r.before },
                { title: "Actions", cell: (r) => <span class="row tight"><a class="button" href={href(queryLink(drill(r.name)))}>Query</a><button type="button" class="button" onClick={() => setDropping(r)}>Drop</button></span> },
              ]}
            />
          </div>
        ))}
      </Show>
      {dropping && <Snippet label={by} name={dropping.name} selector={drill(dropping.name)} series={dropping.now} onClose={() => setDropping(null)} />}
    </Page>
  );
}

/// The same selector some time ago.
const withOffset = (selector: string, ago: string) => (parseDuration(ago) ? `${selector} offset ${ago}` : selector);
