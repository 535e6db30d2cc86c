//! Where name and labels of a sample line stand in the body: what both text formats have in common.

use std::borrow::Cow;
use std::ops::Range;

use fk_model::METRIC_NAME;
use fk_model::labels::STRING_BYTES_MAX;

use crate::MetricType;
use crate::float::{format_open_metrics_float, parse_go_float};

/// Labels of one sample, the name included. More are refused: no real series comes near it, and one line of a body must
/// not make us build a label set of a million pairs.
pub(crate) const LABELS_MAX: usize = 4096;

/// Where something stands in the body.
pub(crate) type Span = Range<usize>;

/// Name and labels of a sample; the names and values of quoted ones without their quotes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelSpans {
    pub(crate) name: Option<Span>,
    pub(crate) labels: Vec<(Span, Span)>,
}

impl LabelSpans {
    pub(crate) fn clear(&mut self) {
        self.name = None;
        self.labels.clear();
    }

    /// Adds a label, or says why not.
    pub(crate) fn push(&mut self, name: Span, value: Span) -> Result<(), String> {
        check_length(name.len().max(value.len()))?;
        if self.labels.len() >= LABELS_MAX {
            return Err(format!("more than {LABELS_MAX} labels"));
        }
        self.labels.push((name, value));
        Ok(())
    }

    /// Calls `found(name, value)` for each label as it is to be stored, the metric name first: unescaped, and `le` of histograms
    /// and `quantile` of summaries as OpenMetrics floats.
    pub(crate) fn for_each<'a>(
        &self,
        body: &'a [u8],
        kind: MetricType,
        mut found: impl FnMut(Cow<'a, str>, Cow<'a, str>),
    ) {
        let text = |range: &Span| unescape(utf8(&body[range.clone()]), true);
        if let Some(name) = &self.name {
            found(Cow::Borrowed(METRIC_NAME), text(name));
        }
        for (name, value) in &self.labels {
            let (name, value) = (text(name), text(value));
            let is_bound = match kind {
                MetricType::Histogram => name == "le",
                MetricType::Summary => name == "quantile",
                _ => false,
            };
            let normal = if is_bound { parse_go_float(value.as_bytes()).ok() } else { None };
            found(name, normal.map_or(value, |v| Cow::Owned(format_open_metrics_float(v))));
        }
    }
}

/// Whether a name or a value is short enough to be stored.
pub(crate) fn check_length(len: usize) -> Result<(), String> {
    if len <= STRING_BYTES_MAX {
        return Ok(());
    }
    Err(format!("name or label value of {len} bytes is longer than {STRING_BYTES_MAX}"))
}

/// Text that the parser has checked already.
pub(crate) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Replaces `\\` and `\n`, and `\"` if `quotes`. Any other backslash stays.
pub(crate) fn unescape(text: Cow<'_, str>, quotes: bool) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (replaced, len) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(replaced);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
