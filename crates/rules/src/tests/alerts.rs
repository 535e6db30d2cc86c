//! The states of alerts, their series, and what is sent when.

use super::*;

const LEVEL: [(&str, &str); 2] = [("__name__", "level"), ("unit", "a")];

/// A rule `level > 10` whose series has the given values at 60, 120, 180, ... seconds; `None`: no sample.
fn run(bench: &mut Bench, values: &[f64]) -> Vec<Vec<String>> {
    let times = (1..).map(|n| n * 60);
    times
        .zip(values)
        .map(|(at, v)| {
            bench.sample(&LEVEL, at, *v);
            bench.good_at(at)
        })
        .collect()
}

#[test]
fn an_alert_is_pending_for_its_time_then_fires_then_is_resolved() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 120, 0, &[("severity", "page")])]));
    let sent = run(&mut bench, &[11.0, 12.0, 13.0, 14.0, 15.0, 1.0, 1.0, 1.0]);
    let a = r#"{alertname="High", severity="page", unit="a"}"#;
    // Fires at 180, which is sent at once and then every second evaluation; resolved at 360.
    assert_eq!(
        sent,
        [
            vec![],
            vec![],
            vec![format!("180-420 {a}")],
            vec![],
            vec![format!("180-540 {a}")],
            vec![format!("180-360 {a}")],
            vec![],
            vec![format!("180-360 {a}")]
        ]
    );
    assert_eq!(
        bench.stored("ALERTS"),
        [
            r#"{__name__="ALERTS", alertname="High", alertstate="firing", severity="page", unit="a"}: 180=1 240=1 300=1 360=stale"#,
            r#"{__name__="ALERTS", alertname="High", alertstate="pending", severity="page", unit="a"}: 60=1 120=1 180=stale"#,
            r#"{__name__="ALERTS_FOR_STATE", alertname="High", severity="page", unit="a"}: 60=60 120=60 180=60 240=60 300=60 360=stale"#
        ]
    );
}

#[test]
fn without_a_for_time_an_alert_fires_at_once() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 0, 0, &[])]));
    assert_eq!(run(&mut bench, &[11.0]), [[r#"60-300 {alertname="High", unit="a"}"#]]);
    assert_eq!(bench.alerts(), [r#"firing 60 {alertname="High", unit="a"}"#]);
}

#[test]
fn a_pending_alert_that_ends_is_forgotten() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 120, 0, &[])]));
    assert_eq!(run(&mut bench, &[11.0, 1.0, 11.0, 11.0]).concat(), Vec::<String>::new());
    assert_eq!(bench.alerts(), [r#"pending 180 {alertname="High", unit="a"}"#]);
}

#[test]
fn a_resolved_alert_is_repeated_for_fifteen_minutes() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 0, 0, &[])]));
    let mut values = vec![11.0];
    values.resize(30, 1.0);
    let sent = run(&mut bench, &values);
    let resolved: Vec<usize> =
        (0..30).filter(|n| sent[*n].iter().any(|s| s.starts_with("60-120 "))).map(|n| n + 1).collect();
    // Resolved in evaluation 2; remembered up to evaluation 17, 15 minutes later.
    assert_eq!(resolved, [2, 4, 6, 8, 10, 12, 14, 16]);
    assert_eq!(bench.alerts(), Vec::<String>::new());
}

#[test]
fn a_resolved_alert_that_comes_back_is_a_new_one() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 60, 0, &[])]));
    let sent = run(&mut bench, &[11.0, 11.0, 1.0, 11.0, 11.0]);
    let a = r#"{alertname="High", unit="a"}"#;
    assert_eq!(sent.concat(), [format!("120-360 {a}"), format!("120-180 {a}"), format!("300-540 {a}")]);
    assert_eq!(bench.alerts(), [format!("firing 240 {a}")]);
}

