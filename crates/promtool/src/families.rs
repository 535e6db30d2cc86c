//! The text format as metric families, read as strictly as Prometheus' tools do (`expfmt.TextParser`): unlike the server they
//! mind repeated HELP and TYPE lines and want a line break at the end, and they gather the lines of a histogram or summary.
//!
//! Texts of errors are those of the library, for they are what users of `promtool check metrics` see.

use std::collections::HashMap;

use fk_exposition::{MetricType, parse_go_float};
use fk_model::labels::write_quoted;
use fk_model::name::NameValidation;

/// A metric family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without the suffixes of histograms and summaries.
    pub name: String,
    /// HELP, if there is a text.
    pub help: Option<String>,
    /// TYPE; `Unknown` for `untyped` and for families without TYPE.
    pub kind: MetricType,
    /// Its metrics, in order. Never empty.
    pub metrics: Vec<Metric>,
}

/// A metric of a family: one line, or all lines of one histogram or summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    /// Name and value, as they stand; without `le` of a histogram and `quantile` of a summary.
    pub labels: Vec<(String, String)>,
    /// Buckets of a histogram and their counts, quantiles of a summary and their values, in order of the lines.
    pub parts: Vec<(f64, f64)>,
    /// The value of what is neither of both.
    pub value: f64,
    /// `_sum` of a histogram or summary.
    pub sum: f64,
    /// `_count` of a histogram or summary.
    pub count: f64,
    /// The time that stands on the last of its lines that has one, ms.
    pub t_ms: Option<i64>,
}

/// A text that is not in the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text format parsing error in line {line}: {message}")]
pub struct FormatError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a text. Families come in the order in which they are first mentioned; those without metrics are left out.
pub fn families(text: &[u8], names: NameValidation) -> Result<Vec<Family>, FormatError> {
    let mut parser = Parser {
        text,
        at: 0,
        byte: b'\n',
        line: 0,
        names,
        families: Vec::new(),
        by_name: HashMap::new(),
        gathered: HashMap::new(),
        current: None,
    };
    while parser.line().map_err(|stop| parser.error(stop))? {}
    let told = parser.families.into_iter().filter(|family| !family.metrics.is_empty());
    Ok(told
        .map(|family| Family {
            name: family.name,
            help: family.help,
            kind: family.kind.unwrap_or(MetricType::Unknown),
            metrics: family.metrics,
        })
        .collect())
}

/// Why reading stopped.
enum Stop {
    /// The text ended within a line.
    End,
    Message(String),
}

type Step<T = ()> = Result<T, Stop>;

fn wrong<T>(message: impl Into<String>) -> Step<T> {
    Err(Stop::Message(message.into()))
}

/// A family while it is read: a type that was not told yet is another thing than `untyped`.
struct Draft {
    name: String,
    help: Option<String>,
    kind: Option<MetricType>,
    metrics: Vec<Metric>,
}

/// What the name of a line says beyond its family.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Count,
    Sum,
}

type Labels = Vec<(String, String)>;

struct Parser<'t> {
    text: &'t [u8],
    /// Behind `byte`.
    at: usize,
    /// The byte that was read last.
    byte: u8,
    line: usize,
    names: NameValidation,
    families: Vec<Draft>,
    by_name: HashMap<String, usize>,
    /// Histograms and summaries by family and labels.
    gathered: HashMap<(usize, Labels), usize>,
    /// The family that was named last, and how.
    current: Option<(usize, Role)>,
}

