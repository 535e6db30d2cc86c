// The query page: its panels, and what holds for all of them.
import { useEffect, useState } from "preact/hooks";
import { get } from "../lib/api";
import { humanSeconds } from "../lib/format";
import { search } from "../lib/router";
import { Icon, Note } from "../lib/ui";
import { PanelView } from "./panel";
import { add, panels, readAddress } from "./state";
import "./query.css";

/// Difference of the clocks from which on people are told, s.
const SKEW_MAX_S = 30;

function ClockSkew() {
  const [skew, setSkew] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    const sent = Date.now();
    get<{ result: [number, string] }>("query", { query: "time()" }, abort.signal).then(
      ({ data }) => setSkew(((Date.now() + sent) / 2 - data.result[0] * 1000) / 1000),
      () => undefined,
    );
    return () => abort.abort();
  }, []);
  if (Math.abs(skew) < SKEW_MAX_S) return null;
  return (
    <Note tone="warn" title="The clocks differ">
      The clock of this browser and that of the server are {humanSeconds(Math.abs(skew))} apart; graphs up to &quot;now&quot; may show nothing or miss the end.
    </Note>
  );
}

export default function QueryPage() {
  readAddress();
  useEffect(readAddress, [search.value]);
  const all = panels.value;
  return (
    <div class="page">
      <h1 class="hidden">Query</h1>
      <ClockSkew />
      {all.map((panel, at) => (
        <PanelView key={panel.id} panel={panel} index={at} single={all.length === 1} />
      ))}
      <div>
        <button type="button" class="button" onClick={() => add()}>
          <Icon name="plus" />
          Add query
        </button>
      </div>
    </div>
  );
}
