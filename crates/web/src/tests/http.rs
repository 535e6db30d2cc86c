//! What is common to all routes, and the routes that are no queries.

use actix_web::http::{Method, StatusCode};
use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::fakes::{World, labels, regex};
use crate::state::{Readiness, ReloadError};

#[actix_web::test]
async fn gated_routes_say_503_until_the_server_is_ready_and_when_it_stops() {
    let world = World::new();
    for (readiness, stopping) in [(Readiness::Starting, "false"), (Readiness::Stopping, "true")] {
        *world.fake.readiness.lock() = readiness;
        for path in ["/-/ready", "/api/v1/query?query=1", "/api/v1/targets", "/federate", "/api/v1/status/config"] {
            let got = world.get(path).await;
            assert_eq!(
                (got.status, got.body.as_str()),
                (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
                "{path}"
            );
            assert_eq!(got.header("x-prometheus-stopping"), stopping);
        }
        for path in [
            "/query",
            "/metrics",
            "/version",
            "/-/healthy",
            "/api/v1/status/walreplay",
            "/api/v1/notifications",
            "/api/v1/ext/actors",
        ] {
            assert_eq!(world.get(path).await.status, StatusCode::OK, "{path}");
        }
    }
    *world.fake.readiness.lock() = Readiness::Ready;
    assert_eq!(world.get("/-/ready").await.body, "Prometheus Server is Ready.\n");
    assert_eq!(world.get("/-/healthy").await.body, "Prometheus Server is Healthy.\n");
    // A storage that takes no samples is told, and the status stays as it is: queries are answered.
    *world.fake.degraded.lock() = Some("disk full".to_owned());
    let degraded = world.get("/-/ready").await;
    let expected = "Prometheus Server is Ready.\nDegraded: no samples are taken: disk full\n";
    assert_eq!((degraded.status, degraded.body.as_str()), (StatusCode::OK, expected));
    let head = world.send(TestRequest::default().method(Method::HEAD).uri("/-/ready")).await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
}

#[actix_web::test]
async fn notifications_are_told_live_until_the_server_stops() {
    let world = World::new();
    *world.fake.readiness.lock() = Readiness::Stopping;
    let got = world.get("/api/v1/notifications/live").await;
    let event = r#"{"text":"Configuration reload has failed.","date":"1970-01-01T00:00:00.05Z","active":true}"#;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::OK, format!("data: {event}\n\n").as_str()));
    assert_eq!((got.header("content-type"), got.header("cache-control")), ("text/event-stream", "no-cache"));
    let world = World::with(|options| options.notification_subscribers_max = 0);
    assert_eq!(world.get("/api/v1/notifications/live").await.status, StatusCode::NO_CONTENT);
}

#[actix_web::test]
async fn lifecycle_routes_need_their_flag_and_the_right_method() {
    let world = World::new();
    for path in ["/-/reload", "/-/quit"] {
        let got = world.post(path).await;
        assert_eq!((got.status, got.body.as_str()), (StatusCode::FORBIDDEN, "Lifecycle API is not enabled."));
        let got = world.get(path).await;
        assert_eq!(
            (got.status, got.body.as_str()),
            (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
        );
    }

    let world = World::with(|options| options.lifecycle = true);
    let put = world.send(TestRequest::put().uri("/-/reload")).await;
    assert_eq!((put.status, put.body.as_str()), (StatusCode::OK, ""));
    *world.fake.reload.lock() = Err(ReloadError { messages: vec!["one".into(), "two".into()] });
    let got = world.post("/-/reload").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (StatusCode::INTERNAL_SERVER_ERROR, "failed to reload config: one\ntwo\n")
    );
    assert_eq!(world.post("/-/quit").await.body, "Requesting termination... Goodbye!");
    assert_eq!(world.post("/-/quit").await.body, "Termination already in progress.");
}

#[actix_web::test]
async fn pages_of_other_origins_may_read_but_not_change() {
    let world = World::with(|options| {
        options.lifecycle = true;
        options.external_url = "https://prom.example/p".into();
    });
    for (headers, status) in [
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        // A name that has been made to point here.
        (vec![("origin", "http://evil.example:9090"), ("host", "evil.example:9090")], 403),
        (vec![("origin", "http://10.0.0.1:9090"), ("host", "10.0.0.1:9090")], 200),
        (vec![("origin", "http://localhost:9090"), ("host", "localhost:9090")], 200),
        (vec![("origin", "https://prom.example")], 200),
        (vec![("origin", "https://prom.example.evil")], 403),
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![], 200),
    ] {
        let request =
            headers.iter().fold(TestRequest::post().uri("/-/reload"), |request, header| request.insert_header(*header));
        assert_eq!(world.send(request).await.status.as_u16(), status, "{headers:?}");
    }

    let with_origin = |path: &str| TestRequest::get().uri(path).insert_header(("origin", "http://a.example"));
    let got = world.send(with_origin("/api/v1/targets")).await;
    assert_eq!((got.header("access-control-allow-origin"), got.header("vary")), ("http://a.example", "Origin"));
    let got = world.send(with_origin("/api/v1/targets").method(Method::OPTIONS)).await;
    assert_eq!((got.status.as_u16(), got.header("access-control-allow-methods")), (204, "GET, POST, OPTIONS"));
    assert_eq!(world.get("/api/v1/targets").await.header("access-control-allow-origin"), "");

    let world = World::with(|options| options.cors_origin = regex(r"https?://(a|b)\.example"));
    let got = world.send(with_origin("/api/v1/targets")).await;
    assert_eq!(got.header("access-control-allow-origin"), "http://a.example");
    let got = world.send(TestRequest::get().uri("/api/v1/targets").insert_header(("origin", "http://c.example"))).await;
    assert_eq!(got.header("access-control-allow-origin"), "");
}

