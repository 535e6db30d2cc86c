//! Alert templates.
