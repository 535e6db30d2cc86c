//! Parsers and writers of the metric exposition formats.
