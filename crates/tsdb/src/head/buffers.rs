//! Memory of chunks.
//!
//! - [`Slabs`]: buffers of the open chunks in size classes, with free lists. A chunk that outgrows its buffer moves to
//!   the next class, so half-filled memory stays small (about a fifth of the open bytes).
//! - [`Arena`]: completed chunks one after another in pages, linked from newest to oldest per series: 16 bytes beside
//!   the chunk. A page whose chunks are all too old can be dropped as a whole, without visiting the series.
//!
//! A constant run in an equal rhythm is not stored as bytes at all: open it needs no buffer, completed it takes 32 bytes
//! whatever its length.

use crate::chunk::xor;

/// "No buffer", "no chunk".
pub(crate) const NONE: u32 = 0;

/// Buffer sizes. The last one holds any chunk of the head: see `CHUNK_BYTES_MAX` there.
const CLASSES: [u16; 14] = [24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 448, 640, 832, 1056];
/// A page of a class takes about so many bytes.
const SLAB_PAGE_BYTES: usize = 16 << 10;
const CLASS_SHIFT: u32 = 28;

/// The largest open chunk there can be.
pub(crate) const OPEN_BYTES_MAX: usize = CLASSES[CLASSES.len() - 1] as usize;

/// Buffers of open chunks. A handle is the class and the index within it, plus one.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    classes: [Class; CLASSES.len()],
}

#[derive(Debug, Default)]
struct Class {
    pages: Vec<Box<[u8]>>,
    free: Vec<u32>,
    next: u32,
}

fn per_page(class: usize) -> usize {
    SLAB_PAGE_BYTES / usize::from(CLASSES[class])
}

impl Slabs {
    /// A buffer of at least `bytes` bytes, `bytes <= OPEN_BYTES_MAX`. Its contents are arbitrary.
    pub fn alloc(&mut self, bytes: usize) -> u32 {
        let class = CLASSES.iter().position(|size| usize::from(*size) >= bytes).expect("no open chunk is larger");
        let slab = &mut self.classes[class];
        let idx = slab.free.pop().unwrap_or_else(|| {
            let idx = slab.next;
            slab.next += 1;
            if idx as usize / per_page(class) == slab.pages.len() {
                slab.pages.push(vec![0; per_page(class) * usize::from(CLASSES[class])].into());
            }
            idx
        });
        ((class as u32) << CLASS_SHIFT) + idx + 1
    }

    /// Gives a buffer back.
    pub fn free(&mut self, handle: u32) {
        let (class, idx) = split(handle);
        self.classes[class].free.push(idx as u32);
    }

    /// The bytes of a buffer.
    #[inline]
    pub fn get(&self, handle: u32) -> &[u8] {
        let (class, idx) = split(handle);
        let (per_page, size) = (per_page(class), usize::from(CLASSES[class]));
        &self.classes[class].pages[idx / per_page][idx % per_page * size..][..size]
    }

    /// The bytes of a buffer, for writing.
    #[inline]
    pub fn get_mut(&mut self, handle: u32) -> &mut [u8] {
        let (class, idx) = split(handle);
        let (per_page, size) = (per_page(class), usize::from(CLASSES[class]));
        &mut self.classes[class].pages[idx / per_page][idx % per_page * size..][..size]
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
        self.classes.iter().map(|c| c.pages.iter().map(|p| p.len()).sum::<usize>() + c.free.capacity() * 4).sum()
    }
}

#[inline]
fn split(handle: u32) -> (usize, usize) {
    let handle = handle - 1;
    ((handle >> CLASS_SHIFT) as usize, (handle & ((1 << CLASS_SHIFT) - 1)) as usize)
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
