//! Firekeeper: the server as a library, see ARCHITECTURE.md.
