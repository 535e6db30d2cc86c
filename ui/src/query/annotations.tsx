// Warnings and infos of an answer, and what its evaluation took.
import type { Answer } from "../lib/api";
import { bytes, count, humanSeconds } from "../lib/format";
import { showQueryInfoNotices, showQueryWarnings } from "../lib/settings";
import { Note } from "../lib/ui";
import type { QueryData } from "./types";

export function Annotations({ answer }: { answer: Answer<QueryData> }) {
  const texts = (title: string, tone: "warn" | "info", all: string[]) =>
    all.length > 0 && (
      <Note tone={tone} title={title}>
        {all.join("\n")}
      </Note>
    );
  return (
    <>
      {showQueryWarnings.value && texts("Query warning", "warn", answer.warnings)}
      {showQueryInfoNotices.value && texts("Query notice", "info", answer.infos)}
    </>
  );
}

export function Cost({ answer, series }: { answer: Answer<QueryData>; series: number }) {
  const stats = answer.data.stats;
  const details = stats
    ? [
        ...Object.entries(stats.timings).map(([name, s]) => `${name}: ${humanSeconds(s)}`),
        `samples: ${count(stats.samples.totalQueryableSamples)}, at most ${count(stats.samples.peakSamples)} at once`,
        `answer: ${bytes(answer.size)}`,
      ].join("\n")
    : "";
  return (
    <span class="muted cost" title={details} role="status">
      {count(series)} series in {humanSeconds(answer.took / 1000)}
      {stats && `, ${count(stats.samples.totalQueryableSamples)} samples`}
    </span>
  );
}
