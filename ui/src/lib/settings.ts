// What a user has chosen, kept in local storage under the names that the Prometheus UI uses, so that it survives the change from
// there and back.
import { effect, signal, type Signal } from "@preact/signals";

function load<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(key);
    if (text === null) return fallback;
    const value = JSON.parse(text) as T;
    return Array.isArray(value) === Array.isArray(fallback) && typeof value === typeof fallback ? value : fallback;
  } catch {
    return fallback;
  }
}

function save(key: string, text: string) {
  try {
    localStorage.setItem(key, text);
  } catch {
    // A full or forbidden storage costs the memory of the choice, nothing else.
  }
}

export function stored<T>(key: string, fallback: T): Signal<T> {
  const value = signal(load(key, fallback));
  let first = true;
  effect(() => {
    const text = JSON.stringify(value.value);
    if (first) first = false;
    else save(key, text);
  });
  return value;
}

export const useLocalTime = stored("settings.useLocalTime", false);
export const enableQueryHistory = stored("settings.enableQueryHistory", false);
export const enableAutocomplete = stored("settings.enableAutocomplete", true);
export const enableSyntaxHighlighting = stored("settings.enableSyntaxHighlighting", true);
export const enableLinter = stored("settings.enableLinter", true);
export const showAnnotations = stored("settings.showAnnotations", false);
export const showQueryWarnings = stored("settings.showQueryWarnings", true);
export const showQueryInfoNotices = stored("settings.showQueryInfoNotices", true);
export const ruleGroupsPerPage = stored("settings.ruleGroupsPerPage", 10);
export const alertGroupsPerPage = stored("settings.alertGroupsPerPage", 10);
export const queryHistory = stored<string[]>("queryPage.queryHistory", []);
export const favourites = stored<string[]>("queryPage.favourites", []);
export const collapsedTargetPools = stored<string[]>("targetsPage.collapsedPools", []);
export const collapsedDiscoveryPools = stored<string[]>("serviceDiscovery.collapsedPools", []);
/// Where an exemplar's trace is found: `https://traces/{trace_id}`.
export const traceLink = stored("settings.traceLink", "");

/// Queries that are remembered.
const HISTORY_MAX = 50;

export function remember(query: string) {
  if (!enableQueryHistory.value || query.trim() === "") return;
  queryHistory.value = [query, ...queryHistory.value.filter((past) => past !== query)].slice(0, HISTORY_MAX);
}

export type Theme = "light" | "dark" | "auto";
const THEME_KEY = "mantine-color-scheme-value";
const known = (text: string | null): Theme => (text === "light" || text === "dark" ? text : "auto");
const initialTheme = (): Theme => {
  try {
    return known(localStorage.getItem(THEME_KEY));
  } catch {
    return "auto";
  }
};
export const theme = signal<Theme>(initialTheme());
const darkMedia = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(darkMedia.matches);
darkMedia.addEventListener("change", (event) => (systemDark.value = event.matches));
export const isDark = () => (theme.value === "auto" ? systemDark.value : theme.value === "dark");

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  if (theme.value !== initialTheme()) save(THEME_KEY, theme.value);
});
