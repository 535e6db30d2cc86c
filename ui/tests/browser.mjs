// The pages in a real browser: `node ui/tests/browser.mjs http://127.0.0.1:9090/ [folder for screenshots]`.
//
// It is reached through a proxy that adds a path, `/deep/prefix/`. The server is started by `tests/it/ui.rs`, with targets, rules and labels made to hurt. Every page is opened in both themes and two
// widths; it must say nothing on the console, break no rule of accessibility, and run no script that came as data. Then come the old
// forms of links, a walk by keyboard only, and a table of ten thousand series. Prints what it did; exits with 1 and all that was wrong.
import { mkdirSync, readFileSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [server, shots] = process.argv.slice(2);
if (!server) throw new Error("where is the server?");
const PREFIX = "/deep/prefix";
const proxy = createServer((incoming, answer) => {
  if (!incoming.url.startsWith(`${PREFIX}/`)) return answer.writeHead(404).end();
  const onward = ask(new URL(incoming.url.slice(PREFIX.length), server), { method: incoming.method, headers: incoming.headers }, (got) => {
    answer.writeHead(got.statusCode, got.headers);
    got.pipe(answer);
  });
  onward.on("error", () => answer.destroy());
  answer.on("close", () => onward.destroy());
  return incoming.pipe(onward);
});
await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
const base = `http://127.0.0.1:${proxy.address().port}${PREFIX}/`;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
// Told at once, so that a run that is cut off has said what it found.
const wrong = {
  count: 0,
  push(what) {
    this.count += 1;
    console.error(what);
  },
};
const check = (holds, what) => holds || wrong.push(what);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/// A page that reports all it says and every script that was not ours.
async function open(path, { theme = "light", width = 1280, storage = {} } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: theme, permissions: ["clipboard-read", "clipboard-write"] });
  await context.addInitScript((items) => {
    for (const [key, value] of Object.entries(items)) localStorage.setItem(key, value);
  }, storage);
  // The machine may be busy with other tests.
  context.setDefaultTimeout(90_000);
  const page = await context.newPage();
  const name = `${path} ${theme} ${width}`;
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(`${name}: console: ${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => wrong.push(`${name}: ${error.stack}`));
  page.on("dialog", (dialog) => {
    wrong.push(`${name}: data ran as a script: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => request.url().startsWith(base) || request.url().startsWith("data:") || request.url().startsWith("blob:") || wrong.push(`${name}: asks another place: ${request.url()}`));
  await page.goto(base + path, { waitUntil: "load" });
  return page;
}

/// Waits until nothing is loading.
async function settle(page) {
  await page.waitForFunction(() => document.querySelector("main h1") && !document.querySelector(".skeleton"), undefined, { timeout: 20_000 });
  await page.waitForTimeout(150);
}

