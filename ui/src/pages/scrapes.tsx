// The debugger of a target: its last scrapes, what they took and brought, and the last body that could not be stored, opened at the
// place of the error.
import { useState } from "preact/hooks";
import { post, useApi } from "../lib/api";
import { env } from "../lib/env";
import { apiTime, bytes, count, formatTime, humanSeconds } from "../lib/format";
import { Badge, Dialog, Empty, Failure, IconButton, Note, Show, Spark, Table } from "../lib/ui";

const STAGES = [["dnsSeconds", "DNS"], ["connectSeconds", "connect"], ["tlsSeconds", "TLS"], ["firstByteSeconds", "first byte"], ["bodySeconds", "body"], ["parseSeconds", "parse"], ["appendSeconds", "store"]] as const;
type Stage = (typeof STAGES)[number][0];

interface PastScrape {
  time: string;
  fetchSeconds: number;
  stages: Partial<Record<Stage, number>>;
  dropped: { rule: number | null; series: number }[];
  durationSeconds: number;
  wireBytes: number;
  bodyBytes: number;
  samplesScraped: number;
  samplesPostMetricRelabeling: number;
  seriesAdded: number;
  error: string;
}

interface FailedBody {
  time: string;
  error: string;
  contentType: string;
  bodyBytes: number;
  text: string;
  firstLine: number;
  line: number | null;
  column: number | null;
}

interface TargetScrapes {
  id: string;
  scrapeUrl: string;
  labels: Record<string, string>;
  scrapes: PastScrape[];
  failedBody: FailedBody | null;
}

/// Lines around the error that are shown.
const AROUND = 60;

function Body({ of, title }: { of: FailedBody; title: string }) {
  const lines = of.text.split("\n");
  const at = of.line === null ? null : of.line - of.firstLine;
  const from = at === null ? 0 : Math.max(0, at - AROUND);
  return (
    <section class="stack">
      <h3>{title}</h3>
      <Note tone={of.error ? "bad" : "plain"} title={of.error}>
        {formatTime(apiTime(of.time) ?? 0)}, {bytes(of.bodyBytes)} of {of.contentType || "no content type"}
        {of.line !== null && `, line ${of.line}${of.column === null ? "" : `, column ${of.column}`}`}
      </Note>
      <div class="code" tabIndex={0} role="region" aria-label="Body">
        {lines.slice(from, from + 2 * AROUND).map((line, n) => {
          const idx = from + n;
          const isBad = idx === at;
          return (
            <div key={idx}>
              <div class={`line ${isBad ? "bad" : ""}`}>
                <a>{of.firstLine + idx}</a>
                <span>{line}</span>
              </div>
              {isBad && of.column !== null && (
                <div class="line bad" aria-hidden="true">
                  <a />
                  <span>{" ".repeat(Math.max(0, of.column - 1))}^</span>
                </div>
              )}
            </div>
          );
        })}
      </div>
    </section>
  );
}

/// Where the time of a scrape went.
function Stages({ of }: { of: PastScrape }) {
  const parts = STAGES.map(([key, name]) => ({ name, s: of.stages[key] ?? 0 })).filter((part) => part.s > 0);
  const total = parts.reduce((sum, part) => sum + part.s, 0);
  const text = parts.map((part) => `${part.name} ${humanSeconds(part.s)}`).join(", ");
  return (
    <span class="stages" role="img" aria-label={text} title={text}>
      {parts.map((part) => <i key={part.name} class={`stage-${part.name.replace(" ", "-").toLowerCase()}`} style={{ width: `${(part.s / Math.max(total, 1e-9)) * 100}%` }} />)}
    </span>
  );
}

interface Trial {
  scrape: PastScrape;
  body: FailedBody | null;
}

