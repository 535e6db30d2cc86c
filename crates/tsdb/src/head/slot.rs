//! The slot: everything an append touches of a series, in one cache line.
//!
//! ```text
//! last t 8 │ last v 8 │ Δt 8 │ len 2 │ count 2 │ bit state 3 (+1)      the XOR writer, see chunk::xor
//! next cut 8 │ commit 8 │ open buffer 4 │ newest completed chunk 4 │ commit before 2 │ count before 2 │ completed 2 │ flags 1
//! ```
//!
//! The open chunk has two forms: a *run* (one value, one rhythm) lives in the slot alone; from the first change on there
//! is a buffer with XOR bytes.
//!
//! Commit numbers let readers see batches as a whole: a reader that began at commit S takes the samples of a newer
//! commit away again ([`Slot::visible`]), which works for the last commit; two newer ones are a conflict, and the reader
//! then looks again with all shards held.

use fk_chunk::xor::{self, XorState};
use fk_chunk::{ChunkError, Encoding};
use fk_storage::HistogramValue;

use super::arena::{Arena, NewChunk};
use super::buffers::{self, ChunkData, HISTOGRAMS, NONE, OPEN_BYTES_MAX, Run, Slabs, XOR2};
use super::histograms::{self, CHUNK_BYTES, OpenHistogram, Pushing};

mod xor2_chunk;

/// How chunks are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CutRules {
    /// Samples a chunk should have.
    pub samples: u16,
    /// No chunk crosses a multiple of this many ms.
    pub range_ms: i64,
    /// Chunks of floats are XOR2 chunks, which keep start timestamps.
    pub xor2: bool,
    /// Chunks of histograms keep start timestamps.
    pub histogram_starts: bool,
}

/// A chunk with more bytes takes no further sample (`maxBytesPerXORChunk` in Prometheus), so none is larger than 1 KiB.
pub const CHUNK_BYTES_MAX: usize = 1024 - 19;
const _: () = assert!(CHUNK_BYTES_MAX + xor::SAMPLE_BYTES_MAX <= OPEN_BYTES_MAX);

/// `count_before`: the commit completed a chunk, so what was before cannot be told from the count alone.
const COUNT_LOST: u16 = u16::MAX;

/// In the place of a length: the open chunk has a writer of its own. As a length it is too long, so no float is written into
/// a buffer that is none.
pub(super) const WRITER_LEN: u16 = u16::MAX;
const _: () = assert!(WRITER_LEN as usize > CHUNK_BYTES_MAX);

/// The series has been written to the log.
const LOGGED: u8 = 1;

/// The series was made after the last truncation of the head, so its first sample may be on its way.
const FRESH: u8 = 2;

#[repr(align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    open: XorState,
    next_cut: i64,
    commit: u64,
    buffer: u32,
    /// The newest completed chunk that the head still has.
    completed: u32,
    /// How far the commit before lies back, at most `u16::MAX`.
    commit_back: u16,
    /// Samples in the open chunk before the commit.
    count_before: u16,
    /// Counts the chunks completed, whether the head still has them or not; wraps around.
    n_completed: u16,
    flags: u8,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// What a reader may see of a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Visible {
    /// Chunks completed so far, see [`Slot::n_completed`].
    pub n_completed: u16,
    /// Samples of the open chunk.
    pub count: u16,
    /// The newest sample, if nothing had to be taken away.
    pub last: Option<(i64, f64)>,
}

/// See [`Slot::state`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotState {
    pub open: XorState,
    pub next_cut: i64,
    pub n_completed: u16,
}

/// The slot has changed twice since the reader began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict;

impl Slot {
    /// Time and value of the newest sample.
    #[inline]
    pub fn last(&self) -> Option<(i64, f64)> {
        (self.open.count > 0).then_some((self.open.t, self.open.v))
    }

    /// Time of the newest sample of any kind.
    #[inline]
    pub fn last_time(&self) -> Option<i64> {
        (self.open.count > 0).then_some(self.open.t)
    }

    /// Whether a float sample at `t` needs nothing but to be stored.
    #[inline]
    pub fn takes_plainly(&self, t: i64) -> bool {
        self.is_logged() && !self.is_histogram() && (self.open.count == 0 || t > self.open.t)
    }

    pub fn is_logged(&self) -> bool {
        self.flags & LOGGED != 0
    }

    pub fn set_logged(&mut self) {
        self.flags |= LOGGED;
    }

    /// A slot for a series that has just been made.
    pub fn fresh() -> Slot {
        Slot { flags: FRESH, ..Slot::default() }
    }

