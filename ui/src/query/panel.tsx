// One panel: the editor with its menu, the tree, and the tabs.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, type ApiError } from "../lib/api";
import { promDuration } from "../lib/format";
import { favourites, remember } from "../lib/settings";
import { copyText, Failure, Icon, IconButton, Menu, Select } from "../lib/ui";
import { href } from "../lib/router";
import { Editor } from "./editor";
import { ExplainTab, Tree } from "./explain";
import { Explorer } from "./explorer";
import { GraphTab } from "./graph";
import { HistoryDialog } from "./history";
import { add, change, encode, remove, type Panel, type Tab } from "./state";
import { TableTab } from "./table";

const TABS: [Tab, string, "format" | "chart" | "info"][] = [
  ["table", "Table", "format"],
  ["graph", "Graph", "chart"],
  ["explain", "Explain", "info"],
];

const REFRESH: [string, string][] = [["0", "no refresh"], ...[5, 10, 30, 60, 300].map((s): [string, string] => [String(s * 1000), `every ${promDuration(s * 1000)}`])];

export function PanelView({ panel, index, single }: { panel: Panel; index: number; single: boolean }) {
  const [draft, setDraft] = useState(panel.expr);
  const [run, setRun] = useState(0);
  const [error, setError] = useState<string | null>(null);
  const [formatError, setFormatError] = useState<Error | null>(null);
  const [open, setOpen] = useState<"explorer" | "history" | null>(null);
  const last = useRef(panel.expr);

  // A link or Back brings another expression.
  useEffect(() => {
    if (panel.expr !== last.current) {
      last.current = panel.expr;
      setDraft(panel.expr);
    }
  }, [panel.expr]);

  const execute = useCallback(
    (text: string) => {
      const expr = text.trim();
      last.current = expr;
      setError(null);
      remember(expr);
      setDraft(text);
      if (expr !== panel.expr) change(panel.id, { expr });
      setRun((n) => n + 1);
    },
    [panel.id, panel.expr],
  );

  useEffect(() => {
    if (panel.refreshMs <= 0 || panel.expr === "") return;
    const timer = setInterval(() => document.visibilityState === "visible" && setRun((n) => n + 1), panel.refreshMs);
    return () => clearInterval(timer);
  }, [panel.refreshMs, panel.expr]);

  const format = async () => {
    setFormatError(null);
    try {
      setDraft((await get<string>("format_query", { query: draft })).data);
    } catch (failure) {
      setFormatError(failure as Error);
      setError((failure as ApiError).message);
    }
  };

  const insert = (text: string) => {
    setOpen(null);
    execute(text);
  };
  const starred = favourites.value.includes(panel.expr);
  const name = single ? "" : ` ${index + 1}`;

  return (
    <section class="card panel" aria-label={`Query${name}`}>
      <div class="panel-head">
        <div class="editor-frame">
          <Icon name="search" />
          <Editor value={draft} onChange={setDraft} onRun={() => execute(draft)} label={`Expression${name}`} error={error} focus={index === 0 && panel.expr === ""} />
          <Menu label={`More for query${name}`} className="at-right" trigger={<Icon name="menu" />}>
            {(close) => {
              const item = (label: string, icon: Parameters<typeof Icon>[0]["name"], act: () => void) => (
                <button
                  key={label}
                  type="button"
                  onClick={() => {
                    close();
                    act();
                  }}
                >
                  <Icon name={icon} />
                  {label}
                </button>
              );
              return (
                <>
                  {item("Explore metrics", "search", () => setOpen("explorer"))}
                  {item("Format expression", "format", () => void format())}
                  {item(panel.showTree ? "Hide tree view" : "Show tree view", "tree", () => change(panel.id, { showTree: !panel.showTree }))}
                  {item("History and favourites", "clock", () => setOpen("history"))}
                  {item(starred ? "No longer a favourite" : "Keep as favourite", "star", () => (favourites.value = starred ? favourites.value.filter((q) => q !== panel.expr) : [panel.expr, ...favourites.value]))}
                  {item("Copy link", "copy", () => void copyText(`${location.origin}${href(`query?${encode([panel])}`)}`))}
                  {item("Duplicate query", "dup", () => add({ ...panel, expr: draft.trim() }, panel.id))}
                  {item("Remove query", "close", () => remove(panel.id))}
                </>
              );
            }}
          </Menu>
        </div>
        <button type="button" class="button primary" onClick={() => execute(draft)}>
          Execute
        </button>
      </div>
      {formatError && <Failure error={formatError} title="This expression cannot be formatted" />}
      {panel.showTree && panel.expr !== "" && <Tree panel={panel} run={run} />}
      <div class="tabs">
        <div class="row nowrap-tabs" role="tablist" aria-label={`Views of query${name}`}>
        {TABS.map(([tab, title, icon]) => (
          <button key={tab} type="button" role="tab" id={`tab-${panel.id}-${tab}`} aria-selected={panel.tab === tab} aria-controls={`view-${panel.id}`} tabIndex={panel.tab === tab ? 0 : -1} onClick={() => change(panel.id, { tab })} onKeyDown={(e) => moveTab(e, panel)}>
            <Icon name={icon} />
            {title}
          </button>
        ))}
        </div>
        <span class="push row tight">
          <Select label="Automatic refresh" value={String(panel.refreshMs)} options={REFRESH.some(([ms]) => ms === String(panel.refreshMs)) ? REFRESH : [...REFRESH, [String(panel.refreshMs), `every ${promDuration(panel.refreshMs)}`]]} onChange={(ms) => change(panel.id, { refreshMs: Number(ms) })} />
          {!single && <IconButton icon="close" label={`Remove query${name}`} onClick={() => remove(panel.id)} />}
        </span>
      </div>
      <div id={`view-${panel.id}`} role="tabpanel" aria-labelledby={`tab-${panel.id}-${panel.tab}`} class="panel-body">
        {panel.tab === "table" && <TableTab panel={panel} run={run} onError={setError} />}
        {panel.tab === "graph" && <GraphTab panel={panel} run={run} onError={setError} />}
        {panel.tab === "explain" && <ExplainTab panel={panel} run={run} />}
      </div>
      {open === "explorer" && <Explorer onClose={() => setOpen(null)} onInsert={insert} />}
      {open === "history" && <HistoryDialog onClose={() => setOpen(null)} onInsert={insert} />}
    </section>
  );
}

function moveTab(event: KeyboardEvent, panel: Panel) {
  if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
  const at = TABS.findIndex(([tab]) => tab === panel.tab);
  const next = TABS[(at + (event.key === "ArrowRight" ? 1 : TABS.length - 1)) % TABS.length];
  if (!next) return;
  event.preventDefault();
  change(panel.id, { tab: next[0] });
  document.getElementById(`tab-${panel.id}-${next[0]}`)?.focus();
}
