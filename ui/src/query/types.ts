// What the query API answers.
export type Sample = [number, string];
export type Bucket = [number, string, string, string];

export interface HistogramValue {
  count: string;
  sum: string;
  buckets?: Bucket[];
}

export interface VectorSeries {
  metric: Record<string, string>;
  value?: Sample;
  histogram?: [number, HistogramValue];
}

export interface MatrixSeries {
  metric: Record<string, string>;
  values?: Sample[];
  histograms?: [number, HistogramValue][];
}

export interface Explain {
  operator: string;
  query: string;
  ownSeconds: number;
  totalSeconds: number;
  evaluations: number;
  seriesIn: number;
  seriesOut: number;
  valuesOut: number;
  samples: number;
  samplesRead: number;
  bytes: number;
  children: Explain[];
}

export interface Stats {
  timings: Record<string, number>;
  samples: { totalQueryableSamples: number; peakSamples: number; samplesRead?: number };
}

export type QueryData = { stats?: Stats; explain?: Explain } & (
  | { resultType: "vector"; result: VectorSeries[] }
  | { resultType: "matrix"; result: MatrixSeries[] }
  | { resultType: "scalar" | "string"; result: Sample }
);

export const number = (text: string): number => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));
