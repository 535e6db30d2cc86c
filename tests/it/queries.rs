//! Queries: the ones that would hurt others, what is written about them, and what a crash leaves behind.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{self, escape};
use crate::support::{Home, Server, remote_write, wait_until};

/// Longest a query may go on in these tests, and how much later its answer may come on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(3);

/// A server with `n` series of `steps` samples each, one a second up to a minute ago; the time of the last one.
fn filled(home: &Home, flags: &[&str], n: usize, steps: i64) -> (Server, i64) {
    let server = Server::start(home, &[&["--web.enable-remote-write-receiver"], flags].concat());
    let end_s = chrono::Utc::now().timestamp() - 60;
    for series in 0..n {
        let (at, job) = (series.to_string(), (series % 7).to_string());
        let labels = [("__name__", "load_total"), ("at", at.as_str()), ("job", job.as_str())];
        let samples: Vec<(i64, f64)> =
            (0..steps).map(|i| ((end_s - steps + 1 + i) * 1000, (i * (series as i64 + 1)) as f64)).collect();
        let body = remote_write::body(&labels, &samples);
        let answer = http::request(server.port, "POST", "/api/v1/write", remote_write::HEADERS, &body);
        assert_eq!(answer.expect("an answer").status(), 204);
    }
    (server, end_s)
}

/// A form that asks for a query over many steps, sent as such since some are longer than a URL may be.
fn ask(server: &Server, path: &str, params: &[(&str, &str)]) -> (u16, Value) {
    let form: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = http::request(server.port, "POST", path, &headers, form.join("&").as_bytes()).expect("an answer");
    (answer.status(), answer.json())
}

#[test]
fn queries_of_death_kill_nobody() {
    let home = Home::new("death", "global: {}\n");
    let (server, end_s) =
        filled(&home, &["--query.timeout=2s", "--enable-feature=promql-experimental-functions"], 150, 300);
    let nested = |open: &str, inner: &str, close: &str, n: usize| open.repeat(n) + inner + &close.repeat(n);
    let sum = |n: usize| vec!["load_total"; n].join(" + ");
    // What may be computed in time is; everything else is refused, and by whom does not matter here.
    let queries: Vec<String> = vec![
        nested("(", "1", ")", 900),
        nested("(", "1", ")", 100_000),
        nested("-", "1", "", 100_000),
        nested("abs(", "load_total", ")", 990),
        nested("sum(", "load_total", ")", 5000),
        nested("max_over_time((", "load_total", ")[1s:1s])", 300),
        nested("[", "1", "]", 100_000),
        "{".repeat(100_000),
        sum(500),
        sum(20_000),
        format!("load_total{{at=~\"{}\"}}", "(a|b)*".repeat(2000)),
        format!("load_total{{at=~\"{}\"}}", "((((a{1,100}){1,100}){1,100}){1,100})"),
        format!("load_total{{at=~\"{}\"}}", "x|".repeat(200_000)),
        format!("load_total{{at=\"{}\"}}", "x".repeat(1_000_000)),
        "{__name__=~\".+\"}[5y]".to_owned(),
        "count({__name__=~\".*\"} offset 5y)".to_owned(),
        "max_over_time(load_total[1h:1ms])".to_owned(),
        "max_over_time(max_over_time(load_total[1h:1ms])[1h:1ms])".to_owned(),
        "sum(max_over_time(rate(load_total[5m])[1d:1ms]))".to_owned(),
        "quantile_over_time(0.5, load_total[5m:1ms])".to_owned(),
        "count_values(\"v\", max_over_time(load_total[5m]) * time())".to_owned(),
        "topk(1e18, load_total)".to_owned(),
        "bottomk(scalar(sum(load_total)), load_total)".to_owned(),
        "quantile(0.9, load_total)".to_owned(),
        "load_total * on (job) group_left load_total".to_owned(),
        "load_total * on (job) group_left (at) sum by (job) (load_total)".to_owned(),
        "load_total or (load_total + 1) or (load_total + 2)".to_owned(),
        "sort_by_label(label_join(load_total, 'a', ',', 'at', 'job'), 'a')".to_owned(),
        {
            let grow = |inner: &str| format!("label_replace({inner}, 'x', '$1$1$1$1$1$1$1$1$1$1', 'x', '(.*)')");
            (0..12).fold("label_replace(load_total, 'x', 'yyyyyyyyyy', '', '')".to_owned(), |query, _| grow(&query))
        },
        "histogram_quantile(0.9, load_total)".to_owned(),
        "predict_linear(load_total[5m:1ms], 1e300)".to_owned(),
        "double_exponential_smoothing(load_total[5m:1ms], 0.5, 0.5)".to_owned(),
        "limit_ratio(0.5, load_total) - load_total @ 1e15".to_owned(),
    ];
    for query in &queries {
        let shown: String = query.chars().take(60).collect();
        for (path, more) in [
            ("/api/v1/query", vec![]),
            ("/api/v1/query_range", vec![("start", end_s - 10_000), ("end", end_s), ("step", 1)]),
        ] {
            let more: Vec<(&str, String)> = more.into_iter().map(|(name, n)| (name, n.to_string())).collect();
            let params: Vec<(&str, &str)> = [("query", query.as_str())]
                .into_iter()
                .chain(more.iter().map(|(name, value)| (*name, value.as_str())))
                .collect();
            let began = Instant::now();
            let (status, json) = ask(&server, path, &params);
            assert!(began.elapsed() < TIMEOUT + SLACK, "{shown}: {:?}", began.elapsed());
            let text = json["error"].as_str().unwrap_or("").chars().take(200).collect::<String>();
            assert!(matches!(status, 200 | 400 | 422 | 503), "{shown}: {status} {text}");
            assert_ne!(json["errorType"], "internal", "{shown}: {text}");
        }
    }
    assert_eq!(server.value("count(load_total offset 1m)"), Some(150.0));
    wait_until("the list to be empty", || server.api("/api/v1/ext/queries")["running"] == json!([]));
    assert_eq!(server.own_metric("firekeeper_http_panics_total"), Some(0.0));
    assert_eq!(server.own_metric("firekeeper_query_memory_bytes"), Some(0.0), "all memory has come back");
}

