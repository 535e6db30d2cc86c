//! Memory of chunks.
//!
//! - [`Slabs`]: buffers of the open chunks in size classes, with free lists. A chunk that outgrows its buffer moves to
//!   the next class, so half-filled memory stays small (about a fifth of the open bytes).
//! - [`Arena`]: completed chunks one after another in pages, linked from newest to oldest per series: 16 bytes beside
//!   the chunk. A page whose chunks are all too old can be dropped as a whole, without visiting the series.
//!
//! A constant run in an equal rhythm is not stored as bytes at all: open it needs no buffer, completed it takes 32 bytes
//! whatever its length.

use fk_chunk::xor;

/// "No buffer", "no chunk".
pub(crate) const NONE: u32 = 0;

/// Buffer sizes. The last one holds any chunk of the head: see `CHUNK_BYTES_MAX` there.
const CLASSES: [u16; 14] = [24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 448, 640, 832, 1056];
/// Bytes of a page, whatever its class, so that memory given back by one class fits any other.
const SLAB_PAGE_BYTES: usize = 16 << 10;
/// A handle is class, page and index within the page in bit fields, so that nothing is divided.
const CLASS_SHIFT: u32 = 28;
const INDEX_BITS: u32 = 10;
const _: () = assert!(SLAB_PAGE_BYTES / (CLASSES[0] as usize) <= 1 << INDEX_BITS);
/// End of a list of free buffers.
const NO_BUFFER: u16 = u16::MAX;

/// The largest open chunk there can be.
pub(crate) const OPEN_BYTES_MAX: usize = CLASSES[CLASSES.len() - 1] as usize;

/// Buffers of open chunks. A handle is class, page and index, plus one.
///
/// Series that began together outgrow their buffers together, so whole pages become free at a time; their memory goes
/// back to the allocator, and to the next class.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    classes: [Class; CLASSES.len()],
}

#[derive(Debug, Default)]
struct Class {
    pages: Vec<Page>,
    /// Pages that may have room; whether they do is looked up when they are on top. Invariant: exactly those listed.
    with_room: Vec<u32>,
    /// Pages without memory.
    empty: Vec<u32>,
}

#[derive(Debug)]
struct Page {
    /// No bytes while no buffer is in use.
    bytes: Box<[u8]>,
    in_use: u16,
    /// Buffers from here on have never been used.
    fresh: u16,
    /// First of the free buffers before `fresh`; each holds the number of the next in its first two bytes.
    free: u16,
    listed: bool,
}

fn per_page(class: usize) -> usize {
    SLAB_PAGE_BYTES / usize::from(CLASSES[class])
}

impl Slabs {
    /// Whether so little room is left in the handles that a batch might not fit: 2 GiB of one class are in use.
    pub fn is_full(&self) -> bool {
        self.classes.iter().any(|class| class.pages.len() > 1 << (CLASS_SHIFT - INDEX_BITS - 1))
    }

    /// A buffer of at least `bytes` bytes, `bytes <= OPEN_BYTES_MAX`. Its contents are arbitrary.
    pub fn alloc(&mut self, bytes: usize) -> u32 {
        let class = CLASSES.iter().position(|size| usize::from(*size) >= bytes).expect("no open chunk is larger");
        let slab = &mut self.classes[class];
        let page_idx = slab.page_with_room(per_page(class));
        let page = &mut slab.pages[page_idx as usize];
        let idx = if page.free != NO_BUFFER {
            let idx = page.free;
            let start = usize::from(idx) * usize::from(CLASSES[class]);
            page.free = u16::from_le_bytes([page.bytes[start], page.bytes[start + 1]]);
            idx
        } else {
            page.fresh += 1;
            page.fresh - 1
        };
        page.in_use += 1;
        ((class as u32) << CLASS_SHIFT | page_idx << INDEX_BITS | u32::from(idx)) + 1
    }

