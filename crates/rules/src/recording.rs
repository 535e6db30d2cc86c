//! Recording rules: the query's result under another name.

use fk_model::{Labels, LabelsBuilder, METRIC_NAME};

/// The labels of the series that a result with labels `result` is recorded as: the rule's metric name, and the rule's
/// labels over those of the result.
pub(crate) fn recorded_labels(result: &Labels, metric: &str, labels: &Labels) -> Labels {
    let mut builder = LabelsBuilder::from(result);
    builder.set(METRIC_NAME, metric);
    for (name, value) in labels {
        builder.set(name, value);
    }
    builder.build()
}
