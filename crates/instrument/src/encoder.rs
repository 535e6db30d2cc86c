//! The text format 0.0.4, written; and the same as values, for other formats.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Quantiles, sum and count.
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

#[derive(Debug)]
struct FamilyText {
    help: String,
    kind: Kind,
    samples: String,
    rows: Vec<Row>,
}

/// A family as values.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Its name.
    pub name: String,
    /// What it is.
    pub help: String,
    /// Its type.
    pub kind: Kind,
    /// Its samples in the order of the text format.
    pub rows: Vec<Row>,
}

/// A sample of the text format.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name, with a suffix such as `_sum`.
    pub name: String,
    /// Its labels, `le` and `quantile` last.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

/// Collects families and samples and writes them in order of the family names.
#[derive(Debug, Default)]
pub struct Encoder {
    families: BTreeMap<String, FamilyText>,
    current: String,
    /// Samples are kept as values rather than as text.
    keeps_rows: bool,
}

impl Encoder {
    /// One for [`Encoder::into_rows`].
    pub(crate) fn of_rows() -> Encoder {
        Encoder { keeps_rows: true, ..Encoder::default() }
    }

    /// The samples that follow belong to this family. Naming a family twice continues it.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.current = name.to_owned();
        if !self.families.contains_key(name) {
            let (help, samples, rows) = (help.to_owned(), String::new(), Vec::new());
            self.families.insert(name.to_owned(), FamilyText { help, kind, samples, rows });
        }
    }

    /// One sample of the current family; `name` may carry a suffix such as `_sum`.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let Some(family) = self.families.get_mut(&self.current) else { return };
        if self.keeps_rows {
            let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            family.rows.push(Row { name: name.to_owned(), labels, value });
            return;
        }
        let out = &mut family.samples;
        out.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            out.push(if i == 0 { '{' } else { ',' });
            out.push_str(label);
            out.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        out.push(' ');
        out.push_str(&number(value));
        out.push('\n');
    }

    /// A family with one sample without labels.
    pub fn single(&mut self, name: &str, help: &str, kind: Kind, value: f64) {
        self.family(name, help, kind);
        self.sample(name, &[], value);
    }

    /// The text of the families `keep` accepts.
    pub fn finish(self, keep: impl Fn(&str) -> bool) -> String {
        let mut out = String::new();
        for (name, family) in self.families.iter().filter(|(name, family)| !family.samples.is_empty() && keep(name)) {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {}\n{}", family.kind.name(), family.samples);
        }
        out
    }

    /// The values of the families `keep` accepts.
    pub(crate) fn into_rows(self, keep: impl Fn(&str) -> bool) -> Vec<Rows> {
        let kept = self.families.into_iter().filter(|(name, family)| !family.rows.is_empty() && keep(name));
        kept.map(|(name, FamilyText { help, kind, rows, .. })| Rows { name, help, kind, rows }).collect()
    }
}

/// A value as Go's client library writes it: shortest digits, exponent form from 1e21 and below 1e-6.
pub(crate) fn number(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if v != 0.0 && !(1e-4..1e21).contains(&v.abs()) {
        let text = format!("{v:e}");
        // Go writes at least two digits of exponent, with its sign.
        match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                format!("{digits}e{sign}{exponent:0>2}")
            }
            None => text,
        }
    } else {
        v.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_look_as_go_writes_them() {
        for (v, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(v), text);
        }
    }
}
