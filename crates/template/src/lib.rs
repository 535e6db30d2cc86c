//! Alert templates: Go's `text/template` as rule files use it.
//!
//! A text is parsed once, when its rule file is loaded ([`check`]) or its rule is made ([`Template::parse`]), and then
//! expanded for every alert ([`Template::expand`]). Errors carry Go's words, since they end up in labels and annotations.
//!
//! The way of a text: `lex.rs` makes tokens of it, `parse.rs` a tree (`tree.rs`), `exec.rs` runs the tree on values
//! (`value.rs`) and calls `functions.rs`; `format.rs`, `float.rs`, `gotime.rs` and `text.rs` print
//! things as Go does.
//!
//! Not built: HTML templates with their escaping, for consoles; complex numbers; texts that are no UTF-8. A template that
//! needs one of them does not parse or expand.

mod exec;
mod float;
mod format;
mod functions;
mod gotime;
mod lex;
mod parse;
mod text;
mod tree;
mod value;

pub use functions::function_names;

use std::rc::Rc;

use fk_model::labels::STRING_BYTES_MAX;
use fk_model::{Labels, SampleValue};

use crate::parse::Parsed;
use crate::value::{Data, Field, Value};

/// Most bytes that a template may expand to: no label can be longer.
pub(crate) const OUTPUT_BYTES_MAX: usize = STRING_BYTES_MAX;

/// What stands before every template of an alerting rule. Part of the text, so that columns in errors are those that
/// users of Prometheus see.
const ALERT_PREFIX: &str = concat!(
    "{{$labels := .Labels}}",
    "{{$externalLabels := .ExternalLabels}}",
    "{{$externalURL := .ExternalURL}}",
    "{{$value := .Value}}",
);

/// The Go type of what a template of an alerting rule sees.
const ALERT_TYPE: &str =
    "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }";

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
    pub value: &'a SampleValue,
}

/// One element of the answer to a template's `query`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySample {
    /// Labels, metric name included.
    pub labels: Labels,
    /// Value.
    pub value: SampleValue,
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
    /// It parses, but cannot be expanded.
    #[error(
        "error executing template {name}: template: {name}:{line}:{column}: executing {executing:?} at <{context}>: {message}"
    )]
    Execute {
        /// Name of the template.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Bytes of the line before the place.
        column: usize,
        /// The `define`d template that was run, or the template itself.
        executing: String,
        /// What was being evaluated, as it is written.
        context: String,
        /// What is wrong.
        message: String,
    },
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// A text without actions, as most labels are.
    Plain(String),
    Actions {
        name: String,
        text: String,
        parsed: Parsed,
    },
}

/// Whether `text` is a template that [`Template::parse`] takes.
pub fn check(text: &str) -> Result<(), TemplateError> {
    Template::parse("template", text).map(drop)
}

impl Template {
    /// Parses the text of a label or annotation of an alerting rule; `name` shows in errors.
    pub fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
        if !text.contains("{{") {
            return Ok(Template(Kind::Plain(text.to_owned())));
        }
        Template::parse_bare(name, format!("{ALERT_PREFIX}{text}"))
    }

    /// Parses a text as it is, without the variables of alerts.
    fn parse_bare(name: &str, text: String) -> Result<Template, TemplateError> {
        match parse::parse(name, &text) {
            Ok(parsed) => Ok(Template(Kind::Actions { name: name.to_owned(), text, parsed })),
            Err(error) => Err(TemplateError::Parse { name: name.to_owned(), line: error.line, message: error.message }),
        }
    }

    /// Expands it for one alert.
    pub fn expand(&self, data: &AlertData<'_>, functions: &dyn Functions) -> Result<String, TemplateError> {
        if let Kind::Plain(text) = &self.0 {
            return Ok(text.clone());
        }
        let field = |name, value| Field { name, value };
        let data = Data {
            type_name: ALERT_TYPE,
            fields: vec![
                field("Labels", Value::Labels(data.labels.clone())),
                field("ExternalLabels", Value::Labels(data.external_labels.clone())),
                field("ExternalURL", Value::string(data.external_url)),
                field("Value", Value::of(data.value)),
            ],
        };
        self.run(Value::Data(Rc::new(data)), functions)
    }

    fn run(&self, dot: Value, functions: &dyn Functions) -> Result<String, TemplateError> {
        let (name, text, parsed) = match &self.0 {
            Kind::Plain(text) => return Ok(text.clone()),
            Kind::Actions { name, text, parsed } => (name, text, parsed),
        };
        exec::execute(name, parsed, dot, functions).map_err(|error| {
            let before = &text[..error.pos.min(text.len())];
            TemplateError::Execute {
                name: name.clone(),
                line: 1 + before.matches('\n').count(),
                column: before.len() - before.rfind('\n').map_or(0, |at| at + 1),
                executing: error.executing,
                context: error.context,
                message: error.message,
            }
        })
    }
}

#[cfg(test)]
mod tests;
