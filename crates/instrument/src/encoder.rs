//! The text format 0.0.4, written.

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
}

/// Collects families and samples and writes them in order of the family names.
#[derive(Debug, Default)]
pub struct Encoder {
    families: BTreeMap<String, FamilyText>,
    current: String,
}

impl Encoder {
    /// The samples that follow belong to this family. Naming a family twice continues it.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.current = name.to_owned();
        if !self.families.contains_key(name) {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            self.families.insert(name.to_owned(), FamilyText { help, kind, samples: String::new() });
        }
    }

    /// One sample of the current family; `name` may carry a suffix such as `_sum`.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let Some(family) = self.families.get_mut(&self.current) else { return };
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
            // Writing to a String cannot fail.
            let _ =
                write!(out, "# HELP {name} {}\n# TYPE {name} {}\n{}", family.help, family.kind.name(), family.samples);
        }
        out
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
