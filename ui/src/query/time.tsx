// The fields for times and ranges above table and graph.
import { useEffect, useState } from "preact/hooks";
import { formatTime, parseDuration, promDuration } from "../lib/format";
import { useLocalTime } from "../lib/settings";
import { IconButton } from "../lib/ui";
import { parseUtc } from "./state";

/// A point in time as people write it: `2026-11-21 19:00:00`, `now`, `-2h`, `2 days ago`.
export function parseWhen(text: string): number | null | undefined {
  const plain = text.trim().toLowerCase();
  if (plain === "" || plain === "now") return null;
  const before = /^(?:now\s*)?-\s*(.+)$/.exec(plain) ?? /^(.+?)\s*ago$/.exec(plain);
  if (before?.[1]) {
    const words = before[1].replace(/\s+/g, "").replace(/weeks?/, "w").replace(/days?/, "d").replace(/hours?/, "h").replace(/min(ute)?s?/, "m").replace(/sec(ond)?s?/, "s");
    const span = parseDuration(words);
    return span === null ? undefined : Date.now() - span;
  }
  if (useLocalTime.value) {
    const ms = Date.parse(plain.replace(" ", "T"));
    return Number.isNaN(ms) ? undefined : ms;
  }
  return parseUtc(text) ?? undefined;
}

export function TimeInput({ label, valueMs, stepMs, onChange }: { label: string; valueMs: number | null; stepMs: number; onChange: (ms: number | null) => void }) {
  const shown = valueMs === null ? "" : formatTime(valueMs);
  const [text, setText] = useState(shown);
  const [wrong, setWrong] = useState(false);
  useEffect(() => {
    setText(shown);
    setWrong(false);
  }, [shown]);
  const take = () => {
    if (text === shown) return;
    const when = parseWhen(text);
    setWrong(when === undefined);
    if (when !== undefined) onChange(when);
  };
  const now = valueMs ?? Date.now();
  return (
    <span class="joined">
      <IconButton icon="left" label={`${label}: earlier`} onClick={() => onChange(now - stepMs)} />
      <input type="text" size={20} value={text} placeholder={label} aria-label={label} aria-invalid={wrong} title="2026-11-21 19:00:00, -2h, 2 days ago, now" onInput={(e) => setText(e.currentTarget.value)} onBlur={take} onKeyDown={(e) => e.key === "Enter" && take()} />
      {valueMs !== null && <IconButton icon="close" label={`${label}: back to now`} onClick={() => onChange(null)} />}
      <IconButton icon="right" label={`${label}: later`} onClick={() => onChange(now + stepMs)} />
    </span>
  );
}

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
export const RANGES = [1, 10, 60, 300, 900, 1800].map((s) => s * SECOND).concat([1, 2, 6, 12].map((h) => h * HOUR), [1, 2, 7, 14, 28, 56, 112, 182, 365, 730].map((d) => d * DAY));

export const longer = (ms: number) => RANGES.find((range) => range > ms) ?? ms;
export const shorter = (ms: number) => RANGES.findLast((range) => range < ms) ?? ms;

export function DurationInput({ label, valueMs, onChange, withSteps = false }: { label: string; valueMs: number; onChange: (ms: number) => void; withSteps?: boolean }) {
  const shown = promDuration(valueMs);
  const [text, setText] = useState(shown);
  const [wrong, setWrong] = useState(false);
  useEffect(() => {
    setText(shown);
    setWrong(false);
  }, [shown]);
  const take = () => {
    if (text === shown) return;
    const ms = parseDuration(text);
    setWrong(!ms);
    if (ms) onChange(ms);
  };
  return (
    <span class="joined">
      {withSteps && <IconButton icon="minus" label={`${label}: shorter`} onClick={() => onChange(shorter(valueMs))} />}
      <input type="text" size={6} value={text} aria-label={label} aria-invalid={wrong} title={label} onInput={(e) => setText(e.currentTarget.value)} onBlur={take} onKeyDown={(e) => e.key === "Enter" && take()} />
      {withSteps && <IconButton icon="plus" label={`${label}: longer`} onClick={() => onChange(longer(valueMs))} />}
    </span>
  );
}
