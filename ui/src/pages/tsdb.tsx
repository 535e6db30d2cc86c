// What the head block holds, the blocks on the disk, and what the admin API can do to them.
import { useState } from "preact/hooks";
import { post, useApi } from "../lib/api";
import { env } from "../lib/env";
import { bytes, count, formatTime, promDuration } from "../lib/format";
import { href, params, setParams } from "../lib/router";
import { Bar, Dialog, Empty, Failure, Note, Page, Select, Show, Table } from "../lib/ui";
import { queryLink } from "../query/state";
import { parseWhen } from "../query/time";
import { quote } from "../lib/format";

interface NameCount {
  name: string;
  value: number;
}

interface Tsdb {
  headStats: { numSeries: number; numLabelPairs: number; chunkCount: number; minTime: number; maxTime: number };
  seriesCountByMetricName: NameCount[];
  labelValueCountByLabelName: NameCount[];
  memoryInBytesByLabelName: NameCount[];
  seriesCountByLabelValuePair: NameCount[];
}

interface Block {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats?: { numSamples?: number; numSeries?: number; numChunks?: number; numTombstones?: number };
  compaction?: { level?: number; sources?: string[] };
}

const LIMITS = ["10", "25", "100", "1000"];

function Top({ title, rows, unit, link }: { title: string; rows: NameCount[]; unit: string; link?: (name: string) => string }) {
  const max = Math.max(1, ...rows.map((r) => r.value));
  return (
    <section class="card">
      <header><h2>{title}</h2></header>
      {rows.length === 0 ? <Empty>None.</Empty> : (
        <Table
          caption={title}
          rows={rows}
          rowKey={(r) => r.name}
          columns={[
            { title: "Name", cell: (r) => link ? <a class="mono break" href={href(queryLink(link(r.name)))}>{r.name}</a> : <code class="break">{r.name}</code>, key: (r) => r.name },
            { title: unit, right: true, cell: (r) => <span class="nowrap-text"><Bar part={r.value / max} label={`${Math.round((r.value / max) * 100)} % of the largest`} /> {unit === "Bytes" ? bytes(r.value) : count(r.value)}</span>, key: (r) => r.value },
          ]}
        />
      )}
    </section>
  );
}

/// `name=value` of the statistics as a selector.
const pairSelector = (pair: string) => {
  const at = pair.indexOf("=");
  return `{${pair.slice(0, at)}=${quote(pair.slice(at + 1))}}`;
};

function DeleteDialog({ onClose }: { onClose: () => void }) {
  const [match, setMatch] = useState("");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [answer, setAnswer] = useState<string | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [checked, setChecked] = useState(false);
  const act = async (dry: boolean) => {
    setError(null);
    setAnswer(null);
    try {
      const [start, end] = [from, to].map((text) => (text.trim() === "" ? undefined : parseWhen(text)));
      if ((from.trim() && !start) || (to.trim() && end === undefined)) throw new Error("A time could not be read.");
      const { data } = await post<{ series: number; samples: number; blocks: number }>("admin/tsdb/delete_series", { "match[]": match, start: start ? start / 1000 : undefined, end: end ? end / 1000 : undefined, dry_run: dry ? 1 : undefined });
      if (dry) {
        setChecked(true);
        setAnswer(`${count(data.series)} series with ${count(data.samples)} samples in ${data.blocks} blocks would be deleted.`);
      } else setAnswer("Deleted. The space is given back when blocks are compacted, or by cleaning tombstones.");
    } catch (failure) {
      setError(failure as Error);
    }
  };
  return (
    <Dialog title="Delete series" onClose={onClose}>
      <label class="field"><span>Selector</span><input type="text" value={match} placeholder={'up{job="old"}'} onInput={(e) => (setMatch(e.currentTarget.value), setChecked(false))} /></label>
      <div class="row">
        <label class="field grow"><span>From (empty: the beginning)</span><input type="text" value={from} onInput={(e) => (setFrom(e.currentTarget.value), setChecked(false))} /></label>
        <label class="field grow"><span>To (empty: the end)</span><input type="text" value={to} onInput={(e) => (setTo(e.currentTarget.value), setChecked(false))} /></label>
      </div>
      {error && <Failure error={error} />}
      {answer && <Note tone="info">{answer}</Note>}
      <div class="row">
        <button type="button" class="button" disabled={match === ""} onClick={() => void act(true)}>Count</button>
        <button type="button" class="button danger" disabled={!checked} onClick={() => void act(false)}>Delete</button>
      </div>
    </Dialog>
  );
}

