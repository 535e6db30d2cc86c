//! `test promql`: runs scripts of the PromQL test language. A command of ours; what a script is, says [`fk_promql_test`].

use std::io::Write;
use std::path::PathBuf;

use fk_promql_test::{Report, options_for, run};

use crate::{Result, ToolError};

/// Runs the scripts, prints what failed and a last line with the numbers. Whether all of them passed.
pub fn test(files: &[PathBuf], out: &mut dyn Write) -> Result<bool> {
    let (mut passed, mut failed) = (0, 0);
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|reason| ToolError::File { path: path.clone(), reason })?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        match run(&text, &options_for(&name)) {
            Ok(Report { passed: more, failed: wrong }) => {
                for (line, error) in &wrong {
                    writeln!(out, "{}:{line}: {error}", path.display())?;
                }
                passed += more;
                failed += wrong.len();
            }
            Err(error) => {
                writeln!(out, "{}: {error}", path.display())?;
                failed += 1;
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_printed_with_what_was_expected_and_what_came() {
        let dir = fk_testkit::TempDir::new("scripts");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("writable");
            path
        };
        let good = write("good.test", "load 1m\n  a{b=\"1\"} 0+1x10\n\neval instant at 2m a\n  a{b=\"1\"} 2\n");
        let wrong =
            write("wrong.test", "load 1m\n  a 3\n\neval instant at 0 a\n  a 4\n\neval instant at 0 1 + 1\n  2\n");
        let broken = write("broken.test", "clear\nfrobnicate\n");
        let check = |files: &[&PathBuf], ok: bool, want: &str| {
            let files: Vec<PathBuf> = files.iter().map(|path| (*path).clone()).collect();
            let mut out = Vec::new();
            assert_eq!(test(&files, &mut out).expect("readable"), ok);
            let out = String::from_utf8(out).expect("text").replace(&format!("{}/", dir.path().display()), "");
            assert_eq!(out, want);
        };
        check(&[&good], true, "1 passed, 0 failed\n");
        check(
            &[&good, &wrong, &broken],
            false,
            "wrong.test:4: a: {__name__=\"a\"} at 0: expected 4.0, got 3.0\n\
             broken.test: line 2: unknown command \"frobnicate\"\n2 passed, 2 failed\n",
        );
        assert!(matches!(test(&[dir.path().join("none")], &mut Vec::new()), Err(ToolError::File { .. })));
    }
}
