//! Compaction: which blocks are merged ([`plan`]).

pub mod plan;
