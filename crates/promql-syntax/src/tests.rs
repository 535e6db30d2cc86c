//! The parser against recorded behaviour of Prometheus.

use serde_json::Value;

use super::*;

fn cases(file: &str, list: &str) -> Vec<Value> {
    let Some(folder) = fk_testkit::conformance("promql/parser") else { return Vec::new() };
    let text = std::fs::read_to_string(folder.join(file)).expect("conformance data is readable");
    let all: Value = serde_json::from_str(&text).expect("conformance data is JSON");
    all[list].as_array().expect("a list of cases").clone()
}

/// Fails with every deviation at once.
fn report(deviations: &[String]) {
    assert!(deviations.is_empty(), "{} deviations:\n{}", deviations.len(), deviations.join("\n"));
}

fn options() -> ParserOptions {
    ParserOptions { fill_modifiers: false, ..ParserOptions::all() }
}

#[test]
fn expressions_parse_or_fail_as_recorded() {
    let mut deviations = Vec::new();
    let cases = cases("expressions.json", "cases");
    eprintln!("{} cases", cases.len());
    for case in cases {
        let Some(input) = case["input"].as_str() else { continue };
        match (parse(input, &options()), case["ok"].as_bool()) {
            (Ok(_), Some(true)) => {}
            (Ok(expr), _) => deviations.push(format!("{input:?}: accepted as {expr:?}, expected {}", case["errors"])),
            (Err(errors), Some(true)) => deviations.push(format!("{input:?}: {errors}")),
            (Err(errors), _) => {
                let got: Vec<Value> = errors
                    .errors()
                    .iter()
                    .map(|e| serde_json::json!({"start": e.pos.start, "end": e.pos.end, "message": e.message}))
                    .collect();
                if Value::from(got.clone()) != case["errors"]
                    || errors.to_string() != case["text"].as_str().unwrap_or("")
                {
                    deviations.push(format!("{input:?}: {errors}\n  got {got:?}\n  expected {}", case["errors"]));
                }
            }
        }
    }
    report(&deviations);
}

#[test]
fn ten_thousand_problems_are_found_fast() {
    let query = format!("({}){}", "-{}-1".repeat(10_000), "[1m:]".repeat(1000));
    let errors = parse(&query, &options()).unwrap_err();
    assert_eq!(errors.errors().len(), 10_999);
    assert_eq!(errors.errors()[1].pos, Pos { start: 7, end: 9 });
    let last = &errors.errors()[10_998];
    assert_eq!(last.message, "subquery is only allowed on instant vector, got matrix instead");
}

#[test]
fn deep_nesting_is_refused_and_not_a_crash() {
    for (part, n, tail) in [
        ("(", 100_000, ""),
        ("-", 200_000, "a"),
        ("sum(", 50_000, "a"),
        ("a^", 100_000, "a"),
        ("a+", 200_000, "a"),
        ("a+", 200_000, ""),
        ("a[", 50_000, ""),
        ("abs(", 50_000, ""),
    ] {
        let query = part.repeat(n) + tail;
        assert!(parse(&query, &options()).is_err(), "{part:?}");
    }
    let durations = format!("a[{}1{}]", "(".repeat(50_000), ")".repeat(50_000));
    assert!(parse(&durations, &options()).is_err());
    let sums = format!("a[1{}]", "+1".repeat(50_000));
    assert!(parse(&sums, &options()).is_err());
    let unknown = format!("nofunction({}a)", "a+".repeat(100_000));
    assert!(parse(&unknown, &options()).is_err());
    let topk = format!("topk({}a)", "a+".repeat(100_000));
    assert!(parse(&topk, &options()).is_err());
    let ranged = format!("({}a)[5m]", "a+".repeat(100_000));
    assert!(parse(&ranged, &options()).is_err());
}

#[test]
fn what_is_allowed_in_depth_parses() {
    let nested = format!("{}a{}", "(".repeat(240), ")".repeat(240));
    assert!(parse(&nested, &options()).is_ok());
    let chain = "a + ".repeat(900) + "a";
    assert!(parse(&chain, &options()).is_ok());
}