async function accessible(page, name) {
  // The policy forbids scripts of others, and this one runs as the tester, not as the page.
  const found = await page.evaluate(`${axe}; axe.run({ runOnly: ${JSON.stringify(RULES)} })`);
  for (const violation of found.violations) wrong.push(`${name}: ${violation.id}: ${violation.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
}

const q = encodeURIComponent;
const GRAPH = `g0.expr=${q("rate(requests_total[15s])")}&g0.tab=graph&g0.range_input=1m&g0.res_type=custom&g0.res_step=1`;
const PAGES = {
  query: `query?g0.expr=${q("requests_total")}&g0.tab=1`,
  graph: `query?${GRAPH}`,
  stacked: `query?${GRAPH}&g0.display_mode=stacked`,
  heatmap: `query?g0.expr=${q("sum by (le) (rate(latency_seconds_bucket[15s]))")}&g0.tab=graph&g0.range_input=1m&g0.res_type=custom&g0.res_step=1&g0.display_mode=heatmap`,
  explain: `query?g0.expr=${q("sum by (code) (rate(requests_total[15s])) / on () group_left () sum(rate(requests_total[15s]))")}&g0.tab=explain`,
  tree: `query?g0.expr=${q("sum by (code) (rate(requests_total[15s]))")}&g0.show_tree=1`,
  error: `query?g0.expr=${q("sum(")}&g0.tab=1`,
  alerts: "alerts",
  "alerts-list": "alerts?view=list",
  timeline: "alerts?view=timeline&range=1h",
  rules: "rules",
  "rules-cost": "rules?view=cost",
  targets: "targets",
  "service-discovery": "service-discovery",
  "alertmanager-discovery": "alertmanager-discovery",
  status: "status",
  "tsdb-status": "tsdb-status",
  config: "config",
  journal: "config?tab=journal",
  workbench: "config?tab=plan",
  relabel: "relabel?pool=hurt",
  backtest: "backtest?range=30m",
  flags: "flags",
  agent: "agent",
  system: "system",
  queries: "queries",
  cardinality: "cardinality",
};

// `ONLY=graph,alerts` looks at these pages and at nothing else.
const only = process.env.ONLY?.split(",");
for (const [name, path] of Object.entries(PAGES).filter(([name]) => !only || only.includes(name))) {
  for (const theme of ["light", "dark"]) {
    for (const width of [1280, 375]) {
      const page = await open(path, { theme, width, storage: { "settings.showAnnotations": "true" } });
      try {
        if (name === "error") page.removeAllListeners("console"); // The answer 400 is what this page is about.
        await settle(page);
        // All at once: one that is opened no longer counts among the closed ones.
        await page.evaluate(() => document.querySelectorAll("details:not([open]) > summary").forEach((summary) => summary.click()));
        if (name === "backtest") {
          await page.click("text=Run >> nth=-1");
          await page.waitForSelector(".tiles .tile");
        }
        if (name === "graph") await page.waitForSelector("canvas");
        // The stream brings its first event at once, the rates a second later.
        if (name === "system") await page.waitForTimeout(1500);
        await settle(page);
        await accessible(page, `${name} ${theme} ${width}`);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        check(over <= 0, `${name} ${theme} ${width}: ${over} px too wide`);
        const injected = await page.evaluate(() => document.querySelectorAll("main script, main img[src='x'], main iframe").length);
        check(injected === 0, `${name}: data became elements`);
        if (shots && theme === (name === "graph" || name === "system" ? "dark" : "light") && width === 1280) {
          mkdirSync(shots, { recursive: true });
          await page.screenshot({ path: `${shots}/${name}.png` });
        }
      } catch (error) {
        wrong.push(`${name} ${theme} ${width}: ${error.message}`);
      }
      await page.context().close();
    }
  }
}
console.log(`${(only ?? Object.keys(PAGES)).length} pages, both themes, two widths`);

// Links as alerts, older versions and other tools write them.
const tab = (page) => page.getAttribute('[role="tab"][aria-selected="true"]', "id");
const LINKS = [
  ["graph?g0.expr=up&g0.tab=1", { url: "query?g0.expr=up&g0.tab=1", tab: "table" }],
  ["graph?g0.expr=up&g0.tab=0&g0.stacked=1&g0.range_input=2h&g0.step_input=30", { url: "query", tab: "graph", shows: { Range: "2h", Step: "30s" }, checked: "Stacked" }],
  ["query?g0.expr=up&g0.tab=graph&g0.end_input=2026-01-02%2003:04:05&g0.moment_input=2026-01-02%2003:04:06", { tab: "graph", shows: { "End time": "2026-01-02 03:04:06" } }],
  ["query?g0.expr=up&g0.tab=graph&g0.res_type=fixed&g0.res_step=60&g0.step_input=7&g0.display_mode=lines", { tab: "graph", select: "Every 1m", checked: "Lines" }],
  ["query?g0.expr=up&g0.tab=graph&g0.res_type=auto&g0.res_density=high&g0.y_axis_min=0&g0.show_exemplars=1", { tab: "graph", select: "High resolution" }],
  ["query?g0.expr=up&g0.tab=explain&g1.expr=up%20%3D%3D%200&g1.tab=table&g3.expr=lost", { tab: "explain", panels: 2 }],
  ["query?g0.range_input=1h", { panels: 1 }],
];
for (const [link, expected] of LINKS) {
  const page = await open(link);
  try {
    await page.waitForSelector(".panel .cm-content");
    await page.waitForTimeout(200);
    if (expected.url) check(page.url().startsWith(base + expected.url), `${link} led to ${page.url()}`);
    if (expected.tab) check((await tab(page))?.endsWith(`-${expected.tab}`), `${link}: tab ${await tab(page)}`);
    for (const [label, value] of Object.entries(expected.shows ?? {})) check((await page.inputValue(`input[aria-label="${label}"]`)) === value, `${link}: ${label} is ${await page.inputValue(`input[aria-label="${label}"]`)}`);
    if (expected.checked) check(await page.locator(".segments label.on", { hasText: expected.checked }).count(), `${link}: ${expected.checked} is not chosen`);
    if (expected.select) check((await page.locator('select[aria-label="Resolution"] option:checked').textContent()) === expected.select, `${link}: resolution`);
    if (expected.panels) check((await page.locator(".panel").count()) === expected.panels, `${link}: ${await page.locator(".panel").count()} panels`);
  } catch (error) {
    wrong.push(`${link}: ${error.message}`);
  }
  await page.context().close();
}
console.log(`${LINKS.length} old links`);

// By keyboard only: skip link, typing a query, completion, running it, changing the tab, Back, shortcuts, help, leaving the editor.
{
  const page = await open("query");
  try {
    await page.waitForSelector(".cm-content");
    await page.waitForFunction(() => document.activeElement?.classList.contains("cm-content"));
    await page.keyboard.type("requests_to");
    await page.waitForSelector('.cm-tooltip-autocomplete li[aria-selected]:has-text("requests_total")');
    // Shortly after it has appeared the editor takes no key for the list yet.
    await page.waitForTimeout(500);
    await page.keyboard.press("Enter");
    check((await page.textContent(".cm-content")).includes("requests_total"), `completion gave ${await page.textContent(".cm-content")}`);
    await page.keyboard.press("Escape");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".rows tbody tr");
    check(page.url().includes("g0.expr=requests_total"), `the address is ${page.url()}`);
    await page.keyboard.press("Escape");
    await page.keyboard.press("Tab");
    check(!(await page.evaluate(() => document.activeElement?.classList.contains("cm-content"))), "the editor holds the focus");
    const reach = async (what, wanted) => {
      for (let n = 0; n < 60; n += 1) {
        if (await page.evaluate(wanted)) return;
        await page.keyboard.press("Tab");
      }
      wrong.push(`${what} cannot be reached by keyboard`);
    };
    await reach("the tab", () => document.activeElement?.getAttribute("role") === "tab");
    await page.keyboard.press("ArrowRight");
    await page.waitForSelector(".chart-host");
    await reach("the chart", () => document.activeElement?.classList.contains("chart-host"));
    await page.keyboard.press("End");
    check((await page.textContent(".chart [aria-live]")).includes("requests_total"), "the chart's cursor says nothing");
    await page.goBack();
    await page.waitForFunction(() => document.querySelector('[role="tab"][aria-selected="true"]')?.textContent.includes("Table"));
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press("?");
    await page.waitForSelector("dialog[open]");
    await accessible(page, "help");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog[open]", { state: "detached" });
    await page.keyboard.type("gt");
    await page.waitForFunction(() => location.pathname.endsWith("/targets"));
    await settle(page);
    await page.keyboard.type("/");
    check(await page.evaluate(() => document.activeElement?.matches("[data-search]")), "/ does not lead to the search");
  } catch (error) {
    wrong.push(`keyboard: ${error.message}`);
  }
  await page.context().close();
  console.log("a walk by keyboard");
}

// What opens over a page.
{
  const page = await open(`query?g0.expr=${q("requests_total")}`);
  try {
    await settle(page);
    await page.click('button[aria-label="More for query"]');
    await accessible(page, "query menu");
    await page.click("text=Explore metrics");
    await page.waitForSelector("dialog .rows tbody tr");
    await accessible(page, "explorer");
    await page.click("dialog .rows .link >> nth=0");
    await page.waitForSelector("dialog .value-button, dialog code");
    await accessible(page, "explorer of a metric");
    await page.keyboard.press("Escape");
    await page.click('button[aria-label="Settings"]');
    await accessible(page, "settings");
    await page.keyboard.press("Escape");
    await page.goto(`${base}targets`);
    await settle(page);
    await page.click("text=Debug >> nth=0");
    await page.waitForSelector("dialog table");
    await page.click("dialog >> text=Scrape now");
    await page.waitForSelector('dialog [role="status"] .badge');
    await accessible(page, "scrape debugger");
    if (shots) await page.screenshot({ path: `${shots}/scrape-debugger.png` });
    await page.keyboard.press("Escape");
    await page.click("text=Show config >> nth=0");
    await page.waitForSelector("dialog .code");
    await accessible(page, "pool configuration");
    await page.goto(`${base}service-discovery`);
    await settle(page);
    await page.click("text=Steps >> nth=0");
    await page.waitForSelector("dialog .steps");
    await accessible(page, "relabel steps");
  } catch (error) {
    wrong.push(`dialogs: ${error.message}`);
  }
  await page.context().close();
  console.log("dialogs and menus");
}

// The theme, and settings of the Prometheus UI that are taken over.
{
  const page = await open("query", { storage: { "mantine-color-scheme-value": "dark", "settings.enableQueryHistory": "true", "queryPage.queryHistory": '["up"]' } });
  try {
    await page.waitForSelector(".cm-content");
    check((await page.getAttribute("html", "data-theme")) === "dark", "the theme of the Prometheus UI is not taken over");
    await page.keyboard.press("Control+ArrowUp");
    check((await page.textContent(".cm-content")) === "up", "the history of the Prometheus UI is not taken over");
  } catch (error) {
    wrong.push(`settings: ${error.message}`);
  }
  await page.context().close();
}

// Ten thousand series in the table: the time from a key to what it changes on the screen.
{
  const page = await open("query?g0.expr=wide&g0.tab=1");
  try {
    await page.waitForSelector(".rows.windowed tbody tr", { timeout: 30_000 });
    const filter = page.locator('input[aria-label^="Filter series"]');
    const rows = await page.locator(".rows tbody tr").count();
    check(rows < 300, `${rows} rows are drawn`);
    check((await page.getAttribute(".rows table", "aria-rowcount")) === "10001", "not all series are there");
    let best = Infinity;
    for (let round = 0; round < 3; round += 1) {
      await page.evaluate(() => {
        window.latencies = [];
        window.observer = new PerformanceObserver((list) => window.latencies.push(...list.getEntries().map((entry) => entry.duration)));
        window.observer.observe({ type: "event", durationThreshold: 16, buffered: false });
      });
      await filter.click();
      for (const key of "n=\"77") {
        await page.keyboard.type(key);
        await page.waitForTimeout(180);
      }
      await page.waitForTimeout(300);
      const worst = await page.evaluate(() => Math.max(0, ...window.latencies));
      best = Math.min(best, worst);
      await filter.fill("");
      await page.waitForTimeout(300);
    }
    console.log(`10,000 series: ${best} ms from a key to the screen`);
    check(best < 100, `10,000 series: ${best} ms from a key to the screen`);
    await page.evaluate(() => document.querySelector(".rows.windowed").scrollTo(0, 1e9));
    await page.waitForTimeout(200);
    check(await page.locator(".rows tbody tr[aria-rowindex='10001']").count(), "the last row is not there after scrolling");
  } catch (error) {
    wrong.push(`10,000 series: ${error.message}`);
  }
  await page.context().close();
}

await browser.close();
proxy.closeAllConnections();
proxy.close();
if (wrong.count > 0) process.exit(1);
console.log("nothing wrong");
