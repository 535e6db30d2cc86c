// Alerts: the rules by group with their states, or all alerts in one list; and what happened to alerts before.
import { useMemo } from "preact/hooks";
import { useApi } from "../lib/api";
import { apiTime, formatTime, humanSeconds } from "../lib/format";
import { fits } from "../lib/fuzzy";
import { params, setParams } from "../lib/router";
import { alertGroupsPerPage, showAnnotations } from "../lib/settings";
import { Badge, Check, CopyButton, Empty, Filters, Fold, IconButton, Labels, Page, Pager, SearchBox, Segments, Show, Table } from "../lib/ui";
import { useState } from "preact/hooks";
import { Ago, AnnotationValue, chosen, Expression, STATE_TONE, type Alert, type Group, type Rule } from "./rulekit";
import { Timeline } from "./timeline";

const STATES = ["inactive", "pending", "firing", "unknown"] as const;
type State = (typeof STATES)[number];
const stateOf = (rule: Rule): State => rule.state ?? "unknown";
const WEIGHT: Record<State, number> = { firing: 0, pending: 1, unknown: 2, inactive: 3 };
const REFRESH_MS = 15_000;

const text = (rule: Rule) => `${rule.name} ${Object.entries(rule.labels).map(([k, v]) => `${k}=${v}`).join(" ")} ${(rule.alerts ?? []).map((a) => Object.entries(a.labels).map(([k, v]) => `${k}=${v}`).join(" ")).join(" ")}`;

function AlertTable({ alerts, annotations }: { alerts: Alert[]; annotations: boolean }) {
  return (
    <Table
      caption="Alerts"
      rows={alerts}
      rowKey={(alert) => JSON.stringify(alert.labels)}
      columns={[
        { title: "State", cell: (a) => <Badge tone={STATE_TONE[a.state] ?? "plain"}>{a.state}</Badge>, key: (a) => (a.state === "firing" ? 0 : 1) },
        {
          title: "Labels",
          wide: true,
          cell: (a) => (
            <div class="stack">
              <Labels of={a.labels} />
              {annotations && Object.keys(a.annotations).length > 0 && <Annotations of={a.annotations} />}
            </div>
          ),
          key: (a) => JSON.stringify(a.labels),
        },
        { title: "Active since", cell: (a) => <><Ago time={a.activeAt} />{apiTime(a.keepFiringSince) !== null && <div class="muted">kept firing since <Ago time={a.keepFiringSince ?? ""} /></div>}</>, key: (a) => apiTime(a.activeAt) ?? 0 },
        { title: "Value", right: true, cell: (a) => Number(a.value).toString() === "NaN" ? a.value : String(Number(a.value)), key: (a) => Number(a.value) },
      ]}
    />
  );
}

function Annotations({ of }: { of: Record<string, string> }) {
  return (
    <dl class="annotations">
      {Object.entries(of).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd><AnnotationValue text={value} /></dd>
        </div>
      ))}
    </dl>
  );
}

function RuleCard({ rule, annotations }: { rule: Rule; annotations: boolean }) {
  const state = stateOf(rule);
  const [open, setOpen] = useState(false);
  const alerts = rule.alerts ?? [];
  const edge = state === "firing" ? "edge-bad" : state === "pending" ? "edge-warn" : "edge-good";
  return (
    <Fold
      className={`nested ${edge}`}
      open={open}
      onToggle={setOpen}
      summary={
        <>
          <b>{rule.name}</b>
          <span class="push row tight">
            {alerts.length > 0 && <Badge tone={STATE_TONE[state] ?? "plain"}>{`${state} (${alerts.length})`}</Badge>}
            {alerts.length === 0 && <Badge tone={STATE_TONE[state] ?? "plain"}>{state}</Badge>}
            {rule.health === "err" && <Badge tone="bad">error</Badge>}
          </span>
        </>
      }
    >
      <div class="stack">
        <Expression query={rule.query} />
        <div class="labels">
          <CopyButton text={rule.name} label={`Copy ${rule.name}`} />
          {(rule.duration ?? 0) > 0 && <span class="label">for: {humanSeconds(rule.duration ?? 0)}</span>}
          {(rule.keepFiringFor ?? 0) > 0 && <span class="label">keep_firing_for: {humanSeconds(rule.keepFiringFor ?? 0)}</span>}
          <Labels of={rule.labels} />
        </div>
        {annotations && <Annotations of={rule.annotations ?? {}} />}
        {rule.lastError && <p class="bad-text">{rule.lastError}</p>}
        {alerts.length > 0 ? <AlertTable alerts={alerts} annotations={annotations} /> : <p class="muted">No alerts.</p>}
      </div>
    </Fold>
  );
}