#[test]
fn expressions_print_as_recorded() {
    let mut deviations = Vec::new();
    for case in cases("print.json", "cases") {
        let (input, expected) = (case["in"].as_str().unwrap(), case["out"].as_str().unwrap());
        match parse(input, &ParserOptions::all()) {
            Ok(expr) if expr.to_string() == expected => {}
            Ok(expr) => deviations.push(format!("{input:?}: got {:?}, expected {expected:?}", expr.to_string())),
            Err(errors) => deviations.push(format!("{input:?}: {errors}")),
        }
    }
    report(&deviations);
}

#[test]
fn expressions_are_formatted_as_recorded() {
    let mut deviations = Vec::new();
    for case in cases("format.json", "cases") {
        let (input, expected) = (case["in"].as_str().unwrap(), case["out"].as_str().unwrap());
        let line_bytes_max = usize::try_from(case["max_line"].as_u64().unwrap()).unwrap();
        match parse(input, &ParserOptions::all()) {
            Ok(expr) => {
                let got = print::prettify_to(&expr, line_bytes_max);
                if got != expected {
                    deviations.push(format!("{input}: got\n{got}\nexpected\n{expected}"));
                }
            }
            Err(errors) => deviations.push(format!("{input:?}: {errors}")),
        }
    }
    report(&deviations);
}

#[test]
fn match_parameters() {
    let check = |text: &str| parse_metric_selector(text).map(|m| m.len()).map_err(|e| e.to_string());
    assert_eq!(check("up"), Ok(1));
    assert_eq!(check("{a=\"b\", c!~\"d\"}"), Ok(2));
    let empty = || Err("match[] must contain at least one non-empty matcher".to_owned());
    assert_eq!(check("{}"), empty());
    assert_eq!(check("{a=~\".*\"}"), empty());
    assert_eq!(check("up offset 5m"), Err("1:4: parse error: unexpected <offset>".to_owned()));
    assert_eq!(check("1"), Err("1:1: parse error: unexpected number \"1\"".to_owned()));
    assert_eq!(check(""), Err("unknown position: parse error: unexpected end of input".to_owned()));
    assert_eq!(check("{"), Err("1:2: parse error: unexpected end of input inside braces".to_owned()));
}

/// A number as the cases write it.
fn same_float(got: f64, expected: &Value) -> bool {
    let expected: f64 = expected.as_str().unwrap().parse().unwrap();
    got == expected || (got.is_nan() && expected.is_nan())
}

fn same_values(got: &[SeriesValue], expected: &[Value]) -> bool {
    got.len() == expected.len()
        && got.iter().zip(expected).all(|pair| match pair {
            (SeriesValue::Omitted, Value::Null) => true,
            (SeriesValue::Float(got), expected) => expected.is_string() && same_float(*got, expected),
            _ => false,
        })
}

fn failed_as_expected(case: &Value, error: &ParseErrors) -> bool {
    case["fail"] == true || case["error_contains"].as_str().is_some_and(|part| error.to_string().contains(part))
}

#[test]
fn series_are_read_as_recorded() {
    let mut deviations = Vec::new();
    for case in cases("series_notation.json", "series") {
        let input = case["input"].as_str().unwrap();
        match parse_series_desc(input) {
            Ok(series) => {
                let labels: serde_json::Map<_, _> =
                    series.labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
                let expected = case["values"].as_array();
                if expected.is_none_or(|e| !same_values(&series.values, e)) || case["labels"] != Value::from(labels) {
                    deviations.push(format!("{case}: got {series:?}"));
                }
            }
            Err(error) if failed_as_expected(&case, &error) => {}
            Err(error) => deviations.push(format!("{case}: {error}")),
        }
    }
    report(&deviations);
}

fn same_buckets(got: &series::Buckets, spans: &Value, counts: &Value) -> bool {
    let spans = spans.as_array().unwrap();
    let counts = counts.as_array().unwrap();
    let expected_spans =
        if got.counts.is_empty() { vec![] } else { vec![serde_json::json!([got.offset, got.counts.len()])] };
    *spans == expected_spans
        && got.counts.len() == counts.len()
        && got.counts.iter().zip(counts).all(|(g, e)| same_float(*g, e))
}

