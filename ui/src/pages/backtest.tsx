// A rule group run over stored data: the real state machine at the group's own pace, what would have fired and when, beside what the
// rules in force did in the same time.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, post, useApi } from "../lib/api";
import { apiTime, count, formatTime, humanSeconds, promDuration, quote, seriesText, parseDuration } from "../lib/format";
import { params, setParams } from "../lib/router";
import { Badge, CopyButton, Empty, Failure, Note, Page, Select, Show, Table } from "../lib/ui";
import { YamlEditor } from "../lib/yaml-editor";
import type { Group, Rule } from "./rulekit";

interface Event {
  state: "pending" | "firing" | "resolved" | "ended";
  time: string;
  value: string;
}

interface Report {
  evaluations: number;
  firstEvaluation?: string;
  lastEvaluation?: string;
  notifications: number;
  sends: number;
  rules: { name: string; type: string; failures: number; firstFailure?: string; firstError?: string }[];
  alerts: { labels: Record<string, string>; sends: number; events: Event[] }[];
  stopped: string;
}

const RANGES = ["30m", "1h", "3h", "6h", "12h", "1d", "2d", "7d", "14d"] as const;

const indent = (text: string, by: string) => text.split("\n").join(`\n${by}`);

function ruleYaml(rule: Rule): string {
  const lines = [`- ${rule.type === "alerting" ? "alert" : "record"}: ${quote(rule.name)}`, `  expr: |-\n    ${indent(rule.query, "    ")}`];
  if (rule.duration) lines.push(`  for: ${promDuration(rule.duration * 1000)}`);
  if (rule.keepFiringFor) lines.push(`  keep_firing_for: ${promDuration(rule.keepFiringFor * 1000)}`);
  for (const [key, pairs] of [["labels", rule.labels], ["annotations", rule.annotations ?? {}]] as const) {
    const entries = Object.entries(pairs);
    if (entries.length > 0) lines.push(`  ${key}:`, ...entries.map(([name, value]) => `    ${quote(name)}: ${quote(value)}`));
  }
  return lines.join("\n");
}

/// A group as it would stand in a rule file.
export const groupYaml = (group: Group) => `name: ${quote(group.name)}\ninterval: ${promDuration(group.interval * 1000)}\n${group.limit ? `limit: ${group.limit}\n` : ""}rules:\n${group.rules.map(ruleYaml).join("\n")}\n`;

function Lanes({ title, of, from, to }: { title: string; of: Report; from: number; to: number }) {
  const range = Math.max(1, to - from);
  const place = (ms: number) => Math.max(0, Math.min(100, ((ms - from) / range) * 100));
  return (
    <section class="card timeline" aria-label={title}>
      <h3>{title}</h3>
      {of.alerts.length === 0 && <Empty>No alert.</Empty>}
      {of.alerts.slice(0, 200).map((alert) => {
        const name = seriesText({ __name__: alert.labels["alertname"] ?? "", ...Object.fromEntries(Object.entries(alert.labels).filter(([n]) => n !== "alertname")) });
        const spans = alert.events.flatMap((event, at) => {
          if (event.state !== "pending" && event.state !== "firing") return [];
          const start = apiTime(event.time) ?? from;
          return [{ state: event.state, start, end: apiTime(alert.events[at + 1]?.time) ?? to }];
        });
        return (
          <div class="lane" key={name}>
            <span class="lane-name" title={name}>{name}</span>
            <div class="track" role="img" aria-label={`${name}: fired ${spans.filter((s) => s.state === "firing").length} times`}>
              {spans.map((span) => <i key={span.state + span.start} class={span.state} style={{ left: `${place(span.start)}%`, width: `max(2px, ${place(span.end) - place(span.start)}%)` }} title={`${span.state} ${formatTime(span.start)} – ${formatTime(span.end)}`} />)}
            </div>
          </div>
        );
      })}
    </section>
  );
}

