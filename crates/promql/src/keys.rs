//! Which labels count: keys of groups and match groups, and label sets with labels taken away. Looked at once per
//! series.

use fk_model::{Labels, METRIC_NAME};
use hashbrown::HashMap;

use crate::QueryError;
use crate::column::Series;

/// Labels that describe a metric and go when its name goes.
const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// A choice of labels: only those listed, or all but those.
#[derive(Clone, Debug)]
pub(crate) struct Choice<'a> {
    /// Invariant: sorted.
    names: Vec<&'a str>,
    /// Whether the names are those that count.
    only: bool,
}

impl<'a> Choice<'a> {
    /// Only these labels.
    pub(crate) fn only(names: &'a [String]) -> Choice<'a> {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        Choice { names, only: true }
    }

    /// All labels but these.
    pub(crate) fn without(names: impl IntoIterator<Item = &'a str>) -> Choice<'a> {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        Choice { names, only: false }
    }

    /// Whether no label counts.
    pub(crate) fn is_empty(&self) -> bool {
        self.only && self.names.is_empty()
    }

    /// The choice for itself, with `more` labels that count.
    pub(crate) fn wanted(&self, more: &[&str]) -> Wanted {
        let mut names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        if self.only {
            names.extend(more.iter().map(|name| (*name).to_owned()));
        } else {
            names.retain(|name| !more.contains(&name.as_str()));
        }
        Wanted { names, only: self.only }
    }

    /// Whether label `name` counts.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.binary_search(&name).is_ok() == self.only
    }

    /// The labels that count.
    pub(crate) fn labels(&self, labels: &Labels) -> Labels {
        if self.is_empty() { Labels::empty() } else { labels.filtered(|name| self.has(name)) }
    }

    /// Replaces `key` by a text that is the same for the same chosen labels, and only for them.
    pub(crate) fn key(&self, labels: &Labels, key: &mut String) {
        key.clear();
        if self.is_empty() {
            return;
        }
        for (name, value) in labels.iter().filter(|(name, _)| self.has(name)) {
            push(key, name);
            push(key, value);
        }
    }
}

/// The labels that somebody looks at, so that a storage need not make the others.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    names: Vec<String>,
    only: bool,
}

impl Wanted {
    /// Whether label `name` is.
    #[inline]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|wanted| wanted == name) == self.only
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.only && self.names.is_empty()
    }
}

/// Appends a text behind its length, so that two texts cannot be taken for two others.
fn push(key: &mut String, text: &str) {
    let mut len = text.len();
    while len >= 64 {
        key.push((64 + (len % 64) as u8) as char);
        len /= 64;
    }
    key.push(len as u8 as char);
    key.push_str(text);
}

/// Numbers keys in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    map: HashMap<Box<str>, usize>,
    buffer: String,
    /// There is one key only, and it has come.
    is_one: bool,
}

impl Keys {
    /// The number of the chosen labels' key, and whether it is new.
    pub(crate) fn number(&mut self, choice: &Choice<'_>, labels: &Labels) -> (usize, bool) {
        if self.is_one {
            return (0, false);
        }
        self.is_one = choice.is_empty();
        choice.key(labels, &mut self.buffer);
        if let Some(at) = self.map.get(self.buffer.as_str()) {
            return (*at, false);
        }
        let at = self.map.len();
        self.map.insert(self.buffer.as_str().into(), at);
        (at, true)
    }

    /// The number of the key if it has come before.
    pub(crate) fn find(&mut self, choice: &Choice<'_>, labels: &Labels) -> Option<usize> {
        choice.key(labels, &mut self.buffer);
        self.map.get(self.buffer.as_str()).copied()
    }
}

/// The labels without metric name, type and unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if METADATA_LABELS.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    labels.filtered(|name| !METADATA_LABELS.contains(&name))
}

/// Puts together series of equal labels; two values at one step are an error. Series whose name is to be dropped are
/// kept apart from those that keep it, since in the end their labels differ.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    /// Indexes of the series that keeps its name and the one that loses it.
    by_labels: HashMap<Labels, [Option<usize>; 2]>,
    series: Vec<Series>,
}

impl Merger {
    /// Adds a series.
    pub(crate) fn push(&mut self, series: Series) -> Result<(), QueryError> {
        let known = self.by_labels.entry(series.labels.clone()).or_default();
        for at in known.iter().flatten() {
            if self.series[*at].col.ok.first_common(&series.col.ok).is_some() {
                return Err(same_labelset());
            }
        }
        match &mut known[usize::from(series.drop_name)] {
            Some(at) => self.series[*at].col.merge(&series.col),
            none => {
                *none = Some(self.series.len());
                self.series.push(series);
            }
        }
        Ok(())
    }

    /// The series in the order in which they came.
    pub(crate) fn finish(self) -> Vec<Series> {
        self.series
    }
}

/// Text as in Prometheus.
pub(crate) fn same_labelset() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::Column;

    #[test]
    fn keys_tell_label_sets_apart() {
        let all = Choice::without([]);
        let long = "x".repeat(5000);
        let sets = [vec![("a", "1")], vec![("a", "1b1")], vec![("a", "1"), ("b", "1")], vec![("a", &long)], vec![]];
        let sets: Vec<Labels> = sets.into_iter().map(Labels::from_pairs).collect();
        let mut keys = Keys::default();
        for (at, labels) in sets.iter().enumerate() {
            assert_eq!(keys.number(&all, labels), (at, true));
        }
        for (at, labels) in sets.iter().enumerate() {
            assert_eq!((keys.number(&all, labels), keys.find(&all, labels)), ((at, false), Some(at)));
        }
    }

    #[test]
    fn choices_take_or_leave_labels() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "1"), ("b", "2")]);
        let names = ["b".to_owned(), "c".to_owned()];
        assert_eq!(Choice::only(&names).labels(&labels).to_string(), r#"{b="2"}"#);
        assert_eq!(Choice::without(["b", METRIC_NAME]).labels(&labels).to_string(), r#"{a="1"}"#);
        assert_eq!(Choice::only(&[]).labels(&labels), Labels::empty());
    }

    #[test]
    fn series_merge_unless_both_have_a_value() {
        let series = |steps: &[usize]| {
            let mut col = Column::none(3);
            steps.iter().for_each(|i| col.set(*i, *i as f64));
            Series { col, ..Series::default() }
        };
        let mut merger = Merger::default();
        merger.push(series(&[0])).unwrap();
        merger.push(series(&[2])).unwrap();
        assert_eq!(
            merger.push(series(&[2])).unwrap_err().to_string(),
            "vector cannot contain metrics with the same labelset"
        );
        let merged = merger.finish();
        assert_eq!(merged[0].col.iter().collect::<Vec<_>>(), [(0, 0.0), (2, 2.0)]);
    }
}
