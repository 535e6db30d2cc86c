//! HTTP clients made from http_client_config sections.
