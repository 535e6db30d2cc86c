//! Sweeps of faults over a whole data directory, on the simulated file system.
//!
//! [`script`] is a life of a storage in small: appends in order and out of order, syncs, maintenance (blocks, retention,
//! checkpoints), deletions, ends and starts. [`model`] notes what it was told and judges what a later start finds. The sweeps:
//!
//! | Module | What goes wrong |
//! |---|---|
//! | [`crash`] | the process dies, or the power goes, before every operation that changes something; and again during recovery |
//! | [`faults`] | every operation fails, once or for ever, in every way; the disk is full |
//! | [`damage`] | a bit is flipped, a file is cut or has a foreign end, at every byte of every file |
//! | [`odd`] | directories that nobody wants: gaps, leftovers, strangers |
//!
//! By default each sweep takes samples, so that all together take a minute or two; with `FIREKEEPER_SWEEP=full` they leave
//! nothing out. Every failure names its operation and seed.

mod crash;
mod damage;
mod faults;
mod model;
mod odd;
mod script;

/// Whether nothing is left out.
fn full() -> bool {
    std::env::var("FIREKEEPER_SWEEP").is_ok_and(|v| v == "full")
}

/// Every how manyth case is tried: `sampled`, or each.
fn stride(sampled: usize) -> usize {
    if full() { 1 } else { sampled }
}
