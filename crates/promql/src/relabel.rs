//! Functions that change or compare labels.

use std::cmp::Ordering;

use fk_model::labels::{STRING_BYTES_MAX, write_quoted};
use fk_model::{Labels, LabelsBuilder, METRIC_NAME, Regex};
use fk_promql_syntax::ast::Call;

use crate::QueryError;
use crate::column::Grid;
use crate::eval::{Eval, Sink};

impl Eval<'_> {
    /// `label_replace(v, dst, replacement, src, regex)`
    pub(crate) fn label_replace(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let [vector, dst, replacement, src, regex] = &call.args[..] else {
            return Err(QueryError::execution("label_replace() takes five arguments"));
        };
        let (dst, replacement) = (self.string(dst)?, self.string(replacement)?);
        let (src, source) = (self.string(src)?, self.string(regex)?);
        // Texts as in Prometheus:
        let regex = Regex::new(source)
            .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {source}")))?;
        if !is_label_name(dst) {
            return Err(QueryError::execution(format!("invalid destination label name in label_replace(): {dst}")));
        }
        self.merged(sink, |sink| {
            self.vector(vector, grid, &mut |series| {
                if let Some(value) = regex.expand(series.labels.value(src), replacement) {
                    check_length("label_replace", value.len())?;
                    series.labels = with_label(&series.labels, dst, &value);
                    // A name that is set on purpose stays.
                    series.drop_name &= dst != METRIC_NAME;
                }
                sink(series)
            })
        })
    }

    /// `label_join(v, dst, separator, src...)`
    pub(crate) fn label_join(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let [vector, dst, separator, sources @ ..] = &call.args[..] else {
            return Err(QueryError::execution("label_join() takes at least three arguments"));
        };
        let (dst, separator) = (self.string(dst)?, self.string(separator)?);
        let sources = sources.iter().map(|src| self.string(src)).collect::<Result<Vec<&str>, QueryError>>()?;
        // Texts as in Prometheus:
        if let Some(src) = sources.iter().find(|src| !is_label_name(src)) {
            return Err(QueryError::execution(format!("invalid source label name in label_join(): {src}")));
        }
        if !is_label_name(dst) {
            return Err(QueryError::execution(format!("invalid destination label name in label_join(): {dst}")));
        }
        self.merged(sink, |sink| {
            self.vector(vector, grid, &mut |series| {
                let values: Vec<&str> = sources.iter().map(|src| series.labels.value(src)).collect();
                let in_values: usize = values.iter().map(|value| value.len()).sum();
                check_length("label_join", in_values.saturating_add(separator.len().saturating_mul(values.len())))?;
                series.labels = with_label(&series.labels, dst, &values.join(separator));
                series.drop_name &= dst != METRIC_NAME;
                sink(series)
            })
        })
    }
}

/// Nested calls could make values grow without bound.
fn check_length(function: &str, bytes: usize) -> Result<(), QueryError> {
    if bytes <= STRING_BYTES_MAX {
        return Ok(());
    }
    Err(QueryError::execution(format!("label value in {function}() is longer than {STRING_BYTES_MAX} bytes")))
}

/// Any text is a label name but the empty one. What was not UTF-8 in the query has become a replacement character.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER)
}

/// Text as in Prometheus.
pub(crate) fn invalid_label_name(name: &str) -> QueryError {
    let mut text = "invalid label name ".to_owned();
    write_quoted(&mut text, name).expect("writing to a string does not fail");
    QueryError::execution(text)
}

/// The labels with one of them set; removed if the value is empty.
pub(crate) fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut builder = LabelsBuilder::from(labels);
    builder.set(name, value);
    builder.build()
}

/// Order by the given labels, numbers in them by value, then by all labels.
pub(crate) fn by_labels(a: &Labels, b: &Labels, names: &[&str]) -> Ordering {
    let by_name = names.iter().map(|name| natural(a.value(name), b.value(name)));
    by_name.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b))
}

/// Natural order: runs of digits compare as numbers, everything else by bytes.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (x, rest_a) = take_run(a);
        let (y, rest_b) = take_run(b);
        let order = match (x.is_empty(), y.is_empty()) {
            (true, _) | (_, true) => return x.len().cmp(&y.len()),
            _ if is_digits(x) && is_digits(y) => {
                let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
            _ => x.cmp(y),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

fn is_digits(run: &str) -> bool {
    run.starts_with(|c: char| c.is_ascii_digit())
}

/// The longest beginning of digits only or of no digits, and the rest.
fn take_run(text: &str) -> (&str, &str) {
    let digits = is_digits(text);
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_in_labels_compare_by_value() {
        for (a, b, want) in [
            ("2", "10", Ordering::Less),
            ("4m5", "4m600", Ordering::Less),
            ("4m1000", "4m600", Ordering::Greater),
            ("a", "a1", Ordering::Less),
            ("", "a", Ordering::Less),
            ("007", "7", Ordering::Equal),
            ("99999999999999999999999", "5", Ordering::Greater),
        ] {
            assert_eq!(natural(a, b), want, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn natural_order_is_an_order(mut texts in proptest::collection::vec("[0-3a-b]{0,6}", 0..20)) {
            // Sorting panics on an order that is none.
            texts.sort_by(|a, b| natural(a, b));
            for pair in texts.windows(2) {
                prop_assert_ne!(natural(&pair[0], &pair[1]), Ordering::Greater);
                prop_assert_ne!(natural(&pair[1], &pair[0]), Ordering::Less);
            }
        }
    }
}
