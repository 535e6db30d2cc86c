//! The state of one target between scrapes, and what one scrape does.

use std::sync::Arc;

use fk_config::{HttpClientConfig, ScrapeConfig, ScrapeProtocol};
use fk_exposition::{
    EntryKind, ExposedExemplar, Lines, MediaType, NegotiationError, OpenMetricsParser, ParseError, Protocol,
    ReadOptions, TextParser, choose_format, reader,
};
use fk_model::histogram::HistogramError;
use fk_model::{Duration, Labels, stale_nan};
use fk_storage::{AppendReport, Appender, Batch, Exemplar, OutOfOrder, SeriesRef, StorageError};

use crate::cache::{Known, Meaning, ScrapeNo, SeriesCache};
use crate::features::{Features, HistogramPolicy};
use crate::labels::{DroppedBy, Relabelled, SeriesError, stored_labels};
use crate::metadata::{MetadataCache, MetadataHandle};
use crate::starts::Starts;
use crate::target::Target;

mod entries;
mod write;

/// A Content-Type longer than this is looked at each time.
const CONTENT_TYPE_KEPT: usize = 200;

/// Samples further ahead of the scrape than this are out of bounds.
const FUTURE_MAX_MS: i64 = 10 * 60 * 1000;

/// The synthetic series of a scrape, in order; the last three only with `extra_scrape_metrics`.
const REPORT_SERIES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];
const REPORT_SERIES_BASIC: usize = 5;

/// What the request gave.
#[derive(Clone, Copy, Debug)]
pub enum Fetched<'a> {
    /// A response with status 200.
    Body {
        /// The body, decompressed.
        body: &'a [u8],
        /// Its Content-Type, empty if it has none.
        content_type: &'a str,
    },
    /// No such response, or no request at all.
    Failed {
        /// Why, as users see it.
        reason: &'a str,
        /// Whether it was `body_size_limit`.
        body_size_limit_hit: bool,
    },
}

/// Why a scrape failed. Texts as in Prometheus.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScrapeError {
    /// There is no response.
    #[error("{0}")]
    Request(String),
    /// The response does not say what it is.
    #[error(transparent)]
    ContentType(#[from] NegotiationError),
    /// The body is not in the format.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A series that cannot be stored.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// More than `sample_limit`.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// A native histogram with more buckets than `native_histogram_bucket_limit`, however coarse.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// A native histogram that contradicts itself.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// The storage refused a series.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The series of the target do not fit in the cache.
    #[error("series names of the target exceed 4 GiB")]
    CacheFull,
}

/// What a scrape counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// Samples exposed.
    pub scraped: u64,
    /// Of these, not dropped by relabelling.
    pub post_relabel: u64,
    /// New series. DIFFERENCE: counted before the storage has seen the samples, since the count is part of the same batch; a
    /// first sample that the storage then rejects counts too.
    pub series_added: u64,
    /// A series twice in one scrape, or another value for a time that the series has a sample for.
    pub duplicates: u64,
    /// Older than the newest sample of the series.
    pub out_of_order: u64,
    /// Too old for the storage or too far in the future.
    pub out_of_bounds: u64,
    /// Older than the out-of-order window. DIFFERENCE: Prometheus fails the whole scrape; a batch is accepted sample by sample,
    /// so here only these samples are lost.
    pub too_old: u64,
    /// Staleness markers written.
    pub stale_markers: u64,
    /// Exemplars older than the newest of their series, of samples that had no others.
    pub exemplars_out_of_order: u64,
}

/// What became of a scrape.
#[derive(Clone, Debug)]
pub struct ScrapeOutcome {
    /// Value of the `up` series: whether request, parsing and limits were all well.
    pub up: bool,
    /// Why not.
    pub error: Option<ScrapeError>,
    /// Seconds from before the request to behind the parsing.
    pub duration_s: f64,
    /// Size of the decompressed body; -1 if it hit the limit, 0 if there is none.
    pub body_bytes: i64,
    /// Counts, of the part up to the failure if it failed.
    pub counts: ScrapeCounts,
    /// The format was guessed.
    pub warning: Option<NegotiationError>,
    /// What relabelling dropped: how many series by which rule. `None`: nothing.
    pub dropped: Option<Arc<[(DroppedBy, u64)]>>,
    /// Caches grew too large by scrapes that failed and were emptied.
    pub cache_flush_forced: bool,
    /// The storage failed to take the scrape. To be logged: `up` is what it is.
    pub storage_error: Option<StorageError>,
}

