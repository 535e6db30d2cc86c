// The actors at work: who supervises whom, what each handles, how long it takes, and why it was restarted. The server pushes what
// changes once a second; rates and percentiles of the last minute are made here.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, formatTime, humanSeconds } from "../lib/format";
import { fits } from "../lib/fuzzy";
import { href, params, setParams } from "../lib/router";
import { events } from "../lib/stream";
import { Badge, Bar, Check, Empty, IconButton, Note, Page, SearchBox, Segments, Skeleton, Spark, type Tone } from "../lib/ui";

interface Entry {
  id: number;
  parent: number | null;
  kind: string;
  name: string;
  state: "running" | "restarting" | "failed" | "stopped";
  since: number;
  restarts: number;
  handled: number;
  busySeconds: number;
  handling: number[];
  slow: { time: number; message: string; waitedSeconds: number; tookSeconds: number }[];
  failures: { time: number; message: string; text: string }[];
}

interface Update {
  time: number;
  whole: boolean;
  handlingBounds: number[];
  actors: Entry[];
  gone: number[];
  mailboxes: { kind: string; waiting: number; dropped: number }[];
}

interface Seen {
  entry: Entry;
  /// Messages of each of the last seconds, the newest last.
  rates: number[];
  /// The classes of handling times a minute ago, to be subtracted.
  past: { at: number; handling: number[] }[];
}

interface World {
  time: number;
  bounds: number[];
  actors: Map<number, Seen>;
  mailboxes: Map<string, { waiting: number; dropped: number }>;
}

const SECONDS = 60;
/// Children of one actor and kind from which on they are folded into one row.
const FOLD_FROM = 12;

function merge(old: World | null, update: Update): World {
  const actors = update.whole || !old ? new Map<number, Seen>() : new Map(old.actors);
  for (const id of update.gone) actors.delete(id);
  const changed = new Map(update.actors.map((entry) => [entry.id, entry]));
  const passed = old && !update.whole ? Math.max(0.2, (update.time - old.time) / 1000) : 1;
  for (const [id, seen] of actors) {
    if (!changed.has(id)) actors.set(id, { ...seen, rates: [...seen.rates.slice(1 - SECONDS), 0] });
  }
  for (const [id, entry] of changed) {
    const seen = actors.get(id);
    const rate = seen ? (entry.handled - seen.entry.handled) / passed : 0;
    const past = [...(seen?.past ?? []).filter((p) => update.time - p.at < SECONDS * 1000), { at: update.time, handling: entry.handling }];
    actors.set(id, { entry, rates: [...(seen?.rates ?? []).slice(1 - SECONDS), rate], past });
  }
  return { time: update.time, bounds: update.handlingBounds, actors, mailboxes: new Map(update.mailboxes.map((m) => [m.kind, m])) };
}

/// A percentile of handling times in seconds: of the last minute where something was handled, else since the start.
function percentile(of: Seen[], part: number, bounds: number[]): number | null {
  const sum = (lately: boolean) => {
    const out = new Array<number>(bounds.length + 1).fill(0);
    for (const { entry, past } of of) entry.handling.forEach((n, at) => (out[at] = (out[at] ?? 0) + n - (lately ? (past[0]?.handling[at] ?? 0) : 0)));
    return out;
  };
  let classes = sum(true);
  if (classes.every((n) => n === 0)) classes = sum(false);
  const total = classes.reduce((a, b) => a + b, 0);
  if (total === 0) return null;
  let below = 0;
  for (const [at, n] of classes.entries()) {
    below += n;
    if (below >= total * part) return (bounds[at] ?? (bounds[bounds.length - 1] ?? 0) * 4) / 1e6;
  }
  return null;
}

const TONES: Record<Entry["state"], Tone> = { running: "good", restarting: "warn", failed: "bad", stopped: "plain" };
const isBusy = (entry: Entry) => entry.busySeconds > 0;
const isUnhealthy = (entry: Entry) => entry.state !== "running" || entry.restarts > 0 || isBusy(entry);

function State({ of }: { of: Entry }) {
  return isBusy(of) && of.state === "running" ? <Badge tone="warn">busy {of.busySeconds}s</Badge> : <Badge tone={TONES[of.state]}>{of.state}</Badge>;
}