#[actix_web::test]
async fn everything_moves_below_the_route_prefix() {
    let world = World::with(|options| {
        options.route_prefix = "/p/q".into();
        options.external_url = "http://localhost:9090/p/q".into();
    });
    assert_eq!(world.get("/p/q/-/healthy").await.status, StatusCode::OK);
    assert_eq!(world.get("/-/healthy").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/p/q/api/v1/label/job/values").await.json()["data"], json!([]));
    for path in ["/", "/p/q"] {
        let got = world.get(path).await;
        assert_eq!((got.status, got.header("location")), (StatusCode::FOUND, "/p/q/"), "{path}");
    }
    assert_eq!(world.get("/p/q/").await.header("location"), "/p/q/query");
    // Files are named relative to the page, so that any proxy may add to the path.
    assert!(world.get("/p/q/query").await.body.contains("src=\"./assets/"));
}

#[actix_web::test]
async fn requests_are_counted_by_route_and_code() {
    let world = World::new();
    world.get("/api/v1/label/a/values").await;
    world.get("/api/v1/label/b/values?limit=-1").await;
    let text = world.get("/metrics").await.body;
    for line in [
        "prometheus_http_requests_total{handler=\"/api/v1/label/:name/values\",code=\"200\"} 1\n",
        "prometheus_http_requests_total{handler=\"/api/v1/label/:name/values\",code=\"400\"} 1\n",
        "prometheus_http_requests_total{handler=\"/api/v1/series\",code=\"200\"} 0\n",
        "prometheus_http_request_duration_seconds_count{handler=\"/api/v1/label/:name/values\"} 2\n",
        "promhttp_metric_handler_requests_in_flight 1\n",
        "promhttp_metric_handler_requests_total{code=\"503\"} 0\n",
        "prometheus_http_response_size_bytes_bucket{handler=\"/api/v1/label/:name/values\",le=\"1000\"} 2\n",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    let one = world.get("/metrics?name[]=firekeeper_http_panics_total").await;
    assert_eq!(one.body.lines().count(), 3, "{}", one.body);
    assert!(one.header("content-type").starts_with("text/plain; version=0.0.4"));
}

async fn check_json(path: &str, expected: Value) {
    let got = World::new().get(path).await;
    assert_eq!(got.status, StatusCode::OK, "{path}: {}", got.body);
    assert_eq!(got.json(), json!({ "status": "success", "data": expected }), "{path}");
}

#[actix_web::test]
async fn targets_are_shown_by_state_and_pool() {
    let target = |job: &str| {
        json!({
            "discoveredLabels": {"__address__": "localhost:9090", "job": job},
            "labels": {"instance": "localhost:9090", "job": job},
            "scrapePool": job, "scrapeUrl": "http://localhost:9090/metrics", "globalUrl": "http://localhost:9090/metrics",
            "lastError": if job == "b" { "<boom> & \"bust\"" } else { "" },
            "lastScrape": if job == "b" { "0001-01-01T00:00:00Z" } else { "1970-01-01T00:00:01.5Z" },
            "lastScrapeDuration": 0.25, "health": if job == "b" { "down" } else { "up" },
            "scrapeInterval": "15s", "scrapeTimeout": "10s",
        })
    };
    let dropped = json!([{"discoveredLabels": {"__address__": "x:1"}, "scrapePool": "a"}]);
    check_json(
        "/api/v1/targets",
        json!({"activeTargets": [target("a"), target("b")], "droppedTargets": dropped, "droppedTargetCounts": {"a": 7, "b": 0}}),
    )
    .await;
    check_json(
        "/api/v1/targets?state=active&scrapePool=b",
        json!({"activeTargets": [target("b")], "droppedTargets": [], "droppedTargetCounts": null}),
    )
    .await;
    check_json(
        "/api/v1/targets?state=Dropped&scrapePool=b",
        json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {"a": 7, "b": 0}}),
    )
    .await;
    check_json("/api/v1/scrape_pools", json!({"scrapePools": ["a", "b"]})).await;
    check_json("/api/v1/scrape_pools/config?scrapePool=a", json!({"yaml": "job_name: a\n"})).await;
    let am = json!({"activeAlertmanagers": [{"url": "http://am:9093/api/v2/alerts"}], "droppedAlertmanagers": []});
    check_json("/api/v1/alertmanagers", am).await;
}

