//! What can be switched on beyond reading samples.

use fk_config::ScrapeConfig;
use fk_exposition::ExposedHistogram;
use fk_model::histogram::{EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, HistogramError};

/// Features of the whole server that change what a scrape stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Exemplars are stored (`exemplar-storage`).
    pub exemplars: bool,
    /// Where counting began is a sample of zero (`created-timestamp-zero-ingestion`).
    pub zero_samples: bool,
    /// Where counting began is stored with samples (`st-storage`).
    pub start_timestamps: bool,
    /// Counters that do not say where counting began count from their first scrape (`st-synthesis`).
    pub start_synthesis: bool,
    /// Type, help and unit are stored (`metadata-wal-records`).
    pub metadata: bool,
    /// Type and unit are labels (`type-and-unit-labels`).
    pub type_and_unit_labels: bool,
}

impl Features {
    /// Whether somebody wants to know what bodies say about the begin of counting.
    pub fn reads_starts(self) -> bool {
        self.zero_samples || self.start_timestamps
    }

    /// Whether bodies in the text format have to be read entry by entry, too, not only along the layout of the last one.
    pub(crate) fn need_entries(self) -> bool {
        self.start_synthesis || self.metadata || self.type_and_unit_labels
    }
}

/// How fine native histograms may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HistogramPolicy {
    /// Largest schema that is stored as it is; larger ones are reduced to it.
    schema_max: i32,
    /// Buckets of one histogram.
    buckets_max: usize,
}

impl HistogramPolicy {
    /// As a job wants it.
    pub(crate) fn of(job: &ScrapeConfig) -> HistogramPolicy {
        let buckets_max = match job.native_histogram_bucket_limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        HistogramPolicy { schema_max: schema_max(job.native_histogram_min_bucket_factor), buckets_max }
    }

    /// Makes a histogram as coarse as it has to be. `Ok(false)`: however coarse, it has too many buckets.
    pub(crate) fn apply(self, histogram: &mut ExposedHistogram) -> Result<bool, HistogramError> {
        let (schema, _) = size(histogram);
        if is_exponential(schema) && schema > self.schema_max {
            reduce(histogram, self.schema_max)?;
        }
        loop {
            let (schema, buckets) = size(histogram);
            if buckets <= self.buckets_max {
                return Ok(true);
            }
            if !is_reducible(schema) {
                return Ok(false);
            }
            reduce(histogram, schema - 1)?;
        }
    }
}

/// Schema and number of buckets.
fn size(histogram: &ExposedHistogram) -> (i32, usize) {
    match histogram {
        ExposedHistogram::Int(h) => (h.schema, h.positive_buckets.len() + h.negative_buckets.len()),
        ExposedHistogram::Float(h) => (h.schema, h.positive_buckets.len() + h.negative_buckets.len()),
    }
}

fn reduce(histogram: &mut ExposedHistogram, schema: i32) -> Result<(), HistogramError> {
    match histogram {
        ExposedHistogram::Int(h) => h.reduce_resolution(schema),
        ExposedHistogram::Float(h) => h.reduce_resolution(schema),
    }
}

/// Schemas of exponential buckets, those included that Prometheus may come to store.
fn is_exponential(schema: i32) -> bool {
    (-9..=52).contains(&schema)
}

/// Whether a histogram with too many buckets can be made coarser.
fn is_reducible(schema: i32) -> bool {
    schema > EXPONENTIAL_SCHEMA_MIN && schema <= EXPONENTIAL_SCHEMA_MAX
}

/// The largest schema whose buckets grow by `factor` at least.
fn schema_max(factor: f64) -> i32 {
    if factor <= 1.0 {
        return EXPONENTIAL_SCHEMA_MAX;
    }
    // A factor that is no number, or infinite, makes no difference and all the difference, as in Prometheus.
    let schema = (-factor.log2().log2()).floor();
    if schema.is_nan() { 0 } else { schema.clamp(EXPONENTIAL_SCHEMA_MIN.into(), EXPONENTIAL_SCHEMA_MAX.into()) as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_model::Histogram;
    use fk_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

    #[test]
    fn factors_choose_schemas() {
        let check = |factor: f64, schema: i32| assert_eq!(schema_max(factor), schema, "{factor}");
        for (factor, schema) in
            [(65536.0, -4), (256.0, -3), (4.0, -1), (2.0, 0), (1.4, 1), (1.1, 2), (1.09, 3), (1.0, 8)]
        {
            check(factor, schema);
        }
        check(0.0, 8);
        check(1.002_7, 8);
        check(1e300, -4);
    }

    fn histogram(schema: i32, buckets: usize) -> ExposedHistogram {
        ExposedHistogram::Int(Histogram {
            schema,
            positive_spans: vec![Span { offset: 1, length: buckets as u32 }],
            positive_buckets: vec![0; buckets],
            ..Histogram::default()
        })
    }

    #[test]
    fn histograms_become_coarser_until_they_fit() {
        let job = |limit, factor| ScrapeConfig {
            native_histogram_bucket_limit: limit,
            native_histogram_min_bucket_factor: factor,
            ..ScrapeConfig::new("job")
        };
        let check = |limit, factor, mut h: ExposedHistogram, schema, fits| {
            assert_eq!(HistogramPolicy::of(&job(limit, factor)).apply(&mut h), Ok(fits));
            let ExposedHistogram::Int(h) = h else { panic!("integers") };
            assert_eq!(h.schema, schema);
        };
        check(0, 0.0, histogram(8, 100), 8, true);
        check(0, 2.0, histogram(8, 100), 0, true);
        check(0, 2.0, histogram(-1, 100), -1, true);
        check(20, 0.0, histogram(3, 64), 1, true);
        check(1, 0.0, histogram(-3, 64), -4, false);
        check(20, 1.4, histogram(CUSTOM_BUCKETS_SCHEMA, 64), CUSTOM_BUCKETS_SCHEMA, false);
    }
}