/// The page that shows what an actor works on.
function pageOf(of: Entry): [string, string] | null {
  if (of.kind === "scrape_pool") return [`targets?pool=${encodeURIComponent(of.name)}`, "its targets"];
  if (of.kind === "scrape_loop" || of.kind === "scrape_manager") return ["targets", "targets"];
  if (of.kind.startsWith("rule")) return ["rules", "rules"];
  if (of.kind.startsWith("disc")) return ["service-discovery", "service discovery"];
  if (of.kind === "notifier" || of.kind === "alertmanager_sender") return ["alertmanager-discovery", "Alertmanagers"];
  if (of.kind === "query_gate") return ["queries", "queries"];
  if (of.kind === "config_reloader") return ["config", "configuration"];
  if (of.kind === "storage_keeper") return ["tsdb-status", "TSDB status"];
  return null;
}

const seconds = (s: number | null) => (s === null ? "–" : `≤ ${humanSeconds(s)}`);
const rate = (of: Seen[]) => of.reduce((sum, seen) => sum + (seen.rates[seen.rates.length - 1] ?? 0), 0);
const rates = (of: Seen[]) => Array.from({ length: SECONDS }, (_, at) => of.reduce((sum, seen) => sum + (seen.rates[seen.rates.length - SECONDS + at] ?? 0), 0));

function Detail({ of, world, onClose }: { of: Seen; world: World; onClose: () => void }) {
  const { entry } = of;
  const children = [...world.actors.values()].filter((seen) => seen.entry.parent === entry.id);
  const mailbox = world.mailboxes.get(entry.kind);
  const page = pageOf(entry);
  return (
    <aside class="card detail" aria-label={`${entry.kind} ${entry.name}`}>
      <header>
        <h2 class="break">{entry.kind}</h2>
        <State of={entry} />
        <span class="push"><IconButton icon="close" label="Close details" onClick={onClose} /></span>
      </header>
      <div class="card-body stack">
        <code class="break">{entry.name}</code>
        <table class="key-values">
          <tbody>
            <tr><th scope="row">started</th><td>{formatTime(entry.since)}</td></tr>
            <tr><th scope="row">messages</th><td>{count(entry.handled)}</td></tr>
            <tr><th scope="row">per second</th><td>{rate([of]).toFixed(1)} <Spark values={rates([of])} label="Messages of the last minute" /></td></tr>
            <tr><th scope="row">handling, median</th><td>{seconds(percentile([of], 0.5, world.bounds))}</td></tr>
            <tr><th scope="row">handling, 99 %</th><td>{seconds(percentile([of], 0.99, world.bounds))}</td></tr>
            <tr><th scope="row">waiting for its kind</th><td>{count(mailbox?.waiting ?? 0)}</td></tr>
            <tr><th scope="row">discarded of its kind</th><td>{count(mailbox?.dropped ?? 0)}</td></tr>
            <tr><th scope="row">restarts</th><td>{entry.restarts}</td></tr>
            <tr><th scope="row">supervises</th><td>{children.length}</td></tr>
          </tbody>
        </table>
        {page && <p><a href={href(page[0])}>Show {page[1]}</a></p>}
        {entry.failures.length > 0 && (
          <section>
            <h3>Restarts and their causes</h3>
            {[...entry.failures].reverse().map((f) => <Note key={f.time} tone="bad" title={`${formatTime(f.time)}, over ${f.message || "its start"}`}>{f.text}</Note>)}
          </section>
        )}
        {entry.slow.length > 0 && (
          <section>
            <h3>Last slow messages</h3>
            <table>
              <thead><tr><th scope="col">Time</th><th scope="col">Message</th><th scope="col" class="right">Waited</th><th scope="col" class="right">Took</th></tr></thead>
              <tbody>{[...entry.slow].reverse().map((s) => <tr key={s.time + s.message}><td class="nowrap-text">{formatTime(s.time).slice(11)}</td><td>{s.message}</td><td class="right">{humanSeconds(s.waitedSeconds)}</td><td class="right">{humanSeconds(s.tookSeconds)}</td></tr>)}</tbody>
            </table>
          </section>
        )}
      </div>
    </aside>
  );
}

