//! Queries that never end otherwise end when they are told to, and none takes more memory than it may.

mod queries;

use std::time::Duration;

use fk_promql::QueryError;
use fk_storage::Stopped;

/// How late the end may be, on a machine with much other work: the bench `stops` shows what it is otherwise. Without being told
/// a query would be later by many minutes.
const LATE_MAX: Duration = Duration::from_secs(60);

#[test]
fn endless_queries_end_at_their_deadline_or_for_want_of_memory() {
    let storage = queries::storage();
    for query in &queries::queries() {
        let (late, result) = queries::run(&storage, query, Duration::from_millis(20), 1 << 29);
        let shown: String = query.0.chars().take(80).collect();
        assert!(late < LATE_MAX, "{shown}: {late:?} late");
        let stopped = matches!(result, Err(QueryError::Stopped(Stopped::TimedOut | Stopped::TooMuchMemory(_))));
        assert!(stopped || result.is_ok(), "{shown}: {result:?}");
    }
}

#[test]
fn what_is_held_on_all_levels_of_a_query_counts() {
    let storage = queries::storage();
    for text in [
        format!("max_over_time({}[10m:1ms])", "max_over_time(".repeat(60) + "load_total" + &"[1s:1ms])".repeat(60)),
        format!("max_over_time(vector({})[10m:1ms])", "(time()+".repeat(60) + "1" + &")".repeat(60)),
    ] {
        let (_, result) = queries::run(&storage, &(text.clone(), false), Duration::from_secs(3600), 1 << 26);
        let refused = matches!(result, Err(QueryError::Stopped(Stopped::TooMuchMemory(_))));
        assert!(refused, "{text}: {result:?}");
    }
}
