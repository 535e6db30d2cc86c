//! Series texts, shared between targets.
//!
//! Targets of one kind expose the same lines, and only relabelling tells their series apart. So the texts of a layout are cut
//! into pieces of some lines each, and equal pieces are kept once for the whole process: a fleet of a thousand equal exporters
//! needs the texts of one. What a target has learnt since its layout was last cut is its own.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Texts per piece: few enough that a line which differs spoils little, enough that a piece costs next to nothing per text.
const TEXTS_PER_PIECE: usize = 64;

/// The piece number of texts that are not shared yet.
const OWN: u32 = u32::MAX;

/// Pieces that nobody uses any more are looked for when the pool has grown to this, and later to twice what is in use.
const POOL_MIN: usize = 1024;

/// Where a text is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    piece: u32,
    offset: u32,
}

/// The texts of one target.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pieces: Vec<Arc<[u8]>>,
    own: Vec<u8>,
    /// Bytes in pieces.
    shared_bytes: usize,
}

impl Texts {
    /// Bytes of all texts, those that nobody refers to any more included.
    pub(crate) fn len(&self) -> usize {
        self.shared_bytes + self.own.len()
    }

    /// Whether so much is not shared that sharing anew pays.
    pub(crate) fn is_mostly_own(&self) -> bool {
        self.own.len() > self.len() / 8
    }

    /// Adds a text in two parts.
    pub(crate) fn push(&mut self, text: &[u8], more: &[u8]) -> Place {
        let place = Place { piece: OWN, offset: self.own.len() as u32 };
        self.own.extend_from_slice(text);
        self.own.extend_from_slice(more);
        place
    }

    /// `len` bytes from `place` on; no bytes if there are fewer, which does not happen.
    #[inline]
    pub(crate) fn get(&self, place: Place, len: usize) -> &[u8] {
        let bytes: &[u8] = match self.pieces.get(place.piece as usize) {
            Some(piece) => piece,
            None => &self.own,
        };
        bytes.get(place.offset as usize..place.offset as usize + len).unwrap_or_default()
    }
}

/// Builds the texts of a target anew, shared where others have the same.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    texts: Texts,
    piece: Vec<u8>,
    in_piece: usize,
}

impl Cutter {
    /// Adds a text.
    pub(crate) fn push(&mut self, text: &[u8]) -> Place {
        if self.in_piece == TEXTS_PER_PIECE {
            self.cut();
        }
        let place = Place { piece: self.texts.pieces.len() as u32, offset: self.piece.len() as u32 };
        self.piece.extend_from_slice(text);
        self.in_piece += 1;
        place
    }

    fn cut(&mut self) {
        if self.in_piece > 0 {
            self.texts.shared_bytes += self.piece.len();
            self.texts.pieces.push(share(&self.piece));
            self.piece.clear();
            self.in_piece = 0;
        }
    }

    /// The texts.
    pub(crate) fn finish(mut self) -> Texts {
        self.cut();
        self.texts.pieces.shrink_to_fit();
        self.texts
    }
}

#[derive(Default)]
struct Pool {
    pieces: HashTable<Arc<[u8]>>,
    purge_at: usize,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

fn hash(bytes: &[u8]) -> u64 {
    FixedState::with_seed(1).hash_one(bytes)
}

/// The one copy of these bytes. Taken when layouts change, which they seldom do.
fn share(bytes: &[u8]) -> Arc<[u8]> {
    let hashed = hash(bytes);
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool.get_or_insert_default();
    if let Some(piece) = pool.pieces.find(hashed, |piece| **piece == *bytes) {
        return Arc::clone(piece);
    }
    if pool.pieces.len() >= pool.purge_at.max(POOL_MIN) {
        pool.pieces.retain(|piece| Arc::strong_count(piece) > 1);
        pool.pieces.shrink_to_fit(|piece| hash(piece));
        pool.purge_at = pool.pieces.len() * 2;
    }
    let piece: Arc<[u8]> = bytes.into();
    pool.pieces.insert_unique(hashed, Arc::clone(&piece), |piece| hash(piece));
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(texts: &[String]) -> (Texts, Vec<Place>) {
        let mut cutter = Cutter::default();
        let places = texts.iter().map(|text| cutter.push(text.as_bytes())).collect();
        (cutter.finish(), places)
    }

    #[test]
    fn equal_pieces_are_kept_once() {
        let lines: Vec<_> = (0..200).map(|i| format!("shared_metric{{i=\"{i}\"}} ")).collect();
        let mut other = lines.clone();
        other[150].push('x');
        let ((one, places), (two, _)) = (cut(&lines), cut(&other));
        for (line, place) in lines.iter().zip(places) {
            assert_eq!(one.get(place, line.len()), line.as_bytes());
        }
        let same: Vec<_> = one.pieces.iter().zip(&two.pieces).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(same, [true, true, false, true]);
        assert_eq!(two.len(), one.len() + 1);
    }

    #[test]
    fn what_is_added_is_own_until_it_is_cut() {
        let (mut texts, _) = cut(&[]);
        let place = texts.push(b"a{b=\"c\"}", b" ");
        assert_eq!(texts.get(place, 9), b"a{b=\"c\"} ");
        assert!(texts.is_mostly_own());
        assert_eq!(texts.get(place, 10), b"");
    }
}
