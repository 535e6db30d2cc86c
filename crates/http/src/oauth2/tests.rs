//! Tests against a little server that gives out tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use fk_config::{Auth, HttpClientConfig, ProxyConfig, Secret, TlsConfig};
use tokio::net::TcpListener;

use super::*;
use crate::Client;
use crate::client::tests::{answer, header, request, run, serve};

const KEY: &str = include_str!("../../testdata/assertion.key");

fn inline(text: &str) -> Option<SecretSource> {
    Some(SecretSource::Inline(Secret::new(text)))
}

fn section(grant: OAuth2Grant) -> OAuth2Config {
    OAuth2Config {
        client_id: "me & you".to_owned(),
        grant,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_url: String::new(),
        endpoint_params: BTreeMap::from([("resource".to_owned(), "x y".to_owned())]),
        tls: TlsConfig::default(),
        proxy: ProxyConfig::None,
    }
}

fn by_secret() -> OAuth2Config {
    section(OAuth2Grant::ClientCredentials { secret: inline("pass:word") })
}

fn by_assertion() -> OAuth2Config {
    section(OAuth2Grant::JwtBearer {
        key: inline(KEY),
        key_id: "k1".to_owned(),
        algorithm: SignatureAlgorithm::Rs256,
        issuer: "us".to_owned(),
        audience: "them".to_owned(),
        claims: BTreeMap::from([("sub".to_owned(), json!(7))]),
    })
}

fn token_answer(token: &str, more: &str) -> Vec<u8> {
    let body = format!("{{\"access_token\":\"{token}\",\"token_type\":\"bearer\"{more}}}");
    answer("200 OK", "Content-Type: application/json\r\n", body.as_bytes())
}

struct Run {
    /// What came of each scrape.
    scrapes: Vec<Result<(), String>>,
    /// What the token's server was asked.
    asked: Vec<String>,
    /// The `Authorization` headers that the target saw.
    seen: Vec<String>,
}

/// Scrapes a target `answers` times with tokens from a server that gives these answers.
fn scrapes(mut section: OAuth2Config, tokens: Vec<Vec<u8>>, targets: usize, attempts: usize) -> Run {
    run(async move {
        let (auth, target) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        section.token_url = format!("http://{}/token", auth.local_addr().unwrap());
        let url = format!("http://{}/metrics", target.local_addr().unwrap());
        let auth = tokio::spawn(serve(auth, tokens));
        let target = tokio::spawn(serve(target, vec![answer("200 OK", "", b"a 1\n"); targets]));
        let config = HttpClientConfig { auth: Auth::OAuth2(Box::new(section)), ..HttpClientConfig::default() };
        let client = Client::new(&config).unwrap();
        let mut scrapes = Vec::new();
        for _ in 0..attempts {
            let scraped = client.scrape(&request(&url), &mut Vec::new()).await;
            scrapes.push(scraped.map(|_| ()).map_err(|error| error.to_string().replace(&url, "URL")));
        }
        let seen = target.await.unwrap().iter().flat_map(|r| header(r, "authorization")).map(str::to_owned).collect();
        Run { scrapes, asked: auth.await.unwrap(), seen }
    })
}

#[test]
fn a_token_is_asked_for_once_and_used_until_it_expires() {
    let run = scrapes(by_secret(), vec![token_answer("T1", ",\"expires_in\":3600")], 2, 2);
    assert_eq!(run.seen, ["Bearer T1", "Bearer T1"]);
    let asked = &run.asked[0];
    assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\ngrant_type=client_credentials&resource=x+y&scope=a+b"), "{asked}");
    assert_eq!(header(asked, "authorization"), [format!("Basic {}", base64(b"me+%26+you:pass%3Aword"))]);
    assert_eq!(header(asked, "user-agent"), ["Prometheus/3.14.0"]);
    // One that is about to expire is not used again.
    let run = scrapes(by_secret(), vec![token_answer("T1", ",\"expires_in\":\"9\""), token_answer("T2", "")], 2, 2);
    assert_eq!(run.seen, ["Bearer T1", "Bearer T2"]);
}

