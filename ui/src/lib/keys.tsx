// Keys that work on every page, and the list of all keys.
import { useEffect } from "preact/hooks";
import { env } from "./env";
import { navigate } from "./router";
import { Dialog } from "./ui";

const GO: Record<string, [string, string]> = {
  q: ["query", "query"],
  a: ["alerts", "alerts"],
  t: ["targets", "targets"],
  r: ["rules", "rules"],
  d: ["service-discovery", "service discovery"],
  c: ["config", "configuration"],
  s: ["status", "status"],
  y: ["system", "actors"],
  u: ["queries", "running queries"],
  n: ["cardinality", "cardinality"],
};

/// How long `g` waits for the second key, ms.
const SECOND_KEY_MS = 1200;

const isTyping = (target: EventTarget | null) => target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

export function useShortcuts(help: () => void) {
  useEffect(() => {
    let went = 0;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
      const now = performance.now();
      const target = GO[event.key];
      if (target && now - went < SECOND_KEY_MS) {
        went = 0;
        event.preventDefault();
        navigate(target[0]);
        return;
      }
      went = event.key === "g" ? now : 0;
      if (event.key === "?") {
        event.preventDefault();
        help();
      } else if (event.key === "/") {
        const field = document.querySelector<HTMLElement>(".cm-content, [data-search]");
        if (field) {
          event.preventDefault();
          field.focus();
        }
      }
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
}

const EDITOR: [string, string][] = [
  ["Enter", "run the query"],
  ["Ctrl Enter", "run the query"],
  ["Shift Enter", "new line"],
  ["Ctrl Space", "completions"],
  ["Ctrl ↑", "earlier queries"],
  ["Esc", "leave the editor with the next Tab"],
];
const GRAPH: [string, string][] = [
  ["← →", "move the cursor"],
  ["Home End", "first and last point"],
  ["+ −", "shorter and longer range"],
  ["Shift ← →", "earlier and later"],
  ["drag", "zoom in"],
  ["Shift drag", "move"],
  ["Ctrl wheel", "zoom"],
];

function Keys({ title, rows }: { title: string; rows: [string, string][] }) {
  return (
    <section>
      <h3>{title}</h3>
      <table>
        <tbody>
          {rows.map(([keys, what]) => (
            <tr key={keys}>
              <td style={{ width: "9rem" }}>
                {keys.split(" ").map((key) => (
                  <>
                    <kbd key={key}>{key}</kbd>{" "}
                  </>
                ))}
              </td>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function HelpDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys and documentation" onClose={onClose} wide>
      <div class="columns">
        <Keys title="Everywhere" rows={[["?", "this list"], ["/", "to the search or the editor"], ...Object.entries(GO).map(([key, [, what]]): [string, string] => [`g ${key}`, `go to ${what}`])]} />
        <div class="stack">
          <Keys title="Editor" rows={EDITOR} />
          <Keys title="Graph" rows={GRAPH} />
          <p>
            <a href="https://prometheus.io/docs/prometheus/latest/querying/basics/" target="_blank" rel="noreferrer">
              Documentation of the query language
            </a>
          </p>
          <p class="muted">{env.title}</p>
        </div>
      </div>
    </Dialog>
  );
}
