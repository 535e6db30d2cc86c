// The address bar as a signal. Pages are single segments below `base`; what a page shows stands in its query string.
import { computed, signal } from "@preact/signals";
import { base } from "./env";

const here = signal({ path: location.pathname, search: location.search });

/// Name of the page: `query`, `alerts`, ...
export const page = computed(() => {
  const path = here.value.path;
  return path.startsWith(base) ? path.slice(base.length) : path.replace(/^.*\//, "");
});

export const search = computed(() => here.value.search);
export const params = computed(() => new URLSearchParams(here.value.search));

const sync = () => (here.value = { path: location.pathname, search: location.search });
addEventListener("popstate", sync);

export const href = (target: string) => base + target;

/// Goes to a page: `alerts?state=firing`.
export function navigate(target: string, replace = false) {
  const url = href(target);
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  const moved = location.pathname !== here.value.path;
  sync();
  if (moved) {
    scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
  }
}

/// Changes parameters of the page that is shown; empty ones go.
export function setParams(changes: Record<string, string | null>, replace = true) {
  const next = new URLSearchParams(here.value.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  navigate(page.value + (text ? `?${text}` : ""), replace);
}

/// Clicks on links within the server move without loading the document again.
export function interceptLinks() {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    const path = link.pathname;
    if (!path.startsWith(base) || !PAGES.has(path.slice(base.length))) return;
    if (link.hash && path === location.pathname && link.search === location.search) return;
    event.preventDefault();
    navigate(path.slice(base.length) + link.search);
  });
}

/// Every page of the application; other addresses of the server are documents of their own.
export const PAGES = new Set([
  "query", "graph", "alerts", "rules", "targets", "service-discovery", "alertmanager-discovery", "status", "tsdb-status", "config", "flags",
  "agent", "system", "queries", "cardinality", "relabel", "backtest",
]);
