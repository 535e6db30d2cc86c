//! Alert templates: Go's `text/template` as rule files use it.
//!
//! A text is parsed once, when its rule file is loaded ([`check`]) or its rule is made ([`Template::parse`]), and then
//! expanded for every alert ([`Template::expand`]). Errors carry Go's words, since they end up in labels and annotations.

use fk_model::Labels;

/// What a template of an alerting rule sees as `.`, and as `$labels`, `$externalLabels`, `$externalURL` and `$value`.
#[derive(Clone, Copy, Debug)]
pub struct AlertData<'a> {
    /// Labels of the query result, metric name included.
    pub labels: &'a Labels,
    /// `global.external_labels`
    pub external_labels: &'a Labels,
    /// `--web.external-url`
    pub external_url: &'a str,
    /// Value of the query result.
    pub value: f64,
}

/// One element of the answer to a template's `query`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySample {
    /// Labels, metric name included.
    pub labels: Labels,
    /// Value.
    pub value: f64,
}

/// What the functions of templates ask of the world.
pub trait Functions {
    /// `query`: the instant query `expr` at the evaluation time; a scalar as one sample without labels.
    fn query(&self, expr: &str) -> Result<Vec<QuerySample>, String>;

    /// `now`: the evaluation time, ms.
    fn now_ms(&self) -> i64;

    /// `externalURL`, and `pathPrefix` by its path.
    fn external_url(&self) -> &str;
}

/// Why a template does not parse or expand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not parse.
    #[error("error parsing template {name}: template: {name}:{line}: {message}")]
    Parse {
        /// Name of the template.
        name: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
}

/// Whether `text` is a template that [`Template::parse`] takes.
pub fn check(text: &str) -> Result<(), TemplateError> {
    Template::parse("check", text).map(drop)
}

impl Template {
    /// Parses the text of a label or annotation; `name` shows in errors.
    pub fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
        match text.find("{{") {
            None => Ok(Template { text: text.to_owned() }),
            Some(at) => Err(TemplateError::Parse {
                name: name.to_owned(),
                line: 1 + text[..at].matches('\n').count(),
                message: "template actions are not supported yet".to_owned(),
            }),
        }
    }

    /// Expands it.
    pub fn expand(&self, _data: &AlertData<'_>, _functions: &dyn Functions) -> Result<String, TemplateError> {
        Ok(self.text.clone())
    }
}
