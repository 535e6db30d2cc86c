// The configuration: in force, what reloads did, and a workbench for the next one.
import { useEffect, useState } from "preact/hooks";
import type { ComponentType } from "preact";
import { useApi } from "../lib/api";
import { apiTime, formatTime, humanSeconds } from "../lib/format";
import { params, setParams } from "../lib/router";
import { Badge, Bar, Empty, Fold, Note, Page, SearchBox, Segments, Show, Skeleton, type Tone } from "../lib/ui";
import { Yaml } from "../lib/yaml";

interface Step {
  participant: string;
  phase: "prepare" | "commit";
  seconds: number;
  failed: boolean;
}

interface Reload {
  time: string;
  source: "start" | "signal" | "http" | "watch";
  outcome: "applied" | "unreadable" | "refused";
  readSeconds: number;
  seconds: number;
  steps: Step[];
  changes: { part: string; name: string; effect: string; detail: string }[];
  problems: string[];
}

const SOURCES = { start: "start of the server", signal: "SIGHUP", http: "/-/reload", watch: "a changed file" };
const OUTCOMES: Record<Reload["outcome"], [Tone, string]> = { applied: ["good", "applied"], unreadable: ["bad", "not readable"], refused: ["bad", "refused"] };

function Entry({ of, first }: { of: Reload; first: boolean }) {
  const [open, setOpen] = useState(first || of.outcome !== "applied");
  const [tone, word] = OUTCOMES[of.outcome];
  const longest = Math.max(1e-9, ...of.steps.map((s) => s.seconds));
  return (
    <Fold
      open={open}
      onToggle={setOpen}
      className={of.outcome === "applied" ? "" : "edge-bad"}
      summary={
        <>
          <b>{formatTime(apiTime(of.time) ?? 0)}</b>
          <Badge tone={tone}>{word}</Badge>
          <span class="muted">asked for by {SOURCES[of.source]}</span>
          <span class="push muted">{of.changes.length} changes, {humanSeconds(of.seconds)}</span>
        </>
      }
    >
      <div class="stack">
        {of.problems.length > 0 && <Note tone="bad" title="Nothing was changed">{of.problems.join("\n")}</Note>}
        {of.changes.length > 0 && <ul class="plain">{of.changes.map((c) => <li key={c.part + c.name}><b>{c.part}</b> <span class="mono break">{c.name}</span> {c.effect}s{c.detail && <span class="muted">: {c.detail}</span>}</li>)}</ul>}
        {of.source !== "start" && of.changes.length === 0 && of.problems.length === 0 && <p class="muted">Nothing was different.</p>}
        <table class="key-values">
          <tbody>
            {of.readSeconds > 0 && <tr><th scope="row">reading and checking</th><td>{humanSeconds(of.readSeconds)}</td></tr>}
            {of.steps.map((s, at) => <tr key={at}><th scope="row">{s.participant}: {s.phase}</th><td><Bar part={s.seconds / longest} tone={s.failed ? "bad" : "info"} label={humanSeconds(s.seconds)} /> {humanSeconds(s.seconds)}{s.failed && <b class="bad-text"> refused</b>}</td></tr>)}
          </tbody>
        </table>
      </div>
    </Fold>
  );
}

function Journal() {
  const journal = useApi<{ reloads: Reload[] }>("ext/config/journal", {}, 5000);
  return <Show of={journal}>{(data) => (data.reloads.length === 0 ? <Empty>No configuration was applied yet.</Empty> : <>{data.reloads.map((r, at) => <Entry key={r.time} of={r} first={at === 0} />)}</>)}</Show>;
}

/// The editor comes when somebody wants it.
function Plan({ yaml }: { yaml: string }) {
  const [Bench, setBench] = useState<ComponentType<{ yaml: string }> | null>(null);
  useEffect(() => void import("./workbench").then((module) => setBench(() => module.Workbench)), []);
  return Bench ? <Bench yaml={yaml} /> : <Skeleton />;
}

const TABS = [["effective", "In force"], ["plan", "Workbench"], ["journal", "Journal"]] as const;

export default function ConfigPage() {
  const search = params.value.get("search") ?? "";
  const tab = TABS.find(([name]) => name === params.value.get("tab"))?.[0] ?? "effective";
  const config = useApi<{ yaml: string }>("status/config");
  return (
    <Page title="Configuration" actions={<Segments label="View" value={tab} options={TABS} onChange={(t) => setParams({ tab: t === "effective" ? null : t }, false)} />}>
      {tab === "journal" ? <Journal /> : (
        <Show of={config}>
          {(data) => tab === "plan" ? <Plan yaml={data.yaml} /> : (
            <>
              <div class="toolbar"><SearchBox value={search} onInput={(s) => setParams({ search: s })} label="Find in the configuration" /><span class="muted">with all defaults, secrets masked</span></div>
              <Yaml text={data.yaml} pattern={search} lines />
            </>
          )}
        </Show>
      )}
    </Page>
  );
}
