// An editor for YAML with the places of errors marked.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "preact/hooks";
import { Echo } from "./echo";
import { env } from "./env";

export interface Problem {
  file: string;
  line: number;
  column: number;
  message: string;
}

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], class: "t-key" },
  { tag: [tags.string, tags.content, tags.attributeValue], class: "t-str" },
  { tag: tags.comment, class: "t-com" },
]);

export function YamlEditor({ value, onChange, label, problems }: { value: string; onChange: (text: string) => void; label: string; problems: Problem[] }) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const echo = useRef(new Echo());
  const change = useRef(onChange);
  change.current = onChange;
  useEffect(() => {
    if (!host.current) return;
    const editor = new EditorView({
      parent: host.current,
      state: EditorState.create({
        doc: value,
        extensions: [
          env.nonce ? EditorView.cspNonce.of(env.nonce) : [],
          lineNumbers(),
          history(),
          indentOnInput(),
          bracketMatching(),
          lintGutter(),
          yaml(),
          syntaxHighlighting(colours),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false", tabindex: "0" }),
          // Escape and then Tab leaves the editor.
          keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
          EditorView.updateListener.of((update) => update.docChanged && echo.current.changed(update.state.doc.toString(), change.current)),
        ],
      }),
    });
    view.current = editor;
    return () => editor.destroy();
  }, []);
  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    echo.current.shown(value, () => {
      if (editor.state.doc.toString() !== value) editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
    });
  }, [value]);
  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    const marks = problems
      .filter((p) => p.line > 0 && p.line <= editor.state.doc.lines)
      .map((p): Diagnostic => {
        const line = editor.state.doc.line(p.line);
        const from = p.column > 0 ? Math.min(line.to, line.from + p.column - 1) : line.from;
        return { from, to: Math.max(from, line.to), severity: "error", message: p.message };
      })
      .sort((a, b) => a.from - b.from);
    editor.dispatch(setDiagnostics(editor.state, marks));
  }, [problems]);
  return <div class="yaml-editor" ref={host} />;
}

/// The problems that an answer of the server lists.
export const problemsOf = (body: unknown): Problem[] => (body as { problems?: Problem[] } | null)?.problems ?? [];

export function Problems({ of }: { of: Problem[] }) {
  return (
    <ul class="problems" role="alert">
      {of.map((p, at) => (
        <li key={at}>
          <code>
            {p.file}
            {p.line > 0 && `:${p.line}${p.column > 0 ? `:${p.column}` : ""}`}
          </code>{" "}
          {p.message}
        </li>
      ))}
    </ul>
  );
}
