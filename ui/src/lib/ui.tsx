// The building blocks of all pages.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ApiError, Loaded } from "./api";
import { labelName } from "./format";

// === Glyphs: strokes of our own in a 16x16 field ===

const GLYPHS = {
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM11 11l3.500 3.500",
  bell: "M3.500 11.500h9c-1-1-1-2.500-1-4.500a3.500 3.500 0 0 0-7 0c0 2 0 3.500-1 4.500zM6.500 13.500h3",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  moon: "M13 9.500A5.500 5.500 0 0 1 6.500 3 5.500 5.500 0 1 0 13 9.500z",
  auto: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 2v12M8 6l4-2M8 9l5.500-2M8 12l5-2",
  gear: "M8 5.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5zM8 1.500v2M8 12.500v2M1.500 8h2M12.500 8h2M3.400 3.400l1.400 1.400M11.200 11.200l1.400 1.400M3.400 12.600l1.400-1.400M11.200 4.800l1.400-1.400",
  help: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM6 6a2 2 0 1 1 2.800 1.900c-.6.3-.8.6-.8 1.300M8 11.400v.3",
  menu: "M2 4h12M2 8h12M2 12h12",
  close: "M3.500 3.500l9 9M12.500 3.500l-9 9",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  copy: "M5.500 5.500h8v8h-8zM3 10.500h-.500v-8h8V3",
  down: "M4 6l4 4 4-4",
  left: "M10 4L6 8l4 4",
  right: "M6 4l4 4-4 4",
  star: "M8 2l1.800 3.900 4.200.500-3.100 2.900.800 4.200L8 11.400l-3.700 2.100.800-4.200L2 6.400l4.200-.500z",
  warn: "M8 2.500L14.500 13.500h-13zM8 6.500v3.500M8 11.700v.3",
  ok: "M3 8.500l3.500 3.500L13 4.500",
  bad: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM8 4.500v4.500M8 11.200v.3",
  info: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM8 7.500v4M8 4.800v.3",
  clock: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM8 4.500V8l2.500 1.500",
  tree: "M3 2.500v9.500h4M3 6h4M9 4.500h4.500v3H9zM9 10.500h4.500v3H9z",
  download: "M8 2v8M4.500 7L8 10.500 11.500 7M2.500 13.500h11",
  refresh: "M13 8a5 5 0 1 1-1.500-3.500M13 2v3h-3",
  pause: "M5.500 3.500v9M10.500 3.500v9",
  play: "M5 3l8 5-8 5z",
  format: "M2.500 3.500h11M5.500 8h8M2.500 12.500h11",
  dup: "M5.500 5.500h8v8h-8zM3 10.500h-.500v-8h8V3M9.500 7.500v4M7.500 9.500h4",
  chart: "M2.500 2.500v11h11M5 10l2.500-3 2 1.500L13 4",
  dot: "M8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
} as const;
export type Glyph = keyof typeof GLYPHS;

export function Icon({ name, label }: { name: Glyph; label?: string }) {
  const named = label ? { role: "img" as const, "aria-label": label } : { "aria-hidden": true as const };
  return (
    <svg class="icon" viewBox="0 0 16 16" {...named}>
      <path d={GLYPHS[name]} />
    </svg>
  );
}

// === States ===

export type Tone = "good" | "bad" | "warn" | "info" | "plain";
const TONE_GLYPH: Record<Tone, Glyph> = { good: "ok", bad: "bad", warn: "warn", info: "info", plain: "dot" };

/// A state: icon, word and colour.
export function Badge({ tone, children, title }: { tone: Tone; children: ComponentChildren; title?: string }) {
  return (
    <span class={`badge ${tone}`} title={title}>
      <Icon name={TONE_GLYPH[tone]} />
      {children}
    </span>
  );
}

export function Note({ tone, title, children }: { tone: Tone; title?: string; children: ComponentChildren }) {
  return (
    <div class={`note ${tone}`} role={tone === "bad" ? "alert" : undefined}>
      <Icon name={TONE_GLYPH[tone]} />
      <div>
        {title && <strong>{title}</strong>}
        <div class="pre">{children}</div>
      </div>
    </div>
  );
}

