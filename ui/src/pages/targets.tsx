// Targets by pool: health, timing, errors, and for each the debugger with its last scrapes.
import { useMemo, useState } from "preact/hooks";
import { useApi } from "../lib/api";
import { formatTime, humanSeconds } from "../lib/format";
import { fits } from "../lib/fuzzy";
import { params, setParams } from "../lib/router";
import { collapsedTargetPools } from "../lib/settings";
import { Badge, Check, Dialog, Empty, Filters, Fold, IconButton, Labels, Page, SearchBox, Select, Show, Table, type Tone } from "../lib/ui";
import { Yaml } from "../lib/yaml";
import { Ago, chosen } from "./rulekit";
import { ScrapeDebugger } from "./scrapes";

export interface Target {
  discoveredLabels: Record<string, string>;
  labels: Record<string, string>;
  scrapePool: string;
  scrapeUrl: string;
  globalUrl: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  health: "up" | "down" | "unknown";
  scrapeInterval: string;
  scrapeTimeout: string;
}

const HEALTHS = ["unknown", "up", "down"] as const;
const TONE: Record<Target["health"], Tone> = { up: "good", down: "bad", unknown: "plain" };
/// Pools from which on only the first is open.
const OPEN_POOLS_MAX = 20;
/// Targets of a pool that are listed at once.
const TARGETS_MAX = 200;

const text = (t: Target) => `${t.scrapePool} ${t.scrapeUrl} ${Object.entries(t.labels).map(([k, v]) => `${k}=${v}`).join(" ")}`;

function PoolConfig({ pool, onClose }: { pool: string; onClose: () => void }) {
  const config = useApi<{ yaml: string }>("scrape_pools/config", { scrapePool: pool });
  return (
    <Dialog title={`Configuration of ${pool}`} onClose={onClose} wide>
      <Show of={config}>{(data) => <Yaml text={data.yaml} />}</Show>
    </Dialog>
  );
}

function Pool({ name, targets, total, open, onToggle, onDebug }: { name: string; targets: Target[]; total: number; open: boolean; onToggle: (open: boolean) => void; onDebug: (target: Target) => void }) {
  const [config, setConfig] = useState(false);
  const [more, setMore] = useState(1);
  const up = targets.filter((t) => t.health === "up").length;
  const shown = targets.slice(0, TARGETS_MAX * more);
  return (
    <Fold
      open={open}
      onToggle={onToggle}
      summary={
        <>
          <span class="ring" style={{ "--part": `${total > 0 ? (up / targets.length) * 100 : 0}%` } as never} aria-hidden="true" />
          <h2>{name}</h2>
          <span class={up === targets.length ? "muted" : "bad-text"}>{`${up} / ${targets.length} up`}</span>
          {targets.length !== total && <span class="muted">{total} in all</span>}
        </>
      }
    >
      <div class="row"><button type="button" class="button" onClick={() => setConfig(true)}>Show config</button></div>
      <Table
        caption={`Targets of ${name}`}
        rows={shown}
        rowKey={(t, at) => `${t.scrapeUrl} ${at}`}
        columns={[
          { title: "Endpoint", cell: (t) => <><a href={t.globalUrl} class="break">{t.scrapeUrl}</a>{t.lastError && <div class="bad-text">{t.lastError}</div>}</>, key: (t) => t.scrapeUrl, wide: true },
          { title: "Labels", cell: (t) => <LabelsCell of={t} />, wide: true },
          { title: "Last scrape", cell: (t) => <span class="nowrap-text"><Ago time={t.lastScrape} /><br /><span class="muted">{humanSeconds(t.lastScrapeDuration)} of {t.scrapeTimeout}, every {t.scrapeInterval}</span></span>, key: (t) => t.lastScrapeDuration },
          { title: "State", cell: (t) => <Badge tone={TONE[t.health]}>{t.health}</Badge>, key: (t) => t.health },
          { title: "Scrapes", cell: (t) => <button type="button" class="button" aria-label={`Debug ${t.scrapeUrl}`} onClick={() => onDebug(t)}>Debug</button> },
        ]}
      />
      {shown.length < targets.length && <button type="button" class="button" onClick={() => setMore(more + 1)}>Show {Math.min(TARGETS_MAX, targets.length - shown.length)} more of {targets.length - shown.length}</button>}
      {config && <PoolConfig pool={name} onClose={() => setConfig(false)} />}
    </Fold>
  );
}

