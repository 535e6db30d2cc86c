//! Supervised, metered actix actors.
//!
//! actix ends an actor whose handler panics, tells nobody, and restarts nothing; its mailbox has no metrics and is drained
//! without a pause. [`Managed`] is an actix context that mends this, while handlers stay ordinary `impl Handler<M> for X`:
//!
//! - every message is metered by actor kind and message type ([`meter`]);
//! - an actor handles at most [`BUDGET`] messages before its neighbours' tasks and timers get their turn;
//! - a panic is caught; the actor is rebuilt in place, its address and queue kept, after a jittered back-off ([`policy`]);
//! - too many restarts in too short a time stop it and escalate, see [`Board::on_escalation`];
//! - a [`Board`] knows every actor, its parent, its state, and for how long it has been busy.
//!
//! An actor that is managed has `type Context = Managed<Self>`, implements [`ManagedActor`] and `Supervised` (whose
//! `restarting` makes it as new), and is started by [`Board::spawn`]. This crate knows no domain.

mod board;
mod context;
pub mod meter;
pub mod policy;
pub mod probe;
mod record;
mod runner;
#[cfg(test)]
mod tests;

pub use board::{ActorInfo, ActorState, Board, Escalation, Spec};
pub use context::{BUDGET, Managed, ManagedActor};
pub use policy::RestartPolicy;
pub use record::{Failure, HANDLING_US, SlowMessage};
pub use runner::install_panic_hook;
