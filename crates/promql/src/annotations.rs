//! Warnings and hints that come with an answer. The texts are those of Prometheus (`util/annotations`), since people
//! search for them and alert on them.

use fk_model::labels::write_quoted;
use fk_promql_syntax::ast::Pos;
use fk_promql_syntax::error::place;
use hashbrown::HashSet;

use crate::histograms::Note;
use crate::histograms::quantile::Nans;
use crate::math::{format_2g, format_g};

/// Most annotations of one query that are kept; dashboards show ten.
const ANNOTATIONS_MAX: usize = 1000;

/// The annotations of one query, each text once, in the order of their discovery.
#[derive(Debug)]
pub(crate) struct Annotations<'a> {
    text: &'a str,
    seen: HashSet<String>,
    warnings: Vec<String>,
    infos: Vec<String>,
    monotonicity: Vec<ForcedMonotonicity>,
    /// Metric name and place of samples with start timestamps that overlap, and how often that was found.
    overlaps: Vec<(String, Pos, u32)>,
}

/// What was done to make classic histograms monotonic; one entry per metric name and position.
#[derive(Clone, Debug)]
pub(crate) struct ForcedMonotonicity {
    pub(crate) name: String,
    pub(crate) at: Pos,
    /// First and last time, ms.
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
    /// Lowest and highest upper bound among the buckets that were changed.
    pub(crate) bucket_min: f64,
    pub(crate) bucket_max: f64,
    /// Largest change.
    pub(crate) diff_max: f64,
    /// How many histograms were changed.
    pub(crate) count: usize,
}

impl<'a> Annotations<'a> {
    pub(crate) fn new(text: &'a str) -> Annotations<'a> {
        Annotations {
            text,
            seen: HashSet::new(),
            warnings: Vec::new(),
            infos: Vec::new(),
            monotonicity: Vec::new(),
            overlaps: Vec::new(),
        }
    }

    /// Warnings and hints.
    pub(crate) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        for forced in std::mem::take(&mut self.monotonicity) {
            let text = format!(
                "input to histogram_quantile needed to be fixed for monotonicity \
                 (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}, \
                 from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                of_metric(&forced.name),
                format_g(forced.bucket_min),
                format_g(forced.bucket_max),
                format_2g(forced.diff_max),
                forced.count,
                crate::date::rfc3339(forced.mint),
                crate::date::rfc3339(forced.maxt),
            );
            self.info(&text, forced.at);
        }
        for (name, at, count) in std::mem::take(&mut self.overlaps) {
            let occurrences = if count > 1 { format!(" ({count} occurrences)") } else { String::new() };
            let text = "sample has start time that overlaps with previous sample timestamp for metric";
            self.warn(&format!("{text} {}{occurrences}", quoted(&name)), at);
        }
        (self.warnings, self.infos)
    }

    /// Samples whose start timestamps overlap, found in so many windows.
    pub(crate) fn start_overlap(&mut self, name: &str, count: u32, at: Pos) {
        match self.overlaps.iter().position(|(of, place, _)| of == name && *place == at) {
            Some(found) => {
                let (.., all) = &mut self.overlaps[found];
                *all = all.saturating_add(count);
            }
            None if self.overlaps.len() < ANNOTATIONS_MAX => self.overlaps.push((name.to_owned(), at, count)),
            None => {}
        }
    }

    fn add(&mut self, kind: &str, text: &str, at: Pos) -> Option<String> {
        let full = format!("PromQL {kind}: {text} ({})", place(self.text, at.start));
        (self.seen.len() < ANNOTATIONS_MAX && self.seen.insert(full.clone())).then_some(full)
    }

    pub(crate) fn warn(&mut self, text: &str, at: Pos) {
        if let Some(full) = self.add("warning", text, at) {
            self.warnings.push(full);
        }
    }

    fn info(&mut self, text: &str, at: Pos) {
        if let Some(full) = self.add("info", text, at) {
            self.infos.push(full);
        }
    }

    /// A warning of the storage, which has no position.
    pub(crate) fn storage_warning(&mut self, text: &str) {
        if self.seen.len() < ANNOTATIONS_MAX && self.seen.insert(text.to_owned()) {
            self.warnings.push(text.to_owned());
        }
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, at: Pos) {
        if q.is_nan() || !(0.0..=1.0).contains(&q) {
            self.warn(&format!("quantile value should be between 0 and 1, got {}", format_g(q)), at);
        }
    }

