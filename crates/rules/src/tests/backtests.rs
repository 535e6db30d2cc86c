//! Backtests give what the group did when it ran.

use std::collections::BTreeMap;

use fk_promql::MatrixSeries;
use fk_storage::Samples;
use proptest::prelude::*;

use super::*;

struct Past;

fn failed(error: impl ToString) -> EvaluateError {
    EvaluateError::Failed(error.to_string())
}

fn ask(storage: &dyn Queryable, expr: &Expr, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Value, EvaluateError> {
    let (options, control) = (QueryOptions::default(), Control::new());
    let query = Query { expr, text: "", start_ms, end_ms, step_ms, options: &options, control: &control };
    Ok(fk_promql::evaluate(storage, &query).map_err(failed)?.value)
}

impl HistoryQueries for Past {
    fn instant(&self, storage: &dyn Queryable, expr: &Expr, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        Ok(match ask(storage, expr, ts_ms, ts_ms, 0)? {
            Value::Vector(samples) => QueryResult::Vector(
                samples.into_iter().map(|s| ResultSample { labels: s.labels, v: SampleValue::new(s.v, s.h) }).collect(),
            ),
            Value::Scalar { v, .. } => QueryResult::Scalar(v),
            Value::String { .. } | Value::Matrix(_) => QueryResult::Other,
        })
    }

    fn instant_text(&self, storage: &dyn Queryable, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        self.instant(storage, &parse(text, &ParserOptions::default()).map_err(failed)?, ts_ms)
    }

    fn range(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<(Labels, Samples)>, EvaluateError> {
        let Value::Matrix(series) = ask(storage, expr, start_ms, end_ms, step_ms)? else {
            return Err(failed("no matrix"));
        };
        let columns =
            |s: MatrixSeries| (s.labels, Samples { t: s.t, v: s.v, histograms: s.histograms, starts: Vec::new() });
        Ok(series.into_iter().map(columns).collect())
    }
}

fn rules() -> RuleGroup {
    group(vec![
        alert("Plain", "level > 10", 120, 0, &[("severity", "{{ $labels.unit }}")]),
        record("twice", "level * 2", &[]),
        alert("Recorded", "twice > 20", 0, 180, &[]),
        alert("Lasting", "avg_over_time(twice[5m]) > 15", 60, 0, &[]),
        alert("Alerts", r#"count(ALERTS{alertname="Plain", alertstate="firing"}) > 0"#, 0, 0, &[]),
        record("number", "7", &[]),
        alert("Both", r#"level and {unit="a"}"#, 0, 0, &[]),
    ])
}

const FIRST: i64 = 100;

/// Runs the group over these levels, one a minute, and then tests it on what the storage holds.
fn check(levels: &[Option<u8>], keep_results: bool) -> Result<(), TestCaseError> {
    let mut live = Bench::new(rules());
    let slot = |bench: &Bench, n: usize| bench.group.first_slot((FIRST + n as i64) * 60 * S);
    let raw = MemoryStorage::new();
    let mut wanted: BTreeMap<Labels, (Vec<(AlertEvent, i64)>, u64)> = BTreeMap::new();
    for (n, level) in levels.iter().enumerate() {
        let ts_ns = slot(&live, n);
        if let Some(level) = level {
            for storage in [&live.storage, &raw] {
                storage.add(
                    &labels(&[("__name__", "level"), ("unit", "a")]),
                    &[(ts_ns / NS_PER_MS - 100, f64::from(*level))],
                );
            }
        }
        let report = evaluate_at(&mut live.group, &live.storage, ts_ns, ts_ns);
        for event in report.events {
            wanted.entry(event.labels).or_default().0.push((event.event, ts_ns / NS_PER_MS));
        }
        for sent in report.alerts {
            wanted.entry(sent.labels).or_default().1 += 1;
        }
    }
    let storage = if keep_results { &live.storage } else { &raw };
    let times = (slot(&live, 0) / NS_PER_MS, slot(&live, levels.len().max(1) - 1) / NS_PER_MS + 1);
    let tested = backtest(spec(rules()), times, storage, &Past, &BacktestLimits::default(), &Control::new());
    prop_assert_eq!((tested.steps as usize, &tested.stopped), (levels.len().max(1), &None));
    prop_assert_eq!(tested.rules.iter().map(|rule| rule.failures).sum::<u64>(), 0);
    let got: BTreeMap<Labels, (Vec<(AlertEvent, i64)>, u64)> = tested
        .alerts
        .iter()
        .map(|one| (one.labels.clone(), (one.events.iter().map(|e| (e.event, e.at_ms)).collect(), one.sends)))
        .collect();
    prop_assert_eq!(got, wanted);
    prop_assert_eq!(tested.sends, tested.alerts.iter().map(|one| one.sends).sum::<u64>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_gives_what_the_group_did(
        levels in prop::collection::vec(prop::option::weighted(0.9, 5u8..16), 1..25),
        keep_results in any::<bool>(),
    ) {
        check(&levels, keep_results)?;
    }
}

#[test]
fn limits_end_it_with_what_is_known() {
    let storage = MemoryStorage::new();
    let samples: Vec<(i64, f64)> = (0..200).map(|n| (n * 60_000, 11.0)).collect();
    storage.add(&labels(&[("__name__", "level"), ("unit", "a")]), &samples);
    let run = |limits: BacktestLimits, control: &Control| {
        let rules = group(vec![alert("High", "level > 10", 0, 0, &[])]);
        backtest(spec(rules), (0, 100 * 60_000), &storage, &Past, &limits, control)
    };
    let all = BacktestLimits::default();
    assert_eq!((run(all, &Control::new()).steps, run(all, &Control::new()).stopped), (100, None));
    let few = run(BacktestLimits { evaluations_max: 10, ..all }, &Control::new());
    assert_eq!((few.steps, few.stopped.as_deref()), (10, Some("more than 10 evaluations of rules")));
    assert_eq!((few.notifications, few.alerts.len()), (1, 1));
    let control = Control::new();
    control.cancel();
    assert_eq!(run(all, &control).stopped.as_deref(), Some("query was canceled"));
    let small = run(BacktestLimits { results_max: 8, ..all }, &Control::new());
    assert_eq!((small.steps, small.rules[0].failures), (100, 96));
    let error = "storage is read-only: the rules wrote more than 8 samples";
    assert!(small.rules[0].first_error.as_ref().is_some_and(|(_, text)| text == error), "{small:?}");
}

#[test]
fn failures_are_counted_and_told_once() {
    let storage = MemoryStorage::new();
    storage.add(&labels(&[("__name__", "a"), ("x", "1")]), &[(0, 1.0)]);
    storage.add(&labels(&[("__name__", "a"), ("x", "2")]), &[(0, 1.0)]);
    let rules = group(vec![record("r", "sum without (x) (a) + on () group_left () a", &[]), record("ok", "1", &[])]);
    let tested = backtest(spec(rules), (0, 240_000), &storage, &Past, &BacktestLimits::default(), &Control::new());
    assert_eq!(tested.rules[1].failures, 0);
    assert_eq!(tested.times.map(|(first, last)| last - first), Some(180_000));
}
