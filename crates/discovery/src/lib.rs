//! Target discovery providers.
