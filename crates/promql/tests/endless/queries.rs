//! Queries that would take minutes, or more memory than any machine has, each for another reason; and data for them. Whoever
//! runs them sets a deadline and a budget of memory.

use std::time::{Duration, Instant};

use fk_model::Labels;
use fk_promql::{Query, QueryError, QueryOptions, evaluate};
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::{Control, MemoryBudget};
use fk_testkit::MemoryStorage;

/// Last sample, ms.
const END_MS: i64 = 3_600_000;

/// What to ask, and whether as a range query.
pub(crate) fn queries() -> Vec<(String, bool)> {
    let nested = |open: &str, inner: &str, close: &str, n: usize| open.repeat(n) + inner + &close.repeat(n);
    let instant = [
        "max_over_time(max_over_time(load_total[1h:1ms])[1h:1ms])".to_owned(),
        "sum(sum_over_time(rate(load_total[5m])[2h:1ms]))".to_owned(),
        "count_values('v', max_over_time(load_total[2h:1ms]))".to_owned(),
        "sum_over_time((load_total > 5)[2h:1ms])".to_owned(),
        "quantile_over_time(0.5, (load_total or vector(1))[2h:1ms])".to_owned(),
        "histogram_quantile(0.9, sum_over_time(label_replace(load_total, 'le', '$1', 'at', '(.*)')[2h:1ms]))"
            .to_owned(),
        "max_over_time(histogram_quantile(0.9, label_replace(load_total, 'le', '$1', 'at', '(.*)'))[2h:1ms])"
            .to_owned(),
        "max_over_time(topk(3, load_total)[2h:1ms])".to_owned(),
        "max_over_time(quantile(0.3, load_total)[2h:1ms])".to_owned(),
        "max_over_time((load_total * on (at) load_total)[2h:1ms])".to_owned(),
        "max_over_time((load_total and load_total)[2h:1ms])".to_owned(),
        "max_over_time(stddev(load_total)[2h:1ms])".to_owned(),
        "sum(max_over_time((load_total @ end())[2h:1ms]))".to_owned(),
        "sum(max_over_time(h[2h:1ms]))".to_owned(),
        "sum(histogram_count(sum_over_time(rate(h[5m])[10m:1ms])))".to_owned(),
        // Buffers of all levels at the same time.
        format!("max_over_time({}[2h:1ms])", nested("max_over_time(", "load_total", "[1s:1ms])", 90)),
        format!("max_over_time(vector({})[2h:1ms])", nested("(time()+", "1", ")", 100)),
        format!("max_over_time(({})[2h:1ms])", nested("", "load_total", "+time()", 100)),
    ];
    let range = [
        "rate((load_total % 2)[1h:1ms])".to_owned(),
        "increase((h * 1)[1h:10ms])".to_owned(),
        "deriv(load_total[1h:1ms])".to_owned(),
        "sum_over_time(load_total[1h:1ms])".to_owned(),
        "min_over_time(load_total[1h:1ms])".to_owned(),
        "last_over_time(load_total[1h:1ms])".to_owned(),
        "stddev_over_time(load_total[1h:1ms])".to_owned(),
        "quantile_over_time(0.5, load_total[1h:1ms])".to_owned(),
        "mad_over_time(load_total[1h:1ms])".to_owned(),
        "changes(load_total[1h:1ms])".to_owned(),
        "double_exponential_smoothing(load_total[1h:1ms], 0.5, 0.5)".to_owned(),
        "histogram_quantiles(label_replace(load_total, 'le', '$1', 'at', '(.*)'), 'q', time() / 1e10)".to_owned(),
        "count_values('v', load_total * time())".to_owned(),
    ];
    instant.into_iter().map(|text| (text, false)).chain(range.into_iter().map(|text| (text, true))).collect()
}

/// Forty counters with a sample every 10 s over an hour, and four series of native histograms.
pub(crate) fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for at in 0..40 {
        let labels = Labels::from_pairs([("__name__", "load_total".to_owned()), ("at", at.to_string())]);
        let samples: Vec<(i64, f64)> = (0..=360).map(|i| (i * 10_000, (i * (at + 1)) as f64)).collect();
        storage.add(&labels, &samples);
    }
    for at in 0..4 {
        let labels = Labels::from_pairs([("__name__", "h".to_owned()), ("at", at.to_string())]);
        (0..=360).for_each(|i| storage.add_histogram(&labels, i * 10_000, histogram((i * (at + 1)) as f64)));
    }
    storage
}

fn histogram(n: f64) -> fk_model::FloatHistogram {
    fk_model::FloatHistogram {
        count: 4.0 * n,
        sum: 8.0 * n,
        positive_spans: vec![fk_model::Span { offset: 0, length: 4 }],
        positive_buckets: vec![n; 4],
        ..Default::default()
    }
}

/// Runs a query for so long, and with so much memory, at most: how much later it ended, and with what.
pub(crate) fn run(
    storage: &MemoryStorage,
    (text, is_range): &(String, bool),
    deadline: Duration,
    bytes_max: u64,
) -> (Duration, Result<(), QueryError>) {
    let expr = parse(text, &ParserOptions::all()).expect(text);
    let options = QueryOptions { max_samples: usize::MAX, threads_max: 1, ..QueryOptions::default() };
    let due = Instant::now() + deadline;
    let control = Control::within(&MemoryBudget::new(bytes_max, bytes_max)).with_deadline(due);
    let query = Query {
        expr: &expr,
        text,
        start_ms: if *is_range { 0 } else { END_MS },
        end_ms: END_MS,
        step_ms: if *is_range { 1000 } else { 0 },
        options: &options,
        control: &control,
    };
    let result = evaluate(storage, &query).map(drop);
    (Instant::now().saturating_duration_since(due), result)
}