    /// Gives a buffer back.
    pub fn free(&mut self, handle: u32) {
        let (class, page_idx, idx) = split(handle);
        let slab = &mut self.classes[class];
        let page = &mut slab.pages[page_idx];
        page.in_use -= 1;
        if page.in_use == 0 {
            *page = Page { bytes: Box::default(), in_use: 0, fresh: 0, free: NO_BUFFER, listed: page.listed };
            slab.empty.push(page_idx as u32);
            return;
        }
        let start = idx * usize::from(CLASSES[class]);
        page.bytes[start..start + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = idx as u16;
        if !page.listed {
            page.listed = true;
            slab.with_room.push(page_idx as u32);
        }
    }

    /// The bytes of a buffer.
    #[inline]
    pub fn get(&self, handle: u32) -> &[u8] {
        let (class, page_idx, idx) = split(handle);
        let size = usize::from(CLASSES[class]);
        &self.classes[class].pages[page_idx].bytes[idx * size..][..size]
    }

    /// The bytes of a buffer, for writing.
    #[inline]
    pub fn get_mut(&mut self, handle: u32) -> &mut [u8] {
        let (class, page_idx, idx) = split(handle);
        let size = usize::from(CLASSES[class]);
        &mut self.classes[class].pages[page_idx].bytes[idx * size..][..size]
    }

    /// Moves the first `used` bytes of a buffer into one of at least `bytes` bytes.
    #[cold]
    pub fn grow(&mut self, handle: u32, used: usize, bytes: usize) -> u32 {
        let mut copy = [0; OPEN_BYTES_MAX];
        copy[..used].copy_from_slice(&self.get(handle)[..used]);
        let larger = self.alloc(bytes);
        self.get_mut(larger)[..used].copy_from_slice(&copy[..used]);
        self.free(handle);
        larger
    }

    pub fn memory_bytes(&self) -> usize {
        let class = |c: &Class| {
            c.pages.iter().map(|p| p.bytes.len()).sum::<usize>()
                + c.pages.capacity() * size_of::<Page>()
                + (c.with_room.capacity() + c.empty.capacity()) * 4
        };
        self.classes.iter().map(class).sum()
    }
}

impl Class {
    /// A page with a free buffer.
    fn page_with_room(&mut self, per_page: usize) -> u32 {
        while let Some(&page_idx) = self.with_room.last() {
            let page = &mut self.pages[page_idx as usize];
            if page.in_use > 0 && usize::from(page.in_use) < per_page {
                return page_idx;
            }
            page.listed = false;
            self.with_room.pop();
        }
        let page = Page { bytes: vec![0; SLAB_PAGE_BYTES].into(), in_use: 0, fresh: 0, free: NO_BUFFER, listed: true };
        let page_idx = match self.empty.pop() {
            Some(page_idx) => {
                self.pages[page_idx as usize] = page;
                page_idx
            }
            None => {
                self.pages.push(page);
                self.pages.len() as u32 - 1
            }
        };
        self.with_room.push(page_idx);
        page_idx
    }
}

#[inline]
fn split(handle: u32) -> (usize, usize, usize) {
    let handle = handle - 1;
    let page = handle >> INDEX_BITS & ((1 << (CLASS_SHIFT - INDEX_BITS)) - 1);
    ((handle >> CLASS_SHIFT) as usize, page as usize, (handle & ((1 << INDEX_BITS) - 1)) as usize)
}

/// Bytes of the buffer with this handle.
#[inline]
pub(crate) fn capacity(handle: u32) -> usize {
    usize::from(CLASSES[split(handle).0])
}

/// Samples at equal distances with one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    pub first: i64,
    pub delta: i64,
    pub v: f64,
    pub count: u16,
}

impl Run {
    /// The XOR chunk of this run, written into `buf`.
    pub fn write_xor(&self, buf: &mut [u8; OPEN_BYTES_MAX]) -> xor::XorState {
        let t = |i: u16| self.first.wrapping_add(self.delta.wrapping_mul(i64::from(i)));
        if self.count < 2 {
            return xor::XorState::start_one(buf, (self.first, self.v));
        }
        let mut state = xor::XorState::start(buf, (self.first, self.v), (t(1), self.v));
        for i in 2..self.count {
            let encoded = state.encode(t(i), self.v);
            state.write(buf, &encoded);
        }
        xor::set_count(buf, state.count);
        state
    }

    /// Appends the samples in `mint..=maxt` among the first `samples_max`.
    pub fn decode_range(&self, samples_max: usize, mint: i64, maxt: i64, ts: &mut Vec<i64>, vs: &mut Vec<f64>) {
        let mut t = self.first;
        for _ in 0..usize::from(self.count).min(samples_max) {
            if t > maxt {
                break;
            }
            if t >= mint {
                ts.push(t);
                vs.push(self.v);
            }
            t = t.wrapping_add(self.delta);
        }
    }
}

/// A completed chunk as found in the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completed<'a> {
    /// The chunk before it, [`NONE`] at the oldest.
    pub older: u32,
    /// Time of its last sample.
    pub last_time: i64,
    pub data: ChunkData<'a>,
}

/// The samples of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChunkData<'a> {
    Xor(&'a [u8]),
    Run(Run),
}

/// Completed chunks. A handle is the place in units of 8 bytes; place 0 is not used.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// Invariant: only the last page grows, never beyond [`ARENA_PAGE_BYTES`].
    pages: Vec<Vec<u8>>,
}

/// Bytes of an arena page.
const ARENA_PAGE_BYTES: usize = 256 << 10;
const UNITS_PER_PAGE: u32 = (ARENA_PAGE_BYTES / 8) as u32;
/// Pages that handles can reach: 32 GiB of chunks per shard.
const ARENA_PAGES_MAX: usize = (u32::MAX / UNITS_PER_PAGE) as usize;
/// older u32, length u16, count u16, last time i64.
const RECORD_HEADER: usize = 16;
/// The length that marks a constant run; its body is the first time and the value.
const RUN_LEN: u16 = u16::MAX;

impl Arena {
    /// Whether so little room is left that a batch might not fit.
    pub fn is_full(&self) -> bool {
        // A batch completes at most one chunk per 30 samples and stays far below a thousand pages.
        self.pages.len() + 1024 > ARENA_PAGES_MAX
    }