#[test]
fn servers_that_want_the_secret_in_the_form_get_it_there() {
    let refused = answer("401 Unauthorized", "", b"{\"error\":\"invalid_client\"}");
    let form = b"access_token=T1&token_type=MAC&expires_in=1";
    let form = answer("200 OK", "Content-Type: application/x-www-form-urlencoded\r\n", form);
    let run = scrapes(by_secret(), vec![refused, form, token_answer("T2", "")], 2, 2);
    assert_eq!(run.seen, ["MAC T1", "Bearer T2"]);
    for asked in &run.asked[1..] {
        assert_eq!(header(asked, "authorization"), Vec::<&str>::new());
        let form =
            "client_id=me+%26+you&client_secret=pass%3Aword&grant_type=client_credentials&resource=x+y&scope=a+b";
        assert!(asked.ends_with(form), "{asked}");
    }
}

#[test]
fn refusals_read_as_in_go() {
    let json = |body: &str| answer("400 Bad Request", "Content-Type: application/json\r\n", body.as_bytes());
    let described = json(r#"{"error":"invalid_scope","error_description":"no such \"b\""}"#);
    let empty = answer("200 OK", "", b"{}");
    for (refusal, text) in [
        (described, r#"oauth2: "invalid_scope" "no such \"b\"""#),
        (json("later"), "oauth2: cannot fetch token: 400 Bad Request\nResponse: later"),
        (empty, "oauth2: server response missing access_token"),
        (answer("200 OK", "", b"token"), "oauth2: cannot parse json"),
    ] {
        let run = scrapes(by_secret(), vec![refusal; 2], 0, 1);
        assert_eq!(run.scrapes, [Err(format!("Get \"URL\": {text}"))]);
        assert_eq!(run.asked.len(), 2, "both ways are tried");
    }
}

#[test]
fn without_a_secret_nothing_is_asked() {
    let run = scrapes(section(OAuth2Grant::ClientCredentials { secret: None }), vec![], 0, 1);
    assert_eq!(run.scrapes, [Err("Get \"URL\": oauth2 client secret is required".to_owned())]);
    let overwriting = OAuth2Config { endpoint_params: BTreeMap::from([("scope".into(), "c".into())]), ..by_secret() };
    let run = scrapes(overwriting, vec![], 0, 1);
    assert_eq!(run.scrapes, [Err("Get \"URL\": oauth2: cannot overwrite parameter \"scope\"".to_owned())]);
}

#[test]
fn a_changed_secret_asks_for_another_token() {
    run(async {
        let dir = fk_testkit::TempDir::new("oauth2-secret");
        let file = dir.path().join("secret");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let secret = Some(SecretSource::File(file.clone()));
        let mut section = section(OAuth2Grant::ClientCredentials { secret });
        section.token_url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener, vec![token_answer("T1", ""), token_answer("T2", "")]));
        let source = TokenSource::new(&section).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        for (secret, token) in [("one", "Bearer T1"), ("one", "Bearer T1"), ("two", "Bearer T2")] {
            std::fs::write(&file, secret).unwrap();
            let header = source.header(&HeaderValue::from_static("x"), deadline).await.unwrap();
            assert_eq!(header.to_str().unwrap(), token);
            assert!(header.is_sensitive());
        }
        assert_eq!(server.await.unwrap().len(), 2);
    });
}

