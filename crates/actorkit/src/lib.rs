//! Supervised, metered actix actors.
