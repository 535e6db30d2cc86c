//! Relabelling rules (`relabel_configs` and its kin).
