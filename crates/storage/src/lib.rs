//! The traits between storage and everything that reads or writes samples. No implementation lives here.
//!
//! Writing: an [`Appender`] is a handle shared by all writers. A writer resolves each *new* series once, keeps its
//! [`SeriesRef`], and from then on hands over whole [`Batch`]es (one scrape, one rule result, one push request): one
//! write to the log per batch, visible to queries all at once.
//!
//! Reading: a [`Queryable`] answers a select with a [`SeriesSet`]: an indexed set whose samples are decoded only when
//! [`SeriesSet::read`] asks for them, series by series, into flat columns that the caller reuses. The set can be read
//! from several threads. The [`Control`] of a query ends it early, and hears what it has read and what was damaged.

mod control;

use std::sync::Arc;

use fk_model::histogram::HistogramFault;
use fk_model::{FloatHistogram, Histogram, Labels, Matcher, Metadata};

pub use control::{Control, MemoryBudget, Reservation, Stopped, Usage, WARNINGS_MAX};

/// Names a series of the local storage while the process runs (and in its write-ahead log). Never reused for another series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u64);

/// One sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSample {
    /// The series, from [`Appender::resolve`].
    pub series: SeriesRef,
    /// Time, ms.
    pub t: i64,
    /// Value; a staleness marker is [`fk_model::stale_nan`].
    pub v: f64,
}

/// The value of a histogram sample.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramValue {
    /// With integer counts.
    Int(Arc<Histogram>),
    /// With float counts.
    Float(Arc<FloatHistogram>),
}

impl HistogramValue {
    /// Whether this marks the end of a series.
    pub fn is_stale(&self) -> bool {
        match self {
            HistogramValue::Int(h) => h.is_stale(),
            HistogramValue::Float(h) => h.is_stale(),
        }
    }

    /// With float counts, whatever it has.
    pub fn to_float(&self) -> Arc<FloatHistogram> {
        match self {
            HistogramValue::Int(h) => Arc::new(h.to_float()),
            HistogramValue::Float(h) => Arc::clone(h),
        }
    }
}

/// One histogram sample of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchHistogram {
    /// The series, from [`Appender::resolve`].
    pub series: SeriesRef,
    /// Time, ms.
    pub t: i64,
    /// Start timestamp, ms; 0 if not known.
    pub start: i64,
    /// The histogram.
    pub h: HistogramValue,
}

/// An example of what a series has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its labels, such as a trace id.
    pub labels: Labels,
    /// Value observed.
    pub v: f64,
    /// Time, ms.
    pub t: i64,
}

/// What a batch does with samples that are older than the newest of their series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfOrder {
    /// Use the out-of-order window, if one is configured.
    #[default]
    Accept,
    /// Reject them always (rule results, staleness markers).
    Reject,
}

/// Samples that are appended as one: one write to the log, visible all at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The samples, in the order they were found; a series may occur several times.
    pub samples: Vec<BatchSample>,
    /// Start timestamps of the samples, ms, 0 where not known: as many as samples, or none at all. A storage that keeps none
    /// (without the features `st-storage`, `xor2-encoding`) does not look at them.
    pub starts: Vec<i64>,
    /// Histogram samples.
    pub histograms: Vec<BatchHistogram>,
    /// Exemplars. One that cannot be stored fails nothing else.
    pub exemplars: Vec<(SeriesRef, Exemplar)>,
    /// What the series are. Kept by a storage that is told to (feature `metadata-wal-records`), of series that have a sample
    /// in this batch or had one before. What a series has already costs a look-up and is not stored again, so send what is
    /// new or has changed.
    pub metadata: Vec<(SeriesRef, Arc<Metadata>)>,
    /// See [`OutOfOrder`].
    pub out_of_order: OutOfOrder,
}

impl Batch {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.out_of_order = OutOfOrder::Accept;
    }

    /// Adds a sample.
    #[inline]
    pub fn push(&mut self, series: SeriesRef, t: i64, v: f64) {
        self.samples.push(BatchSample { series, t, v });
    }
}

