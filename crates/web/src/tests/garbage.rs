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