export function Failure({ error, title = "Error" }: { error: ApiError | Error; title?: string }) {
  return (
    <Note tone="bad" title={title}>
      {error.message}
    </Note>
  );
}

export const Empty = ({ children }: { children: ComponentChildren }) => <p class="empty">{children}</p>;

/// Loading, failure, or what the data make.
export function Show<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ComponentChildren }) {
  if (of.data === null && of.error) return <Failure error={of.error} />;
  if (of.data === null) return <Skeleton />;
  return (
    <>
      {of.error && <Failure error={of.error} title="Not up to date" />}
      {children(of.data)}
    </>
  );
}

export const Skeleton = () => (
  <div class="skeleton" role="status">
    <span class="hidden">Loading</span>
    <i />
    <i />
    <i />
  </div>
);

// === Controls ===

export function IconButton({ icon, label, onClick, ...more }: { icon: Glyph; label: string; onClick?: (event: MouseEvent) => void } & Omit<JSX.IntrinsicElements["button"], "onClick" | "label" | "icon">) {
  return (
    <button type="button" class="icon-button" title={label} aria-label={label} onClick={onClick as never} {...more}>
      <Icon name={icon} />
    </button>
  );
}

export function SearchBox({ value, onInput, label, id }: { value: string; onInput: (text: string) => void; label: string; id?: string }) {
  return (
    <label class="search-box">
      <Icon name="search" />
      <input id={id} type="search" value={value} placeholder={label} aria-label={label} data-search onInput={(e) => onInput(e.currentTarget.value)} spellcheck={false} autocomplete="off" />
    </label>
  );
}

/// Alternatives, one of them chosen.
export function Segments<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: readonly (readonly [T, ComponentChildren])[]; onChange: (value: T) => void }) {
  const group = useId();
  return (
    <fieldset class="segments">
      <legend class="hidden">{label}</legend>
      {options.map(([option, text]) => (
        <label key={option} class={option === value ? "on" : ""}>
          <input type="radio" name={group} checked={option === value} onChange={() => onChange(option)} />
          {text}
        </label>
      ))}
    </fieldset>
  );
}

/// States that can be shown or hidden, each with its number.
export function Filters<T extends string>({ label, options, chosen, onChange }: { label: string; options: readonly { name: T; tone: Tone; count?: number }[]; chosen: readonly T[]; onChange: (chosen: T[]) => void }) {
  return (
    <div class="filters" role="group" aria-label={label}>
      {options.map(({ name, tone, count }) => {
        const on = chosen.includes(name);
        return (
          <button key={name} type="button" aria-pressed={on} class={`filter ${tone}`} onClick={() => onChange(on ? chosen.filter((c) => c !== name) : [...chosen, name])}>
            <Icon name={TONE_GLYPH[tone]} />
            {name}
            {count !== undefined && <b>{count}</b>}
          </button>
        );
      })}
    </div>
  );
}

export function Select<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  return (
    <select class="select" aria-label={label} title={label} value={value} onChange={(e) => onChange(e.currentTarget.value as T)}>
      {options.map(([option, text]) => (
        <option key={option} value={option}>
          {text}
        </option>
      ))}
    </select>
  );
}

export function Check({ label, checked, onChange, hint }: { label: string; checked: boolean; onChange: (on: boolean) => void; hint?: string }) {
  return (
    <label class="check" title={hint}>
      <input type="checkbox" checked={checked} onChange={(e) => onChange(e.currentTarget.checked)} />
      {label}
    </label>
  );
}

export function CopyButton({ text, label = "Copy" }: { text: string | (() => string); label?: string }) {
  const [done, setDone] = useState(false);
  const copy = async (event: MouseEvent) => {
    event.stopPropagation();
    event.preventDefault();
    if (await copyText(typeof text === "string" ? text : text())) {
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    }
  };
  return <IconButton icon={done ? "ok" : "copy"} label={done ? "Copied" : label} onClick={copy} />;
}