    /// Whether the series is new since the last truncation.
    pub fn is_fresh(&self) -> bool {
        self.flags & FRESH != 0
    }

    /// Whether the series is new since the last truncation; it is no more from now on.
    pub fn take_fresh(&mut self) -> bool {
        let fresh = self.flags & FRESH != 0;
        self.flags &= !FRESH;
        fresh
    }

    /// What a reader that began at commit `seen` may see.
    #[inline]
    pub fn visible(&self, seen: u64) -> Result<Visible, Conflict> {
        if self.commit <= seen {
            return Ok(Visible { n_completed: self.n_completed, count: self.open.count, last: self.last() });
        }
        if self.count_before == COUNT_LOST || self.commit - u64::from(self.commit_back) > seen {
            return Err(Conflict);
        }
        Ok(Visible { n_completed: self.n_completed, count: self.count_before, last: None })
    }

    /// The open chunk. The count in the header of its bytes is out of date.
    pub fn open_data<'a>(&self, slabs: &'a Slabs) -> ChunkData<'a> {
        match self.buffer {
            NONE => ChunkData::Run(self.run()),
            handle if handle >= XOR2 => ChunkData::Encoded(Encoding::Xor2, slabs.xor2.get(handle - XOR2).bytes()),
            handle if handle >= HISTOGRAMS => {
                let open = slabs.histograms.get(handle - HISTOGRAMS);
                ChunkData::Encoded(open.encoding(), open.bytes())
            }
            buffer => ChunkData::Xor(&slabs.get(buffer)[..usize::from(self.open.len)]),
        }
    }

    /// The byte behind which the next sample of the open chunk goes, where it has a buffer; 0 otherwise. What it says is of no
    /// interest: it was looked at, so it will be near when it is written.
    #[inline]
    pub fn touch(&self, slabs: &Slabs) -> u8 {
        match self.buffer {
            NONE | HISTOGRAMS.. => 0,
            buffer => slabs.byte(buffer, usize::from(self.open.len).saturating_sub(1)).unwrap_or(0),
        }
    }

    /// The open chunk, if it is one of histograms.
    pub fn open_histogram<'a>(&self, slabs: &'a Slabs) -> Option<&'a OpenHistogram> {
        self.is_histogram().then(|| slabs.histograms.get(self.buffer - HISTOGRAMS))
    }

    /// Whether the newest sample is a histogram.
    pub fn is_histogram(&self) -> bool {
        (HISTOGRAMS..XOR2).contains(&self.buffer)
    }

    /// The newest completed chunk that the head still has.
    pub fn completed(&self) -> u32 {
        self.completed
    }

    /// The same, to be changed when the arena moves its entries.
    pub fn completed_mut(&mut self) -> &mut u32 {
        &mut self.completed
    }

    /// How many chunks have been completed, modulo 2^16: a reader that remembers the number finds the chunk that was open
    /// then, however many have been completed or dropped since.
    pub fn n_completed(&self) -> u16 {
        self.n_completed
    }

    /// Drops the completed chunks that end before `mint`. Returns the oldest one that stays and how many went.
    pub fn drop_chunks_before(&mut self, mint: i64, arena: &mut Arena) -> (u32, usize) {
        let (newest, oldest, dropped) = arena.drop_before(self.completed, mint);
        self.completed = newest;
        (oldest, dropped)
    }

    /// Gives back all that the series has. The slot is as new.
    pub fn clear(&mut self, slabs: &mut Slabs, arena: &mut Arena) {
        if self.buffer != NONE {
            slabs.free(self.buffer);
        }
        arena.drop_list(self.completed);
        *self = Slot::default();
    }

    /// Samples of the open chunk.
    pub fn open_count(&self) -> u16 {
        self.open.count
    }

    /// The bytes of the open chunk, as far as they are used; none for a run.
    pub fn open_bytes<'a>(&self, slabs: &'a Slabs) -> &'a [u8] {
        match self.open_data(slabs) {
            ChunkData::Run(_) => &[],
            ChunkData::Xor(bytes) | ChunkData::Encoded(_, bytes) => bytes,
        }
    }

    /// What has to be kept of a slot to go on with the series later, beside the bytes of its chunks.
    pub fn state(&self) -> SlotState {
        SlotState { open: self.open, next_cut: self.next_cut, n_completed: self.n_completed }
    }

    /// The slot of a logged series that was kept: its state, the bytes of its open chunk (none for a run) and its newest
    /// completed chunk. `None` if they do not belong together.
    pub fn restore(state: &SlotState, bytes: &[u8], completed: u32, slabs: &mut Slabs) -> Option<Slot> {
        let open = state.open;
        if bytes.len() > OPEN_BYTES_MAX || open.free_bits > 8 || usize::from(open.len) != bytes.len() {
            return None;
        }
        let mut buffer = NONE;
        if !bytes.is_empty() {
            xor::first_time(bytes)?;
            buffer = slabs.alloc(bytes.len());
            slabs.get_mut(buffer)[..bytes.len()].copy_from_slice(bytes);
        }
        let SlotState { next_cut, n_completed, .. } = *state;
        Some(Slot { open, next_cut, buffer, completed, n_completed, flags: LOGGED, ..Slot::default() })
    }

    /// The same of a slot whose open chunk is one of histograms.
    pub fn restore_histogram(
        state: &SlotState,
        open: OpenHistogram,
        completed: u32,
        slabs: &mut Slabs,
    ) -> Option<Slot> {
        if open.count() != usize::from(state.open.count) || open.last_time() != state.open.t {
            return None;
        }
        let buffer = slabs.histograms.insert(Box::new(open)) + HISTOGRAMS;
        Some(Slot::with_writer(state, buffer, completed))
    }

    /// The slot of a logged series whose open chunk has a writer of its own under the handle `buffer`.
    fn with_writer(state: &SlotState, buffer: u32, completed: u32) -> Slot {
        let SlotState { open, next_cut, n_completed } = *state;
        Slot { open, next_cut, buffer, completed, n_completed, flags: LOGGED, ..Slot::default() }
    }

    /// Time of the first sample of the open chunk.
    pub fn open_first_time(&self, slabs: &Slabs) -> i64 {
        match self.open_data(slabs) {
            ChunkData::Run(run) => run.first,
            ChunkData::Xor(bytes) => xor::first_time(bytes).expect("an open chunk has a sample"),
            ChunkData::Encoded(Encoding::Xor2, bytes) => {
                Encoding::Xor2.first_time(bytes).ok().flatten().expect("an open chunk has a sample")
            }
            ChunkData::Encoded(..) => slabs.histograms.get(self.buffer - HISTOGRAMS).first_time(),
        }
    }

    fn run(&self) -> Run {
        let back = (self.open.delta as i64).wrapping_mul(i64::from(self.open.count) - 1);
        Run {
            first: self.open.t.wrapping_sub(back),
            delta: self.open.delta as i64,
            v: self.open.v,
            count: self.open.count,
        }
    }

    /// Adds a sample that is newer than all others, as part of `commit`, to this slot, which is number `idx`. Returns
    /// whether a chunk was begun.
    #[inline]
    pub fn push(
        &mut self,
        idx: u32,
        (t, v): (i64, f64),
        commit: u64,
        rules: &CutRules,
        slabs: &mut Slabs,
        arena: &mut Arena,
    ) -> bool {
        self.join(commit);
        let count = self.open.count;
        if count == 0 {
            self.begin((t, v), rules);
            return true;
        }
        if count == rules.samples / 4 {
            self.next_cut = chunk_end(self.open_first_time(slabs), self.open.t, self.next_cut, 4.0);
        }
        if t >= self.next_cut
            || u32::from(count) >= u32::from(rules.samples) * 2
            || usize::from(self.open.len) > CHUNK_BYTES_MAX
        {
            self.complete(idx, rules, slabs, arena);
            self.begin((t, v), rules);
            return true;
        }
        if self.buffer == NONE {
            let delta = t.wrapping_sub(self.open.t) as u64;
            if v.to_bits() == self.open.v.to_bits() && (count == 1 || delta == self.open.delta) {
                (self.open.t, self.open.delta, self.open.count) = (t, delta, count + 1);
                return false;
            }
            self.materialise(slabs, (t, v));
            if count == 1 {
                return false;
            }
        }
        let encoded = self.open.encode(t, v);
        let len = encoded.len_after();
        if len > buffers::capacity(self.buffer) {
            self.buffer = slabs.grow(self.buffer, usize::from(self.open.len), len);
        }
        self.open.write(slabs.get_mut(self.buffer), &encoded);
        false
    }

    #[inline]
    fn join(&mut self, commit: u64) {
        if self.commit != commit {
            self.commit_back = (commit - self.commit).min(u64::from(u16::MAX)) as u16;
            self.count_before = self.open.count;
            self.commit = commit;
        }
    }

    fn begin(&mut self, (t, v): (i64, f64), rules: &CutRules) {
        self.open = XorState { t, v, count: 1, ..XorState::default() };
        self.buffer = NONE;
        self.next_cut = (t / rules.range_ms).wrapping_mul(rules.range_ms).wrapping_add(rules.range_ms);
    }

    /// As [`Slot::push`], of a histogram. On an error nothing has happened.
    pub fn push_histogram(
        &mut self,
        idx: u32,
        sample: histograms::Sample<'_>,
        commit: u64,
        rules: &CutRules,
        slabs: &mut Slabs,
        arena: &mut Arena,
    ) -> Result<bool, ChunkError> {
        let t = sample.t;
        let v = match sample.h {
            HistogramValue::Int(h) => h.sum,
            HistogramValue::Float(h) => h.sum,
        };
        let with_starts = rules.histogram_starts;
        let next = match self.open_histogram(slabs) {
            Some(open) if t >= self.next_cut || open.is_full() || open.encoding().has_starts() != with_starts => {
                Box::new(OpenHistogram::begin(with_starts, sample, Some(open))?)
            }
            None => Box::new(OpenHistogram::begin(with_starts, sample, None)?),
            Some(_) => {
                let open = slabs.histograms.get_mut(self.buffer - HISTOGRAMS);
                match open.push(sample)? {
                    Pushing::Next(next) => next,
                    Pushing::Done => {
                        let bytes = open.bytes().len();
                        if !open.end_foreseen && bytes >= CHUNK_BYTES / 4 {
                            open.end_foreseen = true;
                            let ratio = CHUNK_BYTES as f64 / bytes as f64;
                            self.next_cut = chunk_end(open.first_time(), t, self.next_cut, ratio);
                        }
                        self.join(commit);
                        (self.open.t, self.open.v, self.open.count) = (t, v, open.count() as u16);
                        return Ok(false);
                    }
                }
            }
        };
        self.join(commit);
        if self.open.count > 0 {
            self.complete(idx, rules, slabs, arena);
        }
        self.begin((t, v), rules);
        // So that a float does not go into this chunk.
        self.open.len = WRITER_LEN;
        self.buffer = slabs.histograms.insert(next) + HISTOGRAMS;
        Ok(true)
    }

    /// Gives the run its bytes. A run of one sample takes `next` in as well, because the second sample of a chunk has
    /// another form than all later ones.
    #[cold]
    fn materialise(&mut self, slabs: &mut Slabs, next: (i64, f64)) {
        let mut bytes = [0; OPEN_BYTES_MAX];
        let run = self.run();
        self.open = match run.count {
            1 => XorState::start(&mut bytes, (run.first, run.v), next),
            _ => run.write_xor(&mut bytes),
        };
        let len = usize::from(self.open.len);
        self.buffer = slabs.alloc(len);
        slabs.get_mut(self.buffer)[..len].copy_from_slice(&bytes[..len]);
    }

    #[cold]
    fn complete(&mut self, idx: u32, rules: &CutRules, slabs: &mut Slabs, arena: &mut Arena) {
        let mut chunk = NewChunk {
            slot: idx,
            older: self.completed,
            encoding: Encoding::Xor,
            first_time: 0,
            last_time: self.open.t,
        };
        if let Some(open) = self.open_histogram(slabs) {
            (chunk.encoding, chunk.first_time) = (open.encoding(), open.first_time());
            self.completed = arena.push(chunk, open.bytes());
            slabs.free(self.buffer);
        } else if self.buffer >= XOR2 {
            (chunk.encoding, chunk.first_time) = (Encoding::Xor2, self.open_first_time(slabs));
            self.completed = arena.push(chunk, self.open_bytes(slabs));
            slabs.free(self.buffer);
        } else if self.buffer == NONE && rules.xor2 {
            let run = self.run();
            (chunk.encoding, chunk.first_time) = (Encoding::Xor2, run.first);
            self.completed = arena.push(chunk, run.to_xor2().bytes());
        } else if self.buffer == NONE {
            let run = self.run();
            let mut bytes = [0; OPEN_BYTES_MAX];
            let len = run.write_xor(&mut bytes).len;
            chunk.first_time = run.first;
            self.completed = arena.push(chunk, &bytes[..usize::from(len)]);
        } else {
            let bytes = &mut slabs.get_mut(self.buffer)[..usize::from(self.open.len)];
            xor::set_count(bytes, self.open.count);
            chunk.first_time = xor::first_time(bytes).expect("an open chunk has a sample");
            self.completed = arena.push(chunk, bytes);
            slabs.free(self.buffer);
        }
        self.n_completed = self.n_completed.wrapping_add(1);
        self.count_before = COUNT_LOST;
    }
}