    pub(crate) fn invalid_ratio(&mut self, ratio: f64, capped: f64, at: Pos) {
        let (ratio, capped) = (format_g(ratio), format_g(capped));
        self.warn(&format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), at);
    }

    pub(crate) fn sort_in_range_query(&mut self, at: Pos) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels", at);
    }

    pub(crate) fn bad_bucket_label(&mut self, name: &str, value: &str, at: Pos) {
        let text =
            format!("bucket label \"le\" is missing or has a malformed value of {}{}", quoted(value), of_metric(name));
        self.warn(&text, at);
    }

    pub(crate) fn possible_non_counter(&mut self, name: &str, at: Pos) {
        let text =
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}", quoted(name));
        self.info(&text, at);
    }

    pub(crate) fn possible_non_counter_type(&mut self, name: &str, type_label: &str, at: Pos) {
        let text = format!(
            "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
            quoted(type_label),
            quoted(name)
        );
        self.info(&text, at);
    }

    /// Something about the histograms of a metric.
    pub(crate) fn histogram_note(&mut self, note: Note, name: &str, at: Pos) {
        let name = quoted(name);
        match note {
            Note::MixedFloats => {
                self.warn(&format!("encountered a mix of histograms and floats for metric name {name}"), at);
            }
            Note::MixedBuckets => {
                let text = "vector contains a mix of histograms with exponential and custom buckets schemas";
                self.warn(&format!("{text} for metric name {name}"), at);
            }
            Note::NotCounter => self.warn(&format!("this native histogram metric is not a counter: {name}"), at),
            Note::NotGauge => self.warn(&format!("this native histogram metric is not a gauge: {name}"), at),
            Note::Ignored => {
                let text = "ignored histograms in a range containing both floats and histograms";
                self.info(&format!("{text} for metric name {name}"), at);
            }
            Note::ReconciledAdd => self.reconciled("addition", at),
            Note::ReconciledSub => self.reconciled("subtraction", at),
            Note::ReconciledAggregate => self.reconciled("aggregation", at),
            Note::CollisionAggregate => self.collision("aggregation", at),
            // Counted: see `start_overlap`.
            Note::StartOverlap => {}
        }
    }

    /// Custom buckets with different bounds were brought together.
    pub(crate) fn reconciled(&mut self, operation: &str, at: Pos) {
        self.info(&format!("mismatched custom buckets were reconciled during {operation}"), at);
    }

    /// One histogram comes behind a counter reset, the other does not.
    pub(crate) fn collision(&mut self, operation: &str, at: Pos) {
        self.warn(&format!("conflicting counter resets during histogram {operation}"), at);
    }

    /// Operands an operator is not made for.
    pub(crate) fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, at: Pos) {
        let text = "incompatible sample types encountered for binary operator";
        self.info(&format!("{text} {}: {left} {operator} {right}", quoted(operator)), at);
    }

    /// Histograms with exponential and with custom buckets as operands.
    pub(crate) fn incompatible_layouts(&mut self, operator: &str, at: Pos) {
        self.warn(&format!("incompatible bucket layout encountered for binary operator {operator}"), at);
    }

    pub(crate) fn mixed_aggregation(&mut self, at: Pos) {
        self.warn("encountered a mix of histograms and floats for aggregation", at);
    }

    pub(crate) fn ignored_in_aggregation(&mut self, aggregation: &str, at: Pos) {
        self.info(&format!("ignored histogram in {aggregation} aggregation"), at);
    }

    /// Buckets of a classic histogram and a native one of the same name.
    pub(crate) fn mixed_classic_native(&mut self, name: &str, at: Pos) {
        self.warn(&format!("vector contains a mix of classic and native histograms{}", of_metric(name)), at);
    }

    /// What observations of NaN did to a quantile or fraction.
    pub(crate) fn nan_observations(&mut self, nans: Nans, name: &str, at: Pos) {
        let text = match nans {
            Nans::Result => "input to histogram_quantile has NaN observations, result is NaN",
            Nans::Skew => "input to histogram_quantile has NaN observations, result is skewed higher",
            Nans::Excluded => "input to histogram_fraction has NaN observations, which are excluded from all fractions",
        };
        self.info(&format!("{text}{}", of_metric(name)), at);
    }

    /// Adds one histogram that was changed.
    pub(crate) fn forced_monotonicity(&mut self, one: ForcedMonotonicity) {
        let same = self.monotonicity.iter().position(|other| other.name == one.name && other.at == one.at);
        match same {
            Some(at) => {
                let all = &mut self.monotonicity[at];
                all.mint = all.mint.min(one.mint);
                all.maxt = all.maxt.max(one.maxt);
                all.bucket_min = all.bucket_min.min(one.bucket_min);
                all.bucket_max = all.bucket_max.max(one.bucket_max);
                all.diff_max = all.diff_max.max(one.diff_max);
                all.count += one.count;
            }
            None if self.monotonicity.len() < ANNOTATIONS_MAX => self.monotonicity.push(one),
            None => {}
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(&mut out, text).expect("writing to a string does not fail");
    out
}

fn of_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quoted(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_once_per_place_with_line_and_column() {
        let mut notes = Annotations::new("a +\n rate(b[5m])");
        for start in [10, 10, 0] {
            notes.possible_non_counter("b", Pos { start, end: start + 1 });
        }
        notes.invalid_quantile(1.5, Pos { start: 4, end: 5 });
        notes.invalid_quantile(1.0, Pos { start: 4, end: 5 });
        let (warnings, infos) = notes.finish();
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:1)"]);
        let text = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"b\"";
        assert_eq!(infos, [format!("{text} (2:7)"), format!("{text} (1:1)")]);
    }
}
