//! A data directory of many counters, and the query over six hours of them whose memory is bounded.

use std::path::Path;

use fk_model::Labels;
use fk_promql::{Answer, Query, QueryOptions, Value, evaluate};
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::{AppendReport, Appender, Batch, Control, MemoryBudget, SeriesRef};
use fk_tsdb::{Db, DbOptions, Now, Retention};

/// What is asked, at the resolution of [`STEP_MS`], over [`RANGE_MS`].
pub(crate) const QUERY: &str = "sum by (handler) (rate(http_requests_total[5m]))";
pub(crate) const STEP_MS: i64 = 15_000;
pub(crate) const RANGE_MS: i64 = 6 * 3_600_000;

/// The first window.
const WINDOW_MS: i64 = 300_000;

/// First sample, ms.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// Values of the label that is grouped by.
pub(crate) const HANDLERS: usize = 50;

/// Series of a batch.
const BATCH_SERIES: usize = 1000;

/// Counters of `series` series with a sample every `interval_ms`. What is old enough goes to blocks, as in a server.
pub(crate) fn fill(path: &Path, series: usize, interval_ms: i64, progress: &dyn Fn(i64)) -> Db {
    let mut options = DbOptions::new(path);
    options.config.retention = Retention { time_ms: 0, ..options.config.retention };
    options.compaction_bytes_per_s = 0;
    let db = Db::open(options, &|_| {}).expect("an empty directory");
    let refs: Vec<SeriesRef> = (0..series).map(|at| db.resolve(&labels(at)).expect("resolved")).collect();
    let (mut batch, mut report) = (Batch::default(), AppendReport::default());
    let scrapes = (RANGE_MS + WINDOW_MS) / interval_ms;
    for scrape in 0..=scrapes {
        let t = BEGIN_MS + scrape * interval_ms;
        for (first, refs) in refs.chunks(BATCH_SERIES).enumerate() {
            batch.clear();
            for (at, series) in refs.iter().enumerate() {
                let number = (first * BATCH_SERIES + at) as i64;
                batch.push(*series, t, (scrape * (number % 97) + (scrape * number) % 7) as f64);
            }
            db.append(&batch, &mut report).expect("appended");
            assert!(report.rejected.is_empty(), "{:?}", report.rejected);
        }
        if scrape % 40 == 0 || scrape == scrapes {
            // The clock runs with the samples.
            let now = Now { wall_ms: t, steady_ms: scrape * interval_ms };
            while db.maintain(now, &Control::new()).expect("maintained").more {}
            progress(100 * scrape / scrapes);
        }
    }
    db.sync().expect("synced");
    db
}

fn labels(at: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", "http_requests_total".to_owned()),
        ("handler", format!("/api/v1/handler-{}", at % HANDLERS)),
        ("instance", format!("10.0.{}.{}:9100", at / HANDLERS / 250, at / HANDLERS % 250)),
        ("job", "api".to_owned()),
    ])
}

/// Runs the query. `budget` is what it may hold.
pub(crate) fn ask(db: &Db, budget: u64) -> (Answer, Control) {
    let expr = parse(QUERY, &ParserOptions::default()).expect("valid");
    let (options, control) = (QueryOptions::default(), Control::within(&MemoryBudget::new(budget, budget)));
    let start_ms = BEGIN_MS + WINDOW_MS;
    let query = Query {
        expr: &expr,
        text: QUERY,
        start_ms,
        end_ms: start_ms + RANGE_MS,
        step_ms: STEP_MS,
        options: &options,
        control: &control,
    };
    let answer = evaluate(db, &query).expect("evaluated");
    let Value::Matrix(matrix) = &answer.value else { panic!("not a matrix") };
    let points: usize = matrix.iter().map(|series| series.v.len()).sum();
    assert_eq!((matrix.len(), points), (HANDLERS, HANDLERS * (RANGE_MS / STEP_MS + 1) as usize));
    (answer, control)
}
