//! Federation: the newest sample of every matching series, as metrics to scrape. Native histograms with custom buckets are
//! shown as classic ones; the text format has no other kind.

use std::borrow::Cow;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use fk_exposition::{MetricType, TextWriter, format_go_float};
use fk_model::{CounterReset, FloatHistogram, Labels, METRIC_NAME, Matcher, SampleValue, name};
use fk_storage::{Control, SelectParams, Storage, StorageError, TimeRange};

use crate::answer;
use crate::call::{Call, CancelOnDrop, Reply};

/// One line of the answer.
struct Line {
    labels: Labels,
    t_ms: i64,
    v: SampleValue,
}

impl Line {
    /// What has to be the same for samples of one family: name, whether it is a histogram, and whether that is a gauge.
    fn family(&self) -> (&str, Option<bool>) {
        let is_gauge = |h: &FloatHistogram| h.counter_reset == CounterReset::Gauge;
        let kind = match &self.v {
            SampleValue::Float(_) => None,
            SampleValue::Histogram(h) => Some(is_gauge(h)),
        };
        (self.labels.metric_name(), kind)
    }
}

pub(crate) async fn federate(mut call: Call) -> Reply {
    // Errors of this route are plain text, not the API's JSON.
    let refused = |reason: String| Ok(answer::text(StatusCode::BAD_REQUEST, format!("{reason}\n")));
    let params = match call.params().await {
        Ok(params) => params,
        Err(error) => return refused(error.text),
    };
    let parsed: Result<Vec<_>, _> = params.all("match[]").map(fk_promql_syntax::parse_selector).collect();
    let matcher_sets = match parsed {
        Ok(sets) => sets,
        Err(error) => return refused(error.to_string()),
    };
    let storage = call.storage()?;
    let settings = call.state().queries.settings();
    let now_ms = chrono::Utc::now().timestamp_millis();
    let lookback_ms = i64::try_from(settings.lookback.as_millis()).unwrap_or(i64::MAX);
    let range = TimeRange { mint: now_ms.saturating_sub(lookback_ms), maxt: now_ms };
    let external = call.state().status.external_labels();
    let accept = call.req.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let utf8 = accept.contains("escaping=allow-utf-8");
    let deadline = std::time::Instant::now() + settings.timeout;
    let control = call.state().queries.board().control().with_deadline(deadline);
    let _cancel = CancelOnDrop(control.clone());
    let metrics = call.shared.metrics.clone();
    let work = web::block(move || {
        let (lines, warnings) = newest(&*storage, &matcher_sets, range, &control)?;
        Ok::<_, StorageError>((write(&lines, &external, utf8), warnings))
    });
    let failed = |reason: String| {
        metrics.federation_errors.inc();
        log::error!("federation failed: {reason}");
        Ok(answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")))
    };
    match work.await {
        Ok(Ok((text, warnings))) => {
            for warning in warnings {
                metrics.federation_warnings.inc();
                log::debug!("federation select returned a warning: {warning}");
            }
            let escaping = if utf8 { "allow-utf-8" } else { "underscores" };
            let kind = format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}");
            Ok(HttpResponse::Ok().content_type(kind).body(text))
        }
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed("reading the storage panicked".to_owned()),
    }
}

/// The newest sample of each series, in order of metric name; stale series and series without a name are left out.
fn newest(
    storage: &dyn Storage,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
    control: &Control,
) -> Result<(Vec<Line>, Vec<String>), StorageError> {
    let mut lines = Vec::new();
    let mut memory = control.reserve();
    for matchers in matcher_sets {
        let set = storage.select(&SelectParams { range, sorted: true, limit: 0 }, matchers, control)?;
        for idx in 0..set.len() {
            control.check()?;
            let Some(newest) = set.last(idx, range)?.filter(|newest| !fk_model::is_stale(newest.v)) else { continue };
            if newest.h.as_ref().is_some_and(|h| !h.uses_custom_buckets()) {
                continue;
            }
            let labels = set.labels(idx);
            memory.grow(labels.byte_len() + size_of::<Line>())?;
            if labels.metric_name().is_empty() {
                log::warn!("ignoring nameless metric during federation: {labels}");
                continue;
            }
            lines.push(Line { labels, t_ms: newest.t, v: SampleValue::new(newest.v, newest.h) });
        }
    }
    lines.sort_by(|a, b| a.labels.metric_name().cmp(b.labels.metric_name()).then_with(|| a.labels.cmp(&b.labels)));
    // A series that two selectors match is shown once.
    lines.dedup_by(|a, b| a.labels == b.labels);
    Ok((lines, control.take_warnings()))
}