#[test]
fn assertions_carry_claims_and_a_signature() {
    let config = OAuth2Config { endpoint_params: BTreeMap::new(), ..by_assertion() };
    let run = scrapes(config.clone(), vec![token_answer("T1", "")], 1, 1);
    assert_eq!(run.seen, ["Bearer T1"]);
    let form = run.asked[0].rsplit("\r\n").next().unwrap();
    let pairs: BTreeMap<_, _> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    assert_eq!(pairs["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(pairs["scope"], "a b");
    let parts: Vec<&str> = pairs["assertion"].split('.').collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0], base64_url(br#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#));
    // Claims of the section replace those of the same name.
    let OAuth2Grant::JwtBearer { claims, .. } = &config.grant else { panic!() };
    assert_eq!(claims["sub"], 7);
    let start = base64_url(br#"{"aud":"them","exp":1"#);
    assert!(parts[1].starts_with(&start[..start.len() - 2]), "{}", parts[1]);
    // 2048 bits.
    assert_eq!(parts[2].len(), 342);
}

#[test]
fn signatures_are_those_of_openssl() {
    let provider = rustls::crypto::ring::default_provider();
    for (scheme, signature) in [
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            "RJcxWYZh3jRDJxUWweA-7ybmvkdkOQuvxSyheRL9Jep5MMUgOnG14qEb0cc5FqA7rElrrVvn_ylAByV5jnePbGBnS0bbRzE3_r5_\
             IdSsS1AttNV_d-zsOHogNwk-vz1M9qe0HEJt-1_cFHSABYy10ziTPTiWkMCDL9Jh4ALzj3VZ3AFvyO2YesgsdPyiXf6k27361Ha1\
             rOG1wvm8vSlRJlq2xrT23Y4P89gZOUtRtMH-Kq-gJdYml7vPH4sF5u1iWoo8t6_DWB2UjrWhdOAapNizsNXCeyqBORA8KK30Q5qT\
             ysOurXvA3UcM4XHIY_T2K9TybrRhiH-UNWP7uN5TYQ",
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            "hqYyTjuq7IWaPxd5CxRPm-SR2rVdi98dMmnMl-p_E2lMVRyM1VJ9W00dxZhkN2DNPv5Kt6Qj0TLpZD6dZFpEC5BNUgglpR1-ib-c\
             5tErjK5mtkTK8-Q7v0CZbT3BQ8x4fW_kPjUFH0_3ZAAvyfhwA93oqRYLps4au3VhbzurofcKrYT59PrqJvN74U-CqnvDv_UGZIae\
             3_AcX87-7pdV3wKbNkwSeIKNm18X8xqaD45h5tPJnmlatjAnNFDPm8OksI9bavXqUZVlCWAAmX2T7xPYNZlGVA-2mhCzbfzVr4P8\
             NDHvlRhzwB1oNVMYOsT0IHAUz3tY-5BFa8b2NAaBaw",
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            "aJKgzs6PBXOhkQJeGveYFDwZV7FDJwSMSiMnUQhssRMVkGuh7KGpfKmA51h-8e45-liOUyiVggutv4T32dlAGE_Xj8Km41z2AWuI\
             W8zRx003MAgQlWLCwYBKEQHUWs8ii1H1cEXJC8h2pumAEhH2imeFColgbmH2Dq4k1CUpmZsdWlRGFq--uHkMWnI7e6GjhrEE_GyZ\
             mieIiOtZUxpPJWd-K_dzDJ3as1hDMfNvJ8cE3o3f3H1h_y_OQpwCwUAQdEN5BYcG5kShs8S0zqbFziFSIrmOUfM8RFDauAQNjfMw\
             DS0LymfR9kXruVcxouwBOtTFat8lMmjF4YV-RoQkVw",
        ),
    ] {
        for key in [KEY, include_str!("../../testdata/assertion.pkcs1.key")] {
            assert_eq!(base64_url(&sign(&provider, scheme, key, "a.b").unwrap()), signature);
        }
    }
    let scheme = SignatureScheme::RSA_PKCS1_SHA256;
    let elliptic = include_str!("../../testdata/server.key");
    for (key, text) in [("no key", "invalid key: Key must be"), (elliptic, "key is not a valid RSA private key")] {
        let error = sign(&provider, scheme, key, "a.b").unwrap_err();
        assert!(error.starts_with(text), "{error}");
    }
}