impl Parser<'_> {
    fn error(&self, stop: Stop) -> FormatError {
        let message = match stop {
            Stop::End => "unexpected end of input stream".to_owned(),
            Stop::Message(message) => message,
        };
        FormatError { line: self.line, message }
    }

    /// Reads the next byte.
    fn advance(&mut self) -> Step {
        match self.text.get(self.at) {
            Some(&byte) => {
                (self.byte, self.at) = (byte, self.at + 1);
                Ok(())
            }
            None => Err(Stop::End),
        }
    }

    /// Reads up to the next byte that is no blank.
    fn skip_blanks(&mut self) -> Step {
        self.advance()?;
        self.skip_current_blanks()
    }

    fn skip_current_blanks(&mut self) -> Step {
        while matches!(self.byte, b' ' | b'\t') {
            self.advance()?;
        }
        Ok(())
    }

    /// Reads a line. `false`: there is none.
    fn line(&mut self) -> Step<bool> {
        self.line += 1;
        while matches!(self.text.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        if self.at == self.text.len() {
            return Ok(false);
        }
        self.advance()?;
        match self.byte {
            b'#' => self.comment()?,
            b'\n' => {}
            b'{' => self.sample(true)?,
            _ => {
                let name = self.name_token(true)?;
                if name.is_empty() {
                    return wrong("invalid metric name");
                }
                self.name_family(&name, true)?;
                self.skip_current_blanks()?;
                self.sample(false)?;
            }
        }
        Ok(true)
    }

    fn comment(&mut self) -> Step {
        self.skip_blanks()?;
        if self.byte == b'\n' {
            return Ok(());
        }
        let keyword = self.until_blank()?;
        if self.byte == b'\n' {
            return Ok(());
        }
        if keyword != b"HELP" && keyword != b"TYPE" {
            while self.byte != b'\n' {
                self.advance()?;
            }
            return Ok(());
        }
        self.skip_blanks()?;
        let name = self.name_token(true)?;
        if self.byte == b'\n' {
            return Ok(());
        }
        if !matches!(self.byte, b' ' | b'\t') {
            return wrong("invalid metric name in comment");
        }
        self.name_family(&name, false)?;
        self.skip_blanks()?;
        if self.byte == b'\n' {
            return Ok(());
        }
        if keyword == b"HELP" { self.help() } else { self.kind() }
    }

    fn help(&mut self) -> Step {
        if self.family().is_some_and(|family| family.help.is_some()) {
            return wrong(format!("second HELP line for metric name {}", self.family_name()));
        }
        let text = self.until_line_break(true)?;
        if let Some(family) = self.family_mut() {
            family.help = Some(text);
        }
        Ok(())
    }

    fn kind(&mut self) -> Step {
        if self.family().is_some_and(|family| family.kind.is_some()) {
            let name = self.family_name();
            return wrong(format!("second TYPE line for metric name {name}, or TYPE reported after samples"));
        }
        let text = self.until_line_break(false)?;
        let kind = match text.to_uppercase().as_str() {
            "COUNTER" => MetricType::Counter,
            "GAUGE" => MetricType::Gauge,
            "SUMMARY" => MetricType::Summary,
            "UNTYPED" => MetricType::Unknown,
            "HISTOGRAM" => MetricType::Histogram,
            "GAUGE_HISTOGRAM" | "GAUGEHISTOGRAM" => MetricType::GaugeHistogram,
            _ => return wrong(format!("unknown metric type {}", quoted(&text))),
        };
        if let Some(family) = self.family_mut() {
            family.kind = Some(kind);
        }
        Ok(())
    }

    /// A sample from its labels on, or from its value on; `braced`: the name stands in the braces too.
    fn sample(&mut self, braced: bool) -> Step {
        let (mut labels, mut part, mut bounded) = (Labels::new(), None, false);
        if self.byte == b'{' {
            (labels, part) = self.labels(braced)?;
            bounded = part.is_some();
        }
        let (Some((index, role)), kind) = (self.current, self.current_kind()) else {
            return wrong("invalid metric name");
        };
        let metric = match kind {
            MetricType::Summary | MetricType::Histogram | MetricType::GaugeHistogram => {
                let mut key = labels.clone();
                key.sort();
                let metrics = &mut self.families[index].metrics;
                *self.gathered.entry((index, key)).or_insert_with(|| {
                    metrics.push(Metric { labels, ..Metric::default() });
                    metrics.len() - 1
                })
            }
            _ => {
                let metrics = &mut self.families[index].metrics;
                metrics.push(Metric { labels, ..Metric::default() });
                metrics.len() - 1
            }
        };
        let text = self.until_blank()?;
        let Ok(value) = parse_go_float(&text) else {
            return wrong(format!("expected float as value, got {}", quoted(&String::from_utf8_lossy(&text))));
        };
        let is_histogram = matches!(kind, MetricType::Histogram | MetricType::GaugeHistogram);
        if is_histogram && value < 0.0 && role != Role::Sum {
            let name = self.family_name();
            match role {
                Role::Count => return wrong(format!("negative count for histogram {name}")),
                _ if bounded => return wrong(format!("negative bucket population for histogram {name}")),
                _ => {}
            }
        }
        let told = &mut self.families[index].metrics[metric];
        match (role, part) {
            (Role::Sum, _) => told.sum = value,
            (Role::Count, _) => told.count = value,
            // A quantile or bound that is no number stands for none, as in Prometheus.
            (Role::Plain, Some(bound)) if !bound.is_nan() => told.parts.push((bound, value)),
            (Role::Plain, _) => told.value = value,
        }
        if self.byte != b'\n' {
            let t_ms = self.timestamp()?;
            self.families[index].metrics[metric].t_ms = Some(t_ms);
        }
        Ok(())
    }

    fn timestamp(&mut self) -> Step<i64> {
        self.skip_blanks()?;
        let text = String::from_utf8_lossy(&self.until_blank()?).into_owned();
        let Ok(t_ms) = text.parse() else {
            return wrong(format!("expected integer as timestamp, got {}", quoted(&text)));
        };
        let rest = self.until_line_break(false)?;
        if !rest.is_empty() {
            return wrong(format!("spurious string after timestamp: {}", quoted(&rest)));
        }
        Ok(t_ms)
    }

    /// Labels up to the value, and the bound or quantile among them.
    fn labels(&mut self, braced: bool) -> Step<(Labels, Option<f64>)> {
        let (mut labels, mut part, mut named) = (Labels::new(), None, false);
        loop {
            self.skip_blanks()?;
            if self.byte == b'}' {
                break;
            }
            let name = self.name_token(false)?;
            if name.is_empty() {
                return wrong(format!("invalid label name for metric {}", self.family_name()));
            }
            self.skip_current_blanks()?;
            if self.byte != b'=' {
                if !braced {
                    return wrong(format!("expected '=' after label name, found {}", quoted_byte(self.byte)));
                }
                if named {
                    return wrong(format!("multiple metric names for metric {}", self.family_name()));
                }
                if !matches!(self.byte, b',' | b'}') {
                    return wrong(format!("unexpected end of metric name {}", quoted_byte(self.byte)));
                }
                self.name_family(&name, true)?;
                named = true;
                if self.byte == b'}' {
                    break;
                }
                continue;
            }
            if name == b"__name__" {
                return wrong("label name \"__name__\" is reserved");
            }
            let name = match String::from_utf8(name) {
                Ok(name) if self.names.label_name(&name) => name,
                Ok(name) => return wrong(format!("invalid label name {}", quoted(&name))),
                Err(error) => return wrong(format!("invalid label name {}", quoted(&lossy(error.as_bytes())))),
            };
            let kind = self.current_kind();
            let special = match kind {
                MetricType::Summary => name == "quantile",
                MetricType::Histogram | MetricType::GaugeHistogram => name == "le",
                _ => false,
            };
            if !special && labels.iter().any(|(known, _)| *known == name) {
                return wrong(format!("duplicate label names for metric {}", self.family_name()));
            }
            let value = self.label_value()?;
            if special {
                let Ok(number) = parse_go_float(value.as_bytes()) else {
                    return wrong(format!("expected float as value for '{name}' label, got {}", quoted(&value)));
                };
                part = Some(number);
            }
            self.skip_blanks()?;
            if !matches!(self.byte, b',' | b'}') {
                return wrong(format!("unexpected end of label value {}", quoted(&value)));
            }
            if !special {
                labels.push((name, value));
            }
            if self.byte == b'}' {
                break;
            }
        }
        if self.current.is_none() {
            return wrong("invalid metric name");
        }
        self.skip_blanks()?;
        Ok((labels, part))
    }

    fn label_value(&mut self) -> Step<String> {
        self.skip_blanks()?;
        if self.byte != b'"' {
            return wrong(format!("expected '\"' at start of label value, found {}", quoted_byte(self.byte)));
        }
        let mut value = Vec::new();
        loop {
            self.advance()?;
            match self.byte {
                b'"' => break,
                b'\n' => return wrong(format!("label value {} contains unescaped new-line", quoted(&lossy(&value)))),
                b'\\' => {
                    self.advance()?;
                    value.push(self.escaped()?);
                }
                byte => value.push(byte),
            }
        }
        String::from_utf8(value)
            .or_else(|error| wrong(format!("invalid label value {}", quoted(&lossy(error.as_bytes())))))
    }

    /// What the byte behind a backslash stands for.
    fn escaped(&self) -> Step<u8> {
        match self.byte {
            b'\\' | b'"' => Ok(self.byte),
            b'n' => Ok(b'\n'),
            byte => wrong(format!("invalid escape sequence '\\{}'", char::from(byte))),
        }
    }

    /// A name from the current byte on: of a metric or of a label, quoted or not. Empty: there is none.
    fn name_token(&mut self, metric: bool) -> Step<Vec<u8>> {
        let starts = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'"') || metric && byte == b':';
        let (mut name, mut in_quotes) = (Vec::new(), false);
        if !starts(self.byte) {
            return Ok(name);
        }
        loop {
            match self.byte {
                b'"' => {
                    in_quotes = !in_quotes;
                    if !in_quotes {
                        self.advance()?;
                        return Ok(name);
                    }
                }
                b'\n' => {
                    let what = if metric { "metric" } else { "label" };
                    return wrong(format!("{what} name {} contains unescaped new-line", quoted(&lossy(&name))));
                }
                b'\\' => {
                    self.advance()?;
                    name.push(self.escaped()?);
                }
                byte => name.push(byte),
            }
            self.advance()?;
            if !in_quotes && !starts(self.byte) && !self.byte.is_ascii_digit() {
                return Ok(name);
            }
        }
    }

    fn until_blank(&mut self) -> Step<Vec<u8>> {
        let mut token = Vec::new();
        while !matches!(self.byte, b' ' | b'\t' | b'\n') {
            token.push(self.byte);
            self.advance()?;
        }
        Ok(token)
    }

    /// The rest of the line. Without `escapes` backslashes are passed over.
    fn until_line_break(&mut self, escapes: bool) -> Step<String> {
        let mut token = Vec::new();
        while self.byte != b'\n' {
            match self.byte {
                b'\\' if escapes => {
                    self.advance()?;
                    token.push(self.escaped()?);
                }
                b'\\' => {}
                byte => token.push(byte),
            }
            self.advance()?;
        }
        Ok(lossy(&token))
    }

    /// Makes the family of a name the current one. `sample`: the name is that of a sample, whose type is known from then on.
    fn name_family(&mut self, name: &[u8], sample: bool) -> Step {
        let name = match std::str::from_utf8(name) {
            Ok(name) if self.names.metric_name(name) => name,
            _ => return wrong(format!("invalid metric name {}", quoted(&lossy(name)))),
        };
        let (index, role) = self.find_family(name);
        self.current = Some((index, role));
        if sample {
            self.families[index].kind.get_or_insert(MetricType::Unknown);
        }
        Ok(())
    }

    fn find_family(&mut self, name: &str) -> (usize, Role) {
        if let Some(&index) = self.by_name.get(name) {
            return (index, Role::Plain);
        }
        let suffixed = |suffix: &str| name.strip_suffix(suffix).filter(|base| !base.is_empty());
        let found = |base: Option<&str>, kinds: &[MetricType]| {
            let index = *self.by_name.get(base?)?;
            self.families[index].kind.is_some_and(|kind| kinds.contains(&kind)).then_some(index)
        };
        const HISTOGRAM: &[MetricType] = &[MetricType::Histogram, MetricType::GaugeHistogram];
        const EITHER: &[MetricType] = &[MetricType::Summary, MetricType::Histogram, MetricType::GaugeHistogram];
        if let Some(index) = found(suffixed("_count"), EITHER) {
            return (index, Role::Count);
        }
        if let Some(index) = found(suffixed("_sum"), EITHER) {
            return (index, Role::Sum);
        }
        if let Some(index) = found(suffixed("_bucket"), HISTOGRAM) {
            return (index, Role::Plain);
        }
        self.families.push(Draft { name: name.to_owned(), help: None, kind: None, metrics: Vec::new() });
        self.by_name.insert(name.to_owned(), self.families.len() - 1);
        (self.families.len() - 1, Role::Plain)
    }

    fn family(&self) -> Option<&Draft> {
        self.current.and_then(|(index, _)| self.families.get(index))
    }

    fn family_mut(&mut self) -> Option<&mut Draft> {
        self.current.and_then(|(index, _)| self.families.get_mut(index))
    }

    fn current_kind(&self) -> MetricType {
        self.family().and_then(|family| family.kind).unwrap_or(MetricType::Unknown)
    }

    /// Quoted, for errors.
    fn family_name(&self) -> String {
        quoted(self.family().map_or("", |family| &family.name))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_quoted(&mut out, text);
    out
}

