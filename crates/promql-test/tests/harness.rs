//! The runner itself, on scripts that it must pass or fail.

use fk_promql_test::{options_for, run};

/// A runner that accepts everything would pass every script: these say which scripts it has to refuse.
#[test]
fn the_runner_itself_tells_right_from_wrong() {
    let Some(path) = fk_testkit::conformance("promql/harness.json") else { return };
    let text = std::fs::read_to_string(path).expect("readable");
    let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let list = |key: &str| json[key].as_array().expect("a list").iter();
    let starts = list("start_timestamp_lines").map(|case| (case, case["fail"].as_bool() != Some(true)));
    let cases = list("cases").map(|case| (case, case["ok"].as_bool().unwrap_or(false))).chain(starts);
    let (mut checked, mut wrong) = (0, Vec::new());
    for (case, ok) in cases {
        let (name, script) = (case["name"].as_str().expect("a name"), case["script"].as_str().expect("a script"));
        let outcome = run(script, &options_for("")).map_err(|error| error.to_string()).and_then(|report| {
            report.failed.first().map_or(Ok(()), |(line, error)| Err(format!("line {line}: {error}")))
        });
        match (outcome, ok) {
            (Ok(()), true) | (Err(_), false) => {}
            (Ok(()), false) => wrong.push(format!("{name}: passes instead of {}", case["error"])),
            (Err(error), true) => wrong.push(format!("{name}: {error}")),
        }
        checked += 1;
    }
    println!("{checked} scripts checked");
    assert!(checked > 60, "only {checked} scripts checked");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
