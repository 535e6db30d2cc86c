// Rules by group, with their health, what they cost, and when they ran.
import { useMemo, useState } from "preact/hooks";
import { useApi } from "../lib/api";
import { humanSeconds } from "../lib/format";
import { fits } from "../lib/fuzzy";
import { href, params, setParams } from "../lib/router";
import { ruleGroupsPerPage } from "../lib/settings";
import { Badge, Bar, Empty, Filters, Fold, IconButton, Labels, Note, Page, Pager, SearchBox, Segments, Show, Table } from "../lib/ui";
import { chosen, Expression, HEALTH_TONE, Timing, type Group, type Rule } from "./rulekit";

const HEALTHS = ["ok", "err", "unknown"] as const;
const NAME = { ok: "ok", err: "error", unknown: "unknown" };

function RuleRow({ rule, total }: { rule: Rule; total: number }) {
  return (
    <div class={`rule card nested ${rule.health === "err" ? "edge-bad" : ""}`}>
      <div class="card-body stack tight-stack">
        <div class="row">
          <Badge tone={rule.type === "alerting" ? "info" : "plain"}>{rule.type === "alerting" ? "alert" : "record"}</Badge>
          <b class="break">{rule.name}</b>
          <span class="push row">
            <Timing of={rule} />
            <Bar part={total > 0 ? rule.evaluationTime / total : 0} label={`${total > 0 ? Math.round((rule.evaluationTime / total) * 100) : 0} % of the group's time`} />
            <Badge tone={HEALTH_TONE[rule.health] ?? "plain"}>{NAME[rule.health]}</Badge>
          </span>
        </div>
        <Expression query={rule.query} tab={rule.type === "recording" ? "graph" : "table"} />
        <div class="labels">
          {(rule.duration ?? 0) > 0 && <span class="label">for: {humanSeconds(rule.duration ?? 0)}</span>}
          {(rule.keepFiringFor ?? 0) > 0 && <span class="label">keep_firing_for: {humanSeconds(rule.keepFiringFor ?? 0)}</span>}
          <Labels of={rule.labels} />
        </div>
        {rule.lastError && <Note tone="bad" title="Error">{rule.lastError}</Note>}
      </div>
    </div>
  );
}

function GroupCard({ group }: { group: Group }) {
  const bad = group.rules.filter((rule) => rule.health === "err").length;
  const [open, setOpen] = useState(bad > 0);
  const total = group.rules.reduce((sum, rule) => sum + rule.evaluationTime, 0);
  const late = group.interval > 0 && group.evaluationTime > group.interval;
  return (
    <Fold
      open={open}
      onToggle={setOpen}
      className={bad > 0 ? "edge-bad" : ""}
      summary={
        <>
          <h2>{group.name}</h2>
          <span class="muted break">{group.file}</span>
          <span class="push row">
            <Timing of={group} />
            <span class="muted">every {humanSeconds(group.interval)}</span>
            {late && <Badge tone="warn">slower than its interval</Badge>}
            {bad > 0 && <Badge tone="bad">{`${bad} failing`}</Badge>}
            <Badge tone="plain">{`${group.rules.length} rules`}</Badge>
          </span>
        </>
      }
    >
      <div class="stack tight-stack">
        <div class="row"><a class="button" href={href(`backtest?group=${encodeURIComponent(group.name)}&file=${encodeURIComponent(group.file)}`)}>Test on history</a></div>
        {group.rules.map((rule, at) => <RuleRow key={rule.name + at} rule={rule} total={total} />)}
      </div>
    </Fold>
  );
}

export default function RulesPage() {
  const query = params.value;
  const search = query.get("search") ?? "";
  const health = chosen(query, "health", HEALTHS);
  const cost = query.get("view") === "cost";
  const page = Math.max(1, Number(query.get("page")) || 1);
  const rules = useApi<{ groups: Group[] }>("rules", {}, 15_000);
  const all = rules.data?.groups ?? [];
  const counts = useMemo(() => {
    const out = { ok: 0, err: 0, unknown: 0 };
    for (const group of all) for (const rule of group.rules) out[rule.health] += 1;
    return out;
  }, [all]);
  const groups = useMemo(
    () =>
      all
        .map((group) => ({ ...group, rules: group.rules.filter((rule) => (health.length === 0 || health.includes(rule.health)) && (search === "" || fits(search, `${rule.name} ${Object.entries(rule.labels).map(([k, v]) => `${k}=${v}`).join(" ")}`))) }))
        .filter((group) => group.rules.length > 0),
    [all, search, health.join()],
  );
  const pages = Math.max(1, Math.ceil(groups.length / ruleGroupsPerPage.value));
  const at = Math.min(page, pages);
  return (
    <Page title="Rules" actions={<><Segments label="View" value={cost ? "cost" : "groups"} options={[["groups", "Groups"], ["cost", "By cost"]]} onChange={(v) => setParams({ view: v === "cost" ? v : null })} /><IconButton icon="refresh" label="Load again" onClick={rules.reload} /></>}>
      <div class="toolbar">
        <Filters label="Health" options={HEALTHS.map((name) => ({ name, tone: HEALTH_TONE[name] ?? "plain", count: counts[name] }))} chosen={health} onChange={(h) => setParams({ health: h.join(","), page: null })} />
        <SearchBox value={search} onInput={(s) => setParams({ search: s, page: null })} label="Filter by rule name or labels" />
      </div>
      <Show of={rules}>
        {() =>
          groups.length === 0 ? <Empty>{all.length === 0 ? "No rules are configured." : "No rule fits."}</Empty> : cost ? (
            <div class="card">
              <Table
                caption="Rules by cost"
                initial={{ column: 3, down: true }}
                rows={groups.flatMap((group) => group.rules.map((rule) => ({ group, rule })))}
                columns={[
                  { title: "Rule", cell: (r) => <b class="break">{r.rule.name}</b>, key: (r) => r.rule.name },
                  { title: "Group", cell: (r) => r.group.name, key: (r) => r.group.name },
                  { title: "Expression", wide: true, cell: (r) => <Expression query={r.rule.query} /> },
                  { title: "Took", right: true, cell: (r) => humanSeconds(r.rule.evaluationTime), key: (r) => r.rule.evaluationTime },
                  { title: "Share of interval", right: true, cell: (r) => `${((r.rule.evaluationTime / (r.group.interval || 1)) * 100).toFixed(2)} %`, key: (r) => r.rule.evaluationTime / (r.group.interval || 1) },
                  { title: "Health", cell: (r) => <Badge tone={HEALTH_TONE[r.rule.health] ?? "plain"}>{NAME[r.rule.health]}</Badge>, key: (r) => r.rule.health },
                ]}
              />
            </div>
          ) : (
            <>
              {groups.slice((at - 1) * ruleGroupsPerPage.value, at * ruleGroupsPerPage.value).map((group) => <GroupCard key={`${group.file} ${group.name}`} group={group} />)}
              <Pager page={at} pages={pages} onChange={(p) => setParams({ page: String(p) }, false)} />
            </>
          )
        }
      </Show>
    </Page>
  );
}
