// What a query does: the tree with what each part took and gave, out of one request, and the same in words.
import { aggregateOpTerms, functionIdentifierTerms } from "@prometheus-io/codemirror-promql/dist/esm/complete/promql.terms";
import { useEffect, useState } from "preact/hooks";
import { get, useApi, type ApiError } from "../lib/api";
import { bytes, count, humanSeconds, labelName, promDuration } from "../lib/format";
import { Bar, Empty, Failure, Note, Skeleton } from "../lib/ui";
import { add, type Panel } from "./state";
import type { Explain, QueryData, VectorSeries } from "./types";

interface Term {
  label: string;
  info?: string;
}

const DOCS = new Map<string, string>([...(functionIdentifierTerms as Term[]), ...(aggregateOpTerms as Term[])].map((term) => [term.label, term.info ?? ""]));

/// A node of `/api/v1/parse_query`.
interface Ast {
  type: string;
  name?: string;
  op?: string;
  val?: string;
  matchers?: { name: string; type: string; value: string }[];
  range?: number;
  step?: number;
  offset?: number;
  timestamp?: number | null;
  startOrEnd?: string | null;
  func?: { name: string; argTypes: string[]; returnType: string };
  args?: Ast[];
  expr?: Ast;
  param?: Ast | null;
  grouping?: string[];
  without?: boolean;
  lhs?: Ast;
  rhs?: Ast;
  matching?: { card: string; labels: string[]; on: boolean; include: string[] } | null;
  bool?: boolean;
}

/// One request: the tree comes with the result.
export function useExplain(panel: Panel, run: number) {
  const [state, setState] = useState<{ explain: Explain | null; error: ApiError | null; loading: boolean }>({ explain: null, error: null, loading: false });
  useEffect(() => {
    if (panel.expr === "") return;
    const abort = new AbortController();
    setState((old) => ({ ...old, loading: true, error: null }));
    get<QueryData>("query", { query: panel.expr, time: (panel.endMs ?? Date.now()) / 1000, explain: "analyze" }, abort.signal).then(
      ({ data }) => setState({ explain: data.explain ?? null, error: null, loading: false }),
      (error) => abort.signal.aborted || setState({ explain: null, error: error as ApiError, loading: false }),
    );
    return () => abort.abort();
  }, [panel.expr, panel.endMs, run]);
  return state;
}

function Node({ of, total, depth, chosen, onChoose }: { of: Explain; total: number; depth: number; chosen: Explain | null; onChoose: (node: Explain) => void }) {
  const share = total > 0 ? of.ownSeconds / total : 0;
  return (
    <li role="treeitem" aria-selected={chosen === of} aria-level={depth + 1} aria-expanded={of.children.length > 0 ? true : undefined}>
      <button type="button" class={`node ${chosen === of ? "chosen" : ""}`} onClick={() => onChoose(of)} title={of.query}>
        <code>{of.query}</code>
        <span class="node-facts">
          <span><b>{count(of.seriesOut)}</b> series</span>
          <Bar part={share} tone={share > 0.5 ? "bad" : share > 0.2 ? "warn" : "info"} label={`${(share * 100).toFixed(0)} % of the time`} />
          <span>{humanSeconds(of.ownSeconds)} own</span>
          <span>{of.samples > 0 ? `${count(of.samples)} samples` : ""}</span>
          <span>{of.bytes > 0 ? bytes(of.bytes) : ""}</span>
        </span>
      </button>
      {of.children.length > 0 && (
        <ul role="group">
          {of.children.map((child, at) => (
            <Node key={at} of={child} total={total} depth={depth + 1} chosen={chosen} onChoose={onChoose} />
          ))}
        </ul>
      )}
    </li>
  );
}

/// Series of a part that are looked at for its labels.
const PEEK_MAX = 1000;

/// What one part gives: its labels with the values seen most.
function NodeDetail({ of, time }: { of: Explain; time: number }) {
  const values = useApi<QueryData>("query", { query: of.query, time, limit: PEEK_MAX });
  const series = values.data?.resultType === "vector" ? (values.data.result as VectorSeries[]) : [];
  const labels = new Map<string, Map<string, number>>();
  for (const { metric } of series) {
    for (const [name, value] of Object.entries(metric)) {
      const seen = labels.get(name) ?? new Map<string, number>();
      seen.set(value, (seen.get(value) ?? 0) + 1);
      labels.set(name, seen);
    }
  }
  return (
    <div class="node-detail stack">
      <div class="row">
        <strong>{of.operator}</strong>
        <span class="muted">
          {count(of.seriesIn)} series in, {count(of.seriesOut)} out · {humanSeconds(of.totalSeconds)} with its parts · {of.evaluations} evaluation{of.evaluations === 1 ? "" : "s"}
        </span>
        <button type="button" class="button push" onClick={() => add({ expr: of.query })}>
          Query this part
        </button>
      </div>
      {values.error && <Failure error={values.error} />}
      {[...labels].slice(0, 12).map(([name, seen]) => {
        const top = [...seen].sort((a, b) => b[1] - a[1]);
        return (
          <div class="row tight" key={name}>
            <span class="mono">{labelName(name)}</span>
            <span class="muted">{seen.size} value{seen.size === 1 ? "" : "s"}</span>
            <span class="labels">{top.slice(0, 10).map(([value, n]) => <span class="label" key={value}>{value} ({n})</span>)}</span>
          </div>
        );
      })}
    </div>
  );
}

