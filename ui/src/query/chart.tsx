// uPlot with what a graph of metrics needs: nearest series, zoom by dragging, moving, keys, stacked areas, heatmaps and exemplars.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatTime, labelName, preciseTime, short } from "../lib/format";
import { useLocalTime } from "../lib/settings";
import type { Heat } from "./series";

export interface Mark {
  t: number;
  v: number;
  labels: Record<string, string>;
  series: Record<string, string>;
}

interface Props {
  times: number[];
  values: (number | null)[][];
  /// As they were before stacking.
  raw: (number | null)[][];
  names: string[];
  metrics: Record<string, string>[];
  colours: string[];
  shown: boolean[];
  stacked: boolean;
  heat: Heat | null;
  log: boolean;
  yMin: number | null;
  dark: boolean;
  marks: Mark[];
  onZoom: (from: number, to: number) => void;
  onMove: (share: number) => void;
  onScale: (factor: number) => void;
  onMark: (mark: Mark | null) => void;
}

const HEIGHT = 360;
/// How near the pointer has to be, px.
const NEAR_PX = 40;
const MARK_NEAR_PX = 8;

/// From cool and dark to warm and light; reversed on light ground.
function heatColour(part: number, dark: boolean): string {
  const p = Math.sqrt(Math.max(0, Math.min(1, part)));
  return dark ? `hsl(${260 - 220 * p} ${60 + 35 * p}% ${14 + 58 * p}%)` : `hsl(${45 - 45 * p} ${80}% ${94 - 56 * p}%)`;
}