#[test]
fn an_alert_fires_on_for_a_while_if_told_to() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 0, 120, &[])]));
    run(&mut bench, &[11.0, 1.0, 1.0]);
    let RuleDetail::Alerting { alerts, state, .. } = bench.rule(0).detail else { panic!("an alerting rule") };
    assert_eq!((state, alerts[0].keep_firing_since_ns, alerts[0].value), (RuleState::Firing, Some(120 * S), 11.0));
    bench.sample(&LEVEL, 240, 11.0);
    bench.good_at(240);
    let RuleDetail::Alerting { alerts, .. } = bench.rule(0).detail else { panic!("an alerting rule") };
    assert_eq!(alerts[0].keep_firing_since_ns, None);
    for (at, states) in [(300, 1), (360, 1), (420, 0)] {
        bench.sample(&LEVEL, at, 1.0);
        bench.good_at(at);
        assert_eq!(bench.alerts().len(), states, "{at}");
    }
}

#[test]
fn too_many_alerts_throw_all_state_away() {
    let mut bench = Bench::new(RuleGroup { limit: 1, ..group(vec![alert("High", "level > 10", 0, 0, &[])]) });
    run(&mut bench, &[11.0]);
    bench.sample(&LEVEL, 120, 11.0);
    bench.sample(&[("__name__", "level"), ("unit", "b")], 120, 11.0);
    let report = bench.at(120);
    assert_eq!(report.rules[0].failure.as_ref().unwrap().message, "exceeded limit of 1 with 2 alerts");
    assert_eq!((report.alerts, bench.alerts()), (Vec::new(), Vec::<String>::new()));
    // The list of series is as it was: they are marked stale when the rule works again without them.
    bench.sample(&LEVEL, 180, 1.0);
    bench.sample(&[("__name__", "level"), ("unit", "b")], 180, 1.0);
    bench.good_at(180);
    assert_eq!(
        bench.stored("FOR_STATE"),
        [r#"{__name__="ALERTS_FOR_STATE", alertname="High", unit="a"}: 60=60 180=stale"#]
    );
}

#[test]
fn two_results_with_the_labels_of_one_alert_fail_the_rule() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 0, 0, &[("unit", "same")])]));
    bench.sample(&LEVEL, 60, 11.0);
    bench.sample(&[("__name__", "level"), ("unit", "b")], 60, 11.0);
    let message = "vector contains metrics with the same labelset after applying alert labels";
    assert_eq!(bench.at(60).rules[0].failure.as_ref().unwrap().message, message);
    assert_eq!((bench.rule(0).health, bench.alerts().len()), (Health::Bad, 0));
}

#[test]
fn labels_and_annotations_are_expanded() {
    let mut rule = alert(
        "High",
        "level > 10",
        0,
        0,
        &[
            ("where", "{{ $labels.unit }}/{{ $externalLabels.region }}"),
            ("none", "{{ $labels.none }}"),
            ("bad", "{{ $value.x }}"),
        ],
    );
    let RuleKind::Alerting { annotations, .. } = &mut rule.kind else { panic!("an alerting rule") };
    let pairs = [
        ("empty", "{{ $labels.none }}"),
        ("name", "{{ $labels.__name__ }}"),
        ("others", "{{ range query \"level\" }}{{ .Labels.unit }}{{ end }} {{ externalURL }}{{ pathPrefix }}"),
    ];
    *annotations = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let mut bench = Bench::new(group(vec![rule]));
    bench.sample(&LEVEL, 60, 11.0);
    let alert = bench.at(60).alerts.remove(0);
    assert_eq!((alert.labels.value("where"), alert.labels.get("none")), ("a/north", None));
    assert_eq!(
        alert.labels.value("bad"),
        "<error expanding template: error executing template __alert_High: template: __alert_High:1:121: \
         executing \"__alert_High\" at <$value.x>: can't evaluate field x in type float64>"
    );
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        alert.annotations,
        [text("empty", ""), text("name", "level"), text("others", "a http://host/prefix/prefix")]
    );
    // A label that expands to nothing shows its template in the series.
    let series = bench.stored("FOR_STATE").remove(0);
    assert!(series.contains(r#"none="{{ $labels.none }}""#) && series.contains(r#"where="a/north""#), "{series}");
}

#[test]
fn values_and_annotations_of_active_alerts_follow_the_result() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 300, 0, &[])]));
    run(&mut bench, &[11.0, 12.5]);
    let RuleDetail::Alerting { alerts, state, .. } = bench.rule(0).detail else { panic!("an alerting rule") };
    assert_eq!((state, alerts[0].value, alerts[0].active_at_ns), (RuleState::Pending, 12.5, 60 * S));
    assert_eq!(alerts[0].annotations, [("summary".to_owned(), "value 12.5".to_owned())]);
}

