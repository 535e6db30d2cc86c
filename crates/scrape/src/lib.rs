//! One target, from response body to stored samples.
