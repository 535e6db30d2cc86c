//! Remote write and read wire formats.
