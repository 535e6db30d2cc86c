// The relabel lab: rules that are edited here, run by the server on the targets a pool really has, beside what the rules in force
// make of them.
import { useEffect, useState } from "preact/hooks";
import { get, post, useApi, type ApiError } from "../lib/api";
import { count } from "../lib/format";
import { params, setParams } from "../lib/router";
import { Badge, Check, Empty, Failure, Labels, Note, Page, Select, useDebounced } from "../lib/ui";
import { Problems, problemsOf, YamlEditor, type Problem } from "../lib/yaml-editor";
import { LabelDiff } from "./discovery";

interface Tried {
  targets: number;
  kept: number;
  keptBefore: number;
  changed: number;
  duplicates: number;
  results: { discovered: Record<string, string>; before: Record<string, string>; keptBefore: boolean; after: Record<string, string>; kept: boolean; steps: (Record<string, string> | null)[] }[];
}

/// The part of a pool's configuration with its rules, without the indent of the list.
function rulesOf(yaml: string): string {
  const lines = yaml.split("\n");
  const at = lines.findIndex((line) => /^\s*(- )?relabel_configs:/.test(line));
  if (at < 0) return "- source_labels: [__address__]\n  target_label: address\n";
  const margin = /^\s*/.exec(lines[at + 1] ?? "")?.[0].length ?? 0;
  const out: string[] = [];
  for (const line of lines.slice(at + 1)) {
    const indent = /^\s*/.exec(line)?.[0].length ?? 0;
    if (line.trim() === "" || indent < margin || (indent === margin && !line.trimStart().startsWith("-"))) break;
    out.push(line.slice(margin));
  }
  return `${out.join("\n")}\n`;
}

const SHOWN_MAX = 100;

export default function RelabelPage() {
  const pools = useApi<{ scrapePools: string[] }>("scrape_pools");
  const pool = params.value.get("pool") || pools.data?.scrapePools[0] || "";
  const [text, setText] = useState("");
  const [tried, setTried] = useState<Tried | null>(null);
  const [problems, setProblems] = useState<Problem[]>([]);
  const [error, setError] = useState<Error | null>(null);
  const [onlyChanged, setOnlyChanged] = useState(false);
  const [step, setStep] = useState<number | null>(null);
  const rules = useDebounced(text, 300);
  useEffect(() => {
    if (!pool) return;
    const abort = new AbortController();
    get<{ yaml: string }>("scrape_pools/config", { scrapePool: pool }, abort.signal).then(({ data }) => setText(rulesOf(data.yaml)), (failure) => abort.signal.aborted || setError(failure as Error));
    return () => abort.abort();
  }, [pool]);
  useEffect(() => {
    if (!pool || rules === "") return;
    const abort = new AbortController();
    post<Tried>("ext/relabel/try", { scrapePool: pool, rules, limit: 1000 }, abort.signal).then(
      ({ data }) => {
        setTried(data);
        setProblems([]);
        setError(null);
      },
      (failure) => {
        if (abort.signal.aborted) return;
        const found = problemsOf((failure as ApiError).body);
        setProblems(found);
        setError(found.length > 0 ? null : (failure as Error));
      },
    );
    return () => abort.abort();
  }, [pool, rules]);
  const steps = tried?.results[0]?.steps.length ?? 0;
  const at = step === null || step > steps ? steps : step;
  const rows = tried?.results.filter((r) => !onlyChanged || r.kept !== r.keptBefore || JSON.stringify(r.before) !== JSON.stringify(r.after)) ?? [];
  return (
    <Page title="Relabel lab" actions={<Select label="Scrape pool" value={pool} options={(pools.data?.scrapePools ?? []).map((p): [string, string] => [p, p])} onChange={(p) => setParams({ pool: p })} />}>
      <p class="muted">Rules for the targets of this pool, as they stand under relabel_configs. They are tried on what discovery has found, and nothing is applied.</p>
      {pools.data?.scrapePools.length === 0 && <Empty>There is no scrape pool.</Empty>}
      <div class="columns">
        <div class="stack">
          <YamlEditor value={text} onChange={setText} label="Relabelling rules" problems={problems} />
          {problems.length > 0 && <Note tone="bad" title="These rules cannot be used"><Problems of={problems} /></Note>}
          {error && <Failure error={error} />}
        </div>
        <div class="stack">
          {tried && (
            <>
              <div class="tiles">
                <div class="tile"><span>Targets</span><b>{count(tried.targets)}</b></div>
                <div class="tile"><span>Kept</span><b>{count(tried.kept)}</b></div>
                <div class="tile"><span>In force</span><b>{count(tried.keptBefore)}</b></div>
                <div class="tile"><span>Different</span><b>{count(tried.changed)}</b></div>
                <div class="tile"><span>Duplicates</span><b class={tried.duplicates > 0 ? "bad-text" : ""}>{count(tried.duplicates)}</b></div>
              </div>
              <div class="row">
                <Check label="Only what differs from the rules in force" checked={onlyChanged} onChange={setOnlyChanged} />
                {steps > 0 && (
                  <label class="row">
                    <span>behind rule {at} of {steps}</span>
                    <input type="range" min={0} max={steps} value={at} onInput={(e) => setStep(Number(e.currentTarget.value))} />
                  </label>
                )}
              </div>
              {rows.length === 0 ? <Empty>{tried.targets === 0 ? "This pool has no targets." : "No target comes out differently."}</Empty> : rows.slice(0, SHOWN_MAX).map((r, n) => {
                const labels = at === 0 ? r.discovered : r.steps[at - 1];
                return (
                  <section class={`card nested ${labels ? "" : "edge-bad"}`} key={n} aria-label={`Target ${n + 1}`}>
                    <header>
                      <b class="mono break">{r.discovered["__address__"] ?? ""}</b>
                      <Badge tone={labels ? "good" : "bad"}>{labels ? "kept" : "dropped"}</Badge>
                      {r.kept !== r.keptBefore && <Badge tone="warn">{r.keptBefore ? "kept by the rules in force" : "dropped by the rules in force"}</Badge>}
                    </header>
                    <div class="card-body stack tight-stack">
                      {labels ? <LabelDiff before={at === 0 ? r.discovered : (r.steps[at - 2] ?? r.discovered)} after={labels} /> : <Labels of={r.discovered} />}
                    </div>
                  </section>
                );
              })}
              {rows.length > SHOWN_MAX && <p class="muted">{rows.length - SHOWN_MAX} more targets are not shown.</p>}
            </>
          )}
        </div>
      </div>
    </Page>
  );
}
