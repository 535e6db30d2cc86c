// Runtime and build, and the state of the storage.
import { useApi } from "../lib/api";
import { ago, apiTime, bytes, count, formatTime, humanSeconds } from "../lib/format";
import { Badge, Note, Page, Show } from "../lib/ui";

type Facts = Record<string, string | number | boolean>;

interface Storage {
  readOnly: string | null;
  freeBytes: number | null;
  quarantined: { ulid: string; path: string; reason: string }[];
  scrubbed: { ulid: string; checkedTime: number; damage: string[] }[];
  logDamages: string[];
}

const TITLES: Record<string, string> = {
  startTime: "Start time", CWD: "Working directory", hostname: "Host name", serverTime: "Server time", reloadConfigSuccess: "Configuration reload", lastConfigTime: "Last successful configuration reload",
  corruptionCount: "WAL corruptions", goroutineCount: "Threads", storageRetention: "Storage retention", version: "Version", revision: "Revision", branch: "Branch", buildUser: "Build user", buildDate: "Build date", goVersion: "Toolchain",
};

function shown(name: string, value: string | number | boolean) {
  if (typeof value === "boolean") return <Badge tone={value ? "good" : "bad"}>{value ? "successful" : "failed"}</Badge>;
  if (/Time$/.test(name)) {
    const at = apiTime(String(value));
    return at === null ? "never" : `${formatTime(at)} (${ago(at)})`;
  }
  if (name === "GOMEMLIMIT") return Number(value) >= 2 ** 62 ? "none" : bytes(Number(value));
  return typeof value === "number" ? count(value) : value === "" ? "–" : value;
}

function FactTable({ title, of }: { title: string; of: Facts }) {
  return (
    <section class="card">
      <header><h2>{title}</h2></header>
      <table class="key-values">
        <tbody>{Object.entries(of).map(([name, value]) => <tr key={name}><th scope="row">{TITLES[name] ?? name}</th><td>{shown(name, value)}</td></tr>)}</tbody>
      </table>
    </section>
  );
}

export default function StatusPage() {
  const runtime = useApi<Facts>("status/runtimeinfo", {}, 30_000);
  const build = useApi<Facts>("status/buildinfo");
  const storage = useApi<Storage>("ext/storage", {}, 30_000);
  return (
    <Page title="Runtime & build information">
      <div class="columns">
        <Show of={build}>{(data) => <FactTable title="Build" of={data} />}</Show>
        <Show of={runtime}>{(data) => <FactTable title="Runtime" of={data} />}</Show>
      </div>
      <Show of={storage}>
        {(data) => (
          <section class="card">
            <header><h2>Storage</h2><Badge tone={data.readOnly === null && data.quarantined.length === 0 ? "good" : "bad"}>{data.readOnly === null && data.quarantined.length === 0 ? "sound" : "needs attention"}</Badge></header>
            <div class="card-body stack">
              {data.readOnly !== null && <Note tone="bad" title="No samples are taken">{data.readOnly}</Note>}
              {data.quarantined.map((block) => <Note key={block.ulid} tone="bad" title={`Damaged block ${block.ulid}`}>{`${block.reason}\nmoved to ${block.path}`}</Note>)}
              {data.scrubbed.filter((b) => b.damage.length > 0).map((b) => <Note key={b.ulid} tone="warn" title={`Damage in block ${b.ulid}`}>{b.damage.join("\n")}</Note>)}
              {data.logDamages.length > 0 && <Note tone="warn" title="Damage found in the log at the start">{data.logDamages.join("\n")}</Note>}
              <p>{data.freeBytes === null ? "The disk does not tell how much is free." : `${bytes(data.freeBytes)} free on the disk.`} {data.scrubbed.length > 0 && `${data.scrubbed.length} blocks read through, the last ${humanSeconds((Date.now() - Math.max(...data.scrubbed.map((b) => b.checkedTime))) / 1000)} ago.`}</p>
            </div>
          </section>
        )}
      </Show>
    </Page>
  );
}
