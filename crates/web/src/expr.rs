//! Parsing the parameter `query` without holding up the threads that serve requests.

use actix_web::web;
use fk_promql_syntax::{Expr, ParserOptions};

use crate::answer::{ApiError, ErrorKind};

/// Longest query that is parsed on the thread that serves requests; longer ones, and those with regular expressions to
/// compile, go to a blocking thread.
const PARSED_INLINE_BYTES_MAX: usize = 4096;

/// Parses the parameter `query`. Positions and texts of errors come from the parser.
pub(crate) async fn parse(text: &str, options: ParserOptions) -> Result<Expr, ApiError> {
    parse_plainly(text, options).await.map_err(|error| match error.kind {
        ErrorKind::BadData => ApiError::parameter("query", error.text),
        _ => error,
    })
}

/// The same for a route whose errors do not name the parameter.
pub(crate) async fn parse_plainly(text: &str, options: ParserOptions) -> Result<Expr, ApiError> {
    let parsed = if text.len() <= PARSED_INLINE_BYTES_MAX && !text.contains('~') {
        fk_promql_syntax::parse(text, &options)
    } else {
        let text = text.to_owned();
        match web::block(move || fk_promql_syntax::parse(&text, &options)).await {
            Ok(parsed) => parsed,
            Err(_) => return Err(ApiError::internal("the parser panicked")),
        }
    };
    parsed.map_err(|error| ApiError::bad_data(error.to_string()))
}