/// Scrapes now, stores nothing, and shows what came.
function ScrapeNow({ id }: { id: string }) {
  const [trial, setTrial] = useState<Trial | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const scrape = async () => {
    setBusy(true);
    setError(null);
    try {
      setTrial((await post<Trial>(`ext/targets/${encodeURIComponent(id)}/scrape`)).data);
    } catch (failure) {
      setError(failure as Error);
    }
    setBusy(false);
  };
  return (
    <section class="stack">
      <div class="row">
        <button type="button" class="button" disabled={busy || !env.lifecycle} onClick={() => void scrape()}>Scrape now</button>
        <span class="muted">{env.lifecycle ? "stores nothing" : "needs --web.enable-lifecycle"}</span>
      </div>
      {error && <Failure error={error} />}
      {trial && (
        <>
          <p role="status">
            {trial.scrape.error === "" ? <Badge tone="good">works</Badge> : <Badge tone="bad">fails</Badge>} {trial.scrape.error} {count(trial.scrape.samplesScraped)} samples, {bytes(Math.max(0, trial.scrape.bodyBytes))} in {humanSeconds(trial.scrape.durationSeconds)}: {STAGES.filter(([key]) => trial.scrape.stages[key] !== undefined).map(([key, name]) => `${name} ${humanSeconds(trial.scrape.stages[key] ?? 0)}`).join(", ")}
          </p>
          {trial.body && <Body of={trial.body} title="The body" />}
        </>
      )}
    </section>
  );
}

export function ScrapeDebugger({ pool, url, onClose }: { pool: string; url: string; onClose: () => void }) {
  const found = useApi<{ targets: TargetScrapes[] }>("ext/targets/scrapes", { scrapePool: pool, scrapeUrl: url }, 5000);
  return (
    <Dialog title={`Scrapes of ${url}`} onClose={onClose} wide>
      <Show of={found}>
        {(data) => {
          const target = data.targets.find((t) => t.scrapeUrl === url);
          if (!target || target.scrapes.length === 0) return <Empty>Not scraped yet.</Empty>;
          const oldestFirst = [...target.scrapes].reverse();
          return (
            <div class="stack">
              <div class="tiles">
                <div class="tile"><span>Duration</span><Spark values={oldestFirst.map((s) => s.durationSeconds)} label={`Durations of the last ${oldestFirst.length} scrapes`} width={150} height={30} /></div>
                <div class="tile"><span>Samples</span><Spark values={oldestFirst.map((s) => s.samplesScraped)} label="Samples of the last scrapes" width={150} height={30} /></div>
                <div class="tile"><span>Body</span><Spark values={oldestFirst.map((s) => Math.max(0, s.bodyBytes))} label="Sizes of the last bodies" width={150} height={30} /></div>
                <div class="tile"><span>Failed</span><b>{`${oldestFirst.filter((s) => s.error !== "").length} of ${oldestFirst.length}`}</b></div>
              </div>
              <ScrapeNow id={target.id} />
              {target.failedBody && <Body of={target.failedBody} title="The last body that could not be stored" />}
              <Table
                caption="Last scrapes"
                rows={target.scrapes}
                rowKey={(s) => s.time}
                columns={[
                  { title: "Time", cell: (s) => <span class="nowrap-text">{formatTime(apiTime(s.time) ?? 0)}</span>, key: (s) => s.time },
                  { title: "Result", cell: (s) => s.error === "" ? <Badge tone="good">stored</Badge> : <><Badge tone="bad">failed</Badge><div class="bad-text">{s.error}</div></>, wide: true },
                  { title: "Stages", cell: (s) => <Stages of={s} /> },
                  { title: "Fetch", right: true, cell: (s) => humanSeconds(s.fetchSeconds), key: (s) => s.fetchSeconds },
                  { title: "All", right: true, cell: (s) => humanSeconds(s.durationSeconds), key: (s) => s.durationSeconds },
                  { title: "Received", right: true, cell: (s) => bytes(s.wireBytes), key: (s) => s.wireBytes },
                  { title: "Body", right: true, cell: (s) => (s.bodyBytes < 0 ? "too large" : bytes(s.bodyBytes)), key: (s) => s.bodyBytes },
                  { title: "Samples", right: true, cell: (s) => count(s.samplesScraped), key: (s) => s.samplesScraped },
                  { title: "Kept", right: true, cell: (s) => <span title={s.dropped.map((d) => `${d.series} by rule ${d.rule === null ? "–" : d.rule + 1}`).join(", ")}>{count(s.samplesPostMetricRelabeling)}{s.dropped.length > 0 && <div class="muted">{s.dropped.map((d) => `rule ${d.rule === null ? "–" : d.rule + 1}: −${d.series}`).join(", ")}</div>}</span>, key: (s) => s.samplesPostMetricRelabeling },
                  { title: "New series", right: true, cell: (s) => count(s.seriesAdded), key: (s) => s.seriesAdded },
                ]}
              />
            </div>
          );
        }}
      </Show>
      <div class="row"><IconButton icon="refresh" label="Load again" onClick={found.reload} /><span class="muted">renewed every 5 s</span></div>
    </Dialog>
  );
}