/// Memory that all loops of a thread share from scrape to scrape.
#[derive(Debug, Default)]
pub struct Scratch {
    batch: Batch,
    report: AppendReport,
    /// Samples of zero where counting began; written before all others.
    zeros: Batch,
}

/// One target, scraped again and again.
#[derive(Debug)]
pub struct ScrapeLoop {
    target: Arc<Target>,
    job: Arc<ScrapeConfig>,
    cache: SeriesCache,
    metadata: MetadataCache,
    report_series: [Option<SeriesRef>; REPORT_SERIES.len()],
    /// Number of the last scrape.
    scrape: ScrapeNo,
    /// The last scrape that looked like the layout.
    layout_scrape: ScrapeNo,
    /// The format of the last scrape that had one.
    layout_format: Option<MediaType>,
    /// The last Content-Type that says something, and what: it seldom changes.
    content_type: Option<(Box<str>, MediaType)>,
    /// How many entries the last scrape tracks.
    tracked: usize,
    features: Features,
    options: ReadOptions,
    policy: HistogramPolicy,
    /// What is known about starts of series, where that matters.
    starts: Starts,
    /// What the last scrape dropped, as long as scrapes look like it.
    dropped: Option<Arc<[(DroppedBy, u64)]>>,
}

/// A scrape while it is read.
struct Pass<'p> {
    batch: &'p mut Batch,
    zeros: &'p mut Batch,
    now: ScrapeNo,
    ts_ms: i64,
    ts_max_ms: i64,
    honor_timestamps: bool,
    track_timestamps: bool,
    sample_limit: u64,
    counts: ScrapeCounts,
    /// Samples that went to the storage, or would have.
    appended: u64,
    limit_hit: bool,
    bucket_limit_hit: bool,
    /// Entries met.
    seen: usize,
    /// Entries tracked, and how many of them the scrape before tracked too.
    tracked: usize,
    tracked_again: usize,
}

/// The Accept header for the targets of a job.
pub fn accept_header(job: &ScrapeConfig) -> String {
    let protocols: Vec<Protocol> = job.scrape_protocols.iter().copied().map(protocol).collect();
    fk_exposition::accept_header(&protocols, job.metric_name_escaping.as_str())
}

fn protocol(configured: ScrapeProtocol) -> Protocol {
    match configured {
        ScrapeProtocol::PrometheusProto => Protocol::PrometheusProto,
        ScrapeProtocol::OpenMetricsText0_0_1 => Protocol::OpenMetricsText0_0_1,
        ScrapeProtocol::OpenMetricsText1_0_0 => Protocol::OpenMetricsText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4 => Protocol::PrometheusText0_0_4,
        ScrapeProtocol::PrometheusText1_0_0 => Protocol::PrometheusText1_0_0,
    }
}

/// Whether what a loop has learnt stays true when its job changes: only interval, timeout, `sample_limit`, the HTTP client and
/// where targets come from may differ.
pub fn cache_survives(old: &ScrapeConfig, new: &ScrapeConfig) -> bool {
    let relevant = |job: &ScrapeConfig| ScrapeConfig {
        scrape_interval: Duration::ZERO,
        scrape_timeout: Duration::ZERO,
        sample_limit: 0,
        http: HttpClientConfig::default(),
        discovery: Vec::new(),
        // The text repeats what the other fields say.
        shown_yaml: String::new(),
        ..job.clone()
    };
    relevant(old) == relevant(new)
}