#[test]
fn queries_are_logged_and_the_log_is_opened_anew_by_a_reload() {
    let config = "global:\n  query_log_file: queries.log\n  evaluation_interval: 200ms\nrule_files: [rules.yml]\n";
    let home = Home::new("query-log", config);
    let rules = "groups:\n  - name: g\n    rules:\n      - record: r\n        expr: vector(1) + 1\n";
    home.write("rules.yml", rules);
    let server = Server::start(&home, &["--web.enable-lifecycle", "--enable-feature=promql-per-step-stats"]);
    let logged = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(home.path(file)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    let of = |lines: &[Value], query: &str| lines.iter().find(|line| line["params"]["query"] == query).cloned();
    server.api("/api/v1/query_range?query=time()&start=0&end=60&step=30&stats=all");
    let line = of(&logged("queries.log"), "time()").expect("logged before the answer");
    assert_eq!(line["msg"], "promql query logged");
    assert_eq!((&line["params"]["start"], &line["params"]["step"]), (&json!("1970-01-01T00:00:00.000Z"), &json!(30)));
    assert_eq!(line["httpRequest"]["path"], "/api/v1/query_range");
    assert_eq!(line["stats"]["samples"]["samplesReadPerStep"], json!([[0, 0], [30, 0], [60, 0]]));
    wait_until("a rule's query", || of(&logged("queries.log"), "vector(1) + 1").is_some());
    let line = of(&logged("queries.log"), "vector(1) + 1").expect("there is one");
    assert_eq!(line["ruleGroup"]["name"], "g");
    assert_eq!(server.own_metric("prometheus_engine_query_log_enabled"), Some(1.0));

    std::fs::rename(home.path("queries.log"), home.path("moved.log")).expect("writable");
    assert_eq!(server.post("/-/reload").status(), 200);
    server.query("1 + 2");
    assert!(of(&logged("queries.log"), "1 + 2").is_some(), "a file of its own again");
    assert!(of(&logged("moved.log"), "1 + 2").is_none());
    home.configure(&config.replace("queries.log", "no/such/folder/queries.log"));
    let answer = server.post("/-/reload");
    assert!(answer.status() == 500 && answer.text().contains("can't create json log file"), "{}", answer.text());
    server.query("1 + 3");
    assert!(of(&logged("queries.log"), "1 + 3").is_some(), "what was in force stays");
}

#[test]
fn a_crash_tells_what_was_running() {
    let home = Home::new("active", "global: {}\n");
    let (server, _) = filled(&home, &["--query.timeout=1m"], 20, 300);
    let slow = "count_values('x', max_over_time(max_over_time(load_total[1h:20ms])[1h:20ms]))";
    let port = server.port;
    let asking = std::thread::spawn(move || {
        // The server dies over it.
        let _ = http::request(port, "GET", &format!("/api/v1/query?query={}", escape(slow)), &[], &[]);
    });
    let active = || std::fs::read(home.path("data/queries.active")).unwrap_or_default();
    wait_until("the query to run", || active().windows(12).any(|bytes| bytes == b"count_values"));
    server.kill();
    asking.join().expect("no panic");
    let server = Server::start(&home, &[]);
    let at = server.log.position("These queries didn't finish in prometheus' last run:").expect("told");
    assert!(server.log.lines()[at].contains("count_values"), "{}", server.log.lines()[at]);
    assert!(!active().iter().any(u8::is_ascii_alphabetic), "a new file");
}

/// How late a query that nobody waits for may end: in an optimised build a tenth of a second, here on a machine that may have
/// much other work. By itself it would go on for the ten minutes of its timeout.
const GONE: Duration = Duration::from_secs(60);

#[test]
fn a_query_ends_when_its_client_goes_and_when_it_is_cancelled() {
    let home = Home::new("gone", "global: {}\n");
    let (server, _) =
        filled(&home, &["--query.timeout=10m", "--web.enable-admin-api", "--query.max-concurrency=2"], 20, 300);
    let slow = "count_values('x', max_over_time(max_over_time(load_total[1h:1ms])[1h:1ms]))";
    let running = || server.api("/api/v1/ext/queries")["running"].as_array().cloned().unwrap_or_default();
    let is_evaluated = || running().iter().any(|query| query["stage"] == "evaluating");
    for close in [std::net::Shutdown::Both, std::net::Shutdown::Write] {
        let mut client = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("accepted");
        let request = format!("GET /api/v1/query?query={} HTTP/1.1\r\nhost: x\r\n\r\n", escape(slow));
        client.write_all(request.as_bytes()).expect("sent");
        wait_until("the query to run", is_evaluated);
        client.shutdown(close).expect("closed");
        let began = Instant::now();
        wait_until("the query to end", || running().is_empty());
        assert!(began.elapsed() < GONE, "{close:?}: {:?}", began.elapsed());
    }
    let port = server.port;
    let path = format!("/api/v1/query?query={}", escape(slow));
    let asking = std::thread::spawn(move || http::request(port, "GET", &path, &[], &[]).expect("an answer"));
    wait_until("the query to run", is_evaluated);
    let id = running()[0]["id"].to_string();
    let began = Instant::now();
    let cancelled =
        http::request(port, "POST", &format!("/api/v1/ext/queries/cancel?id={id}"), &[], &[]).expect("an answer");
    assert!(cancelled.status() < 300, "{}", cancelled.text());
    let answer = asking.join().expect("no panic");
    assert!(began.elapsed() < GONE, "{:?}", began.elapsed());
    assert_eq!((answer.status(), answer.json()["errorType"].as_str()), (499, Some("canceled")));
    assert_eq!(server.own_metric("firekeeper_query_memory_bytes"), Some(0.0), "all memory has come back");
}
