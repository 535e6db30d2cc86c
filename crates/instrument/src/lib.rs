//! Counters, gauges, histograms and the registry behind /metrics.