/// Also where the clipboard interface is missing, as on pages without TLS.
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function download(name: string, type: string, text: string) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/// A button with a box below it that closes with Escape or a click elsewhere.
export function Menu({ label, trigger, children, className = "" }: { label: string; trigger: ComponentChildren; children: (close: () => void) => ComponentChildren; className?: string }) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => !root.current?.contains(event.target as Node) && setOpen(false);
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [open]);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && open) {
      event.stopPropagation();
      setOpen(false);
      root.current?.querySelector("button")?.focus();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && open && !(event.target instanceof HTMLInputElement)) {
      const items = [...(root.current?.querySelectorAll<HTMLElement>(".menu-box a, .menu-box button") ?? [])];
      if (items.length === 0) return;
      event.preventDefault();
      const at = items.indexOf(document.activeElement as HTMLElement);
      items[(at + (event.key === "ArrowDown" ? 1 : -1) + items.length) % items.length]?.focus();
    }
  };
  return (
    <div class={`menu ${className}`} ref={root} onKeyDown={onKeyDown}>
      <button type="button" aria-expanded={open} aria-label={label} title={label} onClick={() => setOpen(!open)}>
        {trigger}
      </button>
      {open && <div class="menu-box">{children(() => setOpen(false))}</div>}
    </div>
  );
}

/// The browser's own dialog: keeps the focus, closes with Escape.
export function Dialog({ title, onClose, children, wide = false }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useLayoutEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
  }, []);
  return (
    <dialog ref={dialog} class={wide ? "wide" : ""} aria-labelledby={heading} onClose={onClose} onClick={(e) => e.target === dialog.current && dialog.current?.close()}>
      <div class="dialog-body">
        <header>
          <h2 id={heading}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={() => dialog.current?.close()} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

export function Pager({ page, pages, onChange }: { page: number; pages: number; onChange: (page: number) => void }) {
  if (pages <= 1) return null;
  return (
    <nav class="pager" aria-label="Pages">
      <IconButton icon="left" label="Previous page" disabled={page <= 1} onClick={() => onChange(page - 1)} />
      <span>
        page {page} of {pages}
      </span>
      <IconButton icon="right" label="Next page" disabled={page >= pages} onClick={() => onChange(page + 1)} />
    </nav>
  );
}

// === Labels ===

/// Labels as a row of pills; the name of the metric is left out.
export function Labels({ of, exclude = [] }: { of: Record<string, string>; exclude?: string[] }) {
  const entries = Object.entries(of).filter(([name]) => name !== "__name__" && !exclude.includes(name));
  return (
    <span class="labels">
      {entries.map(([name, value]) => (
        <span class="label" key={name}>
          {labelName(name)}=&quot;{value}&quot;
        </span>
      ))}
    </span>
  );
}

/// A series in text with its parts set apart. Plain text for lists that are long.
export function SeriesName({ labels, plain = false }: { labels: Record<string, string>; plain?: boolean }) {
  const { __name__: name = "", ...rest } = labels;
  const entries = Object.entries(rest);
  if (plain) return <>{`${name}${entries.length || !name ? `{${entries.map(([k, v]) => `${labelName(k)}="${v}"`).join(", ")}}` : ""}`}</>;
  return (
    <span class="series">
      {name}
      {(entries.length > 0 || !name) && (
        <>
          {"{"}
          {entries.map(([key, value], at) => (
            <span key={key}>
              {at > 0 && ", "}
              <b>{labelName(key)}</b>=<i>&quot;{value}&quot;</i>
            </span>
          ))}
          {"}"}
        </>
      )}
    </span>
  );
}

// === Tables ===

export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  /// What the column is sorted by.
  key?: (row: T) => string | number;
  right?: boolean;
  wide?: boolean;
}

const compare = (a: string | number, b: string | number) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });

