//! Memory of open chunks: [`Slabs`], buffers in size classes with free lists. A chunk that outgrows its buffer moves to the
//! next class, so half-filled memory stays small (about a fifth of the open bytes). Completed chunks go to the
//! [`super::arena`].
//!
//! Open chunks of histograms, and of floats with start timestamps, are larger or rarer and keep their writers: they live in lists of
//! their own ([`OpenChunks`]), under handles above those of the buffers.
//!
//! A constant run in an equal rhythm needs no buffer: it lives in the slot until the first change, or until it is completed.

use fk_chunk::xor2::Xor2Writer;
use fk_chunk::{Encoding, xor};

use super::histograms::OpenHistogram;

/// "No buffer".
pub(crate) const NONE: u32 = 0;

/// Buffer sizes: whole cache lines, but for the first. The last one holds any chunk of the head: see `CHUNK_BYTES_MAX` there.
/// Growing costs a move to memory that nobody has looked at for long, so a step holds the samples of some minutes.
const CLASSES: [u16; 14] = [32, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 768, 896, 1056];
/// Bytes of a page, whatever its class, so that memory given back by one class fits any other.
const SLAB_PAGE_BYTES: usize = 16 << 10;
/// A handle is class, page and index within the page in bit fields, so that nothing is divided.
const CLASS_SHIFT: u32 = 28;
const INDEX_BITS: u32 = 10;
const _: () = assert!(SLAB_PAGE_BYTES / (CLASSES[0] as usize) <= 1 << INDEX_BITS);
/// The first handle of a chunk of histograms.
pub(crate) const HISTOGRAMS: u32 = (CLASSES.len() as u32 + 1) << CLASS_SHIFT;
const _: () = assert!(CLASSES.len() + 1 < 1 << (32 - CLASS_SHIFT));
/// The first handle of an XOR2 chunk; each list has half of the last class' handles.
pub(crate) const XOR2: u32 = HISTOGRAMS + (1 << (CLASS_SHIFT - 1));
/// Most handles of a list there can be at a time.
const HANDLES_MAX: usize = 1 << (CLASS_SHIFT - 2);
/// Pages without buffers that are kept: series of one age leave a class and enter the next one page by page, and memory that comes
/// back from the system has to be cleared first.
const SPARE_PAGES_MAX: usize = 16;
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
    /// Memory for the next pages. What is in it is of no meaning.
    spare: Vec<Box<[u8]>>,
    /// Open chunks of histograms: their handles begin at [`HISTOGRAMS`], above those of all classes.
    pub histograms: OpenChunks<OpenHistogram>,
    /// Open chunks of floats with start timestamps: their handles begin at [`XOR2`].
    pub xor2: OpenChunks<Xor2Writer>,
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
        self.histograms.is_full()
            || self.xor2.is_full()
            || self.classes.iter().any(|class| class.pages.len() > 1 << (CLASS_SHIFT - INDEX_BITS - 1))
    }

    /// A buffer of at least `bytes` bytes, `bytes <= OPEN_BYTES_MAX`. Its contents are arbitrary.
    pub fn alloc(&mut self, bytes: usize) -> u32 {
        let class = CLASSES.iter().position(|size| usize::from(*size) >= bytes).expect("no open chunk is larger");
        let slab = &mut self.classes[class];
        let page_idx = slab.page_with_room(per_page(class), &mut self.spare);
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
        if handle >= XOR2 {
            return self.xor2.remove(handle - XOR2);
        }
        if handle >= HISTOGRAMS {
            return self.histograms.remove(handle - HISTOGRAMS);
        }
        let (class, page_idx, idx) = split(handle);
        let slab = &mut self.classes[class];
        let page = &mut slab.pages[page_idx];
        page.in_use -= 1;
        if page.in_use == 0 {
            let empty = Page { bytes: Box::default(), in_use: 0, fresh: 0, free: NO_BUFFER, listed: page.listed };
            let Page { bytes, .. } = std::mem::replace(page, empty);
            slab.empty.push(page_idx as u32);
            if self.spare.len() < SPARE_PAGES_MAX {
                self.spare.push(bytes);
            }
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

    /// The byte at `at` of a buffer.
    #[inline]
    pub fn byte(&self, handle: u32, at: usize) -> Option<u8> {
        let (class, page_idx, idx) = split(handle);
        let page = self.classes.get(class)?.pages.get(page_idx)?;
        page.bytes.get(idx * usize::from(CLASSES[class]) + at).copied()
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
        let larger = self.alloc(bytes);
        let ((from, page, idx), (to, to_page, to_idx)) = (split(handle), split(larger));
        match self.classes.get_disjoint_mut([from, to]) {
            Ok([old, new]) => {
                let old = &old.pages[page].bytes[idx * usize::from(CLASSES[from])..][..used];
                new.pages[to_page].bytes[to_idx * usize::from(CLASSES[to])..][..used].copy_from_slice(old);
            }
            // Of the same class, which has no reason to be asked for.
            Err(_) => {
                let copy = self.get(handle)[..used].to_vec();
                self.get_mut(larger)[..used].copy_from_slice(&copy);
            }
        }
        self.free(handle);
        larger
    }

    pub fn memory_bytes(&self) -> usize {
        let class = |c: &Class| {
            c.pages.iter().map(|p| p.bytes.len()).sum::<usize>()
                + c.pages.capacity() * size_of::<Page>()
                + (c.with_room.capacity() + c.empty.capacity()) * 4
        };
        self.classes.iter().map(class).sum::<usize>()
            + self.spare.len() * SLAB_PAGE_BYTES
            + self.histograms.memory_bytes(OpenHistogram::memory_bytes)
            + self.xor2.memory_bytes(|open| size_of::<Xor2Writer>() + open.heap_bytes())
    }
}

impl Class {
    /// A page with a free buffer, its memory out of `spare` if it is a new one.
    fn page_with_room(&mut self, per_page: usize, spare: &mut Vec<Box<[u8]>>) -> u32 {
        while let Some(&page_idx) = self.with_room.last() {
            let page = &mut self.pages[page_idx as usize];
            if page.in_use > 0 && usize::from(page.in_use) < per_page {
                return page_idx;
            }
            page.listed = false;
            self.with_room.pop();
        }
        let bytes = spare.pop().unwrap_or_else(|| vec![0; SLAB_PAGE_BYTES].into());
        let page = Page { bytes, in_use: 0, fresh: 0, free: NO_BUFFER, listed: true };
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

/// Open chunks with writers of their own, by handle.
#[derive(Debug)]
pub(crate) struct OpenChunks<T> {
    open: Vec<Option<Box<T>>>,
    free: Vec<u32>,
}

impl<T> Default for OpenChunks<T> {
    fn default() -> OpenChunks<T> {
        OpenChunks { open: Vec::new(), free: Vec::new() }
    }
}

impl<T> OpenChunks<T> {
    pub fn insert(&mut self, open: Box<T>) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.open[at as usize] = Some(open);
                at
            }
            None => {
                self.open.push(Some(open));
                self.open.len() as u32 - 1
            }
        }
    }

    pub fn get(&self, at: u32) -> &T {
        self.open[at as usize].as_deref().expect("a handle that was given out")
    }

    pub fn get_mut(&mut self, at: u32) -> &mut T {
        self.open[at as usize].as_deref_mut().expect("a handle that was given out")
    }

    fn remove(&mut self, at: u32) {
        self.open[at as usize] = None;
        self.free.push(at);
        if self.free.len() == self.open.len() {
            *self = OpenChunks::default();
        }
    }

    /// The open chunks, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.open.iter().flatten().map(|open| &**open)
    }

    fn is_full(&self) -> bool {
        self.open.len() > HANDLES_MAX
    }

    fn memory_bytes(&self, of_chunk: impl Fn(&T) -> usize) -> usize {
        self.open.capacity() * 8
            + self.free.capacity() * 4
            + self.open.iter().flatten().map(|open| of_chunk(open)).sum::<usize>()
    }
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
        // From the third sample on each one is two zero bits: the time keeps its rhythm, the value is the same.
        let bits = 2 * (usize::from(self.count) - 2);
        let bits_behind = bits.saturating_sub(usize::from(state.free_bits));
        let (start, bytes) = (usize::from(state.len), bits_behind.div_ceil(8));
        buf[start..start + bytes].fill(0);
        if bytes > 0 {
            (state.free_bits, state.last_byte) = ((bytes * 8 - bits_behind) as u8, 0);
        } else {
            state.free_bits -= bits as u8;
        }
        state.len += bytes as u16;
        (state.t, state.count) = (t(self.count - 1), self.count);
        xor::set_count(buf, state.count);
        state
    }

    /// The XOR2 chunk of this run, to be continued.
    pub fn to_xor2(self) -> Xor2Writer {
        let mut writer = Xor2Writer::new();
        let mut t = self.first;
        for _ in 0..self.count {
            writer.push(0, t, self.v);
            t = t.wrapping_add(self.delta);
        }
        writer
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

/// The samples of an open chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChunkData<'a> {
    Xor(&'a [u8]),
    Run(Run),
    /// Of another encoding than XOR.
    Encoded(Encoding, &'a [u8]),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is written at once is what the writer writes sample by sample.
    #[test]
    fn a_run_becomes_the_chunk_of_its_samples() {
        for count in (1..300).chain([1999, 2000]) {
            for (first, delta, v) in [(0, 15_000, 1.0), (-7, 1, -0.5), (1 << 40, 1 << 33, f64::NAN)] {
                let run = Run { first, delta, v, count };
                let mut buf = [0xff; OPEN_BYTES_MAX];
                let mut state = run.write_xor(&mut buf);
                let mut chunk = xor::XorChunk::new();
                (0..i64::from(count)).for_each(|i| chunk.push(first + i * delta, v));
                assert_eq!(&buf[..usize::from(state.len)], chunk.bytes(), "{run:?}");
                // And it can be continued.
                if count >= 2 {
                    let t = first + i64::from(count) * delta + 3;
                    let encoded = state.encode(t, 42.5);
                    state.write(&mut buf, &encoded);
                    xor::set_count(&mut buf, state.count);
                    chunk.push(t, 42.5);
                    assert_eq!(&buf[..usize::from(state.len)], chunk.bytes(), "{run:?} and one more");
                }
            }
        }
    }

    proptest! {
        /// Buffers keep their bytes while others come, go and grow; without buffers there is no memory but a few spare pages.
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
            prop_assert!(slabs.spare.len() <= SPARE_PAGES_MAX);
        }
    }
}
