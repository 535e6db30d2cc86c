//! Rule groups and alert state.
