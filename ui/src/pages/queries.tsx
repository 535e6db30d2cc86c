// The queries that run, each of which can be ended, and the most expensive ones of the past.
import { useState } from "preact/hooks";
import { post, useApi } from "../lib/api";
import { env } from "../lib/env";
import { bytes, count, humanSeconds } from "../lib/format";
import { href, params, setParams } from "../lib/router";
import { Bar, Empty, Failure, Page, Segments, Select, Show, Table } from "../lib/ui";
import { queryLink } from "../query/state";

interface RunningQuery {
  id: number;
  query: string;
  kind: string;
  client: string;
  startMs: number;
  endMs: number;
  stepMs: number;
  ageSeconds: number;
  stage: string;
  series: number;
  samples: number;
  bytes: number;
}

interface PastQuery {
  query: string;
  count: number;
  failures: number;
  secondsTotal: number;
  secondsMax: number;
  samplesTotal: number;
  bytesMax: number;
}

interface Found {
  running: RunningQuery[];
  memory: { usedBytes: number; limitBytes: number; limitPerQueryBytes: number };
  top: { byCount: PastQuery[]; byTime: PastQuery[]; byMemory: PastQuery[] };
}

const LISTS = [["byTime", "By time"], ["byCount", "By number"], ["byMemory", "By memory"]] as const;
type List = (typeof LISTS)[number][0];

export default function QueriesPage() {
  const list = LISTS.find(([name]) => name === params.value.get("top"))?.[0] ?? "byTime";
  const limit = ["10", "50", "200"].find((l) => l === params.value.get("limit")) ?? "50";
  const found = useApi<Found>("ext/queries", { top: limit }, 1000);
  const [error, setError] = useState<Error | null>(null);
  const cancel = async (id: number) => {
    setError(null);
    try {
      await post("ext/queries/cancel", { id });
    } catch (failure) {
      setError(failure as Error);
    }
    found.reload();
  };
  return (
    <Page title="Running and top queries">
      {error && <Failure error={error} title="Not cancelled" />}
      <Show of={found}>
        {(data) => (
          <>
            <div class="tiles">
              <div class="tile"><span>Running</span><b>{data.running.length}</b></div>
              <div class="tile"><span>Memory of queries</span><b>{bytes(data.memory.usedBytes)}</b><Bar part={data.memory.usedBytes / Math.max(1, data.memory.limitBytes)} label="of the limit" /></div>
              <div class="tile"><span>Limit of all</span><b>{bytes(data.memory.limitBytes)}</b></div>
              <div class="tile"><span>Limit of one</span><b>{bytes(data.memory.limitPerQueryBytes)}</b></div>
            </div>
            <section class="card">
              <header><h2>Running</h2><span class="muted">renewed every second</span></header>
              {data.running.length === 0 ? <Empty>No query runs at the moment.</Empty> : (
                <Table
                  caption="Running queries"
                  rows={data.running}
                  rowKey={(q) => q.id}
                  columns={[
                    { title: "Query", cell: (q) => <code class="break">{q.query}</code>, wide: true },
                    { title: "Kind", cell: (q) => q.kind, key: (q) => q.kind },
                    { title: "Client", cell: (q) => q.client, key: (q) => q.client },
                    { title: "Age", right: true, cell: (q) => humanSeconds(q.ageSeconds), key: (q) => q.ageSeconds },
                    { title: "Stage", cell: (q) => q.stage, key: (q) => q.stage },
                    { title: "Series", right: true, cell: (q) => count(q.series), key: (q) => q.series },
                    { title: "Samples", right: true, cell: (q) => count(q.samples), key: (q) => q.samples },
                    { title: "Memory", right: true, cell: (q) => bytes(q.bytes), key: (q) => q.bytes },
                    { title: "End it", cell: (q) => <button type="button" class="button danger" disabled={!env.admin} title={env.admin ? undefined : "Needs --web.enable-admin-api"} onClick={() => void cancel(q.id)}>Cancel</button> },
                  ]}
                />
              )}
            </section>
            <section class="card">
              <header>
                <h2>Top queries since the start</h2>
                <Segments label="Order" value={list} options={LISTS} onChange={(l: List) => setParams({ top: l })} />
                <Select label="Rows" value={limit} options={[["10", "10"], ["50", "50"], ["200", "200"]]} onChange={(l) => setParams({ limit: l })} />
              </header>
              {data.top[list].length === 0 ? <Empty>No query has ended yet.</Empty> : (
                <Table
                  caption="Top queries"
                  rows={data.top[list]}
                  rowKey={(q) => q.query}
                  columns={[
                    { title: "Query", cell: (q) => <a class="mono break" href={href(queryLink(q.query, "explain"))}>{q.query}</a>, wide: true },
                    { title: "Runs", right: true, cell: (q) => count(q.count), key: (q) => q.count },
                    { title: "Failed", right: true, cell: (q) => (q.failures > 0 ? <span class="bad-text">{count(q.failures)}</span> : "0"), key: (q) => q.failures },
                    { title: "Time", right: true, cell: (q) => humanSeconds(q.secondsTotal), key: (q) => q.secondsTotal },
                    { title: "Mean", right: true, cell: (q) => humanSeconds(q.secondsTotal / Math.max(1, q.count)), key: (q) => q.secondsTotal / Math.max(1, q.count) },
                    { title: "Longest", right: true, cell: (q) => humanSeconds(q.secondsMax), key: (q) => q.secondsMax },
                    { title: "Samples", right: true, cell: (q) => count(q.samplesTotal), key: (q) => q.samplesTotal },
                    { title: "Memory", right: true, cell: (q) => bytes(q.bytesMax), key: (q) => q.bytesMax },
                  ]}
                />
              )}
            </section>
          </>
        )}
      </Show>
    </Page>
  );
}
