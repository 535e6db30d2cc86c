// The frame around all pages: head with navigation, theme, notifications, settings and help; the choice of the page; what is shown
// while the server starts.
import { Component, type ComponentChildren, type FunctionComponent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { env } from "./lib/env";
import { HelpDialog, useShortcuts } from "./lib/keys";
import { href, navigate, page, search } from "./lib/router";
import * as settings from "./lib/settings";
import { Check, Failure, Icon, IconButton, Menu, Skeleton, type Glyph } from "./lib/ui";
import { Notifications } from "./notifications";
import { Ready } from "./starting";

interface PageEntry {
  path: string;
  title: string;
  icon: Glyph;
  agent: boolean;
  load: () => Promise<{ default: FunctionComponent }>;
}

const entry = (path: string, title: string, icon: Glyph, agent: boolean, load: PageEntry["load"]): PageEntry => ({ path, title, icon, agent, load });

const MAIN = [
  entry("query", "Query", "search", false, () => import("./query/query")),
  entry("alerts", "Alerts", "bell", false, () => import("./pages/alerts")),
];
const MONITORING = [
  entry("targets", "Target health", "ok", true, () => import("./pages/targets")),
  entry("rules", "Rule health", "format", false, () => import("./pages/rules")),
  entry("backtest", "Rule backtest", "clock", false, () => import("./pages/backtest")),
  entry("service-discovery", "Service discovery", "tree", true, () => import("./pages/discovery")),
  entry("relabel", "Relabel lab", "format", true, () => import("./pages/relabel")),
];
const SERVER = [
  entry("system", "Actors", "tree", true, () => import("./pages/system")),
  entry("queries", "Running and top queries", "clock", false, () => import("./pages/queries")),
  entry("cardinality", "Cardinality", "chart", false, () => import("./pages/cardinality")),
  entry("status", "Runtime & build information", "info", true, () => import("./pages/status")),
  entry("tsdb-status", "TSDB status", "dup", false, () => import("./pages/tsdb")),
  entry("flags", "Command-line flags", "menu", true, () => import("./pages/flags")),
  entry("config", "Configuration", "gear", true, () => import("./pages/config")),
  entry("alertmanager-discovery", "Alertmanager discovery", "bell", false, () => import("./pages/alertmanagers")),
];
const HIDDEN = [entry("agent", "Agent", "info", true, () => import("./pages/agent"))];
const ALL = [...MAIN, ...MONITORING, ...SERVER, ...HIDDEN];
const HOME = env.agent ? "agent" : "query";
const visible = (pages: PageEntry[]) => pages.filter((p) => !env.agent || p.agent);

function NavLink({ to, onClick, children }: { to: PageEntry; onClick?: () => void; children: ComponentChildren }) {
  return (
    <a href={href(to.path)} aria-current={page.value === to.path ? "page" : undefined} onClick={onClick}>
      {children}
    </a>
  );
}

function Head({ onHelp }: { onHelp: () => void }) {
  const [open, setOpen] = useState(false);
  const current = [...MONITORING, ...SERVER].find((p) => p.path === page.value);
  useEffect(() => setOpen(false), [page.value]);
  return (
    <header class={`head ${open ? "open" : ""}`}>
      <a class="brand" href={href(HOME)}>
        <img src={href("favicon.svg")} alt="" />
        Firekeeper{env.agent ? " Agent" : ""}
      </a>
      <span class="spacer" />
      <nav aria-label="Pages" id="nav">
        {env.consoles && (
          <a href={env.consoles}>
            <Icon name="chart" />
            Consoles
          </a>
        )}
        {visible(MAIN).map((p) => (
          <NavLink key={p.path} to={p}>
            <Icon name={p.icon} />
            {p.title}
          </NavLink>
        ))}
        <Menu
          label={current ? `Status: ${current.title}` : "Status"}
          className={current ? "current" : ""}
          trigger={
            <>
              <Icon name={current?.icon ?? "menu"} />
              Status{current ? ` › ${current.title}` : ""}
              <Icon name="down" />
            </>
          }
        >
          {(close) => (
            <>
              <h3>Monitoring status</h3>
              {visible(MONITORING).map((p) => (
                <NavLink key={p.path} to={p} onClick={close}>
                  <Icon name={p.icon} />
                  {p.title}
                </NavLink>
              ))}
              <hr />
              <h3>Server status</h3>
              {visible(SERVER).map((p) => (
                <NavLink key={p.path} to={p} onClick={close}>
                  <Icon name={p.icon} />
                  {p.title}
                </NavLink>
              ))}
            </>
          )}
        </Menu>
      </nav>
      <ThemeButton />
      <Notifications />
      <SettingsMenu />
      <IconButton icon="help" label="Help and keyboard shortcuts" onClick={onHelp} />
      <button type="button" class="icon-button burger" aria-label="Navigation" aria-expanded={open} aria-controls="nav" onClick={() => setOpen(!open)}>
        <Icon name={open ? "close" : "menu"} />
      </button>
    </header>
  );
}

const NEXT_THEME = { auto: "light", light: "dark", dark: "auto" } as const;

function ThemeButton() {
  const now = settings.theme.value;
  const icon: Glyph = now === "light" ? "sun" : now === "dark" ? "moon" : "auto";
  const label = `Theme: ${now === "auto" ? "as the system has it" : now}`;
  return <IconButton icon={icon} label={label} onClick={() => (settings.theme.value = NEXT_THEME[now])} />;
}

function PerPage({ of, label }: { of: typeof settings.ruleGroupsPerPage; label: string }) {
  return (
    <label class="row field">
      <span class="grow">{label}</span>
      <input
        type="number"
        min={1}
        max={1000}
        value={of.value}
        style={{ width: "5rem" }}
        onChange={(e) => {
          const n = Math.round(e.currentTarget.valueAsNumber);
          if (n >= 1 && n <= 1000) of.value = n;
        }}
      />
    </label>
  );
}

function SettingsMenu() {
  const toggles: [string, typeof settings.useLocalTime][] = [
    ["Use local time", settings.useLocalTime],
    ["Query history", settings.enableQueryHistory],
    ["Completion", settings.enableAutocomplete],
    ["Syntax highlighting", settings.enableSyntaxHighlighting],
    ["Linter", settings.enableLinter],
    ["Query warnings", settings.showQueryWarnings],
    ["Query info notices", settings.showQueryInfoNotices],
    ["Expand annotations of alerts", settings.showAnnotations],
  ];
  return (
    <Menu label="Settings" className="at-right" trigger={<Icon name="gear" />}>
      {() => (
        <>
          <h3>Settings, kept in this browser</h3>
          {toggles.map(([label, of]) => (
            <Check key={label} label={label} checked={of.value} onChange={(on) => (of.value = on)} />
          ))}
          <hr />
          <PerPage of={settings.alertGroupsPerPage} label="Alert groups a page" />
          <PerPage of={settings.ruleGroupsPerPage} label="Rule groups a page" />
          <label class="field">
            <span>Link of an exemplar&apos;s trace, with {"{trace_id}"}</span>
            <input type="text" value={settings.traceLink.value} placeholder="https://traces/{trace_id}" onChange={(e) => (settings.traceLink.value = e.currentTarget.value)} />
          </label>
        </>
      )}
    </Menu>
  );
}

/// Shows what went wrong in a page instead of nothing at all.
class Guard extends Component<{ children: ComponentChildren; of: string }, { error: Error | null }> {
  override state = { error: null as Error | null };
  static override getDerivedStateFromError(error: Error) {
    return { error };
  }
  override componentDidUpdate(old: { of: string }) {
    if (old.of !== this.props.of && this.state.error) this.setState({ error: null });
  }
  override render() {
    return this.state.error ? <Failure error={this.state.error} title="This page failed" /> : this.props.children;
  }
}

const loaded = new Map<string, FunctionComponent>();

function Current({ of }: { of: PageEntry }) {
  const [, again] = useState(0);
  const [error, setError] = useState<Error | null>(null);
  const Shown = loaded.get(of.path);
  useEffect(() => {
    if (loaded.has(of.path)) return;
    let gone = false;
    setError(null);
    of.load().then(
      (module) => {
        loaded.set(of.path, module.default);
        if (!gone) again((n) => n + 1);
      },
      (failure) => !gone && setError(failure as Error),
    );
    return () => {
      gone = true;
    };
  }, [of.path]);
  if (error) return <Failure error={error} title="This page could not be loaded; reload it, the server may have been updated" />;
  return Shown ? <Shown /> : <Skeleton />;
}

export function App() {
  const [help, setHelp] = useState(false);
  const name = page.value;
  useShortcuts(() => setHelp(true));
  const first = useRef(true);
  // Old addresses: the first page, and the one of the UI before 3.0.
  useEffect(() => {
    if (name === "" || name === "graph") navigate(HOME + search.value, true);
  }, [name]);
  const shown = ALL.find((p) => p.path === name && (!env.agent || p.agent));
  useEffect(() => {
    document.title = shown ? `${shown.title} · ${env.title}` : env.title;
    first.current = false;
  }, [shown]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Head onHelp={() => setHelp(true)} />
      <main id="main" tabIndex={-1}>
        <Guard of={name}>
          {shown ? (
            <Ready>
              <Current of={shown} key={shown.path} />
            </Ready>
          ) : name === "" || name === "graph" ? null : (
            <Failure error={new Error(`There is no page /${name}.`)} title="Not found" />
          )}
        </Guard>
      </main>
      {help && <HelpDialog onClose={() => setHelp(false)} />}
    </>
  );
}