/// A table that can be sorted by its heads. On narrow screens each row becomes a card.
export function Table<T>({ rows, columns, caption, rowKey, initial }: { rows: readonly T[]; columns: readonly Column<T>[]; caption: string; rowKey?: (row: T, at: number) => string | number; initial?: { column: number; down: boolean } }) {
  const [sort, setSort] = useState<{ column: number; down: boolean } | null>(initial ?? null);
  const sorted = useMemo(() => {
    const key = sort && columns[sort.column]?.key;
    if (!sort || !key) return rows;
    return [...rows].sort((a, b) => compare(key(a), key(b)) * (sort.down ? -1 : 1));
  }, [rows, sort, columns]);
  const turn = (column: number) => setSort((old) => (old?.column === column ? (old.down ? null : { column, down: true }) : { column, down: false }));
  return (
    <div class="table-frame">
      <table class="cards">
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column, at) => (
              <th key={column.title} scope="col" class={column.right ? "right" : ""} aria-sort={sort?.column === at ? (sort.down ? "descending" : "ascending") : undefined}>
                {column.key ? (
                  <button type="button" class="sort" onClick={() => turn(at)}>
                    {column.title}
                    <span aria-hidden="true">{sort?.column === at ? (sort.down ? " ▼" : " ▲") : ""}</span>
                  </button>
                ) : (
                  column.title
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((row, at) => (
            <tr key={rowKey ? rowKey(row, at) : at}>
              {columns.map((column) => (
                <td key={column.title} data-title={column.title} class={`${column.right ? "right" : ""} ${column.wide ? "wide-cell" : ""}`}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/// The rows of a long list that are in sight, for rows of one height.
export function useWindow(total: number, height: number, over = 12) {
  const frame = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, rows: 40 });
  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const measure = () => {
      const top = Math.floor(element.scrollTop / height);
      const rows = Math.ceil(element.clientHeight / height) + 1;
      setView((old) => (old.top === top && old.rows === rows ? old : { top, rows }));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, [height, total > 0]);
  const first = Math.max(0, Math.min(view.top, Math.max(0, total - view.rows)) - over);
  const last = Math.min(total, view.top + view.rows + over);
  return { frame, first, last, before: first * height, after: Math.max(0, total - last) * height };
}

/// A line of a few values.
export function Spark({ values, label, width = 90, height = 20 }: { values: readonly number[]; label: string; width?: number; height?: number }) {
  const max = Math.max(...values, 1e-9);
  const step = values.length > 1 ? width / (values.length - 1) : width;
  const points = values.map((v, at) => `${(at * step).toFixed(1)},${(height - 1 - (v / max) * (height - 2)).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="img" aria-label={label}>
      <polyline points={points} />
    </svg>
  );
}

export function Bar({ part, tone = "info", label }: { part: number; tone?: Tone; label: string }) {
  const percent = Math.max(0, Math.min(100, part * 100));
  return (
    <span class={`bar ${tone}`} role="img" aria-label={label} title={label}>
      <i style={{ width: `${percent}%` }} />
    </span>
  );
}

export function Page({ title, actions, children, wide = false }: { title: string; actions?: ComponentChildren; children: ComponentChildren; wide?: boolean }) {
  return (
    <div class={`page ${wide ? "page-wide" : ""}`}>
      <div class="page-head">
        <h1>{title}</h1>
        {actions && <div class="row">{actions}</div>}
      </div>
      {children}
    </div>
  );
}

/// A folding section that remembers whether it is open.
export function Fold({ summary, children, open, onToggle, className = "" }: { summary: ComponentChildren; children: ComponentChildren; open: boolean; onToggle: (open: boolean) => void; className?: string }) {
  return (
    <details class={`card ${className}`} open={open} onToggle={(e) => e.currentTarget.open !== open && onToggle(e.currentTarget.open)}>
      <summary>{summary}</summary>
      {open && <div class="card-body">{children}</div>}
    </details>
  );
}

/// Runs at most every `ms`.
export function useDebounced<T>(value: T, ms: number): T {
  const [late, setLate] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setLate(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return late;
}

/// The time, renewed every `ms`.
export function useNow(ms = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return now;
}
