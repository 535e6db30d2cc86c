// The Alertmanagers that get alerts, and those that relabelling dropped.
import { useApi } from "../lib/api";
import { Badge, Empty, Page, Show, Table } from "../lib/ui";

interface Found {
  activeAlertmanagers: { url: string }[];
  droppedAlertmanagers: { url: string }[];
}

/// The Alertmanager's own page behind the address that alerts are sent to.
function home(url: string): string {
  try {
    const { origin, pathname } = new URL(url);
    return origin + pathname.replace(/api\/v[12]\/alerts$/, "");
  } catch {
    return url;
  }
}

function List({ title, urls, tone }: { title: string; urls: string[]; tone: "good" | "plain" }) {
  return (
    <section class="card">
      <header><h2>{title}</h2><Badge tone={tone}>{String(urls.length)}</Badge></header>
      {urls.length === 0 ? <Empty>None.</Empty> : <Table caption={title} rows={urls} columns={[{ title: "Endpoint", cell: (url) => <a href={home(url)} class="break">{url}</a>, key: (url) => url }]} />}
    </section>
  );
}

export default function AlertmanagersPage() {
  const found = useApi<Found>("alertmanagers", {}, 15_000);
  return (
    <Page title="Alertmanager discovery">
      <Show of={found}>
        {(data) => (
          <>
            <List title="Active Alertmanagers" tone="good" urls={data.activeAlertmanagers.map((a) => a.url)} />
            <List title="Dropped Alertmanagers" tone="plain" urls={data.droppedAlertmanagers.map((a) => a.url)} />
          </>
        )}
      </Show>
    </Page>
  );
}