#[actix_web::test]
async fn metadata_is_merged_and_limited() {
    let gauge = json!([{"type": "gauge", "unit": "", "help": "Threads."}]);
    let counter = |help: &str| json!({"type": "counter", "unit": "", "help": help});
    check_json("/api/v1/metadata", json!({"go_threads": gauge, "x_total": [counter("Exes."), counter("Xs.")]})).await;
    check_json("/api/v1/metadata?limit=1", json!({"go_threads": gauge})).await;
    check_json("/api/v1/metadata?metric=x_total&limit_per_metric=1", json!({"x_total": [counter("Xs.")]})).await;
    check_json(
        "/api/v1/targets/metadata?metric=x_total&match_target={job=\"b\"}",
        json!([{"target": {"job": "b"}, "type": "counter", "help": "Exes.", "unit": ""}]),
    )
    .await;
    check_json(
        "/api/v1/targets/metadata?limit=1",
        json!([
            {"target": {"job": "a"}, "metric": "go_threads", "type": "gauge", "help": "Threads.", "unit": ""},
            {"target": {"job": "a"}, "metric": "x_total", "type": "counter", "help": "Xs.", "unit": ""},
        ]),
    )
    .await;
    check_json("/api/v1/targets/metadata?metric=none", json!([])).await;
    check_error("/api/v1/metadata?limit=x", 400, "bad_data", "limit must be a number").await;
    check_error("/api/v1/metadata?limit_per_metric=x", 400, "bad_data", "limit_per_metric must be a number").await;
}

