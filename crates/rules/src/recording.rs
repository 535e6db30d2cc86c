//! Recording rules: the query's result under another name.

use fk_model::{Labels, LabelsBuilder, METRIC_NAME};

/// The labels of the series that a result with labels `result` is recorded as: the rule's metric name, and the rule's
/// labels over those of the result, some of which it may take off.
pub(crate) fn recorded_labels(result: &Labels, metric: &str, labels: &Labels, removed: &[String]) -> Labels {
    let mut builder = LabelsBuilder::from(result);
    for name in removed {
        builder.del(name);
    }
    builder.set(METRIC_NAME, metric);
    for (name, value) in labels {
        builder.set(name, value);
    }
    builder.build()
}
