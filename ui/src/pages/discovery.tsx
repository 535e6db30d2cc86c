// Service discovery: what was found, what relabelling made of it, and step by step why.
import { useMemo, useState } from "preact/hooks";
import { useApi } from "../lib/api";
import { labelName } from "../lib/format";
import { fits } from "../lib/fuzzy";
import { href, params, setParams } from "../lib/router";
import { collapsedDiscoveryPools } from "../lib/settings";
import { Badge, Dialog, Empty, Filters, Fold, Labels, Page, SearchBox, Select, Show } from "../lib/ui";
import { chosen } from "./rulekit";
import type { Target } from "./targets";

interface Dropped {
  discoveredLabels: Record<string, string>;
  scrapePool: string;
}

interface Found {
  activeTargets: Target[];
  droppedTargets: Dropped[];
  droppedTargetCounts: Record<string, number>;
}

interface Item {
  pool: string;
  discovered: Record<string, string>;
  target: Target | null;
}

interface Step {
  rule: Record<string, unknown>;
  output: Record<string, string>;
  keep: boolean;
}

const STATES = ["active", "dropped"] as const;
const ITEMS_MAX = 100;

/// Labels with what a step changed: added, changed, removed.
export function LabelDiff({ before, after }: { before: Record<string, string>; after: Record<string, string> }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return (
    <div class="code">
      {names.map((name) => {
        const old = before[name];
        const now = after[name];
        const line = (kind: string, sign: string, value: string) => (
          <div class={`line ${kind}`} key={kind + name}><span>{sign} {labelName(name)}=&quot;{value}&quot;</span></div>
        );
        if (old === now) return line("", " ", now ?? "");
        return <>{old !== undefined && line("removed", "−", old)}{now !== undefined && line("added", "+", now)}</>;
      })}
    </div>
  );
}