function Result({ edited, before, from, to }: { edited: Report; before: Report | null; from: number; to: number }) {
  const failing = edited.rules.filter((rule) => rule.failures > 0);
  const events = edited.alerts.flatMap((alert) => alert.events.map((event) => ({ alert, event })));
  const fired = (of: Report) => of.alerts.reduce((sum, alert) => sum + alert.events.filter((e) => e.state === "firing").length, 0);
  return (
    <div class="stack">
      {edited.stopped !== "" && <Note tone="warn" title="It ended early">{edited.stopped}</Note>}
      {failing.map((rule) => <Note key={rule.name} tone="bad" title={`${rule.name} failed ${count(rule.failures)} times`}>{rule.firstError}</Note>)}
      <div class="tiles">
        <div class="tile"><span>Evaluations</span><b>{count(edited.evaluations)}</b></div>
        <div class="tile"><span>Times fired</span><b>{count(fired(edited))}</b>{before && <span>in force: {count(fired(before))}</span>}</div>
        <div class="tile"><span>Notifications</span><b>{count(edited.notifications)}</b>{before && <span>in force: {count(before.notifications)}</span>}</div>
        <div class="tile"><span>Sends, repeats included</span><b>{count(edited.sends)}</b>{before && <span>in force: {count(before.sends)}</span>}</div>
      </div>
      <Lanes title="Edited" of={edited} from={from} to={to} />
      {before && <Lanes title="In force" of={before} from={from} to={to} />}
      {events.length > 0 && (
        <details class="card">
          <summary>Every change of state ({count(events.length)})</summary>
          <Table
            caption="Changes of state"
            rows={events.slice(0, 500)}
            columns={[
              { title: "Time", cell: (r) => formatTime(apiTime(r.event.time) ?? 0), key: (r) => r.event.time },
              { title: "State", cell: (r) => <Badge tone={r.event.state === "firing" ? "bad" : r.event.state === "pending" ? "warn" : "good"}>{r.event.state}</Badge>, key: (r) => r.event.state },
              { title: "Alert", wide: true, cell: (r) => <code class="break">{seriesText(r.alert.labels)}</code>, key: (r) => seriesText(r.alert.labels) },
              { title: "Value", right: true, cell: (r) => String(Number(r.event.value)), key: (r) => Number(r.event.value) },
            ]}
          />
        </details>
      )}
    </div>
  );
}

export default function BacktestPage() {
  const rules = useApi<{ groups: Group[] }>("rules");
  const query = params.value;
  const groups = rules.data?.groups ?? [];
  const key = (group: Group) => `${group.file};${group.name}`;
  const chosen = groups.find((g) => g.name === query.get("group") && (!query.get("file") || g.file === query.get("file"))) ?? groups[0];
  const rangeText = RANGES.find((r) => r === query.get("range")) ?? "1h";
  const [text, setText] = useState("");
  const [state, setState] = useState<{ edited: Report; before: Report | null; from: number; to: number } | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const abort = useRef<AbortController | null>(null);
  const inForce = useMemo(() => (chosen ? groupYaml(chosen) : ""), [chosen && key(chosen), rules.at === 0]);
  useEffect(() => {
    setText(inForce);
    setState(null);
    setError(null);
  }, [inForce]);
  useEffect(() => () => abort.current?.abort(), []);
  const run = async () => {
    const to = Date.now();
    const from = to - (parseDuration(rangeText) ?? 0);
    const control = new AbortController();
    abort.current = control;
    setBusy(true);
    setError(null);
    const ask = (yaml: string) => post<Report>("ext/rules/backtest", { rules: yaml, file: chosen?.file, start: from / 1000, end: to / 1000 }, control.signal);
    try {
      const edited = (await ask(text)).data;
      const before = inForce !== "" && inForce !== text ? (await ask(inForce)).data : null;
      setState({ edited, before, from, to });
    } catch (failure) {
      if (!control.signal.aborted) setError(failure as Error);
    }
    setBusy(false);
  };
  const format = async () => {
    // Only what stands alone on its line or in a block can be told from the rest.
    const found = /expr: \|-\n((?: {4}.*\n)+)/.exec(text);
    if (!found?.[1]) return;
    const pretty = (await get<string>("format_query", { query: found[1] })).data;
    setText(text.replace(found[1], `    ${indent(pretty, "    ")}\n`));
  };
  return (
    <Page
      title="Rule backtest"
      actions={
        <>
          <Select label="Group" value={chosen ? key(chosen) : ""} options={groups.map((g): [string, string] => [key(g), `${g.name} (${g.file})`])} onChange={(k) => { const g = groups.find((one) => key(one) === k); if (g) setParams({ group: g.name, file: g.file, rule: null }); }} />
          <Select label="Range" value={rangeText} options={RANGES.map((r) => [r, `over the last ${r}`] as const)} onChange={(r) => setParams({ range: r })} />
        </>
      }
    >
      <p class="muted">The group runs over stored data, at its own interval, as it would have run then. Edit it and see what would have fired. Nothing is sent or stored.</p>
      <Show of={rules}>
        {() => (
          <>
            <YamlEditor value={text} onChange={setText} label="Rule group" problems={[]} />
            <div class="row">
              <button type="button" class="button primary" disabled={busy || text.trim() === ""} onClick={() => void run()}>{busy ? "Running…" : "Run"}</button>
              {busy && <button type="button" class="button" onClick={() => abort.current?.abort()}>Cancel</button>}
              <button type="button" class="button" onClick={() => setText(inForce)}>Back to the one in force</button>
              <button type="button" class="button" onClick={() => void format().catch((failure) => setError(failure as Error))}>Format the first expression</button>
              <CopyButton text={() => `groups:\n- ${indent(text.trimEnd(), "  ")}\n`} label="Copy as a rule file" />
            </div>
            {error && <Failure error={error} />}
            {state && <Result {...state} />}
          </>
        )}
      </Show>
      {state && <p class="muted">{formatTime(state.from)} to {formatTime(state.to)}, {humanSeconds((state.to - state.from) / 1000)}</p>}
    </Page>
  );
}