#[actix_web::test]
async fn relabelling_is_shown_step_by_step() {
    let rule = |more: serde_json::Value| {
        let mut rule = json!({"source_labels": ["job"], "separator": ";", "regex": "(.*)", "replacement": "$1"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    check_json(
        "/api/v1/targets/relabel_steps?scrapePool=a&labels={\"b\":\"c\"}",
        json!({"steps": [
            {"rule": rule(json!({"target_label": "x", "action": "replace"})), "output": {"b": "c"}, "keep": true},
            {"rule": rule(json!({"action": "drop"})), "output": {}, "keep": false},
        ]}),
    )
    .await;
    for (query, text) in [
        ("", "no scrapePool parameter provided"),
        ("scrapePool=a", "no labels parameter provided"),
        ("scrapePool=z&labels={}", "error retrieving scrape config: scrape pool \"z\" not found"),
    ] {
        check_error(&format!("/api/v1/targets/relabel_steps?{query}"), 400, "bad_data", text).await;
    }
    let got = World::new().get("/api/v1/targets/relabel_steps?scrapePool=a&labels=[]").await;
    assert!(got.json()["error"].as_str().unwrap().starts_with("error parsing labels: "));
}

#[actix_web::test]
async fn past_scrapes_are_shown_by_pool_and_url() {
    let got = World::new().get("/api/v1/ext/targets/scrapes?scrapePool=a&scrapeUrl=http://b/").await.json();
    let targets = got["data"]["targets"].as_array().unwrap();
    assert_eq!((targets.len(), &targets[0]["scrapeUrl"]), (1, &json!("http://b/")));
    assert_eq!(
        targets[0]["scrapes"][0],
        json!({
            "time": "1970-01-01T00:00:02Z", "fetchSeconds": 0.25, "stages": {"firstByteSeconds": 0.125},
            "durationSeconds": 0.5, "wireBytes": 10, "bodyBytes": 20, "samplesScraped": 3,
            "samplesPostMetricRelabeling": 2, "seriesAdded": 1, "dropped": [{"rule": 0, "series": 1}], "error": "it is broken",
        })
    );
    assert_eq!((&targets[0]["failedBody"]["text"], &targets[0]["failedBody"]["column"]), (&json!("x{ 1"), &json!(3)));
    let got = World::new().get("/api/v1/ext/targets/scrapes?scrapePool=a&limit=1").await.json();
    assert_eq!(got["data"]["targets"].as_array().unwrap().len(), 1);
    let one = World::new().get("/api/v1/ext/targets/http:b/scrapes").await.json();
    assert_eq!(one["data"], targets[0]);
    let trial = "/api/v1/ext/targets/http:b/scrape";
    assert_eq!(World::new().post(trial).await.status.as_u16(), 403);
    let world = World::with(|options| options.lifecycle = true);
    assert_eq!(world.post(trial).await.json()["data"]["scrape"], targets[0]["scrapes"][0]);
    for (id, status) in [("c", 404), ("busy", 503)] {
        assert_eq!(world.post(&format!("/api/v1/ext/targets/{id}/scrape")).await.status.as_u16(), status);
    }
    check_error("/api/v1/ext/targets/c/scrapes", 404, "not_found", "no target has the id \"c\"").await;
    check_error("/api/v1/ext/targets/scrapes?scrapePool=z", 404, "not_found", "scrape pool \"z\" not found").await;
}

async fn check_error(path: &str, status: u16, kind: &str, text: &str) {
    let got = World::new().get(path).await;
    assert_eq!(got.status.as_u16(), status, "{path}: {}", got.body);
    assert_eq!(got.json(), json!({"status": "error", "errorType": kind, "error": text}), "{path}");
}

#[actix_web::test]
async fn rules_are_filtered_and_paged() {
    let names = |got: &Value| -> Vec<String> {
        let groups = got["data"]["groups"].as_array().unwrap();
        let rule = |rule: &Value| rule["name"].as_str().unwrap().to_owned();
        let group = |g: &Value| {
            let rules: Vec<String> = g["rules"].as_array().unwrap().iter().map(rule).collect();
            format!("{}/{}:{}", g["file"].as_str().unwrap(), g["name"].as_str().unwrap(), rules.join(","))
        };
        groups.iter().map(group).collect()
    };
    let world = World::new();
    for (query, expected) in [
        ("", &["f1/g1:r1,Down", "f1/g2:r2", "f2/g1:r1"][..]),
        ("type=alert", &["f1/g1:Down"]),
        ("type=record", &["f1/g1:r1", "f1/g2:r2", "f2/g1:r1"]),
        ("rule_name[]=r1&rule_name[]=r2", &["f1/g1:r1", "f1/g2:r2", "f2/g1:r1"]),
        ("rule_group=g1&file[]=f2", &["f2/g1:r1"]),
        ("match[]={severity=\"page\"}", &["f1/g1:Down"]),
        ("match[]={team=~\".%2B\"}", &["f1/g1:Down"]),
        ("match[]={severity=\"x\"}&match[]={severity=~\"p.*\"}", &["f1/g1:Down"]),
        ("group_limit=1", &["f1/g1:r1,Down"]),
    ] {
        let got = world.get(&format!("/api/v1/rules?{query}")).await;
        assert_eq!(names(&got.json()), expected, "{query}");
    }

    // Page by page the same groups come as at once.
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let next = if token.is_empty() { String::new() } else { format!("&group_next_token={token}") };
        let got = world.get(&format!("/api/v1/rules?group_limit=2{next}")).await.json();
        pages.push(names(&got));
        match got["data"]["groupNextToken"].as_str() {
            Some(text) => token = text.to_owned(),
            None => break,
        }
    }
    assert_eq!(pages, [vec!["f1/g1:r1,Down", "f1/g2:r2"], vec!["f2/g1:r1"]]);
    assert_eq!(token.len(), 64);

    for (query, text) in [
        ("type=x", "invalid parameter \"type\": not supported value \"x\""),
        ("group_limit=0", "invalid parameter \"group_limit\": group_limit needs to be greater than 0"),
        (
            "group_next_token=x",
            "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
        ),
        (
            "group_next_token=x&group_limit=1",
            "invalid parameter \"group_next_token\": invalid group_next_token 'x'. were rule groups changed?",
        ),
        (
            "exclude_alerts=maybe",
            "invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
    ] {
        check_error(&format!("/api/v1/rules?{query}"), 400, "bad_data", text).await;
    }
}

#[actix_web::test]
async fn rules_and_alerts_have_the_fields_of_prometheus() {
    let alert = json!({
        "labels": {"alertname": "Down", "severity": "page"}, "annotations": {"summary": "it is down"},
        "state": "firing", "activeAt": "1970-01-01T00:00:01.000000123Z", "value": "1e+00",
    });
    check_json("/api/v1/alerts", json!({"alerts": [alert]})).await;
    let alerting = |alerts: Value| {
        json!({
            "state": "firing", "name": "Down", "query": "sum(up)", "duration": 60, "keepFiringFor": 0,
            "labels": {"gone": "", "severity": "page", "team": "{{ $labels.team }}"},
            "annotations": {"e": "", "summary": "it is down"},
            "alerts": alerts, "health": "unknown", "evaluationTime": 0.5, "lastEvaluation": "0001-01-01T00:00:00Z",
            "type": "alerting",
        })
    };
    let group = |rule: Value| {
        json!({"groups": [{
            "name": "g1", "file": "f1", "rules": [rule], "interval": 60, "limit": 0, "evaluationTime": 0.75,
            "lastEvaluation": "1970-01-01T00:01:00Z",
        }]})
    };
    check_json("/api/v1/rules?type=alert", group(alerting(json!([alert])))).await;
    check_json("/api/v1/rules?type=alert&exclude_alerts=true", group(alerting(Value::Null))).await;
    let recording = json!({
        "name": "r1", "query": "sum(up)", "labels": {"gone": ""}, "health": "ok", "evaluationTime": 0.5, "lastEvaluation": "1970-01-01T00:01:00Z",
        "type": "recording",
    });
    check_json("/api/v1/rules?rule_name[]=r1&file[]=f1", group(recording)).await;
}

#[actix_web::test]
async fn status_routes() {
    check_json("/api/v1/status/config", json!({"yaml": "global: {}\n"})).await;
    check_json("/api/v1/status/flags", json!({"query.timeout": "2m"})).await;
    check_json("/api/v1/status/walreplay", json!({"min": 1, "max": 3, "current": 2})).await;
    check_json(
        "/api/v1/notifications",
        json!([{"text": "Configuration reload has failed.", "date": "1970-01-01T00:00:00.05Z", "active": true}]),
    )
    .await;
    let world = World::new();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let build = world.get("/api/v1/status/buildinfo").await.json();
    assert_eq!(keys(&build["data"]), ["branch", "buildDate", "buildUser", "goVersion", "revision", "version"]);
    assert_eq!(world.get("/version").await.json(), build["data"]);
    assert_eq!(
        keys(&world.get("/api/v1/status/runtimeinfo").await.json()["data"]),
        [
            "CWD",
            "GODEBUG",
            "GOGC",
            "GOMAXPROCS",
            "GOMEMLIMIT",
            "corruptionCount",
            "goroutineCount",
            "hostname",
            "lastConfigTime",
            "reloadConfigSuccess",
            "serverTime",
            "startTime",
            "storageRetention"
        ]
    );
    let tsdb = world.get("/api/v1/status/tsdb?limit=3").await.json();
    assert_eq!(tsdb["data"]["seriesCountByMetricName"].as_array().unwrap().len(), 3);
    assert_eq!(keys(&tsdb["data"]["headStats"]), ["chunkCount", "maxTime", "minTime", "numLabelPairs", "numSeries"]);
    check_error("/api/v1/status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number").await;
    let features = world.get("/api/v1/features").await.json();
    assert_eq!(
        (&features["data"]["prometheus"]["server_mode"], &features["data"]["api"]["admin"]),
        (&json!(true), &json!(false))
    );
    let actors = world.get("/api/v1/ext/actors").await.json();
    assert_eq!(
        (&actors["data"]["children"][0]["name"], &actors["data"]["state"]),
        (&json!("scrape<1>"), &json!("running"))
    );
}

#[actix_web::test]
async fn admin_routes_are_off_unless_switched_on() {
    for route in ["snapshot", "clean_tombstones", "delete_series"] {
        let got = World::new().post(&format!("/api/v1/admin/tsdb/{route}")).await;
        assert_eq!((got.status.as_u16(), got.json()["error"].as_str()), (500, Some("admin APIs disabled")));
        assert_eq!(got.json()["errorType"], "unavailable");
    }
}

#[actix_web::test]
async fn samples_are_deleted_or_counted() {
    let world = World::with(|options| options.admin = true);
    let delete = async |query: &str| world.post(&format!("/api/v1/admin/tsdb/delete_series{query}")).await;
    let got = delete("?match[]=up&match[]=%7Ba%3D%22b%22%7D&start=1&end=2.5").await;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::NO_CONTENT, ""));
    let got = delete("?match[]=up&dry_run=1").await;
    assert_eq!(got.json()["data"], json!({"series": 2, "samples": 30, "blocks": 1}));
    // As in Prometheus, a range that ends before it begins is no error.
    assert_eq!(delete("?match[]=up&start=5&end=1").await.status, StatusCode::NO_CONTENT);
    let range = |mint, maxt| fk_storage::TimeRange { mint, maxt };
    let all = range(crate::params::TIME_MIN, crate::params::TIME_MAX);
    assert_eq!(*world.fake.deleted.lock(), [(range(1000, 2500), 2, false), (all, 1, true)]);
    for (query, status, text) in [
        ("", 400, "no match[] parameter provided"),
        ("?match[]=up%7B", 400, "invalid parameter \"match[]\""),
        ("?match[]=up&start=x", 400, "invalid parameter \"start\""),
        ("?match[]=up&dry_run=maybe", 400, "invalid parameter \"dry_run\""),
        ("?match[]=broken", 503, "disk full"),
    ] {
        let got = delete(query).await;
        assert_eq!(got.status.as_u16(), status, "{query}: {}", got.body);
        assert!(got.json()["error"].as_str().unwrap().contains(text), "{query}: {}", got.body);
    }
}

#[actix_web::test]
async fn copies_and_blocks_are_named() {
    let world = World::with(|options| options.admin = true);
    assert_eq!(world.post("/api/v1/admin/tsdb/snapshot").await.json()["data"], json!({"name": "whole"}));
    let got = world.post("/api/v1/admin/tsdb/snapshot?skip_head=true").await;
    assert_eq!(got.json()["data"], json!({"name": "blocks"}));
    let got = world.post("/api/v1/admin/tsdb/snapshot?skip_head=x").await;
    // Text as in Prometheus.
    let wanted =
        "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"x\": invalid syntax";
    assert_eq!((got.status.as_u16(), got.json()["error"].as_str()), (400, Some(wanted)));
    assert_eq!(world.post("/api/v1/admin/tsdb/clean_tombstones").await.status, StatusCode::NO_CONTENT);
    let blocks = world.get("/api/v1/status/tsdb/blocks").await.json();
    assert_eq!(blocks["data"]["blocks"][0]["ulid"], "01DXXFZDYD1MQW6079WK0K6EDQ");
    assert_eq!(world.get("/api/v1/ext/storage").await.json()["data"]["readOnly"], "disk full");
}

#[actix_web::test]
async fn configurations_are_tried_by_administrators_only() {
    let plan = |body: &'static str| TestRequest::post().uri("/api/v1/ext/config/plan").set_payload(body);
    assert_eq!(World::new().send(plan("a: b")).await.json()["error"], "admin APIs disabled");
    let world = World::with(|options| options.admin = true);
    let got = world.send(plan("a: b")).await.json();
    assert_eq!((&got["data"]["after"], &got["data"]["changes"][0]["effect"]), (&json!("a: b"), &json!("stop")));
    let got = world.send(plan("a: b\n  wrong\n")).await;
    assert_eq!((got.status.as_u16(), &got.json()["error"]), (400, &json!("main.yml: line 2: it is wrong")));
    assert_eq!(got.json()["problems"][0]["column"], 3);
    let journal = world.get("/api/v1/ext/config/journal").await.json();
    assert_eq!(journal["data"]["reloads"][0]["time"], "1970-01-01T00:00:01Z");
    for (query, status) in
        [("?scrapePool=a&rules=x&limit=7", 200), ("?scrapePool=a", 400), ("?scrapePool=b&rules=x", 404), ("", 400)]
    {
        let got = world.post(&format!("/api/v1/ext/relabel/try{query}")).await;
        assert_eq!(got.status.as_u16(), status, "{query}: {}", got.body);
    }
    let got = world.post("/api/v1/ext/relabel/try?scrapePool=a&rules=x&limit=999999").await.json();
    assert_eq!(got["data"]["targets"], 5000);
}

#[actix_web::test]
async fn pages_are_one_document_that_runs_no_foreign_script() {
    let world = World::with(|options| {
        options.page_title = "</title><script>alert(1)</script>\"'".into();
        options.route_prefix = "/p".into();
    });
    let paths = [
        "query",
        "alerts",
        "targets",
        "service-discovery",
        "tsdb-status",
        "config",
        "flags",
        "agent",
        "system",
        "queries",
    ];
    let mut nonces = std::collections::BTreeSet::new();
    for path in paths {
        let got = world.get(&format!("/p/{path}?x=<script>")).await;
        assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"), "{path}");
        assert_eq!((got.header("cache-control"), got.header("x-content-type-options")), ("no-store", "nosniff"));
        assert_eq!(got.body.matches("<script").count(), 1, "{}", got.body);
        let policy = got.header("content-security-policy");
        let nonce = policy.split_once("'nonce-").unwrap().1.split_once('\'').unwrap().0;
        assert!(policy.contains("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(nonce.len() == 32 && got.body.contains(nonce), "{nonce}");
        nonces.insert(nonce.to_owned());
    }
    assert_eq!(nonces.len(), paths.len(), "a nonce is used once");
    assert_eq!(world.get("/p/nothing").await.status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn old_addresses_lead_to_the_query_page() {
    let world = World::new();
    for (path, location) in [
        ("/", "/query"),
        ("/graph", "/query"),
        ("/graph?g0.expr=up%20%3D%3D%200&g0.tab=1", "/query?g0.expr=up%20%3D%3D%200&g0.tab=1"),
    ] {
        let got = world.get(path).await;
        assert_eq!((got.status, got.header("location")), (StatusCode::FOUND, location), "{path}");
    }
    let world = World::with(|options| {
        options.external_url = "https://watch.example/prom".into();
        options.route_prefix = "/inner".into();
    });
    assert_eq!(world.get("/inner/graph?g0.expr=up").await.header("location"), "/prom/query?g0.expr=up");
}

#[actix_web::test]
async fn files_of_the_pages_are_kept_by_browsers() {
    let world = World::new();
    let page = world.get("/query").await.body;
    let script = page.split_once("src=\"./").unwrap().1.split_once('"').unwrap().0;
    let got = world.get(&format!("/{script}")).await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "text/javascript; charset=utf-8"));
    assert_eq!(got.header("cache-control"), "public, max-age=31536000, immutable");
    let tag = got.header("etag").to_owned();
    let again = TestRequest::get().uri(&format!("/{script}")).insert_header(("If-None-Match", tag.as_str()));
    let again = world.send(again).await;
    assert_eq!((again.status, again.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    let packed = world.send(TestRequest::get().uri("/favicon.svg").insert_header(("Accept-Encoding", "gzip"))).await;
    assert_eq!((packed.header("content-encoding"), packed.header("cache-control")), ("gzip", "no-cache"));
    for path in ["/assets/nothing.js", "/assets/..%2Ffavicon.svg", "/assets/index.html"] {
        assert_eq!(world.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[cfg(feature = "chaos")]
#[actix_web::test]
async fn chaos_reaches_actors_by_kind_and_name() {
    let world = World::new();
    assert_eq!(world.post("/api/v1/ext/chaos/scrape%2F1").await.status, StatusCode::OK);
    assert_eq!(world.post("/api/v1/ext/chaos/scrape%2F1?name=a+b").await.status, StatusCode::OK);
    assert_eq!(world.post("/api/v1/ext/chaos/scrape%2F1?name=b").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.post("/api/v1/ext/chaos/nobody").await.status, StatusCode::NOT_FOUND);
}

#[cfg(not(feature = "chaos"))]
#[actix_web::test]
async fn chaos_does_not_exist_in_a_normal_build() {
    assert_eq!(World::new().post("/api/v1/ext/chaos/scrape").await.status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn unknown_paths_and_methods() {
    let world = World::new();
    let got = world.get("/api/v1/nothing").await;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::NOT_FOUND, "404 page not found\n"));
    for method in [Method::HEAD, Method::PUT, Method::DELETE, Method::TRACE] {
        let got = world.send(TestRequest::default().method(method.clone()).uri("/api/v1/targets")).await;
        assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert_eq!(world.post("/api/v1/rules").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let options = world.send(TestRequest::default().method(Method::OPTIONS).uri("/api/v1/nothing")).await;
    assert_eq!(options.status, StatusCode::NO_CONTENT);
    let options = world.send(TestRequest::default().method(Method::OPTIONS).uri("/-/reload")).await;
    let allowed = "GET, OPTIONS, POST, PUT";
    assert_eq!((options.status, options.header("allow")), (StatusCode::OK, allowed));
}

#[actix_web::test]
async fn other_spellings_of_a_path_lead_to_it() {
    let world = World::with(|options| options.route_prefix = "/p".into());
    for (path, location) in [
        ("/p/api/v1/labels/?limit=1", "/p/api/v1/labels?limit=1"),
        ("/p/-/Healthy/", "/p/-/healthy"),
        ("/p/METRICS", "/p/metrics"),
    ] {
        let got = world.get(path).await;
        assert_eq!((got.status.as_u16(), got.header("location")), (301, location), "{path}");
    }
    assert_eq!(world.get("/p//api/./v1/labels").await.status.as_u16(), 307);
    assert_eq!(world.get("/p/API/v1/labels").await.status.as_u16(), 404);
    assert_eq!(world.post("/p/api/v1/labels/").await.status.as_u16(), 308);
    for path in ["/q/metrics", "/pmetrics", "//evil.example/metrics", "/p/evil.example//metrics"] {
        assert_eq!(world.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[actix_web::test]
async fn a_storage_that_is_being_reopened_is_an_error_not_a_panic() {
    let world = World::new();
    world.state.storage.clear();
    let got = world.get("/api/v1/labels").await;
    assert_eq!((got.status.as_u16(), got.json()["error"].as_str()), (500, Some("TSDB not ready")));
}

#[actix_web::test]
async fn a_panic_in_a_handler_is_an_answer() {
    let world = World::new();
    world.fake.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let got = world.get("/api/v1/alertmanagers").await;
    assert_eq!((got.status.as_u16(), got.json()["errorType"].as_str()), (500, Some("internal")));
    let metrics = world.get("/metrics").await.body;
    assert!(metrics.contains("\nfirekeeper_http_panics_total 1\n"), "{metrics}");
    assert!(metrics.contains("{handler=\"/api/v1/alertmanagers\",code=\"500\"} 1\n"), "{metrics}");
}

#[actix_web::test]
async fn the_history_of_alerts_is_asked_for_by_labels_and_times() {
    let world = World::new();
    let got = world.get("/api/v1/ext/alerts/history?match[]=%7Bn=%223%22%7D").await.json();
    let entries = serde_json::json!([
        {"type": "state", "state": "firing", "time": "1970-01-01T00:00:03Z", "value": "2.5e+00"},
        {"type": "delivery", "alertmanager": "http://am/", "resolved": false, "firstAttempt": "1970-01-01T00:00:03.001Z",
            "lastAttempt": "1970-01-01T00:00:03.5Z", "attempts": 3, "error": "timed out"},
    ]);
    let labels = serde_json::json!({"alertname": "Down", "n": "3"});
    let wanted = serde_json::json!({
        "alerts": [{"labels": labels, "file": "f1", "group": "g1", "entries": entries}], "truncated": false
    });
    assert_eq!(got["data"], wanted);
    let count = |got: serde_json::Value| {
        (got["data"]["alerts"].as_array().map(Vec::len), got["data"]["truncated"].as_bool().unwrap_or_default())
    };
    let path = "/api/v1/ext/alerts/history";
    assert_eq!(count(world.get(path).await.json()), (Some(10), false));
    assert_eq!(count(world.get(&format!("{path}?limit=4")).await.json()), (Some(4), true));
    assert_eq!(count(world.get(&format!("{path}?start=2&end=4")).await.json()), (Some(3), false));
    assert_eq!(world.get(&format!("{path}?match[]=up(")).await.status, StatusCode::BAD_REQUEST);
}

#[actix_web::test]
async fn a_rule_group_is_tested_on_the_past() {
    let world = World::new();
    let path = "/api/v1/ext/rules/backtest";
    let got = world.post(&format!("{path}?rules=good&start=5&end=10")).await.json();
    let wanted = serde_json::json!({
        "evaluations": 7, "lastEvaluation": "1970-01-01T00:00:10Z", "notifications": 0, "sends": 0, "rules": [],
        "alerts": [{"labels": {"alertname": "Down"}, "sends": 2,
            "events": [{"state": "firing", "time": "1970-01-01T00:00:05Z", "value": "1.5e+00"}]}],
        "stopped": "",
    });
    assert_eq!(got["data"], wanted);
    for (query, reason) in [
        ("rules=bad&start=5&end=10", "bad rules"),
        ("start=5&end=10", "a rule group is needed"),
        ("rules=good&start=5", "end"),
        ("rules=good&start=5&end=4", "end timestamp must not be before start time"),
        ("rules=good&start=5&end=6&timeout=x", "timeout"),
    ] {
        let got = world.post(&format!("{path}?{query}")).await;
        let text = got.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(got.status == StatusCode::BAD_REQUEST && text.contains(reason), "{query}: {text}");
    }
}

#[actix_web::test]
async fn searches_answer_in_lines() {
    let world = World::with(|options| (options.search, options.search_limit_max) = (true, 3));
    let now = chrono::Utc::now().timestamp_millis();
    for name in ["http_requests_total", "http_errors_total", "go_gc_total", "up"] {
        world.storage.add(&labels(&[("__name__", name), ("job", &name[..2])]), &[(now - 1000, 1.0)]);
    }
    for (query, expected) in [
        (
            "metric_names?search[]=http",
            "{\"results\":[{\"name\":\"http_errors_total\"},{\"name\":\"http_requests_total\"}]}\n\
             {\"status\":\"success\",\"has_more\":false}\n",
        ),
        (
            "metric_names?batch_size=2&sort_by=alpha&sort_dir=dsc&limit=3",
            "{\"results\":[{\"name\":\"up\"},{\"name\":\"http_requests_total\"}]}\n\
             {\"results\":[{\"name\":\"http_errors_total\"}]}\n{\"status\":\"success\",\"has_more\":true}\n",
        ),
        (
            "metric_names?search[]=UP&search[]=gc&case_sensitive=false&sort_by=score&include_score=true&fuzz_alg=jarowinkler",
            "{\"results\":[{\"name\":\"up\",\"score\":1},{\"name\":\"go_gc_total\",\"score\":0.7}]}\n\
             {\"status\":\"success\",\"has_more\":false}\n",
        ),
        (
            "label_names?match[]=up&match[]=go_gc_total",
            "{\"results\":[{\"name\":\"__name__\"},{\"name\":\"job\"}]}\n{\"status\":\"success\",\"has_more\":false}\n",
        ),
        ("label_values?label=none", "{\"results\":[]}\n{\"status\":\"success\",\"has_more\":false}\n"),
        (
            "label_values?label=job&search[]=u",
            "{\"results\":[{\"value\":\"up\"}]}\n{\"status\":\"success\",\"has_more\":false}\n",
        ),
    ] {
        let got = world.get(&format!("/api/v1/search/{query}")).await;
        assert_eq!((got.status.as_u16(), got.body.as_str()), (200, expected), "{query}");
        assert_eq!(got.header("content-type"), "application/x-ndjson; charset=utf-8");
    }
    for (query, text) in [
        ("label_values", "missing required parameter \"label\""),
        ("metric_names?limit=4", "limit 4 exceeds the configured maximum (3, see --web.search.max-limit)"),
        ("metric_names?limit=0", "invalid limit \"0\": must be a positive integer"),
        ("metric_names?sort_by=x", "invalid sort_by \"x\" for metric_names: must be \"alpha\" or \"score\""),
        ("metric_names?sort_dir=asc", "sort_dir is only valid when sort_by is set"),
        ("metric_names?sort_by=score", "sort_by=score requires search[] to be set"),
        ("metric_names?fuzz_threshold=101", "invalid fuzz_threshold \"101\": must be 0-100"),
        ("metric_names?fuzz_alg=x", "unsupported fuzz_alg \"x\": must be one of [subsequence jarowinkler]"),
        ("metric_names?start=2&end=1", "end timestamp must not be before start timestamp"),
        ("metric_names?include_metadata=x", "invalid include_metadata \"x\": must be boolean"),
    ] {
        let got = world.get(&format!("/api/v1/search/{query}")).await;
        assert_eq!((got.status.as_u16(), &got.json()["error"]), (400, &text.into()), "{query}");
    }
    let off = World::new().get("/api/v1/search/metric_names").await;
    assert_eq!((off.status.as_u16(), &off.json()["errorType"]), (500, &"unavailable".into()));
}

#[actix_web::test]
async fn the_server_describes_itself() {
    let world = World::new();
    let document = world.get("/api/v1/openapi.yaml?openapi_version=3.2").await;
    assert!(document.body.starts_with("openapi: \"3.2.0\"\n"), "{}", &document.body[..40]);
    assert_eq!(document.header("content-type"), "application/yaml; charset=utf-8");
    assert!(world.get("/api/v1/openapi.yaml?openapi_version=9").await.body.starts_with("openapi: \"3.1.0\"\n"));
    let metrics = world.get("/api/v1/status/self_metrics?metric_name_pattern=prometheus_http_requests.*").await.json();
    let families = metrics["data"].as_array().unwrap();
    assert_eq!((families.len(), &families[0]["type"]), (1, &"COUNTER".into()));
    assert_eq!(world.get("/api/v1/status/self_metrics?metric_name_pattern=(").await.status.as_u16(), 400);
    for (path, status) in [
        ("/debug/pprof", 301),
        ("/debug/pprof/", 200),
        ("/debug/pprof/cmdline", 200),
        ("/debug/pprof/symbol", 200),
        ("/debug/pprof/profile?seconds=1", 501),
        ("/debug/pprof/none", 404),
        ("/debug/other", 404),
        ("/user/", 404),
    ] {
        assert_eq!(world.get(path).await.status.as_u16(), status, "{path}");
    }
}

#[actix_web::test]
async fn files_of_the_operator_are_served() {
    let folder = fk_testkit::TempDir::new("user-assets");
    std::fs::write(folder.path().join("index.html"), "<p>hello").unwrap();
    let path = folder.path().to_owned();
    let world = World::with(|options| (options.user_assets, options.route_prefix) = (Some(path), "/x".into()));
    let got = world.get("/x/user/").await;
    assert_eq!((got.status.as_u16(), got.body.as_str()), (200, "<p>hello"));
    assert_eq!(got.header("content-type"), "text/html; charset=utf-8");
    let again = actix_web::test::TestRequest::default()
        .uri("/x/user/index.html")
        .insert_header(("If-Modified-Since", got.header("last-modified")));
    assert_eq!(world.send(again).await.status.as_u16(), 304);
    assert_eq!(world.get("/x/user/%2e%2e/%2e%2e/etc/passwd").await.status.as_u16(), 404);
}
