//! A query over many series holds groups, not series.

mod load;

use fk_storage::Control;
use fk_testkit::TempDir;

/// What the query may take however many series there are: groups, results, and columns under way.
const FIXED_BYTES: u64 = 24 << 20;

/// What it may take for each series that it has found.
const SERIES_BYTES: u64 = 64;

#[test]
fn an_aggregation_holds_groups_and_no_series() {
    let held = |series: usize| {
        let dir = TempDir::new("query-memory");
        let db = load::fill(dir.path(), series, 60_000, &|_| {});
        let (answer, control): (_, Control) = load::ask(&db, u64::MAX);
        let usage = control.usage();
        assert_eq!(usage.series, series as u64);
        drop(answer);
        assert_eq!(control.usage().bytes, 0, "all is given back");
        usage.bytes_peak
    };
    let (few, many) = (held(100), held(1600));
    assert!(few < FIXED_BYTES, "{few} bytes");
    assert!(many < few + FIXED_BYTES / 4 + 1500 * SERIES_BYTES, "{many} bytes of 1600 series, {few} of 100");
    // So 200,000 series take less than 64 MiB.
    assert!(many + FIXED_BYTES / 4 + 200_000 * SERIES_BYTES < 64 << 20, "{many} bytes");
}