export function Tree({ panel, run }: { panel: Panel; run: number }) {
  const { explain, error, loading } = useExplain(panel, run);
  const [chosen, setChosen] = useState<Explain | null>(null);
  useEffect(() => setChosen(null), [explain]);
  if (error) return <Failure error={error} title="No tree" />;
  if (!explain) return loading ? <Skeleton /> : <Empty>This server gave no tree for the query.</Empty>;
  return (
    <div class="tree stack">
      <ul role="tree" aria-label="Parts of the query">
        <Node of={explain} total={explain.totalSeconds} depth={0} chosen={chosen} onChoose={(node) => setChosen(node === chosen ? null : node)} />
      </ul>
      {chosen && <NodeDetail of={chosen} time={(panel.endMs ?? Date.now()) / 1000} />}
    </div>
  );
}

const CARDS: Record<string, string> = {
  "one-to-one": "each series on the left matches at most one on the right",
  "many-to-one": "several series on the left may match one on the right",
  "one-to-many": "one series on the left may match several on the right",
  "many-to-many": "series of both sides are compared as sets",
};

function time(of: Ast): string {
  const parts: string[] = [];
  if (of.offset) parts.push(of.offset > 0 ? `${promDuration(of.offset)} earlier` : `${promDuration(-of.offset)} later`);
  if (of.timestamp) parts.push(`at ${new Date(of.timestamp).toISOString()}`);
  if (of.startOrEnd) parts.push(`at the ${of.startOrEnd} of the query's range`);
  return parts.length > 0 ? `, ${parts.join(", ")}` : "";
}

function words(of: Ast): { title: string; text: string } {
  switch (of.type) {
    case "vectorSelector":
      return { title: "Instant selector", text: `The newest sample of each matching series, not older than the lookback${time(of)}.` };
    case "matrixSelector":
      return { title: "Range selector", text: `All samples of each matching series within ${promDuration(of.range ?? 0)}${time(of)}.` };
    case "subquery":
      return { title: "Subquery", text: `The inner expression, evaluated over ${promDuration(of.range ?? 0)}${of.step ? ` every ${promDuration(of.step)}` : " at the default interval"}${time(of)}.` };
    case "call":
      return { title: `Function ${of.func?.name ?? ""}()`, text: DOCS.get(of.func?.name ?? "") ?? "" };
    case "aggregation":
      return {
        title: `Aggregation ${of.op ?? ""}`,
        text: `${DOCS.get(of.op ?? "") ?? ""}. ${of.without ? `One result for each combination of all labels but ${of.grouping?.map(labelName).join(", ") || "none"}.` : of.grouping?.length ? `One result for each combination of ${of.grouping.map(labelName).join(", ")}.` : "One result of all series."}`,
      };
    case "binaryExpr": {
      const { matching } = of;
      const on = matching ? (matching.on ? `on ${matching.labels.map(labelName).join(", ") || "no label"}` : matching.labels.length ? `on all labels but ${matching.labels.map(labelName).join(", ")}` : "on all labels") : "";
      return {
        title: `Operator ${of.op ?? ""}${of.bool ? " bool" : ""}`,
        text: matching ? `Series of both sides are matched ${on}: ${CARDS[matching.card] ?? matching.card}.${matching.include.length ? ` The result also has ${matching.include.map(labelName).join(", ")} of the single side.` : ""}` : "Applied to each value.",
      };
    }
    case "unaryExpr":
      return { title: `Sign ${of.op ?? ""}`, text: of.op === "-" ? "The negative of each value." : "No change." };
    case "parenExpr":
      return { title: "Parentheses", text: "" };
    case "numberLiteral":
      return { title: `Number ${of.val ?? ""}`, text: "" };
    case "stringLiteral":
      return { title: "Text", text: of.val ?? "" };
    default:
      return { title: of.type, text: "" };
  }
}

