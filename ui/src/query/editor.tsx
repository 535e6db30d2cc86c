// The editor of queries: CodeMirror with the official mode for PromQL.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, startCompletion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, insertNewlineAndIndent } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintKeymap, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { Compartment, EditorState, Prec, type Extension } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { newCompleteStrategy, PromQLExtension, type CompleteStrategy } from "@prometheus-io/codemirror-promql";
import { useEffect, useRef } from "preact/hooks";
import { Echo } from "../lib/echo";
import { env } from "../lib/env";
import { enableAutocomplete, enableLinter, enableQueryHistory, enableSyntaxHighlighting, queryHistory } from "../lib/settings";
import { Client, isTruncated } from "./client";

const client = new Client();

/// The official completion with earlier queries in front, and asked again with each letter while names are cut off.
class Completion implements CompleteStrategy {
  private readonly official = newCompleteStrategy({ remote: client });

  async promQL(context: CompletionContext): Promise<CompletionResult | null> {
    const found = await this.official.promQL(context);
    const past = enableQueryHistory.value ? queryHistory.value : [];
    const text = context.state.doc.toString();
    const options = past.filter((query) => query !== text && query.includes(text.trim())).map((query) => ({
      label: query.length < 80 ? query : `${query.slice(0, 76)}…`,
      detail: "past query",
      apply: query,
      info: query.length < 80 ? undefined : query,
      boost: -1,
    }));
    const wholeText = options.length > 0 && (context.explicit || text.trim().length > 1) && context.pos === text.length;
    if (found && isTruncated()) found.validFor = undefined;
    if (!wholeText) return found;
    if (!found) return { from: 0, to: text.length, options, filter: false };
    // Results begin at different places: a past query replaces everything.
    const past_options = options.map((option) => ({
      ...option,
      apply: (view: EditorView) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: option.apply }, selection: { anchor: option.apply.length } }),
    }));
    return { ...found, options: [...found.options, ...past_options] };
  }
}

const highlight = HighlightStyle.define([
  { tag: tags.keyword, class: "t-key" },
  { tag: tags.function(tags.variableName), class: "t-fn" },
  { tag: tags.standard(tags.variableName), class: "t-fn" },
  { tag: [tags.string], class: "t-str" },
  { tag: [tags.number], class: "t-num" },
  { tag: [tags.labelName], class: "t-key" },
  { tag: [tags.variableName, tags.name], class: "t-name" },
  { tag: [tags.operator, tags.modifier, tags.operatorKeyword], class: "t-key" },
  { tag: tags.comment, class: "t-com" },
]);

/// Where an error of the parser points: `1:5: parse error: ...`.
export function errorPlace(text: string): { line: number; column: number } | null {
  const found = /(?:^|: |")(\d+):(\d+): parse error/.exec(text) ?? /(?:^|\s)(\d+):(\d+):/.exec(text);
  return found ? { line: Number(found[1]), column: Number(found[2]) } : null;
}

interface Props {
  value: string;
  onChange: (text: string) => void;
  onRun: () => void;
  label: string;
  /// An error of the server, marked at its place.
  error: string | null;
  focus?: boolean;
}

export function Editor(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const language = useRef(new Compartment());
  const pastAt = useRef(-1);
  const echo = useRef(new Echo());

  const mode = (): Extension => {
    const promql = new PromQLExtension().activateCompletion(enableAutocomplete.value).activateLinter(enableLinter.value).setComplete({ completeStrategy: new Completion() });
    return [promql.asExtension(), enableSyntaxHighlighting.value ? syntaxHighlighting(highlight) : []];
  };

  useEffect(() => {
    if (!host.current) return;
    const replace = (text: string) => {
      const editor = view.current;
      editor?.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: text }, selection: { anchor: text.length } });
    };
    const past = (step: number) => () => {
      const all = queryHistory.value;
      const next = Math.max(-1, Math.min(all.length - 1, pastAt.current + step));
      if (all.length === 0 || next === pastAt.current) return false;
      pastAt.current = next;
      replace(all[next] ?? "");
      return true;
    };
    const run = () => {
      latest.current.onRun();
      return true;
    };
    const editor = new EditorView({
      parent: host.current,
      state: EditorState.create({
        doc: props.value,
        extensions: [
          env.nonce ? EditorView.cspNonce.of(env.nonce) : [],
          history(),
          indentOnInput(),
          bracketMatching(),
          closeBrackets(),
          autocompletion({ maxRenderedOptions: 60 }),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": props.label, spellcheck: "false", tabindex: "0" }),
          placeholder("Enter expression (press Shift+Enter for newlines)"),
          Prec.highest(
            keymap.of([
              { key: "Mod-Enter", run },
              { key: "Ctrl-ArrowUp", run: past(1) },
              { key: "Ctrl-ArrowDown", run: past(-1) },
              { key: "Ctrl-Space", run: startCompletion },
            ]),
          ),
          // Behind the completion's keys: Enter takes a completion where the list is open.
          keymap.of([...closeBracketsKeymap, ...completionKeymap, { key: "Shift-Enter", run: insertNewlineAndIndent }, { key: "Enter", run }, ...defaultKeymap, ...historyKeymap, ...lintKeymap]),
          language.current.of(mode()),
          EditorView.updateListener.of((update) => update.docChanged && echo.current.changed(update.state.doc.toString(), latest.current.onChange)),
        ],
      }),
    });
    view.current = editor;
    if (props.focus) editor.focus();
    return () => editor.destroy();
  }, []);

  useEffect(() => {
    view.current?.dispatch({ effects: language.current.reconfigure(mode()) });
  }, [enableAutocomplete.value, enableLinter.value, enableSyntaxHighlighting.value]);

  // Text that comes from elsewhere: the address, the explorer, the formatter.
  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    echo.current.shown(props.value, () => {
      if (editor.state.doc.toString() !== props.value) editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: props.value } });
    });
  }, [props.value]);

  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    const place = props.error ? errorPlace(props.error) : null;
    const marks: Diagnostic[] = [];
    if (place && props.error && place.line <= editor.state.doc.lines) {
      const line = editor.state.doc.line(place.line);
      const from = Math.min(line.from + place.column - 1, line.to);
      const word = /^[\w:]+/.exec(editor.state.sliceDoc(from, line.to))?.[0].length ?? 1;
      marks.push({ from: Math.max(0, from === line.to && from > line.from ? from - 1 : from), to: Math.min(line.to, from + word), severity: "error", message: props.error, source: "server" });
    }
    editor.dispatch(setDiagnostics(editor.state, marks));
  }, [props.error]);

  return <div class="editor" ref={host} />;
}
