//! Records that say something about what other records brought: tombstones, and the markers of mapped out-of-order chunks.

use fk_storage::SeriesRef;

use super::codec::{Decoder, Fault, Walk, iterate, put_varint};
use super::kind;

/// A range of a series that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The series.
    pub series: SeriesRef,
    /// First time deleted, ms.
    pub mint: i64,
    /// Last time deleted, ms.
    pub maxt: i64,
}

/// Deleted ranges.
#[derive(Clone, Copy, Debug)]
pub struct TombstonesRecord<'a> {
    pub(super) body: &'a [u8],
}

impl<'a> TombstonesRecord<'a> {
    /// The ranges, in the order they were logged.
    pub fn iter(&self) -> TombstonesIter<'a> {
        TombstonesIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`TombstonesRecord`].
#[derive(Clone, Debug)]
pub struct TombstonesIter<'a> {
    pub(super) dec: Decoder<'a>,
}

impl Walk for TombstonesIter<'_> {
    type Item = Tombstone;

    fn step(&mut self) -> Result<Option<Tombstone>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        let series = SeriesRef(self.dec.be64()?);
        Ok(Some(Tombstone { series, mint: self.dec.varint()?, maxt: self.dec.varint()? }))
    }
}

iterate!(TombstonesIter, Tombstone);

/// Appends a record of deleted ranges to `out`.
pub fn encode_tombstones(tombstones: &[Tombstone], out: &mut Vec<u8>) {
    out.push(kind::TOMBSTONES);
    for tombstone in tombstones {
        out.extend_from_slice(&tombstone.series.0.to_be_bytes());
        put_varint(out, tombstone.mint);
        put_varint(out, tombstone.maxt);
    }
}

/// Out-of-order chunks that were written to `chunks_head`: what the log says of these series before may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmapMarker {
    /// The series.
    pub series: SeriesRef,
    /// Where the chunk is: number of the file in the upper half, offset in it in the lower one.
    pub chunk: u64,
}

/// Markers of mapped out-of-order chunks; only in `wbl`.
#[derive(Clone, Copy, Debug)]
pub struct MmapMarkersRecord<'a> {
    pub(super) body: &'a [u8],
}

impl<'a> MmapMarkersRecord<'a> {
    /// The markers, in the order they were logged.
    pub fn iter(&self) -> MmapMarkersIter<'a> {
        MmapMarkersIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`MmapMarkersRecord`].
#[derive(Clone, Debug)]
pub struct MmapMarkersIter<'a> {
    pub(super) dec: Decoder<'a>,
}

impl Walk for MmapMarkersIter<'_> {
    type Item = MmapMarker;

    fn step(&mut self) -> Result<Option<MmapMarker>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(MmapMarker { series: SeriesRef(self.dec.be64()?), chunk: self.dec.be64()? }))
    }
}

iterate!(MmapMarkersIter, MmapMarker);

/// Appends a record of markers to `out`.
pub fn encode_mmap_markers(markers: &[MmapMarker], out: &mut Vec<u8>) {
    out.push(kind::MMAP_MARKERS);
    for marker in markers {
        out.extend_from_slice(&marker.series.0.to_be_bytes());
        out.extend_from_slice(&marker.chunk.to_be_bytes());
    }
}