const childrenOf = (of: Ast): Ast[] => [of.param, of.expr, of.lhs, of.rhs, ...(of.args ?? [])].filter((child): child is Ast => Boolean(child));

function Words({ of }: { of: Ast }) {
  const { title, text } = words(of);
  const children = childrenOf(of);
  if (of.type === "parenExpr" && children[0]) return <Words of={children[0]} />;
  return (
    <li>
      <strong>{title}</strong> {text}
      {of.matchers && (
        <div>
          <span class="labels">
            {of.matchers.map((m, at) => (
              <span class="label" key={at}>
                {m.name === "__name__" ? "metric" : labelName(m.name)} {m.type} &quot;{m.value}&quot;
              </span>
            ))}
          </span>
        </div>
      )}
      {children.length > 0 && <ul>{children.map((child, at) => <Words key={at} of={child} />)}</ul>}
    </li>
  );
}

/// Groups of a join, shown at most.
const GROUPS_MAX = 50;

/// How the series of both sides find each other.
function Join({ of, explain, at }: { of: Ast; explain: Explain; at: number }) {
  const [left, right] = explain.children;
  const lhs = useApi<QueryData>(left ? "query" : null, { query: left?.query, time: at, limit: PEEK_MAX });
  const rhs = useApi<QueryData>(right ? "query" : null, { query: right?.query, time: at, limit: PEEK_MAX });
  if (!of.matching || !lhs.data || !rhs.data || lhs.data.resultType !== "vector" || rhs.data.resultType !== "vector") return null;
  const { on, labels, card } = of.matching;
  const key = (metric: Record<string, string>) => {
    const names = on ? labels : Object.keys(metric).filter((name) => name !== "__name__" && !labels.includes(name)).sort();
    return names.map((name) => `${labelName(name)}="${metric[name] ?? ""}"`).join(", ");
  };
  const groups = new Map<string, [number, number]>();
  for (const [side, data] of [lhs.data.result as VectorSeries[], rhs.data.result as VectorSeries[]].entries()) {
    for (const { metric } of data) {
      const group = groups.get(key(metric)) ?? [0, 0];
      group[side as 0 | 1] += 1;
      groups.set(key(metric), group);
    }
  }
  const verdict = ([l, r]: [number, number]): [string, "good" | "bad" | "plain"] => {
    if (l === 0 || r === 0) return [card === "many-to-many" ? "on one side" : "no partner", "plain"];
    if ((card === "one-to-one" && (l > 1 || r > 1)) || (card === "many-to-one" && r > 1) || (card === "one-to-many" && l > 1)) return ["too many: this is an error", "bad"];
    return ["matched", "good"];
  };
  return (
    <div class="stack">
      <h3>How the sides of {of.op} match</h3>
      <div class="table-frame">
        <table>
          <thead>
            <tr><th scope="col">Group</th><th scope="col" class="right">Left</th><th scope="col" class="right">Right</th><th scope="col">Outcome</th></tr>
          </thead>
          <tbody>
            {[...groups].slice(0, GROUPS_MAX).map(([name, sides]) => {
              const [text, tone] = verdict(sides);
              return (
                <tr key={name}>
                  <td class="mono">{name || "{}"}</td>
                  <td class="right">{sides[0]}</td>
                  <td class="right">{sides[1]}</td>
                  <td class={tone === "bad" ? "bad-text" : ""}>{text}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {groups.size > GROUPS_MAX && <p class="muted">{groups.size - GROUPS_MAX} more groups are not shown.</p>}
    </div>
  );
}

export function ExplainTab({ panel, run }: { panel: Panel; run: number }) {
  const parsed = useApi<Ast>(panel.expr === "" ? null : "parse_query", { query: panel.expr });
  const explained = useExplain(panel, run);
  if (panel.expr === "") return <Empty>Enter an expression to have it explained.</Empty>;
  if (parsed.error) return <Failure error={parsed.error} />;
  if (!parsed.data) return <Skeleton />;
  let top = parsed.data;
  while (top.type === "parenExpr" && top.expr) top = top.expr;
  const at = (panel.endMs ?? Date.now()) / 1000;
  const root = explained.explain;
  return (
    <div class="stack">
      {root && (
        <p class="muted" role="status">
          Evaluated in {humanSeconds(root.totalSeconds)}: {count(root.seriesOut)} series.
        </p>
      )}
      {explained.error && <Note tone="bad" title="The evaluation failed">{explained.error.message}</Note>}
      <ul class="words"><Words of={parsed.data} /></ul>
      {top.type === "binaryExpr" && root && <Join key={panel.expr} of={top} explain={root} at={at} />}
      {!panel.showTree && <Tree panel={panel} run={run} />}
    </div>
  );
}
