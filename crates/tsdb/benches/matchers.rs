//! Finding series of a head with a million of them: expressions over a million label values, and intersections of postings.
//!
//! Measured in processor time, which a busy machine does not change much. Every series has a `pod` of its own, and labels that 10, 100 and 1000 of them share. The searches find few series, so that
//! the search itself is what is measured. For scale: the million values are 12 MB of text, which memory delivers in about a
//! millisecond; what a search costs beyond that is the matching.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use fk_model::{Labels, MatchKind, Matcher};
use fk_storage::{Appender, Control, Queryable, TimeRange};
use fk_testkit::TempDir;
use fk_tsdb::{Db, DbOptions};

const SERIES: usize = 1_000_000;
const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", i % 1000)),
        ("instance", format!("10.0.{}.{}:9100", i / 1000 / 250, i / 1000 % 250)),
        ("job", format!("job-{}", i / 1000 % 10)),
        ("pod", format!("pod-{i:07}")),
        ("code", ["200", "500"][i % 2].to_owned()),
        ("method", ["GET", "POST", "PUT", "DELETE", "HEAD"][i / 2 % 5].to_owned()),
    ])
}

fn searches(c: &mut Criterion) {
    let dir = TempDir::new("bench-matchers");
    let db = Db::open(DbOptions::new(dir.path()), &|_| {}).expect("opens");
    for i in 0..SERIES {
        db.resolve(&labels(i)).expect("there is room");
    }
    let matcher =
        |(name, kind, value): &(&str, MatchKind, &str)| Matcher::new(*kind, *name, *value).expect("a matcher");
    let mut group = c.benchmark_group("a million series");
    group.sample_size(10);
    let mut bench = |name: &str, expected: usize, matchers: &[(&str, MatchKind, &str)]| {
        let matchers: Vec<Matcher> = matchers.iter().map(matcher).collect();
        let pods = || db.label_values("pod", ALL, &matchers, &Control::new()).expect("answers");
        assert_eq!(pods().len(), expected, "{name}");
        group.throughput(Throughput::Elements(SERIES as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let start = cpu_time();
                (0..n).for_each(|_| drop(black_box(pods())));
                cpu_time() - start
            });
        });
    };
    use MatchKind::{Equal, NotEqual, NotRegex, Regex};
    bench("regex: list of texts", 3, &[("pod", Regex, "pod-0000017|pod-0999999|pod-0500000")]);
    bench("regex: prefix", 100, &[("pod", Regex, "pod-09999.*")]);
    bench("regex: suffix", 10, &[("pod", Regex, ".*99999")]);
    bench("regex: text within", 19, &[("pod", Regex, ".*99999.*")]);
    bench("regex: alternation of patterns", 20, &[("pod", Regex, ".*99998|.*99997")]);
    bench("regex: automaton", 10, &[("pod", Regex, "pod-[0-9]+5{5}")]);
    bench("regex: narrowed by another label", 1, &[("instance", Equal, "10.0.3.249:9100"), ("pod", Regex, ".*99999")]);
    bench("negated regex: narrowed", 999, &[("instance", Equal, "10.0.3.249:9100"), ("pod", NotRegex, ".*99999")]);
    let all =
        [("job", Equal, "job-7"), ("method", Equal, "PUT"), ("code", Equal, "500"), ("__name__", Equal, "metric_5")];
    bench("intersection of four", 100, &all);
    let some = [("__name__", Equal, "metric_5"), ("job", NotEqual, "job-7"), ("method", NotEqual, "GET")];
    bench("intersection with two exclusions", 900, &some);
}

/// Time this thread has been running.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

criterion_group!(benches, searches);
criterion_main!(benches);
