//! What a server knows about the queries it runs: which run and how far they are, what they hold in memory, what the most
//! expensive ones of the past were, and what is written about them: metrics, the query log, and the file that tells after a
//! crash what was running.
//!
//! Start with [`Board`]: whoever runs a query tells it with [`Board::begin`] and holds the [`Running`] it gets back for as
//! long as the query goes on. Nothing here decides whether or when a query may run, and nothing fails a query.

mod active;
mod board;
mod log_file;
mod metrics;
mod past;

pub use active::ENTRY_BYTES;
pub use board::{Asked, Board, Measured, Origin, Running, RunningQuery, Stage};
pub use log_file::{LogFile, QueryLog};
pub use past::{PAST_QUERIES_MAX, PastQuery};
