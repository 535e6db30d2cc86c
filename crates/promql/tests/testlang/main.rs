//! Scripts in the PromQL test language: our own, and those of the conformance data, read in place.
//!
//! Everything must pass, apart from [`KNOWN`], which may only shrink: an entry that passes fails the test.

use fk_promql_test::{options_for as options, run};

/// Script, line, and why it fails today.
const KNOWN: &[(&str, usize, &str)] = &[];

#[test]
fn conformance_scripts_pass() {
    let Some(folder) = fk_testkit::conformance("promql") else { return };
    let mut scripts: Vec<_> =
        std::fs::read_dir(folder).expect("the folder exists").map(|e| e.expect("readable").path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|e| e == "test"));
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts");
    let (mut passed, mut known, mut wrong) = (0, 0, Vec::new());
    for path in scripts {
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        let script = std::fs::read_to_string(&path).expect("readable");
        let report = run(&script, &options(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        passed += report.passed;
        println!("{name}: {} passed, {} failed", report.passed, report.failed.len());
        let is_known = |line: usize| KNOWN.iter().any(|(file, at, _)| *file == name && *at == line);
        for (line, error) in &report.failed {
            if is_known(*line) {
                known += 1;
            } else {
                wrong.push(format!("{name}:{line}: {error}"));
            }
        }
        let failed = |line: usize| report.failed.iter().any(|(at, _)| *at == line);
        let solved = KNOWN.iter().filter(|(file, line, _)| *file == name && !failed(*line));
        wrong.extend(solved.map(|(file, line, _)| format!("{file}:{line} passes: take it off the list")));
    }
    println!("{passed} passed, {known} known to fail");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn our_own_scripts_pass() {
    let immediate = "engine_no_delayed_name_removal.test";
    for (name, text, least) in [
        ("engine.test", include_str!("engine.test"), 40),
        (immediate, include_str!("engine_no_delayed_name_removal.test"), 2),
    ] {
        let report = run(text, &options(name)).expect("the script is valid");
        assert!(report.failed.is_empty(), "{name}: {:#?}", report.failed);
        assert!(report.passed >= least, "{name}: only {} evaluations", report.passed);
    }
}
