//! PromQL as a text: lexer, parser, syntax tree, printers. Evaluation lives in `fk-promql`.
//!
//! Start with [`parse`]. Errors carry positions and the words of Prometheus, since editors and people read them.

pub mod ast;
mod attach;
mod check;
mod duration;
pub mod error;
pub mod functions;
mod lexer;
pub mod literal;
pub mod parser;
pub mod print;
pub mod series;
mod token;
pub mod visit;

pub use ast::{Expr, ExprKind, Pos, ValueType};
pub use error::{ParseErr, ParseErrors};
pub use literal::unquote;
pub use parser::{ParserOptions, SelectorError, parse, parse_metric_selector, parse_selector};
pub use print::prettify;
pub use series::{SeriesDesc, SeriesValue, parse_metric, parse_series_desc};
pub use visit::{extract_selectors, value_type, walk, walk_mut};

#[cfg(test)]
mod tests;