interface Line {
  key: string;
  depth: number;
  seen: Seen[];
  folded: boolean;
  branch: boolean;
  open: boolean;
}

const ORDERS = [["tree", "Tree"], ["rate", "Rate"], ["slow", "Slowest"], ["restarts", "Restarts"]] as const;
type Order = (typeof ORDERS)[number][0];

export default function SystemPage() {
  const [world, setWorld] = useState<World | null>(null);
  const [lost, setLost] = useState<string | null>(null);
  const [paused, setPaused] = useState(false);
  const [chosen, setChosen] = useState<number | null>(null);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const latest = useRef<World | null>(null);
  const isPaused = useRef(false);
  isPaused.current = paused;
  const query = params.value;
  const search = query.get("search") ?? "";
  const unhealthy = query.get("unhealthy") === "1";
  const order: Order = ORDERS.find(([name]) => name === query.get("order"))?.[0] ?? "tree";

  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const listen = async () => {
      const ended = await events("api/v1/ext/actors/live", abort.signal, (data) => {
        latest.current = merge(latest.current, JSON.parse(data) as Update);
        setLost(null);
        if (!isPaused.current) setWorld(latest.current);
      });
      if (ended === "aborted") return;
      setLost(ended === "none" ? "There is no room for another watcher, or no stream. It is tried again." : "The connection is lost. It is tried again.");
      timer = setTimeout(listen, 2000);
    };
    void listen();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, []);

  const lines = useMemo(() => {
    if (!world) return [];
    const all = [...world.actors.values()];
    const wanted = (seen: Seen) => (!unhealthy || isUnhealthy(seen.entry)) && (search === "" || fits(search, `${seen.entry.kind} ${seen.entry.name}`));
    if (order !== "tree" || search !== "" || unhealthy) {
      const key: Record<Order, (seen: Seen) => number> = { tree: (s) => -s.entry.id, rate: (s) => rate([s]), slow: (s) => percentile([s], 0.99, world.bounds) ?? 0, restarts: (s) => s.entry.restarts };
      return all.filter(wanted).sort((a, b) => key[order](b) - key[order](a)).slice(0, 300).map((seen): Line => ({ key: String(seen.entry.id), depth: 0, seen: [seen], folded: false, branch: false, open: false }));
    }
    const byParent = new Map<number | null, Seen[]>();
    for (const seen of all) byParent.set(seen.entry.parent, [...(byParent.get(seen.entry.parent) ?? []), seen]);
    const out: Line[] = [];
    const visit = (parent: number | null, depth: number) => {
      const kinds = new Map<string, Seen[]>();
      for (const seen of byParent.get(parent) ?? []) kinds.set(seen.entry.kind, [...(kinds.get(seen.entry.kind) ?? []), seen]);
      for (const [kind, list] of kinds) {
        const key = `${parent} ${kind}`;
        const folds = list.length >= FOLD_FROM;
        if (folds) out.push({ key, depth, seen: list, folded: true, branch: true, open: opened.has(key) });
        if (folds && !opened.has(key)) continue;
        for (const seen of list) {
          out.push({ key: String(seen.entry.id), depth: depth + (folds ? 1 : 0), seen: [seen], folded: false, branch: byParent.has(seen.entry.id), open: true });
          visit(seen.entry.id, depth + (folds ? 2 : 1));
        }
      }
    };
    visit(null, 0);
    return out;
  }, [world, search, unhealthy, order, opened]);

  const total = world ? [...world.actors.values()] : [];
  const detail = chosen === null ? undefined : world?.actors.get(chosen);
  const waiting = world ? [...world.mailboxes.values()].reduce((sum, m) => sum + m.waiting, 0) : 0;
  return (
    <Page title="Actors" actions={<IconButton icon={paused ? "play" : "pause"} label={paused ? "Go on" : "Pause"} aria-pressed={paused} onClick={() => { setPaused(!paused); if (paused) setWorld(latest.current); }} />}>
      {lost && <Note tone="warn">{lost}</Note>}
      {!world ? <Skeleton /> : (
        <>
          <div class="tiles">
            <div class="tile"><span>Actors</span><b>{count(total.length)}</b></div>
            <div class="tile"><span>Messages a second</span><b>{rate(total).toFixed(0)}</b><Spark values={rates(total)} label="Messages of the last minute" width={130} /></div>
            <div class="tile"><span>Messages waiting</span><b>{count(waiting)}</b></div>
            <div class="tile"><span>Handling, 99 %</span><b>{seconds(percentile(total, 0.99, world.bounds))}</b></div>
            <div class="tile"><span>Restarts</span><b class={total.some((s) => s.entry.restarts > 0) ? "bad-text" : ""}>{count(total.reduce((sum, s) => sum + s.entry.restarts, 0))}</b></div>
          </div>
          <div class="toolbar">
            <SearchBox value={search} onInput={(s) => setParams({ search: s })} label="Filter by kind or name" />
            <Segments label="Order" value={order} options={ORDERS} onChange={(o) => setParams({ order: o === "tree" ? null : o })} />
            <Check label="Only unhealthy" checked={unhealthy} onChange={(on) => setParams({ unhealthy: on ? "1" : null })} />
            {paused && <Badge tone="warn">paused</Badge>}
          </div>
          <div class={detail ? "with-detail" : ""}>
            <div class="card table-frame">
              {lines.length === 0 ? <Empty>No actor fits.</Empty> : (
                <table class="actors">
                  <caption class="hidden">Actors</caption>
                  <thead><tr><th scope="col">Actor</th><th scope="col">State</th><th scope="col" class="right">Per second</th><th scope="col" class="narrow-off">Last minute</th><th scope="col" class="right">p50</th><th scope="col" class="right">p99</th><th scope="col" class="right narrow-off">Waiting</th><th scope="col" class="right">Restarts</th></tr></thead>
                  <tbody>
                    {lines.map((line) => {
                      const first = line.seen[0]!;
                      const entry = first.entry;
                      const restarts = line.seen.reduce((sum, s) => sum + s.entry.restarts, 0);
                      const bad = line.seen.filter((s) => s.entry.state !== "running").length;
                      const alone = total.filter((s) => s.entry.kind === entry.kind).length === 1 || line.folded;
                      const waits = alone ? (world.mailboxes.get(entry.kind)?.waiting ?? 0) : null;
                      const label = line.folded ? `${line.seen.length} × ${entry.kind}` : entry.kind;
                      return (
                        <tr key={line.key} class={chosen === entry.id && !line.folded ? "chosen-row" : ""}>
                          <td style={{ paddingLeft: `${0.6 + line.depth * 1.1}rem` }}>
                            <button
                              type="button"
                              class="link"
                              aria-expanded={line.folded ? line.open : undefined}
                              aria-pressed={line.folded ? undefined : chosen === entry.id}
                              onClick={() => {
                                if (!line.folded) return setChosen(chosen === entry.id ? null : entry.id);
                                const next = new Set(opened);
                                if (!next.delete(line.key)) next.add(line.key);
                                setOpened(next);
                              }}
                            >
                              {line.folded ? (line.open ? "▾ " : "▸ ") : ""}{label}
                            </button>{" "}
                            {!line.folded && <span class="muted mono break">{entry.name}</span>}
                          </td>
                          <td>{line.folded ? <Badge tone={bad > 0 ? "bad" : "good"}>{bad > 0 ? `${bad} not running` : "running"}</Badge> : <State of={entry} />}</td>
                          <td class="right">{rate(line.seen).toFixed(1)}</td>
                          <td class="narrow-off"><Spark values={rates(line.seen)} label={`${label}: messages of the last minute`} /></td>
                          <td class="right nowrap-text">{seconds(percentile(line.seen, 0.5, world.bounds))}</td>
                          <td class="right nowrap-text">{seconds(percentile(line.seen, 0.99, world.bounds))}</td>
                          <td class="right narrow-off">{waits === null ? "" : <span class="nowrap-text"><Bar part={waits / 64} tone={waits > 32 ? "bad" : "info"} label={`${waits} messages wait`} /> {waits}</span>}</td>
                          <td class={`right ${restarts > 0 ? "bad-text" : ""}`}>{restarts}</td>
                        </tr>
                      );
                    })}
                  </tbody>
                </table>
              )}
            </div>
            {detail && <Detail of={detail} world={world} onClose={() => setChosen(null)} />}
          </div>
        </>
      )}
    </Page>
  );
}
