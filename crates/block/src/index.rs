//! The index of a block.

/// Name of the file.
pub const INDEX_FILE: &str = "index";