fn same_histogram(got: &series::HistogramLiteral, expected: &Value) -> bool {
    i64::from(got.schema) == expected["schema"].as_i64().unwrap()
        && same_float(got.count, &expected["count"])
        && same_float(got.sum, &expected["sum"])
        && same_float(got.zero_threshold, &expected["zero_threshold"])
        && same_float(got.zero_count, &expected["zero_count"])
        && got.counter_reset.map(series::CounterReset::name) == expected["counter_reset_hint"].as_str()
        && same_buckets(&got.positive, &expected["positive_spans"], &expected["positive_buckets"])
        && same_buckets(&got.negative, &expected["negative_spans"], &expected["negative_buckets"])
}

#[test]
fn histograms_are_read_as_recorded() {
    let mut deviations = Vec::new();
    for case in cases("series_notation.json", "histogram_series") {
        match parse_series_desc(case["input"].as_str().unwrap()) {
            Ok(series) => {
                let expected = case["histograms"].as_array().cloned().unwrap_or_default();
                let same = series.values.len() == expected.len()
                    && series.values.iter().zip(&expected).all(|pair| match pair {
                        (SeriesValue::Histogram(got), expected) => same_histogram(got, expected),
                        _ => false,
                    });
                if !same || expected.is_empty() {
                    deviations.push(format!("{case}: got {series:?}"));
                }
            }
            Err(error) if failed_as_expected(&case, &error) => {}
            Err(error) => deviations.push(format!("{case}: {error}")),
        }
    }
    report(&deviations);
}

#[test]
fn histograms_print_as_recorded() {
    /// Spans as neighbouring buckets, with zeroes in the gaps.
    fn dense(spans: &Value, counts: &Value) -> series::Buckets {
        let mut counts = counts.as_array().unwrap().iter().map(|c| c.as_str().unwrap().parse::<f64>().unwrap());
        let mut buckets = series::Buckets::default();
        for (i, span) in spans.as_array().unwrap().iter().enumerate() {
            let (offset, len) = (span[0].as_i64().unwrap(), usize::try_from(span[1].as_u64().unwrap()).unwrap());
            if i == 0 {
                buckets.offset = i32::try_from(offset).unwrap();
            } else {
                buckets.counts.extend(std::iter::repeat_n(0.0, usize::try_from(offset).unwrap()));
            }
            buckets.counts.extend(counts.by_ref().take(len));
        }
        buckets
    }
    for case in cases("series_notation.json", "histogram_to_text") {
        let histogram = &case["histogram"];
        let number = |key: &str| histogram[key].as_str().unwrap().parse::<f64>().unwrap();
        let literal = series::HistogramLiteral {
            schema: i32::try_from(histogram["schema"].as_i64().unwrap()).unwrap(),
            count: number("count"),
            sum: number("sum"),
            zero_count: number("zero_count"),
            zero_threshold: number("zero_threshold"),
            positive: dense(&histogram["positive_spans"], &histogram["positive_buckets"]),
            negative: dense(&histogram["negative_spans"], &histogram["negative_buckets"]),
            custom_values: Vec::new(),
            counter_reset: histogram["counter_reset_hint"].as_str().map(|hint| match hint {
                "reset" => series::CounterReset::Reset,
                other => panic!("{other}"),
            }),
        };
        assert_eq!(literal.to_string(), case["text"].as_str().unwrap());
    }
}

#[test]
fn series_notation_is_bounded() {
    assert!(parse_series_desc("a 1x99999999999").is_err());
    assert!(parse_series_desc("a 1x18446744073709551615").is_err());
    assert!(parse_series_desc("a _x1048577").is_err());
    assert!(parse_series_desc("a {{buckets:[1]}}+{{offset:2147483647 buckets:[1]}}x1").is_err());
    assert_eq!(parse_series_desc("a _x1048576").unwrap().values.len(), 1 << 20);
    let stale = parse_series_desc("a stale 1").unwrap();
    assert!(matches!(stale.values[0], SeriesValue::Float(v) if fk_model::is_stale(v)));
}

#[test]
fn strings_are_unquoted_as_recorded() {
    let Some(path) = fk_testkit::conformance("values/strings.json") else { return };
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut deviations = Vec::new();
    for case in all["unquote"].as_array().unwrap() {
        let expected = match (case["out"].as_str(), case["out_hex"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(hex)) => {
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
            }
            _ => continue,
        };
        let got = unquote(case["in"].as_str().unwrap());
        if got != Ok(expected) {
            deviations.push(format!("{case}: got {got:?}"));
        }
    }
    for text in all["misquoted"].as_array().unwrap() {
        if let Ok(got) = unquote(text.as_str().unwrap()) {
            deviations.push(format!("{text}: accepted as {got:?}"));
        }
    }
    report(&deviations);
}