impl ScrapeLoop {
    /// A loop that has not scraped yet.
    pub fn new(target: Arc<Target>, job: Arc<ScrapeConfig>) -> ScrapeLoop {
        let options = ReadOptions {
            type_and_unit_labels: false,
            ignore_native_histograms: !target.histograms.native,
            convert_classic_histograms: target.histograms.convert_classic,
            keep_classic_histograms: target.histograms.always_classic,
            skip_created: false,
        };
        ScrapeLoop {
            policy: HistogramPolicy::of(&job),
            features: Features::default(),
            starts: Starts::default(),
            dropped: None,
            options,
            target,
            job,
            cache: SeriesCache::default(),
            metadata: MetadataCache::default(),
            report_series: [None; REPORT_SERIES.len()],
            scrape: 0,
            layout_scrape: 0,
            layout_format: None,
            content_type: None,
            tracked: 0,
        }
    }

    /// With features that are off otherwise.
    pub fn with_features(self, features: Features) -> ScrapeLoop {
        let options = ReadOptions {
            type_and_unit_labels: features.type_and_unit_labels,
            skip_created: features.reads_starts(),
            ..self.options
        };
        ScrapeLoop { features, options, ..self }
    }

    /// The loop of the same target after a change of the job for which [`cache_survives`] holds: it goes on with what it knows.
    pub fn reconfigured(self, target: Arc<Target>, job: Arc<ScrapeConfig>) -> ScrapeLoop {
        debug_assert!(cache_survives(&self.job, &job), "the cache does not survive this change of {}", job.job_name);
        ScrapeLoop { policy: HistogramPolicy::of(&job), target, job, ..self }
    }

    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The job.
    pub fn job(&self) -> &Arc<ScrapeConfig> {
        &self.job
    }

    /// The target's metadata, for other threads.
    pub fn metadata(&self) -> MetadataHandle {
        self.metadata.handle().clone()
    }

    /// How many series texts are remembered.
    pub fn cached_series(&self) -> usize {
        self.cache.len()
    }

    /// Takes what a request gave and writes everything that follows from it at `ts_ms`. `elapsed_s` is asked once, when all
    /// is read: seconds since before the request.
    pub fn ingest(
        &mut self,
        fetched: Fetched<'_>,
        ts_ms: i64,
        elapsed_s: impl FnOnce() -> f64,
        scratch: &mut Scratch,
        appender: &dyn Appender,
    ) -> ScrapeOutcome {
        self.scrape += 1;
        scratch.batch.clear();
        scratch.zeros.clear();
        let job = Arc::clone(&self.job);
        let mut pass = Pass {
            batch: &mut scratch.batch,
            zeros: &mut scratch.zeros,
            now: self.scrape,
            ts_ms,
            ts_max_ms: ts_ms.saturating_add(FUTURE_MAX_MS),
            honor_timestamps: job.honor_timestamps,
            track_timestamps: job.track_timestamps_staleness,
            sample_limit: if job.sample_limit == 0 { u64::MAX } else { job.sample_limit },
            counts: ScrapeCounts::default(),
            appended: 0,
            limit_hit: false,
            bucket_limit_hit: false,
            seen: 0,
            tracked: 0,
            tracked_again: 0,
        };
        let mut warning = None;
        let (result, body_bytes) = match fetched {
            Fetched::Body { body, content_type } => {
                (self.read(body, content_type, &mut pass, &mut warning, appender), body.len() as i64)
            }
            Fetched::Failed { reason, body_size_limit_hit } => {
                (Err(ScrapeError::Request(reason.to_owned())), if body_size_limit_hit { -1 } else { 0 })
            }
        };
        let Pass { counts, seen, tracked, tracked_again, .. } = pass;
        let error = result.err();
        let dropped = self.dropped(&counts);
        if error.is_some() {
            self.dropped = None;
            // Nothing of a scrape that failed is kept.
            scratch.batch.clear();
            scratch.zeros.clear();
        }
        let mut outcome = ScrapeOutcome {
            up: error.is_none(),
            error,
            duration_s: elapsed_s(),
            body_bytes,
            counts,
            warning,
            dropped,
            cache_flush_forced: false,
            storage_error: None,
        };
        let samples = scratch.batch.samples.len();
        Self::append_zeros(scratch, appender);
        if let Err(error) = self.push_report(&outcome, ts_ms, &mut scratch.batch, appender) {
            outcome.storage_error = Some(error);
        }
        self.append(samples, &mut outcome, scratch, appender);
        if tracked_again < self.tracked {
            self.mark_stale(ts_ms, &mut outcome, scratch, appender);
        }
        self.tracked = tracked;
        let good = outcome.up && body_bytes > 0;
        if good {
            self.cache.end_good(self.scrape, seen);
        } else {
            outcome.cache_flush_forced = self.cache.end_other(self.scrape);
        }
        self.metadata.end_scrape(self.scrape, good);
        self.starts.end_scrape(self.scrape, good);
        outcome
    }

