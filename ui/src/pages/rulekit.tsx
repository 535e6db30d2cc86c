// What the pages of alerts and rules share: the shape of the API, durations and times of rules, expressions with their link.
import { apiTime, ago, formatTime, humanSeconds } from "../lib/format";
import { href } from "../lib/router";
import { queryLink } from "../query/state";
import type { Tone } from "../lib/ui";

export interface Alert {
  labels: Record<string, string>;
  annotations: Record<string, string>;
  state: "pending" | "firing";
  activeAt: string;
  keepFiringSince?: string;
  value: string;
}

export interface Rule {
  type: "alerting" | "recording";
  name: string;
  query: string;
  labels: Record<string, string>;
  health: "ok" | "err" | "unknown";
  lastError?: string;
  evaluationTime: number;
  lastEvaluation: string;
  state?: "inactive" | "pending" | "firing" | "unknown";
  duration?: number;
  keepFiringFor?: number;
  annotations?: Record<string, string>;
  alerts?: Alert[];
}

export interface Group {
  name: string;
  file: string;
  interval: number;
  limit: number;
  evaluationTime: number;
  lastEvaluation: string;
  rules: Rule[];
}

export const STATE_TONE: Record<string, Tone> = { inactive: "good", pending: "warn", firing: "bad", unknown: "plain" };
export const HEALTH_TONE: Record<string, Tone> = { ok: "good", err: "bad", unknown: "plain" };

export const since = (text: string) => {
  const at = apiTime(text);
  return at === null ? "never" : ago(at);
};

export const Ago = ({ time }: { time: string }) => {
  const at = apiTime(time);
  return <span title={at === null ? undefined : formatTime(at)}>{since(time)}</span>;
};

export function Expression({ query, tab = "table" }: { query: string; tab?: "table" | "graph" }) {
  return (
    <a class="expression mono" href={href(queryLink(query, tab))} title="Open this query">
      {query}
    </a>
  );
}

export const Timing = ({ of }: { of: { evaluationTime: number; lastEvaluation: string } }) => (
  <span class="muted nowrap-text">
    last run <Ago time={of.lastEvaluation} />, took {humanSeconds(of.evaluationTime)}
  </span>
);

/// Chosen values of a parameter: `state=firing,pending` and several of the same name are both read.
export const chosen = <T extends string>(params: URLSearchParams, name: string, all: readonly T[]): T[] => {
  const found = params.getAll(name).flatMap((text) => text.split(","));
  return all.filter((value) => found.includes(value));
};

/// An annotation: a link where it is one.
export function AnnotationValue({ text }: { text: string }) {
  return /^https?:\/\/[^\s]+$/.test(text) ? (
    <a href={text} target="_blank" rel="noreferrer noopener">
      {text}
    </a>
  ) : (
    <span class="pre">{text}</span>
  );
}
