//! Whatever a client sends, it is the client's mistake: 4xx, never 5xx, never a panic.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::fakes::{World, encoded};

const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::OPTIONS, Method::HEAD, Method::TRACE];

#[actix_web::test]
async fn odd_paths_and_parameters_are_refused() {
    let world = World::with(|options| options.remote_write_receiver = true);
    for path in [
        "/api/v1/query_range?query=up&start=0&end=99999999999&step=0.001",
        "/api/v1/query_range?query=up&start=2&end=1&step=1",
        "/api/v1/query_range?query=up&start=a&end=b&step=c",
        "/api/v1/query?query=up&time=1e999",
        "/api/v1/query?query=up&timeout=-1s",
        "/api/v1/query?query=up&timeout=-1",
        "/api/v1/query?query=%zz",
        "/api/v1/query?query=%ff",
        "/api/v1/query?query=%00",
        "/api/v1/query?query=a;b",
        "/api/v1/query",
        "/api/v1/series",
        "/api/v1/series?match[]=",
        "/api/v1/label/%ff/values",
        "/api/v1/label//values",
        "/api/v1/label/U___/values/x",
        "/../../../etc/passwd",
        "/consoles/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/api/v1/nothing",
        "/%00",
        "/api/v1/rules?type=x",
        "/api/v1/rules?match[]=(",
        "/federate?match[]=(",
    ] {
        for method in METHODS {
            let got = world.send(TestRequest::default().method(method.clone()).uri(path)).await;
            let preflight = method == Method::OPTIONS && got.status.is_success();
            assert!(got.status.is_client_error() || preflight, "{} for {method} {path}: {}", got.status, got.body);
        }
    }
    for path in ["/api/v1/targets?state=x", "/api/v1/label/a%2F..%2Fb/values", "/api/v1/query?query=1&unknown=1"] {
        assert!(world.get(path).await.status.is_success(), "{path}");
    }
}

/// What nobody should send.
const BAD_VALUES: &[&str] = &[
    "",
    "-1",
    "0",
    "1e999",
    "NaN",
    "99999999999999999999",
    "2026-13-01T00:00:00Z",
    "true",
    "1y",
    "(((",
    "{a=~\"(\"}",
    "{\"a\":1}",
    "[1,2",
    "\u{0}\u{1F525}é\\",
];

/// A value that a parameter takes, so that the others are looked at.
fn good_value(name: &str) -> &'static str {
    match name {
        "query" | "match[]" | "match_target" => "{a=\"b\"}",
        "start" => "1",
        "end" => "2",
        "step" => "1",
        "scrapePool" | "label" | "name" => "node",
        "labels" => "{\"a\":\"b\"}",
        _ => "1",
    }
}

#[actix_web::test]
async fn whatever_the_description_allows_may_be_bad() {
    let world = World::with(|options| {
        (options.remote_write_receiver, options.search, options.admin) = (true, true, true);
    });
    let long = "x".repeat(5000);
    let mut asked = 0;
    for (path, methods, parameters) in crate::openapi::operations() {
        for method in methods {
            let required: Vec<&str> =
                parameters.iter().filter(|(_, required)| *required).map(|(name, _)| *name).collect();
            for (name, _) in &parameters {
                for value in BAD_VALUES.iter().copied().chain([long.as_str()]) {
                    let others =
                        required.iter().filter(|other| *other != name).map(|other| (*other, good_value(other)));
                    let all = encoded(others.chain([(*name, value)]));
                    let in_path = encoded([("", value)]).trim_start_matches('=').replace('+', "%20");
                    let uri = format!("/api/v1{}", path.replace("{name}", &in_path));
                    let got = if method == "post" {
                        world.form(&uri, &all).await
                    } else {
                        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                        world.send(TestRequest::default().method(method).uri(&format!("{uri}?{all}"))).await
                    };
                    // A query that may take no time takes none.
                    let timed_out = *name == "timeout" && got.body.contains("\"errorType\":\"timeout\"");
                    let good = got.status.as_u16() < 500 || timed_out;
                    assert!(good, "{} for {method} {uri} {all}: {}", got.status, got.body);
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 1000, "{asked}");
}

#[actix_web::test]
async fn deep_and_long_queries_are_refused_quickly() {
    let world = World::new();
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let signs = format!("{}1", "-".repeat(200_000));
    let regex = format!("{{x=~\"{}\"}}", "(a+)+".repeat(200));
    let class = "{x=~\"(\\\\pL{100}){100}{100}\"}".to_owned();
    for query in [deep, signs, regex, class] {
        let got = world.form("/api/v1/query", &encoded([("query", query.as_str())])).await;
        assert!(got.status.as_u16() < 500, "{} for {}", got.status, &query[..40.min(query.len())]);
    }
}

#[actix_web::test]
async fn random_queries_are_answered_or_refused() {
    let world = World::new();
    let alphabet: Vec<char> = "abcrate()[]{}\"'`=~!<>+-*/%^@5mhs:.,\\ \né🔥bysumoffsetwithout_0".chars().collect();
    // Fixed, so that a failure comes back.
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(1), ..Config::default() });
    let texts = proptest::collection::vec(proptest::sample::select(alphabet), 1..60);
    for _ in 0..900 {
        let text: String = texts.new_tree(&mut runner).unwrap().current().into_iter().collect();
        let got = world.form("/api/v1/query", &encoded([("query", text.as_str())])).await;
        assert!(got.status.as_u16() < 500, "{} for {text:?}: {}", got.status, got.body);
    }
}
