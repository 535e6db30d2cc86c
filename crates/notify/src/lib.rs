//! Alert queues and the Alertmanager payload.
