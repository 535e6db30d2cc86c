//! The Firekeeper server.

fn main() {}