function LabelsCell({ of }: { of: Target }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Labels of={of.labels} />
      <button type="button" class="link" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Hide" : "Show"} discovered labels</button>
      {open && <div><Labels of={of.discoveredLabels} /></div>}
    </>
  );
}

export default function TargetsPage() {
  const query = params.value;
  const search = query.get("search") ?? "";
  const pool = query.get("pool") ?? query.get("scrapePool") ?? "";
  const health = chosen(query, "health", HEALTHS);
  const by = query.get("by") ?? "";
  const [debug, setDebug] = useState<Target | null>(null);
  const [hideEmpty, setHideEmpty] = useState(true);
  const pools = useApi<{ scrapePools: string[] }>("scrape_pools");
  const targets = useApi<{ activeTargets: Target[] }>("targets", { state: "active", ...(pool ? { scrapePool: pool } : {}) }, 15_000);
  const all = targets.data?.activeTargets ?? [];
  const counts = useMemo(() => ({ up: 0, down: 0, unknown: 0, ...Object.fromEntries(HEALTHS.map((h) => [h, all.filter((t) => t.health === h).length])) }), [all]);
  const labels = useMemo(() => [...new Set(all.flatMap((t) => Object.keys(t.labels)))].sort(), [all]);
  const groups = useMemo(() => {
    const groupOf = (t: Target) => (by ? `${by}="${t.labels[by] ?? ""}"` : t.scrapePool);
    const totals = new Map<string, number>();
    const found = new Map<string, Target[]>();
    for (const name of by || pool ? [] : (pools.data?.scrapePools ?? [])) {
      totals.set(name, 0);
      found.set(name, []);
    }
    for (const target of all) {
      const name = groupOf(target);
      totals.set(name, (totals.get(name) ?? 0) + 1);
      if (!found.has(name)) found.set(name, []);
      if ((health.length === 0 || health.includes(target.health)) && (search === "" || fits(search, text(target)))) found.get(name)?.push(target);
    }
    return [...found].map(([name, list]) => ({ name, list, total: totals.get(name) ?? 0 })).filter((g) => g.list.length > 0 || !hideEmpty);
  }, [all, pools.data, health.join(), search, by, hideEmpty, pool]);
  const collapsed = collapsedTargetPools.value;
  const isOpen = (name: string, at: number) => (groups.length > OPEN_POOLS_MAX && search === "" && collapsed.length === 0 ? at === 0 : !collapsed.includes(name));
  const toggle = (name: string, open: boolean) => {
    collapsedTargetPools.value = open ? collapsed.filter((p) => p !== name) : [...new Set([...collapsed, name])];
  };
  return (
    <Page title="Target health" actions={<><span class="muted">{targets.at > 0 ? `as of ${formatTime(targets.at)}` : ""}</span><IconButton icon="refresh" label="Load again" onClick={targets.reload} /></>}>
      <div class="toolbar">
        <Select label="Scrape pool" value={pool} options={[["", "All scrape pools"], ...(pools.data?.scrapePools ?? []).map((p): [string, string] => [p, p])]} onChange={(p) => setParams({ pool: p, scrapePool: null })} />
        <Filters label="Health" options={HEALTHS.map((name) => ({ name, tone: TONE[name], count: counts[name] }))} chosen={health} onChange={(h) => setParams({ health: h.join(",") })} />
        <SearchBox value={search} onInput={(s) => setParams({ search: s })} label="Filter by endpoint or labels" />
        <Select label="Group by" value={by} options={[["", "By pool"], ...labels.map((l): [string, string] => [l, `By ${l}`])]} onChange={(l) => setParams({ by: l })} />
        <button type="button" class="button" onClick={() => (collapsedTargetPools.value = collapsed.length > 0 ? [] : groups.map((g) => g.name))}>{collapsed.length > 0 ? "Expand all" : "Collapse all"}</button>
        <Check label="Hide empty pools" checked={hideEmpty} onChange={setHideEmpty} />
      </div>
      <Show of={targets}>
        {() => (groups.length === 0 ? <Empty>{all.length === 0 ? "No targets are found in this scrape pool." : "No target fits."}</Empty> : <>{groups.map((g, at) => <Pool key={g.name} name={g.name} targets={g.list} total={g.total} open={isOpen(g.name, at)} onToggle={(open) => toggle(g.name, open)} onDebug={setDebug} />)}</>)}
      </Show>
      {debug && <ScrapeDebugger pool={debug.scrapePool} url={debug.scrapeUrl} onClose={() => setDebug(null)} />}
    </Page>
  );
}