/// A byte as Go's `%q` shows it.
fn quoted_byte(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        byte => {
            let text = quoted(char::from(byte).encode_utf8(&mut [0; 4]));
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_a_histogram_are_one_metric() {
        let text = b"# HELP h Help \\\\ and\\nmore.\n# TYPE h histogram\nh_bucket{le=\"1\",a=\"b\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 2\n\
                     h_sum{a=\"b\"} 3\nh_count{a=\"b\"} 2 17\nh_bucket{le=\"1\"} 1\n# a comment\n\n  x 1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\n\
                     s_sum 2\ns_count 2\n";
        let read = families(text, NameValidation::Legacy).unwrap();
        let names: Vec<_> = read.iter().map(|family| (family.name.as_str(), family.kind)).collect();
        assert_eq!(names, [("h", MetricType::Histogram), ("x", MetricType::Unknown), ("s", MetricType::Summary)]);
        assert_eq!(read[0].help.as_deref(), Some("Help \\ and\nmore."));
        assert_eq!(read[0].metrics.iter().map(|metric| metric.parts.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(read[0].metrics[0].labels, [("a".to_owned(), "b".to_owned())]);
        assert_eq!((read[2].metrics.len(), read[2].metrics[0].parts.len()), (1, 1));
    }

    #[test]
    fn names_may_stand_in_the_braces() {
        let read = families(b"{\"a.b\",\"c d\"=\"e\"} 1\n{\"a.b\"} 2\n", NameValidation::Utf8).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].metrics.len()), ("a.b", 2));
        assert_eq!(read[0].metrics[0].labels, [("c d".to_owned(), "e".to_owned())]);
        let error = families(b"{\"a.b\"} 1\n", NameValidation::Legacy).unwrap_err();
        assert_eq!(error.to_string(), "text format parsing error in line 1: invalid metric name \"a.b\"");
    }

    #[test]
    fn mistakes_are_told_as_by_the_library() {
        for (text, line, message) in [
            ("a 1", 1, "unexpected end of input stream"),
            ("\n\na{", 3, "unexpected end of input stream"),
            ("a{b=\"c\n\"} 1\n", 1, "label value \"c\" contains unescaped new-line"),
            ("a{b=\"\\x\"} 1\n", 1, "invalid escape sequence '\\x'"),
            ("a{b} 1\n", 1, "expected '=' after label name, found '}'"),
            ("a{b=c} 1\n", 1, "expected '\"' at start of label value, found 'c'"),
            ("a{9=\"c\"} 1\n", 1, "invalid label name for metric \"a\""),
            ("a{b=\"c\"x} 1\n", 1, "unexpected end of label value \"c\""),
            ("a{b=\"c\",b=\"d\"} 1\n", 1, "duplicate label names for metric \"a\""),
            ("a{__name__=\"c\"} 1\n", 1, "label name \"__name__\" is reserved"),
            ("a one\n", 1, "expected float as value, got \"one\""),
            ("a 0x1p-2\n", 1, "expected float as value, got \"0x1p-2\""),
            ("a 1 1.5\n", 1, "expected integer as timestamp, got \"1.5\""),
            ("a 1 15 x\n", 1, "spurious string after timestamp: \" x\""),
            ("{} 1\n", 1, "invalid metric name"),
            ("?a 1\n", 1, "invalid metric name"),
            ("# HELP a b\n# HELP a c\n", 2, "second HELP line for metric name \"a\""),
            ("a 1\n# TYPE a gauge\n", 2, "second TYPE line for metric name \"a\", or TYPE reported after samples"),
            ("# TYPE a thing\n", 1, "unknown metric type \"thing\""),
            ("# HELP ?a b\n", 1, "invalid metric name in comment"),
            ("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", 2, "expected float as value for 'le' label, got \"x\""),
            ("# TYPE h histogram\nh_count -1\n", 2, "negative count for histogram \"h\""),
            ("# TYPE h histogram\nh_bucket{le=\"1\"} -1\n", 2, "negative bucket population for histogram \"h\""),
            ("{\"a\",\"b\"} 1\n", 1, "multiple metric names for metric \"a\""),
        ] {
            let error = families(text.as_bytes(), NameValidation::Utf8).unwrap_err();
            assert_eq!((error.line, error.message.as_str()), (line, message), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(# (HELP|TYPE) |[a{}\"=,\\\\ _:0-9.\\n\\t]|count|histogram|\u{e9}){0,40}") {
            for names in [NameValidation::Utf8, NameValidation::Legacy] {
                if let Ok(read) = families(text.as_bytes(), names) {
                    prop_assert!(read.iter().all(|family| !family.metrics.is_empty()));
                }
            }
        }
    }
}
