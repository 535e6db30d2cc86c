//! The Firekeeper server. See `ARCHITECTURE.md` for the whole picture.

pub mod cli;
