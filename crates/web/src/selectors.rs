//! Series selectors in parameters (`match[]`).

use fk_model::Matcher;

use crate::answer::ApiError;

/// The matchers of one selector, which must leave out something.
pub(crate) fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    fk_promql_syntax::parse_metric_selector(text).map_err(|error| error.to_string())
}

/// Each `match[]` parameter's matchers.
pub(crate) fn parse_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let parsed = texts.into_iter().map(|text| parse(text).map_err(|reason| ApiError::parameter("match[]", reason)));
    parsed.collect()
}
