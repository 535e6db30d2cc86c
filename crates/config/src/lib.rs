//! prometheus.yml and rule files, validated.