    /// What relabelling dropped of a scrape with these counts. Remembered while scrapes look alike, for it walks all entries.
    fn dropped(&mut self, counts: &ScrapeCounts) -> Option<Arc<[(DroppedBy, u64)]>> {
        if counts.scraped == counts.post_relabel {
            return None;
        }
        let (cache, now) = (&self.cache, self.scrape);
        Some(Arc::clone(self.dropped.get_or_insert_with(|| cache.dropped_by(now).into())))
    }

    /// Writes staleness markers at `ts_ms` for all series of the last scrape and the synthetic ones: the target has gone.
    /// Where newer samples exist already, the storage rejects the marker. The loop must not be used afterwards.
    pub fn end(self, ts_ms: i64, scratch: &mut Scratch, appender: &dyn Appender) -> Result<(), StorageError> {
        scratch.batch.clear();
        scratch.batch.out_of_order = OutOfOrder::Reject;
        for entry in &self.cache.entries {
            if let Meaning::Stored(series) = entry.meaning()
                && entry.tracked == self.scrape
            {
                scratch.batch.push(series, ts_ms, stale_nan());
            }
        }
        for series in self.report_series.into_iter().flatten() {
            scratch.batch.push(series, ts_ms, stale_nan());
        }
        if scratch.batch.samples.is_empty() { Ok(()) } else { appender.append(&scratch.batch, &mut scratch.report) }
    }

    // === reading ===

    fn read(
        &mut self,
        body: &[u8],
        content_type: &str,
        pass: &mut Pass<'_>,
        warning: &mut Option<NegotiationError>,
        appender: &dyn Appender,
    ) -> Result<(), ScrapeError> {
        if body.is_empty() {
            // Nothing to read, so nobody asks how.
            return Ok(());
        }
        let media_type = match &self.content_type {
            Some((known, media_type)) if **known == *content_type => *media_type,
            _ => {
                let format = choose_format(content_type, self.job.fallback_scrape_protocol.map(protocol))?;
                *warning = format.warning;
                if warning.is_none() && content_type.len() <= CONTENT_TYPE_KEPT {
                    self.content_type = Some((content_type.into(), format.media_type));
                }
                format.media_type
            }
        };
        let needs_entries = self.options.convert_classic_histograms || self.features.need_entries();
        if self.layout_format != Some(media_type) {
            // Equal bytes may be good in one format and wrong in another.
            self.cache.start_without_layout();
        }
        self.layout_format = Some(media_type);
        match media_type {
            MediaType::Text if !needs_entries => self.read_lines::<TextParser<'_>>(body, pass, appender)?,
            MediaType::OpenMetrics if !needs_entries && !self.features.reads_starts() => {
                self.read_lines::<OpenMetricsParser<'_>>(body, pass, appender)?;
            }
            media_type => self.read_entries(body, media_type, pass, appender)?,
        }
        match (pass.limit_hit, pass.bucket_limit_hit) {
            (true, _) => Err(ScrapeError::SampleLimit),
            (false, true) => Err(ScrapeError::BucketLimit),
            (false, false) => Ok(()),
        }
    }