/// Why a sample was not stored. The names are those of Prometheus' storage errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// Older than the newest sample of the series.
    #[error("out of order sample")]
    OutOfOrder,
    /// Same time as the newest sample, other value. (An identical repeat is accepted silently.)
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Before the oldest time the head takes.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the out-of-order window.
    #[error("too old sample")]
    TooOld,
    /// An exemplar older than the newest of its series.
    #[error("out of order exemplar")]
    ExemplarOutOfOrder,
    /// The labels of an exemplar have too many characters.
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    ExemplarTooLong,
    /// The histogram contradicts itself.
    #[error("{0}")]
    InvalidHistogram(HistogramFault),
    /// The reference is not known (any more): resolve the labels again and append again.
    #[error("unknown series reference")]
    UnknownSeries,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendReport {
    /// Samples stored.
    pub accepted: usize,
    /// Index into [`Batch::samples`] and reason, ascending by index.
    pub rejected: Vec<(usize, Rejection)>,
    /// Index into [`Batch::histograms`] and reason, ascending by index.
    pub rejected_histograms: Vec<(usize, Rejection)>,
    /// Index into [`Batch::exemplars`] and reason, ascending by index.
    pub rejected_exemplars: Vec<(usize, Rejection)>,
}

impl AppendReport {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.accepted = 0;
        self.rejected.clear();
        self.rejected_histograms.clear();
        self.rejected_exemplars.clear();
    }
}

/// Why a whole call failed. Nothing of the batch is stored then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The labels cannot be stored (no labels, invalid name, limit).
    #[error("invalid labels {labels}: {reason}")]
    InvalidLabels {
        /// The label set.
        labels: Labels,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The storage takes no samples at the moment (disk full, closing, not open yet).
    #[error("storage is read-only: {0}")]
    ReadOnly(String),
    /// Reading or writing a file failed.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// Data on disk is damaged.
    #[error("{path}: corrupt at offset {offset}: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The caller's [`Control`] ended the call.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// An operation the storage does not offer; names it.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// Takes samples. A handle, shared by all writers.
pub trait Appender: Send + Sync {
    /// The reference of the series with these labels; makes the series if there is none. The series is logged with the
    /// first batch that uses it.
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError>;

    /// Appends a batch: all of it is logged and visible when this returns, apart from what the report lists.
    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError>;

    /// Returns when everything appended before the call survives a power cut; callers that wait at the same time share the
    /// disk's work. For samples whose sender forgets them as soon as it has the answer. A storage that promises nothing of
    /// the kind has nothing to do.
    fn make_durable(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// The exemplars of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarSeries {
    /// Labels of the series.
    pub labels: Labels,
    /// Ascending by time.
    pub exemplars: Vec<Exemplar>,
}

/// A closed time range in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First time included.
    pub mint: i64,
    /// Last time included.
    pub maxt: i64,
}

/// What a select is for.
#[derive(Clone, Debug)]
pub struct SelectParams {
    /// Only samples of this range are wanted.
    pub range: TimeRange,
    /// Whether the set must be in order of labels. (Otherwise any order that is the same for the same storage state.)
    pub sorted: bool,
    /// At most so many series; 0: no limit.
    pub limit: usize,
}

/// The newest sample of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest {
    /// Time, ms.
    pub t: i64,
    /// Value; of a histogram sample, its sum, so that a staleness marker is one in either kind.
    pub v: f64,
    /// The histogram, if it is one.
    pub h: Option<Arc<FloatHistogram>>,
}

/// Samples of one series as columns of equal length, ascending by time. Reused from series to series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Times, ms.
    pub t: Vec<i64>,
    /// Values; staleness markers included. Of a histogram sample, its sum.
    pub v: Vec<f64>,
    /// The histogram samples among them: index into `t`, ascending, and histogram.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
    /// Start timestamps, ms, 0 where not known: as many as samples, or none at all.
    pub starts: Vec<i64>,
}

