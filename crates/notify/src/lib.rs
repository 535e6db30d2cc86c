//! Alerts on their way to Alertmanagers, without a clock, a socket or a task.
//!
//! Three pieces, in the order an alert meets them:
//! 1. [`AlertRelabeling`]: external labels, then relabelling, once for all Alertmanagers and once for each entry of the
//!    configuration that has rules of its own.
//! 2. [`Alertmanagers`]: which Alertmanagers one entry of the configuration knows, from discovery and relabelling.
//! 3. [`SendQueue`]: the alerts that wait for one Alertmanager; bounded, oldest dropped first. Batches leave it as the
//!    JSON of [`payload`].
//!
//! Whoever owns the pieces sends the batches and reports back how that went with [`SendQueue::sent`].

mod alert;
mod alertmanager;
mod payload;
mod queue;

pub use alert::{Alert, AlertRelabeling};
pub use alertmanager::{Alertmanager, Alertmanagers};
pub use payload::payload;
pub use queue::{SendCounters, SendOutcome, SendQueue};
