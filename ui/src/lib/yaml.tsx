// YAML to look at: lines with numbers, colours for keys and values, places that can be linked to and found.
import { useEffect, useRef } from "preact/hooks";
import { CopyButton } from "./ui";

interface Token {
  text: string;
  kind: "" | "key" | "str" | "num" | "com";
}

/// The parts of one line. Colours only: what it does not know is shown plainly.
export function tokens(line: string): Token[] {
  const out: Token[] = [];
  const indent = /^\s*(?:- )*/.exec(line)?.[0] ?? "";
  if (indent) out.push({ text: indent, kind: "" });
  let rest = line.slice(indent.length);
  if (rest.startsWith("#")) return [...out, { text: rest, kind: "com" }];
  const key = /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s:#"'{[][^:#]*?)(:)(?=\s|$)/.exec(rest);
  if (key) {
    out.push({ text: key[1]!, kind: "key" }, { text: ":", kind: "" });
    rest = rest.slice(key[0].length);
  }
  const comment = /\s#.*$/.exec(rest)?.[0] ?? "";
  const value = comment ? rest.slice(0, -comment.length) : rest;
  if (value) out.push({ text: value, kind: /^\s*(-?[\d.]+(ms|[smhdwy]|[KMGT]i?B)?|true|false|null|~)\s*$/.test(value) ? "num" : "str" });
  if (comment) out.push({ text: comment, kind: "com" });
  return out;
}

function Marked({ text, pattern }: { text: string; pattern: string }) {
  if (pattern === "") return <>{text}</>;
  const at = text.toLowerCase().indexOf(pattern);
  if (at < 0) return <>{text}</>;
  return (
    <>
      {text.slice(0, at)}
      <mark>{text.slice(at, at + pattern.length)}</mark>
      <Marked text={text.slice(at + pattern.length)} pattern={pattern} />
    </>
  );
}

export function Yaml({ text, pattern = "", lines = false }: { text: string; pattern?: string; lines?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const wanted = pattern.trim().toLowerCase();
  const all = text.replace(/\n$/, "").split("\n");
  useEffect(() => {
    if (wanted) box.current?.querySelector("mark")?.scrollIntoView({ block: "center" });
  }, [wanted]);
  return (
    <div class="code-frame">
      <span class="code-copy"><CopyButton text={text} label="Copy all" /></span>
      <div class="code" ref={box} tabIndex={0} role="region" aria-label="YAML">
        {all.map((line, at) => (
          <div class="line" key={at} id={lines ? `L${at + 1}` : undefined}>
            {lines ? <a href={`#L${at + 1}`} aria-label={`Line ${at + 1}`}>{at + 1}</a> : <a aria-hidden="true">{at + 1}</a>}
            <span>
              {tokens(line).map((token, n) => (
                <span key={n} class={token.kind ? `t-${token.kind}` : ""}><Marked text={token.text} pattern={wanted} /></span>
              ))}
            </span>
          </div>
        ))}
      </div>
    </div>
  );
}

export interface DiffLine {
  kind: "same" | "added" | "removed" | "gap";
  text: string;
  /// Lines before and after, from 1.
  before?: number;
  after?: number;
}

/// Lines from which on a difference is not looked for line by line.
const DIFF_MAX = 4000;

/// The difference of two texts by lines (longest common subsequence), with a few equal lines around.
export function diff(before: string, after: string, around = 3): DiffLine[] {
  const a = before.split("\n");
  const b = after.split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const x = a.slice(head, a.length - tail);
  const y = b.slice(head, b.length - tail);
  const middle: DiffLine[] = [];
  if (x.length * y.length > DIFF_MAX * DIFF_MAX) {
    x.forEach((text, n) => middle.push({ kind: "removed", text, before: head + n + 1 }));
    y.forEach((text, n) => middle.push({ kind: "added", text, after: head + n + 1 }));
  } else {
    const width = y.length + 1;
    const best = new Uint16Array((x.length + 1) * width);
    for (let i = x.length - 1; i >= 0; i -= 1) for (let j = y.length - 1; j >= 0; j -= 1) best[i * width + j] = x[i] === y[j] ? best[(i + 1) * width + j + 1]! + 1 : Math.max(best[(i + 1) * width + j]!, best[i * width + j + 1]!);
    let i = 0;
    let j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) {
        middle.push({ kind: "same", text: x[i]!, before: head + i + 1, after: head + j + 1 });
        i += 1;
        j += 1;
      } else if (j >= y.length || (i < x.length && best[(i + 1) * width + j]! >= best[i * width + j + 1]!)) {
        middle.push({ kind: "removed", text: x[i]!, before: head + i + 1 });
        i += 1;
      } else {
        middle.push({ kind: "added", text: y[j]!, after: head + j + 1 });
        j += 1;
      }
    }
  }
  const whole: DiffLine[] = [...a.slice(0, head).map((text, n): DiffLine => ({ kind: "same", text, before: n + 1, after: n + 1 })), ...middle, ...a.slice(a.length - tail).map((text, n): DiffLine => ({ kind: "same", text, before: a.length - tail + n + 1, after: b.length - tail + n + 1 }))];
  if (middle.length === 0) return [];
  const near = new Uint8Array(whole.length);
  whole.forEach((line, at) => {
    if (line.kind !== "same") near.fill(1, Math.max(0, at - around), at + around + 1);
  });
  const out: DiffLine[] = [];
  whole.forEach((line, at) => {
    if (near[at]) out.push(line);
    else if (out.length === 0 || out[out.length - 1]!.kind !== "gap") out.push({ kind: "gap", text: "…" });
  });
  return out;
}

export function Diff({ before, after }: { before: string; after: string }) {
  const lines = diff(before, after);
  if (lines.length === 0) return <p class="empty">No difference.</p>;
  return (
    <div class="code" tabIndex={0} role="region" aria-label="Difference">
      {lines.map((line, at) => (
        <div key={at} class={`line ${line.kind === "same" || line.kind === "gap" ? "" : line.kind}`}>
          <a>{line.kind === "added" ? line.after : line.before}</a>
          <span>{line.kind === "added" ? "+ " : line.kind === "removed" ? "− " : "  "}{line.text}</span>
        </div>
      ))}
    </div>
  );
}
