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
    let nested = format!("{}a{}", "(".repeat(90), ")".repeat(90));
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
