//! Tests of targets.

use super::*;
use fk_model::Regex;
use fk_model::relabel::{RelabelAction, RelabelRule};

fn job() -> ScrapeConfig {
    ScrapeConfig { scrape_interval: Duration(15_000), ..ScrapeConfig::new("node") }
}

fn rule(source: &str, regex: &str, target: &str, replacement: &str) -> RelabelRule {
    RelabelRule {
        source_labels: if source.is_empty() { Vec::new() } else { vec![source.to_owned()] },
        separator: ";".to_owned(),
        regex: Regex::new(regex).unwrap(),
        modulus: 0,
        target_label: target.to_owned(),
        replacement: replacement.to_owned(),
        action: RelabelAction::Replace,
    }
}

fn drop_where(source: &str, regex: &str) -> RelabelRule {
    RelabelRule { action: RelabelAction::Drop, ..rule(source, regex, "", "$1") }
}

fn group(targets: &[&[(&str, &str)]]) -> TargetGroup {
    TargetGroup {
        source: "static/0".to_owned(),
        labels: Labels::from_pairs([("env", "prod"), ("zone", "a")]),
        targets: targets.iter().map(|pairs| Labels::from_pairs(pairs.iter().copied())).collect(),
    }
}

fn one(job: &ScrapeConfig, labels: &[(&str, &str)]) -> Arc<Target> {
    let set = TargetSet::from_groups(job, &[group(&[labels])]);
    assert_eq!((set.errors, set.dropped_count), (Vec::new(), 0));
    Arc::clone(&set.active[0])
}

#[test]
fn defaults_are_filled_in_and_reserved_labels_do_not_reach_samples() {
    let target = one(&job(), &[("__address__", "host:9100"), ("zone", "b"), ("__meta_x", "y"), ("__keep", "z")]);
    assert_eq!(target.public_labels.to_string(), r#"{env="prod", instance="host:9100", job="node", zone="b"}"#);
    assert_eq!(target.discovered.get("__meta_x"), Some("y"));
    assert_eq!((target.labels.get("__meta_x"), target.labels.get("__keep")), (None, Some("z")));
    assert_eq!(target.discovered.get("__scrape_interval__"), Some("15s"));
    assert_eq!(target.discovered.get("__scrape_native_histograms__"), Some("false"));
    assert_eq!(target.url, "http://host:9100/metrics");
    assert_eq!((target.interval, target.timeout), (Duration(15_000), Duration(10_000)));
}

#[test]
fn relabelling_can_change_everything_about_a_target() {
    let job = ScrapeConfig {
        relabel_configs: vec![
            rule("", "(.*)", "__scrape_interval__", "5s"),
            rule("", "(.*)", "__scrape_timeout__", "3s"),
            rule("", "(.*)", "__scheme__", "https"),
            rule("", "(.*)", "__metrics_path__", "probe me"),
            rule("__address__", "(.*):.*", "__param_target", "$1"),
            rule("__address__", "(.*):.*", "instance", "$1"),
            rule("", "(.*)", "__address__", "prober"),
        ],
        params: [("module".to_owned(), vec!["a&b".to_owned(), "c d".to_owned()])].into(),
        ..job()
    };
    let target = one(&job, &[("__address__", "host:9100")]);
    assert_eq!(target.url, "https://prober/probe%20me?module=a%26b&module=c+d&target=host");
    assert_eq!((target.interval, target.timeout), (Duration(5_000), Duration(3_000)));
    assert_eq!(target.public_labels.get("instance"), Some("host"));
}

fn check_error(rules: Vec<RelabelRule>, labels: &[(&str, &str)], text: &str) {
    let job = ScrapeConfig { relabel_configs: rules, ..job() };
    let set = TargetSet::from_groups(&job, &[group(&[labels])]);
    let errors: Vec<String> = set.errors.iter().map(|e| e.to_string()).collect();
    assert_eq!(errors, [format!("instance 0 in group static/0: {text}")]);
    assert!(set.active.is_empty());
}

#[test]
fn faulty_targets_are_refused_with_the_texts_of_prometheus() {
    let ok = [("__address__", "a")];
    check_error(vec![], &[("x", "y"), ("__unix_socket__", "/run/s")], "no address");
    check_error(vec![], &[("__address__", "http://a")], r#""http://a" is not a valid hostname"#);
    let set = |label, value| vec![rule("", "(.*)", label, value)];
    check_error(set("__scrape_interval__", "0s"), &ok, "scrape interval cannot be 0");
    check_error(
        set("__scrape_interval__", "soon"),
        &ok,
        r#"error parsing scrape interval: not a valid duration string: "soon""#,
    );
    check_error(set("__scrape_timeout__", "0"), &ok, "scrape timeout cannot be 0");
    check_error(
        set("__scrape_timeout__", "1m"),
        &ok,
        r#"scrape timeout cannot be greater than scrape interval ("1m" > "15s")"#,
    );
    check_error(
        set("__scrape_native_histograms__", "on"),
        &ok,
        r#"error parsing scrape native histograms: strconv.ParseBool: parsing "on": invalid syntax"#,
    );
}

#[test]
fn one_faulty_target_does_not_hold_up_the_others() {
    let set =
        TargetSet::from_groups(&job(), &[group(&[&[("__address__", "a")], &[("x", "y")], &[("__address__", "b")]])]);
    assert_eq!((set.active.len(), set.errors.len()), (2, 1));
}

#[test]
fn dropped_targets_are_counted_in_full_and_kept_in_part() {
    let job = ScrapeConfig {
        keep_dropped_targets: 1,
        target_limit: 1,
        relabel_configs: vec![drop_where("__address__", "x.*")],
        ..job()
    };
    let groups = [group(&[&[("__address__", "x1")], &[("__address__", "x2")], &[("__address__", "a")]])];
    let set = TargetSet::from_groups(&job, &groups);
    assert_eq!((set.active.len(), set.dropped.len(), set.dropped_count), (1, 1, 2));
    assert_eq!(set.dropped[0].discovered.get("__address__"), Some("x1"));
    assert_eq!(set.limit_exceeded, None);
}

#[test]
fn equal_targets_are_scraped_once_and_count_once() {
    let same: &[(&str, &str)] = &[("__address__", "a"), ("__meta_from", "1")];
    let also: &[(&str, &str)] = &[("__address__", "a"), ("__meta_from", "2")];
    let job = ScrapeConfig { target_limit: 1, ..job() };
    let set = TargetSet::from_groups(&job, &[group(&[same, also])]);
    assert_eq!((set.active.len(), set.limit_exceeded.clone()), (1, None));
    let set = TargetSet::from_groups(&job, &[group(&[same, &[("__address__", "b")]])]);
    assert_eq!(set.limit_exceeded.unwrap().to_string(), "target_limit exceeded (number of targets: 2, limit: 1)");
}

#[test]
fn identity_is_that_of_labels_and_url() {
    let target = one(&job(), &[("__address__", "a:1")]);
    let text = format!("{:016}{}", target.labels.prometheus_hash(), target.url);
    assert_eq!(target.identity, Fnv::new().write(text.as_bytes()).finish());
    let other = one(&job(), &[("__address__", "a:1"), ("x", "y")]);
    assert_ne!(target.identity, other.identity);
    assert_eq!(target.identity, one(&job(), &[("__address__", "a:1"), ("__meta_x", "y")]).identity);
}
