//! PromQL as a text: lexer, parser, syntax tree, printers. Evaluation lives in `fk-promql`.
//!
//! Start with [`parse`]. Errors carry positions and the words of Prometheus, since editors and people read them.

pub mod ast;
pub mod functions;
