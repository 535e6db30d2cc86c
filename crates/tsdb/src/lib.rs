//! The local storage: head, write-ahead log, chunks, queries.

pub mod lockfile;
pub mod vfs;
pub mod wal;