export default function TsdbPage() {
  const limit = LIMITS.find((l) => l === params.value.get("limit")) ?? "10";
  const tsdb = useApi<Tsdb>("status/tsdb", { limit });
  const blocks = useApi<{ blocks: Block[] }>("status/tsdb/blocks");
  const [deleting, setDeleting] = useState(false);
  const [cleaned, setCleaned] = useState<string | Error | null>(null);
  const clean = async () => {
    try {
      await post("admin/tsdb/clean_tombstones");
      setCleaned("Tombstones are cleaned.");
      blocks.reload();
    } catch (error) {
      setCleaned(error as Error);
    }
  };
  return (
    <Page
      title="TSDB status"
      actions={
        <>
          {env.admin && <button type="button" class="button" onClick={() => void clean()}>Clean tombstones</button>}
          {env.admin && <button type="button" class="button danger" onClick={() => setDeleting(true)}>Delete series</button>}
          <Select label="Rows of each list" value={limit} options={LIMITS.map((l) => [l, `top ${l}`] as const)} onChange={(l) => setParams({ limit: l })} />
        </>
      }
    >
      {cleaned instanceof Error ? <Failure error={cleaned} /> : cleaned && <Note tone="good">{cleaned}</Note>}
      <Show of={tsdb}>
        {(data) => (
          <>
            <div class="tiles">
              <div class="tile"><span>Series in the head</span><b>{count(data.headStats.numSeries)}</b></div>
              <div class="tile"><span>Chunks</span><b>{count(data.headStats.chunkCount)}</b></div>
              <div class="tile"><span>Label pairs</span><b>{count(data.headStats.numLabelPairs)}</b></div>
              <div class="tile"><span>From</span><b class="small">{data.headStats.minTime > data.headStats.maxTime ? "–" : formatTime(data.headStats.minTime)}</b></div>
              <div class="tile"><span>To</span><b class="small">{data.headStats.minTime > data.headStats.maxTime ? "–" : formatTime(data.headStats.maxTime)}</b></div>
            </div>
            <p><a href={href("cardinality")}>Cardinality explorer: what grew, and where from</a></p>
            <div class="columns">
              <Top title="Series by metric name" rows={data.seriesCountByMetricName} unit="Series" link={(name) => `{__name__=${quote(name)}}`} />
              <Top title="Series by label pair" rows={data.seriesCountByLabelValuePair} unit="Series" link={pairSelector} />
              <Top title="Values by label name" rows={data.labelValueCountByLabelName} unit="Values" />
              <Top title="Memory by label name" rows={data.memoryInBytesByLabelName} unit="Bytes" />
            </div>
          </>
        )}
      </Show>
      <section class="card">
        <header><h2>Blocks</h2></header>
        <Show of={blocks}>
          {(data) => (data.blocks.length === 0 ? <Empty>No blocks yet: everything is in the head.</Empty> : (
            <Table
              caption="Blocks"
              rows={data.blocks}
              rowKey={(b) => b.ulid}
              initial={{ column: 1, down: true }}
              columns={[
                { title: "Block", cell: (b) => <code>{b.ulid}</code>, key: (b) => b.ulid },
                { title: "From", cell: (b) => formatTime(b.minTime), key: (b) => b.minTime },
                { title: "Range", right: true, cell: (b) => promDuration(Math.round((b.maxTime - b.minTime) / 1000) * 1000), key: (b) => b.maxTime - b.minTime },
                { title: "Level", right: true, cell: (b) => b.compaction?.level ?? "–", key: (b) => b.compaction?.level ?? 0 },
                { title: "Series", right: true, cell: (b) => count(b.stats?.numSeries ?? 0), key: (b) => b.stats?.numSeries ?? 0 },
                { title: "Samples", right: true, cell: (b) => count(b.stats?.numSamples ?? 0), key: (b) => b.stats?.numSamples ?? 0 },
                { title: "Chunks", right: true, cell: (b) => count(b.stats?.numChunks ?? 0), key: (b) => b.stats?.numChunks ?? 0 },
                { title: "Tombstones", right: true, cell: (b) => count(b.stats?.numTombstones ?? 0), key: (b) => b.stats?.numTombstones ?? 0 },
              ]}
            />
          ))}
        </Show>
      </section>
      {deleting && <DeleteDialog onClose={() => setDeleting(false)} />}
    </Page>
  );
}
