// The workbench of the configuration: a text, what is wrong with it, and what a reload with it would do. Nothing is applied here.
import { useEffect, useState } from "preact/hooks";
import { postText, type ApiError } from "../lib/api";
import { env } from "../lib/env";
import { Badge, Check, Empty, Failure, Note, Table, type Tone } from "../lib/ui";
import { Diff } from "../lib/yaml";
import { Problems, problemsOf, YamlEditor, type Problem } from "../lib/yaml-editor";

export interface Change {
  part: string;
  name: string;
  effect: "start" | "stop" | "change" | "keep";
  detail: string;
}

interface Plan {
  before: string;
  after: string;
  changes: Change[];
  warnings: string[];
}

const EFFECTS: Record<Change["effect"], [Tone, string]> = { start: ["good", "starts"], stop: ["bad", "stops"], change: ["warn", "changes"], keep: ["plain", "stays"] };
const ORDER = ["stop", "start", "change", "keep"];

export function Changes({ of }: { of: Change[] }) {
  return (
    <Table
      caption="What becomes of each part"
      rows={[...of].sort((a, b) => ORDER.indexOf(a.effect) - ORDER.indexOf(b.effect))}
      rowKey={(c) => `${c.part} ${c.name}`}
      columns={[
        { title: "Part", cell: (c) => <><b>{c.part}</b> <span class="mono break">{c.name}</span></>, key: (c) => `${c.part} ${c.name}` },
        { title: "Effect", cell: (c) => <Badge tone={EFFECTS[c.effect][0]}>{EFFECTS[c.effect][1]}</Badge>, key: (c) => ORDER.indexOf(c.effect) },
        { title: "In words", cell: (c) => <span class="break">{c.detail || (c.effect === "keep" ? "is left alone" : "")}</span>, wide: true },
      ]}
    />
  );
}

export function Workbench({ yaml }: { yaml: string }) {
  const [text, setText] = useState(yaml);
  const [plan, setPlan] = useState<Plan | null>(null);
  const [problems, setProblems] = useState<Problem[]>([]);
  const [error, setError] = useState<ApiError | null>(null);
  const [asked, setAsked] = useState("");
  const [all, setAll] = useState(false);
  useEffect(() => {
    if (text === "") setText(yaml);
  }, [yaml]);
  const ask = async () => {
    setError(null);
    setProblems([]);
    setPlan(null);
    setAsked(text);
    try {
      setPlan((await postText<Plan>("ext/config/plan", text)).data);
    } catch (failure) {
      const found = problemsOf((failure as ApiError).body);
      setProblems(found);
      if (found.length === 0) setError(failure as ApiError);
    }
  };
  if (!env.admin) return <Note tone="info" title="Not switched on">The workbench reads the files that a configuration names, so it needs --web.enable-admin-api.</Note>;
  const changes = plan?.changes.filter((c) => all || c.effect !== "keep") ?? [];
  return (
    <div class="stack">
      <p class="muted">Edit or paste a configuration and see what a reload with it would do. Nothing is applied. It begins with the one in force; secrets are masked, which counts as no change.</p>
      <YamlEditor value={text} onChange={setText} label="Configuration" problems={text === asked ? problems : []} />
      <div class="row">
        <button type="button" class="button primary" onClick={() => void ask()}>Plan the reload</button>
        <button type="button" class="button" onClick={() => setText(yaml)}>Back to the one in force</button>
        {plan && text !== asked && <span class="muted">the text has changed since</span>}
      </div>
      {error && <Failure error={error} />}
      {problems.length > 0 && <Note tone="bad" title={`${problems.length} problem${problems.length === 1 ? "" : "s"}: a reload would change nothing`}><Problems of={problems} /></Note>}
      {plan && (
        <>
          {plan.warnings.length > 0 && <Note tone="warn" title="Worth knowing">{plan.warnings.join("\n")}</Note>}
          <section class="card" aria-label="Plan">
            <header>
              <h2>Plan</h2>
              <span class="muted">{plan.changes.filter((c) => c.effect !== "keep").length} of {plan.changes.length} parts change</span>
              <Check label="Also what stays" checked={all} onChange={setAll} />
            </header>
            {changes.length === 0 ? <Empty>Nothing changes.</Empty> : <Changes of={changes} />}
          </section>
          <section class="stack"><h2>Difference</h2><Diff before={plan.before} after={plan.after} /></section>
        </>
      )}
    </div>
  );
}