impl Samples {
    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.t.clear();
        self.v.clear();
        self.histograms.clear();
        self.starts.clear();
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// Memory of the columns, without that of histograms, which may be shared.
    pub fn bytes(&self) -> usize {
        let columns = self.t.capacity() + self.v.capacity() + self.starts.capacity();
        columns * size_of::<i64>() + self.histograms.capacity() * size_of::<(u32, Arc<FloatHistogram>)>()
    }

    /// The newest sample as [`SeriesSet::last`] has it.
    pub fn last(&self) -> Option<Newest> {
        let (&t, &v) = (self.t.last()?, self.v.last()?);
        let newest = self.histograms.last().filter(|(at, _)| *at as usize + 1 == self.t.len());
        Some(Newest { t, v, h: newest.map(|(_, h)| Arc::clone(h)) })
    }

    /// Adds a sample behind all others.
    #[inline]
    pub fn push(&mut self, t: i64, v: f64) {
        self.t.push(t);
        self.v.push(v);
    }

    /// Adds the start timestamp, ms, of the sample that is pushed next. None are kept as long as none is known; a row whose
    /// last samples came without has to be finished by [`Samples::fill_starts`].
    #[inline]
    pub fn push_start(&mut self, start: i64) {
        push_start(&mut self.starts, self.t.len(), start);
    }

    /// Makes start timestamps as many as samples, if there are any.
    pub fn fill_starts(&mut self) {
        if !self.starts.is_empty() {
            self.starts.resize(self.t.len(), 0);
        }
    }
}

/// Adds the start timestamp, ms, of sample number `at` to a list that stays empty as long as none is known.
#[inline]
pub fn push_start(starts: &mut Vec<i64>, at: usize, start: i64) {
    if start != 0 || !starts.is_empty() {
        starts.resize(at, 0);
        starts.push(start);
    }
}

/// The series a select found. Holds what it needs alive (chunks, mapped files) until it is dropped. A series may turn
/// out to have no sample in the range.
pub trait SeriesSet: Send + Sync {
    /// How many series.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of series `idx`, `idx < len()`.
    fn labels(&self, idx: usize) -> Labels;

    /// Those of them whose names `keep` accepts. Implementations do not make the others first where they can.
    fn labels_where(&self, idx: usize, keep: &dyn Fn(&str) -> bool) -> Labels {
        self.labels(idx).filtered(keep)
    }

    /// Replaces `out` by the samples of series `idx` within `range`, which lies in the select's range. With
    /// [`StorageError::Corrupt`], `out` has the samples that could be read, which are in order.
    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError>;

    /// The newest sample of series `idx` within `range`. Implementations answer from the head's hot slot where they can.
    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        let mut samples = Samples::default();
        self.read(idx, range, &mut samples)?;
        Ok(samples.last())
    }
}

/// Answers selects. A handle, shared by all readers. What goes wrong without making an answer useless is told with
/// [`Control::warn`], by the calls and by the reads of the sets they return.
pub trait Queryable: Send + Sync {
    /// The series that all `matchers` accept and that may have samples in the range.
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError>;

    /// The values of label `name`, sorted, of series that all `matchers` accept and that may have samples in `range`.
    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError>;

    /// The label names, sorted, of series that all `matchers` accept and that may have samples in `range`.
    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError>;

    /// The exemplars in `range` of the series that all matchers of one of the sets accept, in order of labels. A storage that
    /// keeps none has none.
    fn exemplars(&self, range: TimeRange, sets: &[Vec<Matcher>]) -> Result<Vec<ExemplarSeries>, StorageError> {
        let _ = (range, sets);
        Ok(Vec::new())
    }
}

/// Both sides of a storage.
pub trait Storage: Appender + Queryable {}

impl<T: Appender + Queryable> Storage for T {}
