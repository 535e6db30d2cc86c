//! Remote write and remote read, each from the side of the storage. Remote write: a request body in, samples in the storage out.
//!
//! [`message_kind`] judges the headers, [`receive`] the body. A request is decoded as a whole before anything of it is
//! stored, and then stored as one batch, so a success means that every sample is logged. Samples that the storage does
//! not take do not keep the others out: the answer is an error that names the first of them, and says what was stored.
//!
//! Remote read, the answering side, is in [`read`].
//!
//! The message is `prometheus.WriteRequest` (remote write 1.0) as a snappy block. Strings are borrowed from the decoded
//! body; nothing is copied before the label set is made, and series that were pushed before are recognised by their bytes
//! ([`KnownSeries`]).

mod known;
pub mod read;
mod receive;
mod wire;

pub use known::KnownSeries;
pub use receive::{
    DECODED_BYTES_MAX, FUTURE_MS_MAX, LABELS_MAX, MessageKind, SAMPLES_MAX, SERIES_MAX, Scratch, WriteError,
    WriteReport, message_kind, receive,
};
