//! Queries: limits, warnings, admission, errors with their texts.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::test;
use fk_storage::{
    AppendReport, Appender, Batch, Control, Queryable, SelectParams, SeriesRef, SeriesSet, StorageError, TimeRange,
};
use serde_json::json;

use super::fakes::{World, labels, with_params};
use crate::state::AdmissionError;

async fn check_error(world: &World, path: &str, params: &[(&str, &str)], status: u16, kind: &str, text: &str) {
    let got = world.get(&with_params(path, params.iter().copied())).await;
    assert_eq!(got.status.as_u16(), status, "{params:?}: {}", got.body);
    assert_eq!(got.json(), json!({"status": "error", "errorType": kind, "error": text}), "{params:?}");
}

#[actix_web::test]
async fn bad_parameters_are_named_in_the_words_of_prometheus() {
    let world = World::new();
    let range = "/api/v1/query_range";
    let times = [("start", "0"), ("end", "60")];
    let with = |more: &[(&'static str, &'static str)]| [&times[..], more].concat();
    for (path, params, text) in [
        (
            "/api/v1/query",
            vec![("query", "up{")],
            "invalid parameter \"query\": 1:4: parse error: unexpected end of input inside braces",
        ),
        (
            "/api/v1/query",
            vec![("query", "1"), ("time", "x")],
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/api/v1/query",
            vec![("query", "1"), ("timeout", "x")],
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            "/api/v1/query",
            vec![("query", "1"), ("lookback_delta", "x")],
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        (
            "/api/v1/query",
            vec![("query", "1"), ("limit", "-1")],
            "invalid parameter \"limit\": limit must be non-negative",
        ),
        (range, vec![("query", "1")], "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
        (
            range,
            vec![("query", "1"), ("start", "2"), ("end", "1"), ("step", "1")],
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (range, with(&[("query", "1")]), "invalid parameter \"step\": cannot parse \"\" to a valid duration"),
        (
            range,
            with(&[("query", "1"), ("step", "0")]),
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            range,
            with(&[("query", "1"), ("step", "-1")]),
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            range,
            with(&[("query", "up[5m]"), ("step", "1")]),
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        (
            range,
            vec![("query", "1"), ("start", "0"), ("end", "11001"), ("step", "1")],
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        ("/api/v1/series", vec![], "no match[] parameter provided"),
        (
            "/api/v1/series",
            vec![("match[]", "{x=\"\"}")],
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
    ] {
        check_error(&world, path, &params, 400, "bad_data", text).await;
    }
    let most = world.get(&with_params(range, [("query", "1"), ("start", "0"), ("end", "11000"), ("step", "1")])).await;
    assert_eq!(most.json()["data"]["result"][0]["values"].as_array().unwrap().len(), 11_001);
}

#[actix_web::test]
async fn limits_cut_answers_with_a_warning() {
    let world = World::new();
    for host in ["a", "b", "c"] {
        world.storage.add(&labels(&[("__name__", "up"), ("host", host)]), &[(0, 1.0)]);
    }
    for (path, params, key) in [
        ("/api/v1/query", vec![("query", "up"), ("time", "10")], Some("result")),
        ("/api/v1/query_range", vec![("query", "up"), ("start", "0"), ("end", "10"), ("step", "5")], Some("result")),
        ("/api/v1/series", vec![("match[]", "up")], None),
        ("/api/v1/label/host/values", vec![], None),
    ] {
        for (limit, left) in [("0", 3), ("2", 2), ("3", 3), ("9", 3)] {
            let got = world.get(&with_params(path, params.iter().copied().chain([("limit", limit)]))).await.json();
            let items = key.map_or(&got["data"], |key| &got["data"][key]);
            assert_eq!(items.as_array().unwrap().len(), left, "{path} {limit}");
            let warned = if left < 3 { json!(["results truncated due to limit"]) } else { json!(null) };
            assert_eq!(got["warnings"], warned, "{path} {limit}");
        }
    }
}

#[actix_web::test]
async fn instant_queries_give_every_type() {
    let world = World::new();
    world.storage.add(&labels(&[("__name__", "up"), ("job", "a\"b")]), &[(0, 1.0), (60_000, 0.5)]);
    for (query, expected) in [
        ("\"text\"", r#"{"resultType":"string","result":[60,"text"]}"#),
        ("1 / 0", r#"{"resultType":"scalar","result":[60,"+Inf"]}"#),
        ("up", r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[60,"0.5"]}]}"#),
        (
            "up[5m]",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"b"},"values":[[0,"1"],[60,"0.5"]]}]}"#,
        ),
    ] {
        let got = world.get(&with_params("/api/v1/query", [("query", query), ("time", "60")])).await;
        assert_eq!(
            got.body,
            format!("{{\"status\":\"success\",\"data\":{}}}", expected.replace("a\"b", "a\\\"b")),
            "{query}"
        );
        assert_eq!(got.header("content-type"), "application/json");
    }
    assert_eq!(world.fake.slots_taken.load(Ordering::SeqCst), 0, "every slot has been given back");
    // One sample for "up" and two for its range: what the evaluations report is handed on.
    let past = world.fake.board.top_by_count(10);
    assert_eq!((past.len(), past.iter().map(|past| past.samples_total).sum::<u64>()), (4, 3));
}

#[actix_web::test]
async fn lookback_can_be_set_per_query() {
    let world = World::new();
    world.storage.add(&labels(&[("__name__", "up")]), &[(0, 1.0)]);
    let found = async |lookback: &str| {
        let path = with_params("/api/v1/query", [("query", "up"), ("time", "400"), ("lookback_delta", lookback)]);
        world.get(&path).await.json()["data"]["result"].as_array().unwrap().len()
    };
    assert_eq!((found("").await, found("10m").await, found("500").await), (0, 1, 1));
}

#[actix_web::test]
async fn statistics_come_when_asked_for() {
    let world = World::new();
    let get =
        async |stats: &str| world.get(&with_params("/api/v1/query", [("query", "1"), ("stats", stats)])).await.json();
    assert!(get("").await["data"].get("stats").is_none());
    for stats in ["true", "all"] {
        let got = get(stats).await;
        assert!(got["data"]["stats"]["timings"]["evalTotalTime"].is_number() && got.get("warnings").is_none(), "{got}");
    }
    assert_eq!(get("yes").await["warnings"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn queries_that_are_not_admitted_say_why() {
    let world = World::new();
    *world.fake.admission.lock() = Some(AdmissionError::Overloaded { running: 20, waiting: 200 });
    let got = world.get("/api/v1/query?query=1").await;
    assert_eq!((got.status.as_u16(), got.json()["errorType"].as_str()), (503, Some("timeout")));
    *world.fake.admission.lock() = None;
    let waiting = [("query", "wait_for_ever"), ("timeout", "10ms")];
    let own = "invalid parameter \"query\": context deadline exceeded";
    check_error(&world, "/api/v1/query", &waiting, 400, "bad_data", own).await;
    let range = [waiting[0], waiting[1], ("start", "0"), ("end", "1"), ("step", "1")];
    check_error(&world, "/api/v1/query_range", &range, 400, "bad_data", own).await;
    world.fake.settings.lock().timeout = std::time::Duration::from_millis(10);
    let of_server = "query timed out in query queue";
    check_error(&world, "/api/v1/query", &waiting[..1], 503, "timeout", of_server).await;
    let longer = [waiting[0], ("timeout", "1m")];
    check_error(&world, "/api/v1/query", &longer, 503, "timeout", of_server).await;
}

#[actix_web::test]
async fn the_gate_can_end_a_query_it_has_admitted() {
    let world = World::new();
    world.storage.add(&super::fakes::labels(&[("__name__", "cancelled_by_the_gate")]), &[(0, 1.0)]);
    check_error(
        &world,
        "/api/v1/query",
        &[("query", "cancelled_by_the_gate")],
        499,
        "canceled",
        "query was canceled in expression evaluation",
    )
    .await;
}

/// A storage whose selects end only when they are told to.
pub(super) struct Stuck {
    pub(super) events: tokio::sync::mpsc::UnboundedSender<&'static str>,
}

impl Appender for Stuck {
    fn resolve(&self, _: &fk_model::Labels) -> Result<SeriesRef, StorageError> {
        Err(StorageError::Unsupported("resolve"))
    }

    fn append(&self, _: &Batch, _: &mut AppendReport) -> Result<(), StorageError> {
        Err(StorageError::Unsupported("append"))
    }
}

impl Queryable for Stuck {
    fn select(
        &self,
        _: &SelectParams,
        _: &[fk_model::Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let _ = self.events.send("started");
        loop {
            if let Err(stopped) = control.check() {
                let _ =
                    self.events.send(if stopped == fk_storage::Stopped::Cancelled { "cancelled" } else { "timed out" });
                return Err(stopped.into());
            }
            std::thread::yield_now();
        }
    }

    fn label_values(
        &self,
        _: &str,
        _: TimeRange,
        _: &[fk_model::Matcher],
        _: &Control,
    ) -> Result<Vec<String>, StorageError> {
        panic!("this storage panics on purpose");
    }

    fn label_names(&self, _: TimeRange, _: &[fk_model::Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Corrupt { path: "index".into(), offset: 7, reason: "bad".into() })
    }
}

#[actix_web::test]
async fn slow_queries_end_at_their_timeout_and_storage_errors_are_internal() {
    let world = World::new();
    let (events, mut seen) = tokio::sync::mpsc::unbounded_channel();
    world.state.storage.set(Arc::new(Stuck { events }));
    let params = [("query", "up"), ("timeout", "20ms")];
    check_error(&world, "/api/v1/query", &params, 503, "timeout", "query timed out in expression evaluation").await;
    assert_eq!((seen.recv().await, seen.recv().await), (Some("started"), Some("timed out")));
    check_error(&world, "/api/v1/labels", &[], 500, "internal", "index: corrupt at offset 7: bad").await;
    check_error(&world, "/api/v1/label/x/values", &[], 500, "internal", "reading the index panicked").await;
}

#[actix_web::test]
async fn a_query_is_cancelled_when_nobody_waits_for_it() {
    let world = World::new();
    let (events, mut seen) = tokio::sync::mpsc::unbounded_channel();
    world.state.storage.set(Arc::new(Stuck { events }));
    {
        let mut request = std::pin::pin!(world.get("/api/v1/query?query=up"));
        tokio::select! {
            got = &mut request => panic!("answered {got:?}"),
            started = seen.recv() => assert_eq!(started, Some("started")),
        }
        // The request is dropped here, as when its connection closes.
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), seen.recv()).await;
    assert_eq!(ended, Ok(Some("cancelled")));
}

#[actix_web::test]
async fn formatter_and_exemplars_answer() {
    let world = World::new();
    let got = world.get(&with_params("/api/v1/format_query", [("query", "foo+bar")])).await;
    assert_eq!(got.json()["data"], "foo + bar");
    let got = world.get("/api/v1/query_exemplars?query=test&start=1700000000000&end=1700000001000").await;
    assert_eq!(got.body, "{\"status\":\"success\",\"data\":[]}");
    assert_eq!(world.get("/api/v1/query_exemplars?query=1").await.status.as_u16(), 204);
}

#[actix_web::test]
async fn bodies_have_a_limit() {
    let world = World::new();
    let got = world.form("/api/v1/query", &"x".repeat((10 << 20) + 1)).await;
    assert_eq!(got.status.as_u16(), 413);
    let long = format!("query={}1", "1%2B".repeat(100));
    assert_eq!(world.form("/api/v1/query", &long).await.json()["data"]["result"][1], "101");
}

#[actix_web::test]
async fn federation_gives_the_newest_samples() {
    let world = World::new();
    let now = chrono::Utc::now().timestamp_millis();
    world.storage.add(&labels(&[("__name__", "up"), ("job", "a")]), &[(now - 2000, 0.0), (now - 1000, 1.0)]);
    world.storage.add(&labels(&[("__name__", "old")]), &[(now - 3_600_000, 1.0)]);
    let got = world.get(&with_params("/federate", [("match[]", "{__name__=~\"up|old\"}")])).await;
    let expected = format!("# TYPE up untyped\nup{{job=\"a\",zone=\"z\",instance=\"\"}} 1 {}\n", now - 1000);
    assert_eq!((got.status.as_u16(), got.body), (200, expected));
    assert_eq!(world.get("/federate?match[]={}").await.body.lines().count(), 2);
    let got = world.get("/federate?match[]=(").await;
    assert!(got.status.as_u16() == 400 && got.body.starts_with("1:1: parse error: "), "{got:?}");
}

#[actix_web::test]
async fn large_answers_are_whole_also_when_compressed() {
    let world = World::new();
    let samples: Vec<(i64, f64)> = (0..100).map(|n| (n * 1000, n as f64 / 7.0)).collect();
    for n in 0..800 {
        world.storage.add(&labels(&[("__name__", "up"), ("n", &n.to_string())]), &samples);
    }
    let path = with_params("/api/v1/query_range", [("query", "up"), ("start", "0"), ("end", "99"), ("step", "1")]);
    let plain = world.get(&path).await.body;
    let json: serde_json::Value = serde_json::from_str(&plain).unwrap();
    let series = json["data"]["result"].as_array().unwrap();
    assert_eq!((series.len(), series[799]["values"].as_array().unwrap().len()), (800, 100));
    assert!(plain.len() > 3 << 19, "more than is written ahead: {}", plain.len());

    let routes = world.routes.clone();
    let app = actix_web::App::new().wrap(actix_web::middleware::Compress::default());
    let app = test::init_service(app.configure(move |config| routes.configure(config))).await;
    let request = test::TestRequest::get().uri(&path).insert_header(("accept-encoding", "gzip")).to_request();
    let packed = test::call_and_read_body(&app, request).await;
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
}

#[actix_web::test]
async fn queries_that_run_are_listed_and_can_be_cancelled() {
    let world = World::with(|options| options.admin = true);
    let (events, mut seen) = tokio::sync::mpsc::unbounded_channel();
    world.state.storage.set(Arc::new(Stuck { events }));
    let mut request = std::pin::pin!(world.get("/api/v1/query?query=up"));
    tokio::select! {
        got = &mut request => panic!("answered {got:?}"),
        started = seen.recv() => assert_eq!(started, Some("started")),
    }
    let listed = world.get("/api/v1/ext/queries").await.json();
    let running = &listed["data"]["running"][0];
    assert_eq!((running["query"].as_str(), running["stage"].as_str()), (Some("up"), Some("evaluating")), "{listed}");
    let id = running["id"].as_u64().expect("a number");
    let cancel = format!("/api/v1/ext/queries/cancel?id={id}");
    assert_eq!(world.form("/api/v1/ext/queries/cancel?id=x", "").await.status.as_u16(), 400);
    assert_eq!(world.form("/api/v1/ext/queries/cancel?id=9999", "").await.status.as_u16(), 404);
    assert_eq!(world.form(&cancel, "").await.status.as_u16(), 204);
    let got = request.await;
    assert_eq!((got.status.as_u16(), got.json()["errorType"].as_str()), (499, Some("canceled")));
    let listed = world.get("/api/v1/ext/queries?top=1").await.json();
    assert_eq!(listed["data"]["running"], json!([]));
    let top = &listed["data"]["top"]["byTime"][0];
    assert_eq!(
        (top["query"].as_str(), top["count"].as_u64(), top["failures"].as_u64()),
        (Some("up"), Some(1), Some(1))
    );
}

#[actix_web::test]
async fn what_a_query_holds_is_limited_and_given_back() {
    let world = World::new();
    let samples: Vec<(i64, f64)> = (0..1100).map(|n| (n * 1000, n as f64)).collect();
    for n in 0..1500 {
        world.storage.add(&labels(&[("__name__", "up"), ("n", &n.to_string())]), &samples);
    }
    let range = async |query: &str| {
        let times = [("start", "0"), ("end", "1099"), ("step", "1")];
        world.get(&with_params("/api/v1/query_range", times.into_iter().chain([("query", query)]))).await
    };
    let limit = super::fakes::MEMORY_OF_QUERY;
    for query in ["up", "up + up", "topk(5, up)", "label_replace(up, 'a', 'b', '', '')"] {
        let got = range(query).await;
        let text =
            format!("query needs more than {limit} bytes of memory, the limit for one query in expression evaluation");
        assert_eq!((got.status.as_u16(), got.json()["error"].as_str()), (422, Some(&*text)), "{query}");
        assert_eq!(world.fake.board.budget().used(), 0, "{query}");
    }
    assert_eq!(range("sum(up)").await.status.as_u16(), 200, "groups are held, series are not");
    assert_eq!(world.fake.board.budget().used(), 0);
}

#[actix_web::test]
async fn a_query_explains_itself_when_asked() {
    let world = World::new();
    world.storage.add(&labels(&[("__name__", "up"), ("job", "a")]), &[(15_000, 1.0), (45_000, 2.0)]);
    let params = [("query", "sum(rate(up[1m]))"), ("time", "60"), ("explain", "analyze")];
    let got = world.get(&with_params("/api/v1/query", params)).await.json();
    let root = &got["data"]["explain"];
    assert_eq!((root["operator"].as_str(), root["seriesOut"].as_u64()), (Some("aggregation sum"), Some(1)), "{got}");
    let rate = &root["children"][0];
    assert_eq!((rate["query"].as_str(), rate["samples"].as_u64()), (Some("rate(up[1m])"), Some(2)), "{got}");
    assert_eq!(rate["children"][0]["operator"], "range selector");
    assert!(root["totalSeconds"].as_f64() >= rate["totalSeconds"].as_f64());
    let text = "invalid parameter \"explain\": \"plan\" is not supported, only \"analyze\" is";
    check_error(&world, "/api/v1/query", &[("query", "1"), ("explain", "plan")], 400, "bad_data", text).await;
}