export function Chart(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const say = useRef<HTMLParagraphElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;

  const { times, values, heat, dark, log, yMin, stacked, marks } = props;
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const css = getComputedStyle(element);
    const line = css.getPropertyValue("--line").trim() || (dark ? "#343b44" : "#dde1e7");
    const grid = { stroke: dark ? "#343b44" : "#dde1e7", width: 1 };
    const text = dark ? "#a0aab5" : "#59636e";
    const accent = dark ? "#82b6ff" : "#1559b3";
    const lowest = heat ? heat.limits[0]! : 0;
    const highest = heat ? heat.limits[heat.limits.length - 1]! : 0;
    // Buckets that grow by factors are drawn equally high.
    const byIndex = heat !== null && heat.limits.length > 3;
    const yOf = (limit: number) => (byIndex && heat ? heat.limits.indexOf(limit) : limit);
    let hottest = 0;
    if (heat) for (const row of heat.cells) for (const v of row) if (v !== null && v > hottest) hottest = v;

    const drawHeat = (u: uPlot) => {
      if (!heat) return;
      const { ctx } = u;
      const step = heat.times.length > 1 ? heat.times[1]! - heat.times[0]! : 1;
      ctx.save();
      ctx.beginPath();
      ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
      ctx.clip();
      heat.times.forEach((t, i) => {
        const x0 = u.valToPos(t - step / 2, "x", true);
        const x1 = u.valToPos(t + step / 2, "x", true);
        heat.cells[i]?.forEach((v, b) => {
          if (!v) return;
          const y0 = u.valToPos(yOf(heat.limits[b]!), "y", true);
          const y1 = u.valToPos(yOf(heat.limits[b + 1]!), "y", true);
          ctx.fillStyle = heatColour(v / hottest, dark);
          ctx.fillRect(x0, y1, Math.max(1, x1 - x0), Math.max(1, y0 - y1));
        });
      });
      ctx.restore();
    };
    const drawMarks = (u: uPlot) => {
      const { ctx } = u;
      ctx.save();
      ctx.fillStyle = accent;
      ctx.strokeStyle = dark ? "#14171b" : "#fff";
      for (const mark of marks) {
        const x = u.valToPos(mark.t, "x", true);
        const y = Math.max(u.bbox.top, Math.min(u.bbox.top + u.bbox.height, u.valToPos(byIndex ? markIndex(mark.v) : mark.v, "y", true)));
        const r = 4 * devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x, y - r);
        ctx.lineTo(x + r, y);
        ctx.lineTo(x, y + r);
        ctx.lineTo(x - r, y);
        ctx.closePath();
        ctx.fill();
        ctx.stroke();
      }
      ctx.restore();
    };
    const markIndex = (v: number) => {
      const limits = heat?.limits ?? [];
      const above = limits.findIndex((limit) => limit >= v);
      return above < 0 ? limits.length - 1 : Math.max(0, above - 0.5);
    };

    const show = (u: uPlot) => {
      const box = tip.current;
      if (!box) return;
      const { left, top, idx } = u.cursor;
      const now = latest.current;
      if (left === undefined || top === undefined || left < 0 || idx === null || idx === undefined) {
        box.hidden = true;
        return;
      }
      const t = times[idx];
      if (t === undefined) return;
      if (heat) {
        const limit = u.posToVal(top, "y");
        const b = byIndex ? Math.floor(limit) : heat.limits.findIndex((l, at) => limit >= l && limit < (heat.limits[at + 1] ?? -Infinity));
        const v = heat.cells[idx]?.[b];
        fillTip(box, [preciseTime(t * 1000), `${short(heat.limits[b] ?? NaN)} – ${short(heat.limits[b + 1] ?? NaN)}`, v === null || v === undefined ? "no value" : short(v)], {}, accent);
      } else {
        let best = -1;
        let distance = NEAR_PX;
        values.forEach((column, s) => {
          const v = column[idx];
          if (!now.shown[s] || v === null || v === undefined) return;
          const d = Math.abs(u.valToPos(v, "y") - top);
          if (d < distance) {
            distance = d;
            best = s;
          }
        });
        if (best < 0) {
          box.hidden = true;
          return;
        }
        const v = now.raw[best]?.[idx];
        fillTip(box, [preciseTime(t * 1000), `${now.metrics[best]?.["__name__"] ?? ""} ${v === null || v === undefined ? "" : String(v)}`.trim()], now.metrics[best] ?? {}, now.colours[best] ?? accent);
      }
      box.hidden = false;
      const width = box.offsetWidth;
      const x = left + u.over.offsetLeft;
      box.style.left = `${Math.max(0, x + width + 24 > element.clientWidth ? x - width - 12 : x + 14)}px`;
      box.style.top = `${Math.max(0, Math.min(top + u.over.offsetTop + 12, HEIGHT - box.offsetHeight))}px`;
    };

    const allValues = heat ? [] : values;
    const options: uPlot.Options = {
      width: element.clientWidth,
      height: HEIGHT,
      tzDate: (s) => (useLocalTime.value ? new Date(s * 1000) : uPlot.tzDate(new Date(s * 1000), "Etc/UTC")),
      cursor: { drag: { x: true, y: false, setScale: false }, focus: { prox: NEAR_PX }, points: { show: !heat } },
      focus: { alpha: 0.35 },
      legend: { show: false },
      scales: {
        x: { time: true, range: () => [times[0] ?? 0, times[times.length - 1] ?? 1] },
        y: heat
          ? { range: () => (byIndex ? [0, heat.limits.length - 1] : [lowest, highest]) }
          : {
              distr: log ? 3 : 1,
              range: (_u, min, max) => {
                if (min === null || max === null) return log ? [0.1, 10] : [0, 1];
                if (log) return [10 ** Math.floor(Math.log10(Math.max(min, 1e-12))), 10 ** Math.ceil(Math.log10(Math.max(max, 1e-11)))];
                let low = stacked ? Math.min(0, min) : min;
                if (yMin !== null) low = Math.min(yMin, min);
                const pad = (max - low || Math.abs(max) || 1) * 0.06;
                return [yMin !== null || (stacked && low === 0) ? low : low - pad, max + pad];
              },
            },
      },
      axes: [
        { stroke: text, grid, ticks: { stroke: line }, space: 70, values: (_u, splits, _axis, _space, step) => timeTicks(splits, step) },
        {
          stroke: text,
          grid,
          ticks: { stroke: line },
          size: 68,
          values: (_u, ticks) => ticks.map((v) => (v === null ? "" : byIndex && heat ? (Number.isInteger(v) && heat.limits[v] !== undefined ? short(heat.limits[v]!) : "") : short(v))),
        },
      ],
      series: [
        {},
        ...(heat
          ? [{ show: true, stroke: "transparent", points: { show: false } }]
          : allValues.map((_, at): uPlot.Series => ({
              label: latest.current.names[at] ?? "",
              stroke: latest.current.colours[at],
              fill: stacked ? `${latest.current.colours[at]}40` : undefined,
              width: 1.5,
              show: latest.current.shown[at],
              spanGaps: false,
              points: {
                // Only those that no line reaches.
                show: false,
                filter: undefined,
              },
            }))),
      ],
      bands: stacked && !heat ? stackBands(latest.current.shown) : undefined,
      hooks: {
        draw: [
          (u) => {
            drawHeat(u);
            if (!heat) drawLonely(u, latest.current);
            drawMarks(u);
          },
        ],
        setCursor: [show],
        setSelect: [
          (u) => {
            if (u.select.width < 4) return;
            const from = u.posToVal(u.select.left, "x");
            const to = u.posToVal(u.select.left + u.select.width, "x");
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            latest.current.onZoom(from, to);
          },
        ],
      },
    };
    const middle = (lowest + highest) / 2;
    const data = [times, ...(heat ? [times.map(() => (byIndex ? heat.limits.length / 2 : middle))] : values)] as uPlot.AlignedData;
    const u = new uPlot(options, data, element);
    plot.current = u;
    u.over.setAttribute("aria-hidden", "true");

    const onWheel = (event: WheelEvent) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      latest.current.onScale(event.deltaY > 0 ? 2 : 0.5);
    };
    // With Shift the graph moves instead of zooming.
    let movedFrom: number | null = null;
    const onDown = (event: PointerEvent) => {
      if (!event.shiftKey) return;
      movedFrom = event.clientX;
      event.stopImmediatePropagation();
    };
    const stopSelect = (event: MouseEvent) => event.shiftKey && event.stopImmediatePropagation();
    const onUp = (event: PointerEvent) => {
      if (movedFrom === null) return;
      const share = (movedFrom - event.clientX) / Math.max(1, u.over.clientWidth);
      movedFrom = null;
      if (Math.abs(share) > 0.01) latest.current.onMove(share);
    };
    const onClick = () => {
      const { left = -1, top = -1 } = u.cursor;
      const near = marks.find((mark) => Math.abs(u.valToPos(mark.t, "x") - left) < MARK_NEAR_PX && Math.abs(u.valToPos(byIndex ? markIndex(mark.v) : mark.v, "y") - top) < MARK_NEAR_PX * 2);
      if (near) latest.current.onMark(near);
    };
    u.over.addEventListener("wheel", onWheel, { passive: false });
    u.over.addEventListener("pointerdown", onDown, true);
    u.over.addEventListener("mousedown", stopSelect, true);
    u.over.addEventListener("click", onClick);
    addEventListener("pointerup", onUp);
    const observer = new ResizeObserver(() => element.clientWidth > 0 && u.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      removeEventListener("pointerup", onUp);
      u.destroy();
      plot.current = null;
    };
  }, [times, values, heat, dark, log, yMin, stacked, marks, useLocalTime.value]);

  useEffect(() => {
    const u = plot.current;
    if (!u || heat) return;
    props.shown.forEach((show, at) => {
      if (u.series[at + 1]?.show !== show) u.setSeries(at + 1, { show }, false);
    });
    u.redraw();
  }, [props.shown]);

  const onKeyDown = (event: KeyboardEvent) => {
    const u = plot.current;
    if (!u || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = times.length - 1;
    const at = u.cursor.idx ?? last;
    const go = (idx: number) => {
      const to = Math.max(0, Math.min(last, idx));
      const t = times[to];
      if (t === undefined) return;
      const first = props.raw.findIndex((column, s) => props.shown[s] && column[to] !== null && column[to] !== undefined);
      const v = values[first]?.[to];
      u.setCursor({ left: u.valToPos(t, "x"), top: v === null || v === undefined ? 10 : u.valToPos(v, "y") });
      if (say.current) {
        const texts = props.raw.slice(0, 5).map((column, s) => (props.shown[s] && column[to] !== null ? `${props.names[s]}: ${short(column[to] ?? NaN)}` : "")).filter(Boolean);
        say.current.textContent = `${preciseTime(t * 1000)}. ${texts.join("; ")}`;
      }
    };
    const actions: Record<string, () => void> = {
      ArrowLeft: () => (event.shiftKey ? props.onMove(-0.25) : go(at - 1)),
      ArrowRight: () => (event.shiftKey ? props.onMove(0.25) : go(at + 1)),
      Home: () => go(0),
      End: () => go(last),
      "+": () => props.onScale(0.5),
      "-": () => props.onScale(2),
    };
    const act = actions[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };

  return (
    <div class="chart">
      <div class="chart-host" ref={host} tabIndex={0} role="application" aria-roledescription="graph" aria-label={`Graph of ${props.names.length} series. Arrow keys move the cursor, plus and minus change the range.`} onKeyDown={onKeyDown} />
      <div class="chart-tip" ref={tip} hidden />
      <p class="hidden" ref={say} aria-live="polite" />
    </div>
  );
}

/// Labels of the time axis: as much of the time as the distance of the ticks needs, the date where the day changes.
function timeTicks(splits: number[], step: number): string[] {
  let day = "";
  return splits.map((s) => {
    const text = formatTime(s * 1000);
    const [date = "", time = ""] = text.split(" ");
    const begins = date !== day;
    day = date;
    const clock = step < 60 ? time : time.slice(0, 5);
    if (step >= 86_400) return date;
    return begins ? `${clock}\n${date}` : clock;
  });
}

/// Text only: labels come from anywhere.
function fillTip(box: HTMLElement, lines: string[], labels: Record<string, string>, colour: string) {
  box.replaceChildren();
  lines.forEach((text, at) => {
    const row = document.createElement("div");
    row.textContent = text;
    if (at === 0) row.className = "muted";
    if (at === 1) {
      row.className = "tip-value";
      row.style.borderColor = colour;
    }
    box.append(row);
  });
  for (const [name, value] of Object.entries(labels).filter(([label]) => label !== "__name__").slice(0, 24)) {
    const row = document.createElement("div");
    const key = document.createElement("b");
    key.textContent = `${labelName(name)}: `;
    row.append(key, value);
    box.append(row);
  }
}

/// The area between each shown series and the one below it.
function stackBands(shown: boolean[]): uPlot.Band[] {
  const bands: uPlot.Band[] = [];
  let below = -1;
  shown.forEach((is, at) => {
    if (!is) return;
    if (below >= 0) bands.push({ series: [at + 1, below + 1] });
    below = at;
  });
  return bands;
}

/// Single points between gaps, which a line cannot show.
function drawLonely(u: uPlot, props: Props) {
  const { ctx } = u;
  ctx.save();
  props.values.forEach((column, s) => {
    if (!props.shown[s]) return;
    ctx.fillStyle = props.colours[s] ?? "#888";
    column.forEach((v, i) => {
      if (v === null || (column[i - 1] ?? null) !== null || (column[i + 1] ?? null) !== null) return;
      ctx.beginPath();
      ctx.arc(u.valToPos(props.times[i] ?? 0, "x", true), u.valToPos(v, "y", true), 2.5 * devicePixelRatio, 0, 7);
      ctx.fill();
    });
  });
  ctx.restore();
}
