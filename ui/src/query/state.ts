// The panels of the query page and their form in the address: the grammar of the Prometheus UI, old spellings included. What that
// grammar does not know stands in parameters of our own (`g0.x_...`), which other servers ignore.
import { signal } from "@preact/signals";
import { parseDuration, promDuration, utcTime } from "../lib/format";
import { navigate, params } from "../lib/router";

export type Tab = "table" | "graph" | "explain";
export type Mode = "lines" | "stacked" | "heatmap";
export type Density = "low" | "medium" | "high";
export type Resolution = { type: "auto"; density: Density } | { type: "fixed" | "custom"; stepMs: number };

export interface Panel {
  id: number;
  expr: string;
  tab: Tab;
  showTree: boolean;
  rangeMs: number;
  /// `null`: now.
  endMs: number | null;
  resolution: Resolution;
  mode: Mode;
  exemplars: boolean;
  yMin: number | null;
  log: boolean;
  /// Automatic refresh, ms; 0: none.
  refreshMs: number;
}

let ids = 0;

export const newPanel = (): Panel => ({
  id: (ids += 1),
  expr: "",
  tab: "table",
  showTree: false,
  rangeMs: 3_600_000,
  endMs: null,
  resolution: { type: "auto", density: "medium" },
  mode: "lines",
  exemplars: false,
  yMin: null,
  log: false,
  refreshMs: 0,
});

/// Points on the screen for each density.
const POINTS: Record<Density, number> = { low: 100, medium: 250, high: 750 };

/// The step of a graph, ms.
export function stepMs(panel: Panel): number {
  const { resolution } = panel;
  if (resolution.type !== "auto") return Math.max(1, resolution.stepMs);
  return Math.max(Math.floor(panel.rangeMs / POINTS[resolution.density] / 1000) * 1000, 1000);
}

/// `YYYY-MM-DD HH:mm:ss` in UTC, or any form the browser understands.
export function parseUtc(text: string): number | null {
  const plain = text.trim().replace(" ", "T");
  const ms = Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(plain) ? plain : `${plain.includes("T") ? plain : `${plain}T00:00:00`}Z`);
  return Number.isNaN(ms) ? null : ms;
}

/// As many panels as an address may open.
const PANELS_MAX = 50;

export function decode(query: URLSearchParams): Panel[] {
  const panels: Panel[] = [];
  for (let n = 0; n < PANELS_MAX; n += 1) {
    const get = (name: string) => query.get(`g${n}.${name}`);
    const expr = get("expr");
    if (expr === null) break;
    const panel = { ...newPanel(), expr };
    panel.showTree = get("show_tree") === "1";
    const tab = get("tab");
    if (tab === "0" || tab === "graph") panel.tab = "graph";
    else if (tab === "explain") panel.tab = "explain";
    const range = parseDuration(get("range_input") ?? "");
    if (range) panel.rangeMs = range;
    // The last of the two that can be read wins.
    for (const name of ["end_input", "moment_input"]) {
      const text = get(name);
      const time = text ? parseUtc(text) : null;
      if (time !== null) panel.endMs = time;
    }
    const oldStep = Number.parseInt(get("step_input") ?? "", 10);
    if (oldStep > 0) panel.resolution = { type: "custom", stepMs: oldStep * 1000 };
    const type = get("res_type");
    const density = get("res_density");
    if (type === "auto" && (density === "low" || density === "medium" || density === "high")) panel.resolution = { type, density };
    const step = Number.parseFloat(get("res_step") ?? "");
    if ((type === "fixed" || type === "custom") && step > 0) panel.resolution = { type, stepMs: step * 1000 };
    const mode = get("display_mode");
    if (mode === "lines" || mode === "stacked" || mode === "heatmap") panel.mode = mode;
    const stacked = get("stacked");
    if (stacked !== null) panel.mode = stacked === "1" ? "stacked" : "lines";
    const yMin = Number.parseFloat(get("y_axis_min") ?? "");
    if (Number.isFinite(yMin)) panel.yMin = yMin;
    panel.exemplars = get("show_exemplars") === "1";
    panel.log = get("x_log") === "1";
    const refresh = parseDuration(get("x_refresh") ?? "");
    if (refresh && refresh >= 1000) panel.refreshMs = refresh;
    panels.push(panel);
  }
  return panels;
}

export function encode(panels: readonly Panel[]): string {
  const out = new URLSearchParams();
  panels.forEach((panel, n) => {
    const set = (name: string, value: string | number) => out.set(`g${n}.${name}`, String(value));
    set("expr", panel.expr);
    set("show_tree", panel.showTree ? 1 : 0);
    set("tab", panel.tab);
    if (panel.endMs !== null) {
      set("end_input", utcTime(panel.endMs));
      set("moment_input", utcTime(panel.endMs));
    }
    set("range_input", promDuration(panel.rangeMs));
    set("res_type", panel.resolution.type);
    if (panel.resolution.type === "auto") set("res_density", panel.resolution.density);
    else set("res_step", panel.resolution.stepMs / 1000);
    set("display_mode", panel.mode);
    if (panel.yMin !== null) set("y_axis_min", panel.yMin);
    set("show_exemplars", panel.exemplars ? 1 : 0);
    if (panel.log) set("x_log", 1);
    if (panel.refreshMs > 0) set("x_refresh", promDuration(panel.refreshMs));
  });
  return out.toString();
}

export const panels = signal<Panel[]>([newPanel()]);
/// The query string that belongs to `panels`: anything else in the address comes from outside.
let written: string | null = null;

/// Where the link of a query leads.
export const queryLink = (expr: string, tab: Tab = "table") => `query?${encode([{ ...newPanel(), expr, tab }])}`;

function write(replace = false) {
  written = encode(panels.value);
  navigate(`query?${written}`, replace);
  written = params.value.toString();
}

/// Follows the address: when the page opens, with Back, and with links into it.
export function readAddress() {
  const now = params.value.toString();
  if (now === written) return;
  written = now;
  const decoded = decode(params.value);
  const old = panels.value;
  // Panels that are at the same place keep their number, and with it their editor.
  panels.value = decoded.length === 0 ? [newPanel()] : decoded.map((panel, at) => ({ ...panel, id: old[at]?.id ?? panel.id }));
}

export function change(id: number, changes: Partial<Panel>) {
  panels.value = panels.value.map((panel) => (panel.id === id ? { ...panel, ...changes } : panel));
  write();
}

export function add(panel: Partial<Panel> = {}, after?: number) {
  const fresh = { ...newPanel(), ...panel, id: newPanel().id };
  const at = after === undefined ? panels.value.length : panels.value.findIndex((p) => p.id === after) + 1;
  panels.value = panels.value.toSpliced(at, 0, fresh);
  write();
}

export function remove(id: number) {
  const rest = panels.value.filter((panel) => panel.id !== id);
  panels.value = rest.length > 0 ? rest : [newPanel()];
  write();
}