/// Where a chunk that took from `start` to `now` for one part in `ratio` of its contents should end, so that the chunks up to `end`
/// are about equally full (`computeChunkEndTime` in Prometheus).
pub fn chunk_end(start: i64, now: i64, end: i64, ratio: f64) -> i64 {
    let left = end.wrapping_sub(start) as f64;
    let chunks = left / (now.wrapping_sub(start).wrapping_add(1) as f64 * ratio);
    if chunks <= 1.0 { end } else { (start as f64 + left / chunks.floor()) as i64 }
}

#[cfg(test)]
mod tests {
    use super::super::arena::{self, ChunkBytes, Completed};
    use super::*;

    const RULES: CutRules = CutRules { samples: 120, range_ms: 7_200_000, xor2: false, histogram_starts: false };

    fn staged<'a>(chunk: &Completed<'a>) -> &'a [u8] {
        let ChunkBytes::Staged(_, bytes) = chunk.bytes else { panic!("nothing has been moved") };
        bytes
    }

    #[derive(Default)]
    struct Series {
        slot: Slot,
        slabs: Slabs,
        arena: Arena,
    }

    impl Series {
        fn push(&mut self, t: i64, v: f64, commit: u64) -> bool {
            self.slot.push(7, (t, v), commit, &RULES, &mut self.slabs, &mut self.arena)
        }

        /// Sample counts of the chunks, oldest first.
        fn counts(&self) -> Vec<usize> {
            let mut counts = vec![usize::from(self.slot.visible(u64::MAX).unwrap().count)];
            let mut next = self.slot.completed();
            while next != arena::NONE {
                let chunk = self.arena.get(next);
                counts.push(xor::count(staged(&chunk)).unwrap());
                next = chunk.older;
            }
            counts.reverse();
            counts
        }
    }

    #[track_caller]
    fn check_cuts(times: impl IntoIterator<Item = i64>, value: impl Fn(i64) -> f64, expected: &[usize]) {
        let mut series = Series::default();
        let begun = times.into_iter().filter(|t| series.push(*t, value(*t), 0)).count();
        assert_eq!(series.counts(), expected);
        assert_eq!(begun, expected.len());
    }

    #[test]
    fn chunks_are_cut_where_prometheus_cuts() {
        let every = |step: i64, n: i64| (0..n).map(move |i| i * step);
        for value in [|_| 1.0, |t| t as f64] {
            // Two hours of 15 s samples are four equal chunks; the next range begins another.
            check_cuts(every(15_000, 500), value, &[120, 120, 120, 120, 20]);
            // One a minute: 120 in two hours, which are not split.
            check_cuts(every(60_000, 130), value, &[120, 10]);
            // The rhythm quickens after the end has been foreseen: twice the number is the limit.
            check_cuts((0..40).map(|i| i * 20_000).chain((1..300).map(|i| 780_000 + i)), value, &[240, 99]);
        }
    }

    #[test]
    fn a_chunk_of_arbitrary_values_is_cut_by_its_size() {
        let mut series = Series::default();
        for i in 0..300u64 {
            let mixed = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            series.push((i * 15_000 + mixed % 1000) as i64, f64::from_bits(mixed), 0);
        }
        let (mut next, mut chunks) = (series.slot.completed(), 0);
        while next != arena::NONE {
            let chunk = series.arena.get(next);
            let bytes = staged(&chunk);
            assert!((CHUNK_BYTES_MAX + 1..=1024).contains(&bytes.len()), "{}", bytes.len());
            (next, chunks) = (chunk.older, chunks + 1);
        }
        assert_eq!((chunks, series.counts().iter().sum::<usize>()), (2, 300));
    }

    #[test]
    fn the_last_commit_can_be_taken_away_again() {
        let mut series = Series::default();
        series.push(10, 1.0, 3);
        series.push(20, 2.0, 5);
        series.push(21, 3.0, 5);
        let seen = |series: &Series, commit| series.slot.visible(commit).ok().map(|v| (v.count, v.last));
        assert_eq!(seen(&series, 6), Some((3, Some((21, 3.0)))));
        assert_eq!(seen(&series, 5), Some((3, Some((21, 3.0)))));
        assert_eq!(seen(&series, 4), Some((1, None)));
        assert_eq!(seen(&series, 3), Some((1, None)));
        assert_eq!(seen(&series, 2), None, "two commits are newer");
        // Completing a chunk cannot be undone by a count.
        series.push(7_200_000, 4.0, 9);
        assert_eq!(seen(&series, 9), Some((1, Some((7_200_000, 4.0)))));
        assert_eq!(seen(&series, 8), None);
    }
}
