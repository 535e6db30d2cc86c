//! A vector in pages: growing moves nothing and never needs twice the memory, as the one allocation of a `Vec` would.

/// Elements per page.
const PAGE: usize = 1024;

/// Elements behind stable indices.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    /// Invariant: all pages but the last are full.
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Paged<T> {
        Paged { pages: Vec::new(), len: 0 }
    }
}

impl<T> Paged<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds an element and returns its index.
    pub fn push(&mut self, value: T) -> usize {
        let idx = self.len;
        if idx.is_multiple_of(PAGE) {
            // The first page of a small head stays small.
            self.pages.push(if idx == 0 { Vec::new() } else { Vec::with_capacity(PAGE) });
        }
        self.pages[idx / PAGE].push(value);
        self.len += 1;
        idx
    }

    #[inline]
    pub fn get(&self, idx: u32) -> &T {
        &self.pages[idx as usize / PAGE][idx as usize % PAGE]
    }

    #[inline]
    pub fn get_mut(&mut self, idx: u32) -> &mut T {
        &mut self.pages[idx as usize / PAGE][idx as usize % PAGE]
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity() * size_of::<T>()).sum()
    }
}

/// Runs of words, written once, each within one page.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pages: Vec<Vec<u32>>,
}

/// Words per page; no run may be longer.
pub(crate) const WORDS_PAGE: usize = 1 << 13;

impl Words {
    /// Keeps `run` and returns its handle; `None` when there is no handle left.
    pub fn push(&mut self, run: &[u32]) -> Option<u32> {
        if self.pages.last().is_none_or(|page| page.len() + run.len() > WORDS_PAGE) {
            self.pages.push(Vec::with_capacity(WORDS_PAGE.min(run.len().max(256))));
        }
        let page_idx = u32::try_from(self.pages.len() - 1).ok().filter(|idx| *idx < 1 << 19)?;
        let page = self.pages.last_mut()?;
        let handle = page_idx << 13 | page.len() as u32;
        page.extend_from_slice(run);
        Some(handle)
    }

    /// The words from `handle` to the end of its page: the run and whatever follows it.
    #[inline]
    pub fn from(&self, handle: u32) -> &[u32] {
        &self.pages[(handle >> 13) as usize][(handle & 0x1fff) as usize..]
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity() * 4).sum()
    }
}