    fn read_lines<'b, L: Lines<'b>>(
        &mut self,
        body: &'b [u8],
        pass: &mut Pass<'_>,
        appender: &dyn Appender,
    ) -> Result<(), ScrapeError> {
        let mut lines = L::at_start(body);
        let (mut pos, mut place) = (0, 0);
        while let Some(known) = self.cache.known_at(body, pos, place) {
            let Some((value, timestamp, next)) = value_of(&known, &mut lines) else { break };
            let pushed = pass.sample(&mut self.cache, known.entry, value, timestamp);
            if known.value.is_none() && self.features.exemplars {
                push_exemplar(&lines, pushed, pass.batch);
            }
            pos = next;
            place += 1;
        }
        if place == self.cache.layout_len() && self.cache.is_tail(body, pos) {
            self.layout_scrape = self.scrape;
            return Ok(());
        }
        self.read_changed(body, pos, place, lines, pass, appender)
    }

    /// From the first place on where the body differs from the layout.
    fn read_changed<'b, L: Lines<'b>>(
        &mut self,
        body: &'b [u8],
        mut pos: usize,
        mut place: usize,
        mut lines: L,
        pass: &mut Pass<'_>,
        appender: &dyn Appender,
    ) -> Result<(), ScrapeError> {
        let mut kind = self.cache.start_layout(place);
        self.dropped = None;
        loop {
            if let Some((found, known)) = self.cache.known_ahead(body, pos, place)
                && let Some((value, timestamp, next)) = value_of(&known, &mut lines)
            {
                let pushed = pass.sample(&mut self.cache, known.entry, value, timestamp);
                if known.value.is_none() && self.features.exemplars {
                    push_exemplar(&lines, pushed, pass.batch);
                }
                kind = self.cache.keep_item(found);
                pos = next;
                place = found + 1;
                continue;
            }
            lines.go_to(pos, kind);
            // At the end, too: it has to be as the format wants it.
            let Some(sample) = lines.next_sample()? else { break };
            kind = lines.kind();
            let block = &body[pos..sample.offset];
            pos = lines.line_end();
            let mut pushed = None;
            if let Some((entry, behind)) = self.cache.find(sample.series) {
                pushed = pass.sample(&mut self.cache, entry, sample.value, sample.timestamp);
                self.cache.push_item(block, entry, kind);
                place = behind.unwrap_or(place);
            } else if let Some(meaning) = self.meaning_of(&lines, sample.timestamp, pass, appender)? {
                let behind = body.get(sample.offset + sample.series.len()..).unwrap_or_default();
                let blank = &behind[..usize::from(matches!(behind.first(), Some(b' ' | b'\t')))];
                let entry = self.cache.insert(sample.series, blank, kind, meaning).ok_or(ScrapeError::CacheFull)?;
                pushed = pass.first_sample(&mut self.cache, entry, sample.value, sample.timestamp);
                self.cache.push_item(block, entry, kind);
            }
            if self.features.exemplars {
                push_exemplar(&lines, pushed, pass.batch);
            }
        }
        self.cache.finish_layout(&body[pos.min(body.len())..]);
        self.metadata.start(self.layout_scrape);
        self.layout_scrape = self.scrape;
        let metadata = &mut self.metadata;
        self.cache.for_each_block(|block| read_metadata(block, L::MEDIA_TYPE, metadata));
        metadata.finish();
        Ok(())
    }

    /// What becomes of a series that is not known. `None`: its sample is not stored, and it is not to be remembered.
    fn meaning_of<'b>(
        &self,
        lines: &impl Lines<'b>,
        timestamp: Option<i64>,
        pass: &mut Pass<'_>,
        appender: &dyn Appender,
    ) -> Result<Option<Meaning>, ScrapeError> {
        pass.counts.scraped += 1;
        let labels = match stored_labels(lines, &self.job, &self.target.public_labels)? {
            Relabelled::Stored(labels) => labels,
            Relabelled::Dropped(by) => return Ok(Some(Meaning::Dropped(by))),
        };
        pass.counts.post_relabel += 1;
        let own = timestamp.filter(|_| pass.honor_timestamps);
        if !pass.admits(own.unwrap_or(pass.ts_ms)) {
            return Ok(None);
        }
        Ok(Some(Meaning::Stored(appender.resolve(&labels)?)))
    }
}

