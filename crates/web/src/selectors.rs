//! Series selectors in parameters (`match[]`).

use fk_model::Matcher;
use fk_promql_syntax::{parse_metric_selector, parse_selector};

use crate::answer::ApiError;

/// The matchers of each `match[]` parameter, which must leave out something.
pub(crate) fn selecting<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, ApiError> {
    parse(texts).map_err(|error| ApiError::parameter("match[]", error))
}

/// The same for the rules, where the error does not name the parameter.
pub(crate) fn selecting_rules<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, ApiError> {
    parse(texts).map_err(ApiError::bad_data)
}

fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, String> {
    texts.into_iter().map(|text| parse_metric_selector(text).map_err(|error| error.to_string())).collect()
}

/// The same for routes whose errors do not name the parameter.
pub(crate) fn selecting_plainly<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let parsed = texts
        .into_iter()
        .map(|text| parse_metric_selector(text).map_err(|error| ApiError::bad_data(error.to_string())));
    parsed.collect()
}

/// The matchers of a parameter that may take everything.
pub(crate) fn any(name: &str, text: &str) -> Result<Vec<Matcher>, ApiError> {
    parse_selector(text).map_err(|error| ApiError::parameter(name, error))
}