function GroupCard({ group, annotations }: { group: Group; annotations: boolean }) {
  const counts = new Map<State, number>();
  for (const rule of group.rules) counts.set(stateOf(rule), (counts.get(stateOf(rule)) ?? 0) + 1);
  return (
    <section class="card" aria-label={`Group ${group.name}`}>
      <header>
        <h2>{group.name}</h2>
        <span class="muted">{group.file}</span>
        <span class="push row tight">{STATES.filter((s) => counts.has(s)).map((s) => <Badge key={s} tone={STATE_TONE[s] ?? "plain"}>{`${s} (${counts.get(s)})`}</Badge>)}</span>
      </header>
      <div class="card-body stack tight-stack">{group.rules.map((rule, at) => <RuleCard key={rule.name + at} rule={rule} annotations={annotations} />)}</div>
    </section>
  );
}

export default function AlertsPage() {
  const query = params.value;
  const view = query.get("view") === "list" ? "list" : query.get("view") === "timeline" ? "timeline" : "groups";
  const states = chosen(query, "state", STATES);
  const search = query.get("search") ?? "";
  const page = Math.max(1, Number(query.get("page")) || 1);
  const rules = useApi<{ groups: Group[] }>(view === "timeline" ? null : "rules", { type: "alert" }, REFRESH_MS);
  const all = rules.data?.groups ?? [];
  const counts = useMemo(() => {
    const out = new Map<State, number>();
    for (const group of all) for (const rule of group.rules) out.set(stateOf(rule), (out.get(stateOf(rule)) ?? 0) + 1);
    return out;
  }, [all]);
  const groups = useMemo(
    () =>
      all
        .map((group) => ({ ...group, rules: group.rules.filter((rule) => (states.length === 0 || states.includes(stateOf(rule))) && (search === "" || fits(search, text(rule)))).sort((a, b) => WEIGHT[stateOf(a)] - WEIGHT[stateOf(b)]) }))
        .filter((group) => group.rules.length > 0)
        .sort((a, b) => WEIGHT[stateOf(a.rules[0]!)] - WEIGHT[stateOf(b.rules[0]!)]),
    [all, states.join(), search],
  );
  const pages = Math.max(1, Math.ceil(groups.length / alertGroupsPerPage.value));
  const shown = groups.slice((Math.min(page, pages) - 1) * alertGroupsPerPage.value, Math.min(page, pages) * alertGroupsPerPage.value);
  return (
    <Page
      title="Alerts"
      actions={
        <>
          <Segments label="View" value={view} options={[["groups", "Groups"], ["list", "List"], ["timeline", "Timeline"]]} onChange={(v) => setParams({ view: v === "groups" ? null : v, page: null })} />
          {view !== "timeline" && <IconButton icon="refresh" label="Load again" onClick={rules.reload} />}
        </>
      }
    >
      {view === "timeline" ? <Timeline /> : (
        <>
          <div class="toolbar">
            <Filters label="States" options={STATES.map((name) => ({ name, tone: STATE_TONE[name] ?? "plain", count: counts.get(name) ?? 0 }))} chosen={states} onChange={(s) => setParams({ state: s.join(","), page: null })} />
            <SearchBox value={search} onInput={(s) => setParams({ search: s, page: null })} label="Filter by name or labels" />
            <Check label="Annotations" checked={showAnnotations.value} onChange={(on) => (showAnnotations.value = on)} />
            {rules.at > 0 && <span class="muted push">as of {formatTime(rules.at)}</span>}
          </div>
          <Show of={rules}>
            {() =>
              groups.length === 0 ? <Empty>{all.length === 0 ? "No alerting rules are configured." : "No alerting rule fits."}</Empty> : view === "list" ? (
                <div class="card"><AlertTable alerts={groups.flatMap((g) => g.rules.flatMap((r) => r.alerts ?? []))} annotations={showAnnotations.value} /></div>
              ) : (
                <>
                  {shown.map((group) => <GroupCard key={`${group.file} ${group.name}`} group={group} annotations={showAnnotations.value} />)}
                  <Pager page={Math.min(page, pages)} pages={pages} onChange={(p) => setParams({ page: String(p) }, false)} />
                </>
              )
            }
          </Show>
        </>
      )}
    </Page>
  );
}
