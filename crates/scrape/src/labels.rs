//! From the labels a target exposes to the labels that are stored.

use std::borrow::Cow;

use fk_config::ScrapeConfig;
use fk_exposition::Lines;
use fk_model::labels::METRIC_NAME;
use fk_model::name::NameValidation;
use fk_model::{Labels, LabelsBuilder, relabel};

const EXPORTED_PREFIX: &str = "exported_";

/// Why a series cannot be stored; the whole scrape fails then. Texts as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// Relabelling removed the name.
    #[error("missing metric name (__name__ label)")]
    NoName,
    /// A name is not valid in the job's scheme.
    #[error("invalid metric name or label names: {0}")]
    InvalidName(Labels),
    /// One label twice in one sample.
    #[error("label name \"{0}\" is not unique: invalid sample")]
    NotUnique(String),
    /// `label_limit`
    #[error("label_limit exceeded (metric: {metric:.50}, number of labels: {count}, limit: {limit})")]
    TooManyLabels {
        /// The metric name.
        metric: String,
        /// How many labels.
        count: usize,
        /// How many are allowed.
        limit: u64,
    },
    /// `label_name_length_limit`
    #[error(
        "label_name_length_limit exceeded (metric: {metric:.50}, label name: {label:.50}, length: {length}, limit: {limit})"
    )]
    NameTooLong {
        /// The metric name.
        metric: String,
        /// The label.
        label: String,
        /// Its length, bytes.
        length: usize,
        /// How long it may be.
        limit: u64,
    },
    /// `label_value_length_limit`
    #[error(
        "label_value_length_limit exceeded (metric: {metric:.50}, label name: {label:.50}, value: {value:?}, length: {length}, limit: {limit})"
    )]
    ValueTooLong {
        /// The metric name.
        metric: String,
        /// The label.
        label: String,
        /// The first fifty characters of its value.
        value: String,
        /// Length of the value, bytes.
        length: usize,
        /// How long it may be.
        limit: u64,
    },
}

impl SeriesError {
    /// Whether it is one of the three label limits.
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            SeriesError::TooManyLabels { .. } | SeriesError::NameTooLong { .. } | SeriesError::ValueTooLong { .. }
        )
    }
}

/// What relabelling makes of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relabelled {
    Stored(Labels),
    Dropped(DroppedBy),
}

/// What dropped a series: a rule of `metric_relabel_configs`, counted from 0, or [`DroppedBy::NO_LABELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DroppedBy(pub u16);

impl DroppedBy {
    /// The rules left it no labels. Also stands for rules beyond the first 65,535.
    pub const NO_LABELS: DroppedBy = DroppedBy(u16::MAX);
}

/// The labels under which the last sample of `lines` is stored.
pub(crate) fn stored_labels<'b>(
    lines: &impl Lines<'b>,
    job: &ScrapeConfig,
    target: &Labels,
) -> Result<Relabelled, SeriesError> {
    let mut exposed: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(16);
    lines.labels(|name, value| exposed.push((name, value)));
    stored(exposed, job, target)
}

/// The labels under which a series with these `exposed` ones is stored, as [`stored_labels`].
pub(crate) fn stored(
    mut exposed: Vec<(Cow<'_, str>, Cow<'_, str>)>,
    job: &ScrapeConfig,
    target: &Labels,
) -> Result<Relabelled, SeriesError> {
    exposed.sort_by(|a, b| a.0.cmp(&b.0));
    let repeated = exposed.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0.clone().into_owned());
    if repeated.is_some() {
        // Refused below, unless relabelling drops the series anyway.
        exposed.dedup_by(|a, b| a.0 == b.0);
    }
    let labels = if job.honor_labels { honoured(&exposed, target) } else { overridden(&exposed, target) };
    let labels = if job.metric_relabel_configs.is_empty() {
        labels
    } else {
        let mut builder = LabelsBuilder::from(&labels);
        let (rules, names) = (&job.metric_relabel_configs, job.metric_name_validation);
        if let Some(rule) = relabel::first_dropping(rules, &mut builder, names) {
            return Ok(Relabelled::Dropped(u16::try_from(rule).map_or(DroppedBy::NO_LABELS, DroppedBy)));
        }
        builder.build()
    };
    if labels.is_empty() {
        return Ok(Relabelled::Dropped(DroppedBy::NO_LABELS));
    }
    check_names(&labels, job.metric_name_validation)?;
    check_limits(&labels, job)?;
    match repeated {
        Some(name) => Err(SeriesError::NotUnique(name)),
        None => Ok(Relabelled::Stored(labels)),
    }
}

