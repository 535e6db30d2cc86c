//! The regular expressions of templates: as Go's `regexp` takes them, not anchored, `.` stops at newlines.

use regex_automata::meta;

use super::{CACHE_BYTES_MAX, PROGRAM_BYTES_MAX, RegexError, expand, parse};

/// A compiled expression that is looked for anywhere in a text.
#[derive(Clone, Debug)]
pub struct SearchRegex {
    engine: meta::Regex,
    names: Vec<(String, usize)>,
}

impl SearchRegex {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<SearchRegex, RegexError> {
        let error =
            |(reason, part): (&str, &str)| RegexError { reason: reason.to_owned(), source_text: part.to_owned() };
        let alone = parse::parse(source).map_err(error)?;
        // The parser starts with a dot that takes newlines, as matchers want it.
        let end = if alone.open_quote { "\\E)" } else { ")" };
        let wrapped = format!("(?-s:{source}{end}");
        let parsed = parse::parse(&wrapped).map_err(error)?;
        let config = meta::Config::new().nfa_size_limit(Some(PROGRAM_BYTES_MAX)).hybrid_cache_capacity(CACHE_BYTES_MAX);
        let engine = meta::Builder::new()
            .configure(config)
            .build_from_hir(&parsed.hir)
            .map_err(|_| RegexError { reason: "expression too large".to_owned(), source_text: source.to_owned() })?;
        Ok(SearchRegex { engine, names: parsed.names })
    }

    /// Whether the expression matches anywhere in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.engine.is_match(text)
    }

    /// `text` with every match replaced by `template`, whose references are those of [`super::Regex::expand`]; `None` if
    /// that takes more than `bytes_max` (`regexp.ReplaceAllString` in Go).
    pub fn replace_all(&self, text: &str, template: &str, bytes_max: usize) -> Option<String> {
        let (mut out, mut copied) = (String::with_capacity(text.len()), 0);
        for captures in self.engine.captures_iter(text) {
            let Some(found) = captures.get_match() else { continue };
            out.push_str(&text[copied..found.start()]);
            let group = |number: usize| captures.get_group(number).and_then(|span| text.get(span.range()));
            out.push_str(&expand::expanded(template, group, |name| {
                let named = self.names.iter().filter(|(known, _)| known == name);
                named.filter_map(|(_, number)| group(*number)).next().unwrap_or("")
            }));
            copied = found.end();
            if out.len() > bytes_max {
                return None;
            }
        }
        out.push_str(&text[copied..]);
        (out.len() <= bytes_max).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_found_anywhere() {
        for (source, text, found) in [
            ("b", "abc", true),
            ("^b", "abc", false),
            ("a.c", "a\nc", false),
            ("(?s)a.c", "a\nc", true),
            ("c$", "abc", true),
            (r"^\w$", "é", false),
            (r"\Qa.", "xa.x", true),
            ("", "", true),
        ] {
            assert_eq!(SearchRegex::new(source).unwrap().is_match(text), found, "{source} {text:?}");
        }
    }

    #[test]
    fn matches_are_replaced() {
        for (source, template, text, replaced) in [
            ("(.*):\\d+", "$1", "host:9100", "host"),
            ("a", "<$0>", "banana", "b<a>n<a>n<a>"),
            ("(?P<x>n)(a)", "${x}-${2}$1x", "banana", "ban-an-a"),
            ("x*", "-", "abc", "-a-b-c-"),
            ("b*", "-", "abc", "-a-c-"),
            ("z", "y", "abc", "abc"),
            ("a", "$$", "a", "$"),
        ] {
            let regex = SearchRegex::new(source).unwrap();
            assert_eq!(regex.replace_all(text, template, 100).as_deref(), Some(replaced), "{source} {template}");
        }
        assert_eq!(SearchRegex::new("a").unwrap().replace_all("aaaa", "0123456789", 30), None);
    }

    #[test]
    fn bad_expressions_are_refused_in_the_words_of_go() {
        for (source, error) in [
            ("(", "error parsing regexp: missing closing ): `(`"),
            ("a)", "error parsing regexp: unexpected ): `a)`"),
            ("*", "error parsing regexp: missing argument to repetition operator: `*`"),
        ] {
            assert_eq!(SearchRegex::new(source).unwrap_err().to_string(), error);
        }
    }
}
