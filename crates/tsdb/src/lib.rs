//! The local storage: head, write-ahead log, chunks, queries.
