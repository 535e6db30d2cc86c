//! A range query gives at each step what an instant query at that time gives, to the last bit. Prometheus evaluates step
//! by step, so this holds there by construction; here it is what evaluation over whole columns has to prove.

use std::collections::BTreeMap;

use fk_model::{Labels, stale_nan};
use fk_promql::{Query, QueryOptions, Value, evaluate};
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::Control;
use fk_testkit::MemoryStorage;
use proptest::prelude::*;

const QUERIES: &[&str] = &[
    "a_total",
    "a_total offset 45s",
    "a_total offset -45s",
    "timestamp(a_total)",
    "rate(a_total[2m])",
    "increase(a_total[90s] offset 30s)",
    "delta(b[2m])",
    "irate(a_total[2m])",
    "increase(a_total[2m] anchored)",
    "rate(a_total[2m] smoothed)",
    "b smoothed",
    "sum by (x) (rate(a_total[3m]))",
    "avg without (y) (b)",
    "min(b)",
    "max by (y) (b)",
    "stddev by (x) (b)",
    "count by (x) (b > 20)",
    "quantile by (x) (0.4, b)",
    "topk by (x) (1, b)",
    "bottomk(2, b)",
    "limitk(2, b)",
    "count_values by (x) (\"v\", floor(b / 10))",
    "a_total / on (x, y) b",
    "a_total > bool ignoring (z) b",
    "b * on (x) group_left () sum by (x) (a_total)",
    "b + on (x, y) fill (7) a_total",
    "b and on (x) (a_total > 30)",
    "b unless on (y) (a_total > 30)",
    "b > 30 or a_total < 50",
    "b > 30 or b * 0",
    "avg_over_time(b[2m])",
    "stdvar_over_time(b[150s])",
    "max_over_time(b[1m])",
    "quantile_over_time(0.9, b[3m])",
    "mad_over_time(b[3m])",
    "changes(b[2m]) + resets(b[2m])",
    "deriv(b[3m])",
    "predict_linear(b[3m], 60)",
    "double_exponential_smoothing(b[3m], 0.4, 0.6)",
    "max_over_time(rate(a_total[1m])[4m:30s])",
    "sum_over_time(b[2m:17s] offset 20s)",
    "absent(b{x=\"1\"} > 60)",
    "absent_over_time(b{x=\"1\",y=\"1\"}[1m])",
    "scalar(b{x=\"1\",y=\"1\"}) + time()",
    "clamp(b, 10, scalar(max(b)) / 2)",
    "label_replace(b, \"z\", \"$1\", \"x\", \"(.*)\")",
    "histogram_quantile(0.5, label_replace(abs(b), \"le\", \"$1\", \"y\", \"(.*)\"))",
    "-b + hour(b * 1000)",
    "rate(a_total[2m] @ 300)",
    "sum(b @ 300) + b",
];

/// Two counters and two gauges for each of two values of `x`, with gaps, resets and staleness markers.
fn storage(series: &[Vec<(u8, u8)>]) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (at, samples) in series.iter().enumerate() {
        let (name, x, y) = (["a_total", "b"][at % 2], ["1", "2"][at / 2 % 2], ["1", "+Inf"][at / 4 % 2]);
        let (mut t, mut total, mut all) = (0, 0.0, Vec::new());
        for (gap, value) in samples {
            t += 1 + i64::from(*gap) * 400;
            let v = f64::from(*value);
            all.push(match value {
                250.. => {
                    total = 0.0;
                    (t, stale_nan())
                }
                240.. => (t, f64::NAN),
                _ if name == "b" => (t, v / 3.0),
                200.. => {
                    total = v / 7.0;
                    (t, total)
                }
                _ => {
                    total += v / 7.0;
                    (t, total)
                }
            });
        }
        storage.add(&Labels::from_pairs([("__name__", name), ("x", x), ("y", y)]), &all);
    }
    storage
}

type Points = BTreeMap<(Labels, i64), f64>;

/// The points of a result by labels and time; `None` if the query fails.
fn points(storage: &MemoryStorage, text: &str, times: (i64, i64, i64), options: &QueryOptions) -> Option<Points> {
    let expr = parse(text, &ParserOptions::all()).expect(text);
    let control = Control::new();
    let (start_ms, end_ms, step_ms) = times;
    let query = Query { expr: &expr, text, start_ms, end_ms, step_ms, options, control: &control };
    Some(match evaluate(storage, &query).ok()?.value {
        Value::Scalar { t_ms, v } => BTreeMap::from([((Labels::empty(), t_ms), v)]),
        Value::String { .. } => BTreeMap::new(),
        Value::Vector(samples) => samples.into_iter().map(|s| ((s.labels, s.t_ms), s.v)).collect(),
        Value::Matrix(series) => series
            .into_iter()
            .flat_map(|s| {
                let labels = s.labels;
                s.t.into_iter().zip(s.v).map(move |(t, v)| ((labels.clone(), t), v)).collect::<Vec<_>>()
            })
            .collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_range_query_is_its_instant_queries(
        series in prop::collection::vec(prop::collection::vec(any::<(u8, u8)>(), 0..40), 8),
        start in -60_000i64..300_000,
        step in 1_000i64..90_000,
        delayed_name_removal in any::<bool>(),
    ) {
        let storage = storage(&series);
        let options = QueryOptions { delayed_name_removal, ..QueryOptions::default() };
        for text in QUERIES {
            let times: Vec<i64> = (0..7).map(|i| start + i * step).collect();
            let instants: Option<Vec<Points>> = times.iter().map(|t| points(&storage, text, (*t, *t, 0), &options)).collect();
            let range = points(&storage, text, (start, start + 6 * step, step), &options);
            // What fails at one time fails as a whole.
            let (Some(instants), Some(range)) = (instants, &range) else {
                prop_assert!(range.is_none(), "{}: only instant queries fail", text);
                continue;
            };
            let together: Points = instants.into_iter().flatten().collect();
            prop_assert_eq!(together.keys().collect::<Vec<_>>(), range.keys().collect::<Vec<_>>(), "{}", text);
            for ((at, one), other) in together.iter().zip(range.values()) {
                let same = one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
                prop_assert!(same, "{} at {:?}: {} alone, {} in the range", text, at, one, other);
            }
        }
    }
}