#[test]
fn labels_that_are_not_utf8_are_refused() {
    let message = |text: &str| parse(text, &options()).unwrap_err().message().to_owned();
    assert_eq!(message("count_values(\"a\\xc5z\", up)"), "invalid label name \"a\\xc5z\"");
    assert_eq!(message("up{a=\"\\xff\"}"), "string \"\\xff\" is not valid UTF-8");
}

#[test]
fn experimental_parts_are_refused_when_they_are_off() {
    let check = |text: &str, expected: &str| {
        assert_eq!(parse(text, &ParserOptions::default()).unwrap_err().to_string(), expected);
        assert!(parse(text, &ParserOptions::all()).is_ok(), "{text}");
    };
    check("info(up)", "1:1: parse error: function \"info\" is not enabled");
    check(
        "limitk(1, up)",
        "1:1: parse error: limitk() and limit_ratio() are experimental and must be enabled with \
         --enable-feature=promql-experimental-functions",
    );
    check("rate(up[5m] anchored)", "1:6: parse error: anchored modifier is experimental and not enabled");
    check("a + fill(0) b", "1:5: parse error: binop fill modifiers are experimental and not enabled");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of queries, so that random sequences often parse.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a",
            "up",
            "1",
            "-1",
            "2.5",
            "0x1f",
            "5m",
            "1h30m",
            "Inf",
            "NaN",
            "\"x\"",
            "'y'",
            "(",
            ")",
            "(a)",
            "(b)",
            "[5m]",
            "[1h:5m]",
            "[1h:]",
            "[5m+1m]",
            "[-step()+1h]",
            "[max_of(range(),(5s))]",
            "[",
            "]",
            "{",
            "}",
            ",",
            "{c=\"d\"}",
            "{\"e.f\"=~\"g|h\"}",
            "{\"name\"}",
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "==",
            "!=",
            "> bool",
            "<=",
            "</",
            ">/",
            "and",
            "or",
            "unless",
            "atan2",
            "on (a)",
            "ignoring (b, c)",
            "group_left",
            "group_right (d)",
            "fill (0)",
            "fill_left (-1)",
            "offset 5m",
            "offset -1h",
            "offset (1m*2)",
            "@ 100",
            "@ start()",
            "@ end()",
            "anchored",
            "smoothed",
            "sum",
            "sum by (a)",
            "avg without (b)",
            "topk(1, a)",
            "count_values(\"v\", a)",
            "rate(a[5m])",
            "rate(",
            "abs(",
            "time()",
            "label_join(a, \"b\", \"c\")",
            "# note\n",
            "\u{e9}",
            "\"",
            "=",
            "!",
            "0.5.",
            "x",
            "_",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_parses_prints_to_something_that_parses_to_the_same(text in pieces()) {
            if let Ok(expr) = parse(&text, &ParserOptions::all()) {
                let printed = expr.to_string();
                let again = parse(&printed, &ParserOptions::all()).map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
                prop_assert_eq!(again.to_string(), printed.clone());
                for width in [1, 20, 100] {
                    let pretty = print::prettify_to(&expr, width);
                    let again = parse(&pretty, &ParserOptions::all()).map_err(|e| TestCaseError::fail(format!("{pretty}: {e}")))?;
                    prop_assert_eq!(again.to_string(), printed.clone());
                }
            }
        }

        #[test]
        fn errors_lie_within_the_text(text in "\\PC{0,40}") {
            for errors in [
                parse(&text, &ParserOptions::all()).err(),
                parse_series_desc(&text).err(),
                parse_series_desc(&format!("a {text}")).err(),
            ].into_iter().flatten() {
                prop_assert!(errors.errors().iter().all(|e| e.pos.start <= e.pos.end && e.pos.end <= text.len() + 2));
            }
        }

        #[test]
        fn series_notation_never_panics(text in "a [{}0-9x+_ .:\\[\\]a-z-]{0,40}") {
            let _ = parse_series_desc(&text);
        }
    }
}
