// Where completions come from: the server searches and limits, so that a hundred thousand metric names stay fluent.
import type { PrometheusClient } from "@prometheus-io/codemirror-promql/dist/esm/client/prometheus";
import { get } from "../lib/api";
import { quote, labelName as spelt } from "../lib/format";

interface Matcher {
  name: string;
  value: string;
  type: unknown;
  matchesEmpty?: () => boolean;
}

/// Names of one answer. Where there are more, further letters ask again.
export const NAMES_MAX = 500;
const VALUES_MAX = 1000;
const HOUR_S = 3600;
/// How long an answer is used again, ms.
const FRESH_MS = 60_000;
const CACHED_MAX = 200;

const escapeRegex = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

const since = () => ({ start: Math.floor(Date.now() / 1000) - 12 * HOUR_S });

class Cache {
  private readonly kept = new Map<string, { at: number; value: Promise<unknown> }>();

  get<T>(key: string, make: () => Promise<T>): Promise<T> {
    const found = this.kept.get(key);
    if (found && Date.now() - found.at < FRESH_MS) return found.value as Promise<T>;
    const value = make();
    value.catch(() => this.kept.delete(key));
    if (this.kept.size >= CACHED_MAX) this.kept.clear();
    this.kept.set(key, { at: Date.now(), value });
    return value;
  }
}

const cache = new Cache();

function selector(metric?: string, matchers: Matcher[] = [], except = ""): string | undefined {
  const parts = matchers.filter((m) => m.name !== except && m.value !== "" && typeof m.type === "string").map((m) => `${spelt(m.name)}${String(m.type)}${quote(m.value)}`);
  if (metric) parts.unshift(`__name__=${quote(metric)}`);
  return parts.length > 0 ? `{${parts.join(",")}}` : undefined;
}

async function names(prefix: string): Promise<string[]> {
  const match = prefix ? `{__name__=~${quote(`(?i).*${[...prefix].map(escapeRegex).join(".*")}.*`)}}` : undefined;
  const found = await get<string[]>("label/__name__/values", { ...since(), limit: NAMES_MAX, "match[]": match });
  return found.data;
}

/// Whether the last list of names was cut off.
let truncated = false;
export const isTruncated = () => truncated;

export class Client implements PrometheusClient {
  async metricNames(prefix = ""): Promise<string[]> {
    const all = await cache.get("names", () => names(""));
    // Everything is here: the editor filters by itself.
    if (all.length < NAMES_MAX) {
      truncated = false;
      return all;
    }
    truncated = true;
    return prefix ? cache.get(`names ${prefix}`, () => names(prefix)) : all;
  }

  labelNames(metricName?: string): Promise<string[]> {
    const match = selector(metricName);
    return cache.get(`labels ${match}`, async () => (await get<string[]>("labels", { ...since(), limit: VALUES_MAX, "match[]": match })).data);
  }

  labelValues(label: string, metricName?: string, matchers?: Matcher[]): Promise<string[]> {
    const match = selector(metricName, matchers, label);
    return cache.get(`values ${label} ${match}`, async () => (await get<string[]>(`label/${encodeURIComponent(label)}/values`, { ...since(), limit: VALUES_MAX, "match[]": match })).data);
  }

  metricMetadata(): Promise<Record<string, { type: string; help: string }[]>> {
    return cache.get("metadata", async () => (await get<Record<string, { type: string; help: string }[]>>("metadata", { limit: 20_000, limit_per_metric: 1 })).data);
  }

  async series(metricName: string, matchers?: Matcher[], label?: string): Promise<Map<string, string>[]> {
    const match = selector(metricName, matchers, label);
    if (!match) return [];
    const found = await get<Record<string, string>[]>("series", { ...since(), limit: VALUES_MAX, "match[]": match });
    return found.data.map((labels) => new Map(Object.entries(labels)));
  }

  async flags(): Promise<Record<string, string>> {
    return {};
  }
}