export function ruleText(rule: Record<string, unknown>): string {
  return Object.entries(rule)
    .filter(([, value]) => value !== "" && value !== null && value !== 0 && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name}: ${Array.isArray(value) ? `[${value.join(", ")}]` : String(value)}`)
    .join("\n");
}

function Steps({ item, onClose }: { item: Item; onClose: () => void }) {
  const steps = useApi<{ steps: Step[] }>("targets/relabel_steps", { scrapePool: item.pool, labels: JSON.stringify(item.discovered) });
  return (
    <Dialog title={`Relabelling in ${item.pool}`} onClose={onClose} wide>
      <Show of={steps}>
        {(data) => (
          <ol class="steps">
            <li><h3>Discovered</h3><LabelDiff before={item.discovered} after={item.discovered} /></li>
            {data.steps.map((step, at) => (
              <li key={at}>
                <div class="row"><h3>{`Rule ${at + 1}`}</h3><Badge tone={step.keep ? "good" : "bad"}>{step.keep ? "kept" : "dropped"}</Badge></div>
                <pre class="code padded">{ruleText(step.rule)}</pre>
                {step.keep && <LabelDiff before={data.steps[at - 1]?.output ?? item.discovered} after={step.output} />}
              </li>
            ))}
            {data.steps.length === 0 && <Empty>This pool has no relabelling rules.</Empty>}
          </ol>
        )}
      </Show>
      <p><a class="button" href={href(`relabel?pool=${encodeURIComponent(item.pool)}`)}>Try other rules in the relabel lab</a></p>
    </Dialog>
  );
}

export default function DiscoveryPage() {
  const query = params.value;
  const search = query.get("search") ?? "";
  const pool = query.get("pool") ?? "";
  const states = chosen(query, "state", STATES);
  const [shown, setShown] = useState<Item | null>(null);
  const [more, setMore] = useState<Record<string, number>>({});
  const pools = useApi<{ scrapePools: string[] }>("scrape_pools");
  const found = useApi<Found>("targets", pool ? { scrapePool: pool } : {}, 30_000);
  const groups = useMemo(() => {
    const out = new Map<string, Item[]>();
    const put = (item: Item) => {
      const fitting = search === "" || fits(search, `${item.pool} ${Object.entries({ ...item.discovered, ...item.target?.labels }).map(([k, v]) => `${k}=${v}`).join(" ")}`);
      const wanted = states.length === 0 || states.includes(item.target ? "active" : "dropped");
      if (fitting && wanted) out.set(item.pool, [...(out.get(item.pool) ?? []), item]);
      else if (!out.has(item.pool)) out.set(item.pool, []);
    };
    for (const target of found.data?.activeTargets ?? []) put({ pool: target.scrapePool, discovered: target.discoveredLabels, target });
    for (const dropped of found.data?.droppedTargets ?? []) put({ pool: dropped.scrapePool, discovered: dropped.discoveredLabels, target: null });
    return [...out].sort(([a], [b]) => a.localeCompare(b));
  }, [found.data, search, states.join()]);
  const collapsed = collapsedDiscoveryPools.value;
  const droppedIn = (name: string) => found.data?.droppedTargetCounts?.[name] ?? 0;
  const keptDropped = (name: string) => found.data?.droppedTargets.filter((d) => d.scrapePool === name).length ?? 0;
  return (
    <Page title="Service discovery" actions={<a class="button" href={href("relabel")}>Relabel lab</a>}>
      <div class="toolbar">
        <Select label="Scrape pool" value={pool} options={[["", "All scrape pools"], ...(pools.data?.scrapePools ?? []).map((p): [string, string] => [p, p])]} onChange={(p) => setParams({ pool: p })} />
        <Filters label="State" options={[{ name: "active", tone: "good", count: found.data?.activeTargets.length ?? 0 }, { name: "dropped", tone: "plain", count: Object.values(found.data?.droppedTargetCounts ?? {}).reduce((a, b) => a + b, 0) }]} chosen={states} onChange={(s) => setParams({ state: s.join(",") })} />
        <SearchBox value={search} onInput={(s) => setParams({ search: s })} label="Filter by labels" />
      </div>
      <Show of={found}>
        {() => (groups.length === 0 ? <Empty>Nothing was discovered.</Empty> : (
          <>
            {groups.map(([name, items]) => {
              const limit = ITEMS_MAX * (more[name] ?? 1);
              return (
                <Fold
                  key={name}
                  open={!collapsed.includes(name)}
                  onToggle={(open) => (collapsedDiscoveryPools.value = open ? collapsed.filter((p) => p !== name) : [...collapsed, name])}
                  summary={<><h2>{name}</h2><span class="muted">{items.filter((i) => i.target).length} active, {droppedIn(name)} dropped</span></>}
                >
                  {droppedIn(name) > keptDropped(name) && <p class="muted">Only {keptDropped(name)} of {droppedIn(name)} dropped targets are kept (keep_dropped_targets).</p>}
                  {items.length === 0 ? <Empty>No target fits.</Empty> : (
                    <div class="table-frame">
                      <table class="cards">
                        <thead><tr><th scope="col">Discovered labels</th><th scope="col">Target labels</th><th scope="col">Relabelling</th></tr></thead>
                        <tbody>
                          {items.slice(0, limit).map((item, at) => (
                            <tr key={at}>
                              <td data-title="Discovered"><Labels of={item.discovered} /></td>
                              <td data-title="Target">{item.target ? <Labels of={item.target.labels} /> : <Badge tone="plain">dropped</Badge>}</td>
                              <td data-title="Relabelling"><button type="button" class="button" onClick={() => setShown(item)}>Steps</button></td>
                            </tr>
                          ))}
                        </tbody>
                      </table>
                    </div>
                  )}
                  {items.length > limit && <button type="button" class="button" onClick={() => setMore({ ...more, [name]: (more[name] ?? 1) + 1 })}>Show more of {items.length - limit}</button>}
                </Fold>
              );
            })}
          </>
        ))}
      </Show>
      {shown && <Steps item={shown} onClose={() => setShown(null)} />}
    </Page>
  );
}
