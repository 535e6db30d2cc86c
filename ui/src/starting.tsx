// What is shown while the server replays its log, or stops: it is asked every second, and the page appears when it is ready.
import type { ComponentChildren } from "preact";
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchRaw, get } from "./lib/api";
import { env } from "./lib/env";
import { humanSeconds } from "./lib/format";
import { Bar, Page } from "./lib/ui";

type Phase = "ready" | "starting" | "stopping" | "gone";
const phase = signal<Phase>(env.ready ? "ready" : "starting");

interface Replay {
  min: number;
  max: number;
  current: number;
}

interface ActorNode {
  kind: string;
  name: string;
  state: string;
  children: ActorNode[];
}

async function ask(): Promise<Phase> {
  try {
    const response = await fetchRaw("-/ready", { cache: "no-store" });
    if (response.ok) return "ready";
    return response.headers.get("X-Prometheus-Stopping") === "true" ? "stopping" : "starting";
  } catch {
    return "gone";
  }
}

const POLL_MS = 1000;
const TEXT: Record<Exclude<Phase, "ready">, string> = {
  starting: "The server is starting and replays its write-ahead log. Queries are answered when it is done.",
  stopping: "The server is stopping.",
  gone: "The server does not answer. This page keeps asking.",
};

export function Ready({ children }: { children: ComponentChildren }) {
  return phase.value === "ready" ? <>{children}</> : <Starting />;
}

function Starting() {
  const [replay, setReplay] = useState<Replay | null>(null);
  const [actors, setActors] = useState<ActorNode[]>([]);
  const began = useRef<{ at: number; segment: number } | null>(null);
  useEffect(() => {
    let gone = false;
    let timer: ReturnType<typeof setTimeout>;
    const turn = async () => {
      const now = await ask();
      if (gone) return;
      phase.value = now;
      if (now === "ready") return;
      if (now !== "gone") {
        const [progress, tree] = await Promise.allSettled([get<Replay>("status/walreplay"), get<ActorNode>("ext/actors")]);
        if (gone) return;
        if (progress.status === "fulfilled") {
          setReplay(progress.value.data);
          began.current ??= { at: Date.now(), segment: progress.value.data.current };
        }
        if (tree.status === "fulfilled") setActors([tree.value.data, ...tree.value.data.children]);
      }
      timer = setTimeout(turn, POLL_MS);
    };
    void turn();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, []);
  const now = phase.value === "ready" ? "starting" : phase.value;
  const total = replay ? replay.max - replay.min + 1 : 0;
  const done = replay ? Math.max(0, replay.current - replay.min + 1) : 0;
  const left = () => {
    const since = began.current;
    if (!replay || !since || replay.current <= since.segment) return null;
    const perSegment = (Date.now() - since.at) / (replay.current - since.segment);
    return ((replay.max - replay.current) * perSegment) / 1000;
  };
  const eta = left();
  return (
    <Page title={now === "starting" ? "Starting" : now === "stopping" ? "Stopping" : "No answer"}>
      <div class="card">
        <div class="card-body stack" aria-live="polite">
          <p>{TEXT[now]}</p>
          {now === "starting" && replay && replay.max > 0 && (
            <p class="row">
              <Bar part={total > 0 ? done / total : 0} label={`${done} of ${total} segments`} />
              segment {replay.current} of {replay.max}
              {eta !== null && <span class="muted">about {humanSeconds(eta)} left</span>}
            </p>
          )}
          {now === "starting" && actors.length > 0 && (
            <p class="labels">
              {actors.map((actor) => (
                <span class="label" key={`${actor.kind} ${actor.name}`}>
                  {actor.kind}: {actor.state}
                </span>
              ))}
            </p>
          )}
        </div>
      </div>
    </Page>
  );
}