fn write(lines: &[Line], external: &Labels, utf8: bool) -> String {
    let mut out = TextWriter::new();
    let mut family = ("", None);
    for line in lines {
        let name = line.labels.metric_name();
        let shown = escaped(name, utf8, name::is_legacy_metric_name);
        if line.family() != family {
            let kind = if line.v.is_histogram() { MetricType::Histogram } else { MetricType::Unknown };
            out.family(&shown, kind, None);
            family = line.family();
        }
        let own = line.labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let missing = external.iter().filter(|(name, _)| line.labels.get(name).is_none());
        // Whoever scrapes this must not add the instance of this server to series that have none.
        let has_instance = line.labels.get("instance").is_some() || external.get("instance").is_some();
        let instance = (!has_instance).then_some(("instance", ""));
        let labels: Vec<(Cow<'_, str>, &str)> = own
            .chain(missing)
            .chain(instance)
            .map(|(name, value)| (escaped(name, utf8, name::is_legacy_label_name), value))
            .collect();
        match &line.v {
            SampleValue::Float(v) => {
                out.sample(&shown, borrowed(&labels), *v, Some(line.t_ms));
            }
            SampleValue::Histogram(h) => write_classic(&mut out, &shown, &labels, line.t_ms, h),
        }
    }
    out.finish()
}

fn borrowed<'l>(labels: &'l [(Cow<'_, str>, &'l str)]) -> impl Iterator<Item = (&'l str, &'l str)> {
    labels.iter().map(|(name, value)| (&**name, *value))
}

/// A histogram with custom buckets as a classic one.
fn write_classic(out: &mut TextWriter, name: &str, labels: &[(Cow<'_, str>, &str)], t_ms: i64, h: &FloatHistogram) {
    let bucket_name = format!("{name}_bucket");
    let mut bucket = |le: f64, count: f64| {
        let le = format_go_float(le);
        out.sample(&bucket_name, borrowed(labels).chain([("le", &*le)]), count, Some(t_ms));
    };
    let mut buckets = h.positive().peekable();
    let mut cumulative = 0.0;
    for le in h.custom_values.iter() {
        while let Some(below) = buckets.next_if(|bucket| bucket.upper <= *le) {
            cumulative += below.count;
        }
        bucket(*le, cumulative);
    }
    bucket(f64::INFINITY, h.count);
    out.sample(&format!("{name}_sum"), borrowed(labels), h.sum, Some(t_ms));
    out.sample(&format!("{name}_count"), borrowed(labels), h.count, Some(t_ms));
}

/// A name for readers that may not know quoted names: underscores for whatever is not allowed.
fn escaped(name: &str, utf8: bool, is_legacy: fn(&str) -> bool) -> Cow<'_, str> {
    if utf8 || is_legacy(name) {
        return Cow::Borrowed(name);
    }
    let allowed = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || at > 0 && c.is_ascii_digit();
    Cow::Owned(name.chars().enumerate().map(|(at, c)| if allowed((at, c)) { c } else { '_' }).collect())
}

#[cfg(test)]
mod tests {
    use fk_testkit::MemoryStorage;

    use super::*;

    #[test]
    fn newest_samples_are_written_with_external_labels() {
        let storage = MemoryStorage::new();
        let add =
            |pairs: &[(&str, &str)], t: i64, v: f64| storage.add(&Labels::from_pairs(pairs.iter().copied()), &[(t, v)]);
        add(&[("__name__", "b"), ("instance", "i")], 1000, 2.0);
        add(&[("__name__", "a.b"), ("é", "x")], 1500, 1e6);
        add(&[("__name__", "b"), ("zone", "own")], 2000, 3.5);
        add(&[("__name__", "stale")], 2000, fk_model::stale_nan());
        add(&[("no", "name")], 2000, 1.0);
        let sets = [vec![], vec![Matcher::equal(METRIC_NAME, "b")]];
        let (lines, _) = newest(&storage, &sets, TimeRange { mint: 0, maxt: 5000 }, &Control::new()).unwrap();
        let external = Labels::from_pairs([("zone", "external")]);
        assert_eq!(
            write(&lines, &external, false),
            "# TYPE a_b untyped\na_b{_=\"x\",zone=\"external\",instance=\"\"} 1e+06 1500\n\
             # TYPE b untyped\nb{instance=\"i\",zone=\"external\"} 2 1000\nb{zone=\"own\",instance=\"\"} 3.5 2000\n"
        );
        assert!(write(&lines, &external, true).contains("{\"a.b\",\"é\"=\"x\","));
    }

    #[test]
    fn histograms_with_custom_buckets_become_classic_ones() {
        let h = FloatHistogram {
            schema: fk_model::histogram::CUSTOM_BUCKETS_SCHEMA,
            count: 7.0,
            sum: 12.5,
            custom_values: [0.5, 1.0, 10.0].into(),
            positive_spans: vec![fk_model::Span { offset: 0, length: 1 }, fk_model::Span { offset: 1, length: 2 }],
            positive_buckets: vec![1.0, 2.0, 4.0],
            ..FloatHistogram::default()
        };
        let labels = Labels::from_pairs([("__name__", "h"), ("instance", "i")]);
        let histogram = Line { labels: labels.clone(), t_ms: 5, v: SampleValue::Histogram(h.into()) };
        let lines = [histogram, Line { labels, t_ms: 6, v: SampleValue::Float(1.0) }];
        assert_eq!(
            write(&lines, &Labels::empty(), false),
            "# TYPE h histogram\nh_bucket{instance=\"i\",le=\"0.5\"} 1 5\nh_bucket{instance=\"i\",le=\"1\"} 1 5\n\
             h_bucket{instance=\"i\",le=\"10\"} 3 5\nh_bucket{instance=\"i\",le=\"+Inf\"} 7 5\n\
             h_sum{instance=\"i\"} 12.5 5\nh_count{instance=\"i\"} 7 5\n# TYPE h untyped\nh{instance=\"i\"} 1 6\n"
        );
    }
}