    /// Keeps a completed chunk and returns its handle.
    pub fn push(&mut self, older: u32, count: u16, last_time: i64, data: ChunkData<'_>) -> u32 {
        let mut run_body = [0; 16];
        let (len, body): (u16, &[u8]) = match data {
            ChunkData::Xor(bytes) => (bytes.len() as u16, bytes),
            ChunkData::Run(run) => {
                run_body[..8].copy_from_slice(&run.first.to_le_bytes());
                run_body[8..].copy_from_slice(&run.v.to_bits().to_le_bytes());
                (RUN_LEN, &run_body)
            }
        };
        let size = (RECORD_HEADER + body.len()).next_multiple_of(8);
        if self.pages.last().is_none_or(|page| page.len() + size > ARENA_PAGE_BYTES) {
            let mut page = Vec::with_capacity(if self.pages.is_empty() { 4096 } else { ARENA_PAGE_BYTES });
            if self.pages.is_empty() {
                page.extend([0; 8]);
            }
            self.pages.push(page);
        }
        let page_idx = self.pages.len() as u32 - 1;
        let page = self.pages.last_mut().expect("pushed if there was none");
        let at = page.len();
        page.extend_from_slice(&older.to_le_bytes());
        page.extend_from_slice(&len.to_le_bytes());
        page.extend_from_slice(&count.to_le_bytes());
        page.extend_from_slice(&last_time.to_le_bytes());
        page.extend_from_slice(body);
        page.resize(at + size, 0);
        page_idx * UNITS_PER_PAGE + (at / 8) as u32
    }

    /// The chunk with this handle, which is not [`NONE`].
    #[inline]
    pub fn get(&self, handle: u32) -> Completed<'_> {
        let page = &self.pages[(handle / UNITS_PER_PAGE) as usize];
        let record = &page[(handle % UNITS_PER_PAGE) as usize * 8..];
        let u16_at = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let i64_at = |at: usize| i64::from_le_bytes(*record[at..].first_chunk().expect("records are whole"));
        let older = u32::from_le_bytes(*record.first_chunk().expect("records are whole"));
        let (len, count, last_time) = (u16_at(4), u16_at(6), i64_at(8));
        let data = if len == RUN_LEN {
            let first = i64_at(16);
            let delta = if count > 1 { last_time.wrapping_sub(first) / i64::from(count - 1) } else { 0 };
            ChunkData::Run(Run { first, delta, v: f64::from_bits(i64_at(24) as u64), count })
        } else {
            ChunkData::Xor(&record[RECORD_HEADER..RECORD_HEADER + usize::from(len)])
        };
        Completed { older, last_time, data }
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Buffers keep their bytes while others come, go and grow; without buffers there is no memory.
        #[test]
        fn buffers_do_not_meet(steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>(), 2usize..=OPEN_BYTES_MAX), 1..150)) {
            let mut slabs = Slabs::default();
            let mut live: Vec<(u32, usize, u8)> = Vec::new();
            for (n, (what, idx, bytes)) in steps.into_iter().enumerate() {
                let mark = n as u8;
                match what {
                    0 if !live.is_empty() => {
                        let (handle, ..) = live.swap_remove(idx.index(live.len()));
                        slabs.free(handle);
                    }
                    1 if !live.is_empty() => {
                        let at = idx.index(live.len());
                        let (handle, used, _) = &mut live[at];
                        *handle = slabs.grow(*handle, *used, bytes.max(*used));
                    }
                    _ => {
                        let handle = slabs.alloc(bytes);
                        slabs.get_mut(handle)[..bytes].fill(mark);
                        live.push((handle, bytes, mark));
                    }
                }
            }
            for (handle, used, mark) in &live {
                prop_assert!(slabs.get(*handle)[..*used].iter().all(|b| b == mark));
            }
            for (handle, ..) in live {
                slabs.free(handle);
            }
            prop_assert!(slabs.classes.iter().all(|c| c.pages.iter().all(|p| p.bytes.is_empty())));
        }
    }

    #[test]
    fn completed_chunks_come_back() {
        let mut arena = Arena::default();
        let run = Run { first: -5, delta: 15_000, v: 2.5, count: 120 };
        let (mut handles, mut older) = (Vec::new(), NONE);
        for n in 0..3000usize {
            let bytes = vec![n as u8; 1 + n % OPEN_BYTES_MAX];
            let (count, last_time, data) = match n % 3 {
                0 => (run.count, -5 + 119 * 15_000, ChunkData::Run(run)),
                _ => (7, n as i64, ChunkData::Xor(&bytes)),
            };
            older = arena.push(older, count, last_time, data);
            handles.push(older);
        }
        for (n, handle) in handles.iter().enumerate().rev() {
            let chunk = arena.get(*handle);
            assert_eq!(chunk.older, if n == 0 { NONE } else { handles[n - 1] });
            match chunk.data {
                ChunkData::Run(found) => assert_eq!((n % 3, found), (0, run)),
                ChunkData::Xor(bytes) => {
                    assert_eq!((chunk.last_time, bytes), (n as i64, &vec![n as u8; 1 + n % OPEN_BYTES_MAX][..]))
                }
            }
        }
    }
}
