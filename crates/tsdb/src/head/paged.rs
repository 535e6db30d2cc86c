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

    /// All elements, for changing.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }

    /// The element at `idx`, if there is one.
    #[inline]
    pub fn find(&self, idx: u32) -> Option<&T> {
        self.pages.get(idx as usize / PAGE)?.get(idx as usize % PAGE)
    }

    /// Takes elements off the end until there are `len`, and gives back their pages.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.pages.truncate(len.div_ceil(PAGE));
        if let Some(last) = self.pages.last_mut()
            && !len.is_multiple_of(PAGE)
        {
            last.truncate(len % PAGE);
        }
        self.len = len;
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity() * size_of::<T>()).sum()
    }
}

/// Runs of words, written once, each within one page. A page whose runs have all been given back is given back; the runs
/// of one that is nearly empty are to be moved by whoever has their handles ([`Words::is_sparse`]).
#[derive(Debug, Default)]
pub(crate) struct Words {
    pages: Vec<Vec<u32>>,
    /// Words in use of each page.
    live: Vec<u32>,
    /// Pages without memory.
    empty: Vec<u32>,
    /// The page that grows.
    current: u32,
}

/// Words per page; no run may be longer.
pub(crate) const WORDS_PAGE: usize = 1 << 13;

impl Words {
    /// Keeps `run` and returns its handle; `None` when there is no handle left.
    pub fn push(&mut self, run: &[u32]) -> Option<u32> {
        if self.pages.get(self.current as usize).is_none_or(|page| page.len() + run.len() > WORDS_PAGE) {
            self.begin_page(run.len())?;
        }
        let page = self.pages.get_mut(self.current as usize)?;
        let handle = self.current << 13 | page.len() as u32;
        page.extend_from_slice(run);
        self.live[self.current as usize] += run.len() as u32;
        Some(handle)
    }

    fn begin_page(&mut self, words_min: usize) -> Option<()> {
        let page = Vec::with_capacity(WORDS_PAGE.min(words_min.max(256)));
        self.current = match self.empty.pop() {
            Some(empty) => {
                self.pages[empty as usize] = page;
                empty
            }
            None => {
                let idx = u32::try_from(self.pages.len()).ok().filter(|idx| *idx < 1 << 19)?;
                self.pages.push(page);
                self.live.push(0);
                idx
            }
        };
        Some(())
    }

    /// Gives back a run of `len` words.
    pub fn free(&mut self, handle: u32, len: usize) {
        let page = handle >> 13;
        let live = &mut self.live[page as usize];
        *live -= len as u32;
        if *live == 0 && page != self.current {
            self.pages[page as usize] = Vec::new();
            self.empty.push(page);
        }
    }

    /// Whether so little of the page of this run is in use that its runs should move to another one.
    pub fn is_sparse(&self, handle: u32) -> bool {
        let page = handle >> 13;
        page != self.current && (self.live[page as usize] as usize) < WORDS_PAGE / 4
    }

    /// The words from `handle` to the end of its page: the run and whatever follows it.
    #[inline]
    pub fn from(&self, handle: u32) -> &[u32] {
        &self.pages[(handle >> 13) as usize][(handle & 0x1fff) as usize..]
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity() * 4).sum::<usize>() + (self.live.capacity() + self.empty.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_from_the_end() {
        let mut paged = Paged::default();
        (0..3000u32).for_each(|n| assert_eq!(paged.push(n), n as usize));
        for len in [5000, 2999, 2048, 2047, 1, 0] {
            paged.truncate(len);
            let len = len.min(3000);
            assert_eq!(paged.len(), len);
            assert_eq!(paged.find(len as u32), None);
            assert_eq!(paged.find((len as u32).wrapping_sub(1)).copied(), (len as u32).checked_sub(1));
        }
        assert_eq!(paged.push(7), 0);
    }

    #[test]
    fn pages_of_words_are_given_back_and_used_again() {
        let mut words = Words::default();
        let run: Vec<u32> = (0..9).collect();
        let handles: Vec<_> = (0..10_000).map(|_| words.push(&run).unwrap()).collect();
        let before = words.memory_bytes();
        let (kept, freed) = handles.split_at(100);
        freed.iter().for_each(|handle| words.free(*handle, run.len()));
        assert!(words.memory_bytes() < before / 3, "{} of {before}", words.memory_bytes());
        assert!(kept.iter().all(|handle| words.is_sparse(*handle) && words.from(*handle)[..9] == run[..]));
        for handle in kept {
            words.push(&run).unwrap();
            words.free(*handle, run.len());
        }
        let pages = words.pages.len();
        for _ in 0..5_000 {
            words.push(&run).unwrap();
        }
        assert_eq!(words.pages.len(), pages, "pages without memory are used first");
    }
}