/// Value and timestamp of a line that was recognised, and where the next one starts. `None` if the line is not what it
/// seemed to be.
#[inline(always)]
fn value_of<'b>(known: &Known, lines: &mut impl Lines<'b>) -> Option<(f64, Option<i64>, usize)> {
    if let Some((value, next)) = known.value {
        return Some((value, None, next));
    }
    let (value, timestamp) = lines.rest_of_line(known.value_at).ok()?;
    Some((value, timestamp, lines.line_end()))
}

fn read_metadata(block: &[u8], media_type: MediaType, metadata: &mut MetadataCache) {
    let mut reader = reader(block, media_type, ReadOptions::default());
    // The block was read without error before; only what ends a body may be missing.
    while let Ok(Some(kind)) = reader.next() {
        match kind {
            EntryKind::Type => metadata.set_type(reader.family(), reader.metric_type()),
            EntryKind::Help => metadata.set_help(reader.family(), reader.text()),
            EntryKind::Unit => metadata.set_unit(reader.family(), reader.text()),
            EntryKind::Comment | EntryKind::Sample | EntryKind::Histogram => {}
        }
    }
}

/// Adds the exemplar of the last line, if it has one and its sample was stored.
fn push_exemplar<'b>(lines: &impl Lines<'b>, pushed: Option<(SeriesRef, i64)>, batch: &mut Batch) {
    let mut exemplar = ExposedExemplar::default();
    let Some((series, t)) = pushed.filter(|_| lines.exemplar_into(&mut exemplar)) else { return };
    let labels = Labels::from_pairs(exemplar.labels.iter().map(|(name, value)| (name, value)));
    batch.exemplars.push((series, Exemplar { labels, v: exemplar.value, t: exemplar.timestamp.unwrap_or(t) }));
}

impl Pass<'_> {
    /// A sample of a known series. Returns its series and time if it is to be stored.
    // With `SeriesCache::known_at` it is the loop that nearly all samples come through.
    #[inline(always)]
    fn sample(
        &mut self,
        cache: &mut SeriesCache,
        idx: u32,
        value: f64,
        timestamp: Option<i64>,
    ) -> Option<(SeriesRef, i64)> {
        self.counts.scraped += 1;
        let entry = &mut cache.entries[idx as usize];
        let repeated = entry.seen == self.now;
        entry.seen = self.now;
        self.seen += usize::from(!repeated);
        let Meaning::Stored(series) = entry.meaning() else { return None };
        self.counts.post_relabel += 1;
        let own = timestamp.filter(|_| self.honor_timestamps);
        if repeated && own.is_none() {
            self.counts.duplicates += 1;
            return None;
        }
        let t = own.unwrap_or(self.ts_ms);
        if !self.admits(t) {
            return None;
        }
        if (own.is_none() || self.track_timestamps) && entry.tracked != self.now {
            self.tracked_again += usize::from(entry.tracked == self.now - 1);
            self.tracked += 1;
            entry.tracked = self.now;
        }
        self.batch.push(series, t, value);
        Some((series, t))
    }

    /// The first sample of a series that was just remembered; counted and admitted already.
    fn first_sample(
        &mut self,
        cache: &mut SeriesCache,
        idx: u32,
        value: f64,
        timestamp: Option<i64>,
    ) -> Option<(SeriesRef, i64)> {
        let entry = &mut cache.entries[idx as usize];
        entry.seen = self.now;
        self.seen += 1;
        let Meaning::Stored(series) = entry.meaning() else { return None };
        self.counts.series_added += 1;
        let own = timestamp.filter(|_| self.honor_timestamps);
        if own.is_none() || self.track_timestamps {
            entry.tracked = self.now;
            self.tracked += 1;
        }
        let t = own.unwrap_or(self.ts_ms);
        self.batch.push(series, t, value);
        Some((series, t))
    }

    /// Whether limits let a sample at this time through.
    #[inline]
    fn admits(&mut self, t: i64) -> bool {
        self.appended += 1;
        if self.appended > self.sample_limit {
            // Reading goes on, so that the counts that are reported are those of the whole body.
            self.limit_hit = true;
            return false;
        }
        if t > self.ts_max_ms {
            self.counts.out_of_bounds += 1;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod tests;
