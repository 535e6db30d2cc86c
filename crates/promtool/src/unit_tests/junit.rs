//! Results of tests as JUnit XML, as Prometheus' tool writes it.

use std::fmt::Write;

/// One file of tests.
#[derive(Debug, Default)]
pub struct Suite {
    /// The file as it was named.
    pub name: String,
    /// When it was run; empty if it never came so far.
    pub timestamp: String,
    /// Why it could not be run.
    pub error: Option<String>,
    /// Its tests: name and failures.
    pub cases: Vec<(String, Vec<String>)>,
}

/// The document.
pub fn document(suites: &[Suite]) -> String {
    let mut out = String::from("<testsuites>");
    for suite in suites {
        // An error of the file is shown as one of a test; without a test it gets one.
        let unknown = [("unknown".to_owned(), Vec::new())];
        let cases = if suite.error.is_some() && suite.cases.is_empty() { &unknown[..] } else { &suite.cases };
        let n_failures: usize = cases.iter().map(|(_, failures)| failures.len()).sum();
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            r#"<testsuite name="{}" tests="{}" failures="{n_failures}" errors="{}" skipped="0" timestamp="{}">"#,
            escaped(&suite.name),
            cases.len(),
            usize::from(suite.error.is_some()),
            escaped(&suite.timestamp),
        );
        for (at, (name, failures)) in cases.iter().enumerate() {
            let _ = write!(out, r#"<testcase name="{}">"#, escaped(name));
            for failure in failures {
                let _ = write!(out, "<failure>{}</failure>", escaped(failure));
            }
            if let Some(error) = suite.error.as_ref().filter(|_| at + 1 == cases.len()) {
                let _ = write!(out, "<error>{}</error>", escaped(error));
            }
            out.push_str("</testcase>");
        }
        out.push_str("</testsuite>");
    }
    out + "</testsuites>"
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            // No characters of XML.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_written() {
        let cases = vec![("a<b".to_owned(), vec!["x\n\"y\"".to_owned()]), ("c".to_owned(), vec![])];
        let ran = Suite { name: "f.yml".into(), timestamp: "2024".into(), error: None, cases };
        let broken = Suite { name: "g.yml".into(), error: Some("no & such".into()), ..Suite::default() };
        assert_eq!(
            document(&[ran, broken]),
            "<testsuites><testsuite name=\"f.yml\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" timestamp=\"2024\">\
             <testcase name=\"a&lt;b\"><failure>x&#xA;&#34;y&#34;</failure></testcase><testcase name=\"c\"></testcase></testsuite>\
             <testsuite name=\"g.yml\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" timestamp=\"\">\
             <testcase name=\"unknown\"><error>no &amp; such</error></testcase></testsuite></testsuites>"
        );
    }
}