/// Both sorted; on equal names `first` wins, and empty values vanish (but still hide the other).
fn merged<'l>(
    first: impl Iterator<Item = (&'l str, &'l str)>,
    second: impl Iterator<Item = (&'l str, &'l str)>,
) -> Labels {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    let mut pairs = Vec::with_capacity(16);
    loop {
        let pair = match (first.peek(), second.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a.0 == b.0 => {
                second.next();
                first.next()
            }
            (Some(a), Some(b)) if a.0 < b.0 => first.next(),
            (Some(_), None) => first.next(),
            _ => second.next(),
        };
        pairs.extend(pair.filter(|(_, value)| !value.is_empty()));
    }
    Labels::from_sorted(pairs)
}

/// `honor_labels: true`: exposed labels win, even empty ones.
fn honoured(exposed: &[(Cow<'_, str>, Cow<'_, str>)], target: &Labels) -> Labels {
    merged(exposed.iter().map(|(n, v)| (&**n, &**v)), target.iter())
}

/// `honor_labels: false`: target labels win, and exposed ones of the same name are kept as `exported_…`.
fn overridden(exposed: &[(Cow<'_, str>, Cow<'_, str>)], target: &Labels) -> Labels {
    let labels = merged(target.iter(), exposed.iter().map(|(n, v)| (&**n, &**v)));
    let mut conflicts: Vec<(&str, &str)> = exposed
        .iter()
        .map(|(n, v)| (&**n, &**v))
        .filter(|(name, value)| !value.is_empty() && target.get(name).is_some())
        .collect();
    if conflicts.is_empty() {
        return labels;
    }
    // Shorter names first: `exported_job` itself may be in conflict and must not be overwritten by `job`.
    conflicts.sort_by_key(|(name, _)| name.len());
    let mut builder = LabelsBuilder::from(&labels);
    for (name, value) in conflicts {
        let mut renamed = format!("{EXPORTED_PREFIX}{name}");
        // Ends because each round makes the name longer, and there are finitely many labels.
        while builder.get(&renamed).is_some() {
            renamed.insert_str(0, EXPORTED_PREFIX);
        }
        builder.set(&renamed, value);
    }
    builder.build()
}

fn check_names(labels: &Labels, names: NameValidation) -> Result<(), SeriesError> {
    let metric = labels.get(METRIC_NAME).ok_or(SeriesError::NoName)?;
    let valid = names.metric_name(metric) && labels.iter().all(|(name, _)| names.label_name(name));
    if valid { Ok(()) } else { Err(SeriesError::InvalidName(labels.clone())) }
}

fn check_limits(labels: &Labels, job: &ScrapeConfig) -> Result<(), SeriesError> {
    let (count_max, name_max, value_max) = (job.label_limit, job.label_name_length_limit, job.label_value_length_limit);
    let over = |length: usize, limit: u64| limit > 0 && length as u64 > limit;
    if count_max == 0 && name_max == 0 && value_max == 0 {
        return Ok(());
    }
    let metric = || labels.metric_name().to_owned();
    let count = labels.len();
    if over(count, count_max) {
        return Err(SeriesError::TooManyLabels { metric: metric(), count, limit: count_max });
    }
    for (label, value) in labels {
        let label_owned = || label.to_owned();
        if over(label.len(), name_max) {
            let length = label.len();
            return Err(SeriesError::NameTooLong { metric: metric(), label: label_owned(), length, limit: name_max });
        }
        if over(value.len(), value_max) {
            let (value, length) = (value.chars().take(50).collect(), value.len());
            let (metric, label) = (metric(), label_owned());
            return Err(SeriesError::ValueTooLong { metric, label, value, length, limit: value_max });
        }
    }
    Ok(())
}