#[test]
fn a_failed_query_changes_nothing() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 60, 0, &[])]));
    run(&mut bench, &[11.0, 11.0]);
    let (alerts, stored) = (bench.alerts(), bench.stored("ALERTS"));
    struct Failing;
    impl Evaluate for Failing {
        fn query(&self, _: &Expr, _: &str, _: i64) -> Result<QueryResult, EvaluateError> {
            Err(EvaluateError::Failed("query timed out in expression evaluation".to_owned()))
        }
        fn query_text(&self, _: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
            Ok(QueryResult::Scalar(ts_ms as f64))
        }
    }
    let ctx = EvalContext {
        evaluate: &Failing,
        appender: &bench.storage,
        storage: &bench.storage,
        now_ns: &|| 0,
        control: &Control::new(),
        slots: None,
    };
    let report = bench.group.evaluate(180 * S, &ctx);
    assert_eq!((report.n_failures(), report.alerts.len(), report.n_samples), (1, 0, 0));
    assert_eq!(bench.rule(0).last_error, "query timed out in expression evaluation");
    assert_eq!((bench.alerts(), bench.stored("ALERTS")), (alerts, stored));
}

#[test]
fn a_reload_keeps_alerts_unless_labels_change() {
    let rule = |expr: &str, hold, severity: &str| vec![alert("High", expr, hold, 0, &[("severity", severity)])];
    for (new, alerts) in [
        (rule("level > 10", 60, "page"), vec!["firing 60"]),
        (rule("level > 9", 0, "page"), vec!["firing 60"]),
        // Not long enough any more.
        (rule("level > 10", 600, "page"), vec!["pending 60"]),
        (rule("level > 10", 60, "mail"), vec!["pending 180"]),
    ] {
        let mut bench = Bench::new(group(rule("level > 10", 60, "page")));
        run(&mut bench, &[11.0, 11.0]);
        let mut reloaded = Group::new(spec(group(new)));
        reloaded.adopt(std::mem::replace(&mut bench.group, Group::new(spec(group(Vec::new())))));
        bench.group = reloaded;
        bench.sample(&LEVEL, 180, 11.0);
        bench.good_at(180);
        let got: Vec<String> = bench.alerts().iter().map(|a| a.split(" {").next().unwrap().to_owned()).collect();
        assert_eq!(got, alerts);
    }
}

#[test]
fn a_reload_does_not_resend_what_was_just_sent() {
    let rules = || group(vec![alert("High", "level > 10", 0, 0, &[])]);
    let mut bench = Bench::new(rules());
    assert_eq!(run(&mut bench, &[11.0]).concat().len(), 1);
    let mut reloaded = Group::new(spec(rules()));
    reloaded.adopt(std::mem::replace(&mut bench.group, Group::new(spec(group(Vec::new())))));
    bench.group = reloaded;
    bench.sample(&LEVEL, 120, 11.0);
    assert_eq!(bench.good_at(120), Vec::<String>::new());
    assert_eq!(bench.good_at(180).len(), 1);
}

#[test]
fn generator_urls_show_the_expression() {
    let mut bench = Bench::new(group(vec![alert("High", "level{unit=\"a\"} > 10", 0, 0, &[])]));
    bench.sample(&LEVEL, 60, 11.0);
    let url = bench.at(60).alerts.remove(0).generator_url;
    assert_eq!(url, "http://host/prefix/graph?g0.expr=level%7Bunit%3D%22a%22%7D+%3E+10&g0.tab=1");
}

#[test]
fn a_rule_is_unknown_until_it_was_evaluated() {
    let mut bench = Bench::new(group(vec![alert("High", "level > 10", 0, 0, &[])]));
    let state = |bench: &Bench| match bench.rule(0).detail {
        RuleDetail::Alerting { state, .. } => state.name(),
        RuleDetail::Recording => "recording",
    };
    assert_eq!(state(&bench), "unknown");
    bench.good_at(60);
    assert_eq!(state(&bench), "inactive");
}
