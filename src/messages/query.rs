//! To the query gate.

use actix::Message;
use fk_storage::Control;

use crate::actors::query_gate::Permit;

/// web, rule group -> query gate: ask. Answered when a slot is free, in the order of asking; refused when too many wait already.
#[derive(Debug, Message)]
#[rtype(result = "Result<Permit, Refused>")]
pub struct Admit {
    /// The query, for the list of running ones.
    pub text: String,
    /// Ends the query when somebody cancels it or the server stops.
    pub control: Control,
    /// Whether it is a rule's query, which has slots of its own.
    pub rule: bool,
}

/// Why a query was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many queries wait for a slot.
    TooManyWaiting,
    /// The server is stopping, or not ready.
    Closed,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::TooManyWaiting => "too many queries are waiting",
            Refused::Closed => "the server takes no queries at the moment",
        })
    }
}
