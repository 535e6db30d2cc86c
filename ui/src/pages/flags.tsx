// The flags the server was started with.
import { useMemo } from "preact/hooks";
import { useApi } from "../lib/api";
import { fits } from "../lib/fuzzy";
import { params, setParams } from "../lib/router";
import { CopyButton, Empty, Page, SearchBox, Show, Table } from "../lib/ui";

export default function FlagsPage() {
  const search = params.value.get("search") ?? "";
  const flags = useApi<Record<string, string>>("status/flags");
  const rows = useMemo(() => Object.entries(flags.data ?? {}).filter(([name, value]) => search === "" || fits(search, `${name} ${value}`)), [flags.data, search]);
  return (
    <Page title="Command-line flags">
      <div class="toolbar"><SearchBox value={search} onInput={(s) => setParams({ search: s })} label="Filter by name or value" /></div>
      <Show of={flags}>
        {() => (rows.length === 0 ? <Empty>No flag fits.</Empty> : (
          <div class="card">
            <Table caption="Flags" rows={rows} rowKey={([name]) => name} columns={[{ title: "Flag", cell: ([name]) => <code>--{name}</code>, key: ([name]) => name }, { title: "Value", cell: ([name, value]) => <span class="row tight"><code class="break">{value}</code>{value !== "" && <CopyButton text={`--${name}=${value}`} label={`Copy --${name}`} />}</span>, key: ([, value]) => value, wide: true }]} />
          </div>
        ))}
      </Show>
    </Page>
  );
}
