//! Values at run time, and how Go prints them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use fk_model::{FloatHistogram, Labels, SampleValue};

use crate::format::float_text;
use crate::gotime::{Time, duration_text};
use crate::{OUTPUT_BYTES_MAX, QuerySample};

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing at all: `nil`, or what a missing thing gives.
    None,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    String(Arc<str>),
    /// `map[string]string`
    Labels(Labels),
    /// What `args` makes.
    Map(Rc<Map>),
    List(Rc<List>),
    Sample(Rc<QuerySample>),
    Histogram(Arc<FloatHistogram>),
    /// What `.` is in a template of an alerting rule.
    Data(Rc<Data>),
    /// Nanoseconds.
    Duration(i64),
    Time(Time),
}

/// What `args` makes.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) entries: BTreeMap<String, Value>,
    /// How many maps are in each other, this one included. Bounded, since printing and dropping walk down.
    pub(crate) depth: usize,
}

/// How deep maps may be in each other.
const MAP_DEPTH_MAX: usize = 20;

impl Map {
    /// A map of these entries; an error if they are nested too deep.
    pub(crate) fn new(entries: BTreeMap<String, Value>) -> Result<Map, String> {
        let depth_of = |value: &Value| match value {
            Value::Map(map) => map.depth,
            _ => 0,
        };
        let depth = 1 + entries.values().map(depth_of).max().unwrap_or(0);
        if depth > MAP_DEPTH_MAX {
            return Err(format!("maps are nested deeper than {MAP_DEPTH_MAX} levels"));
        }
        Ok(Map { entries, depth })
    }
}

/// A list, with the name of its Go type.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) type_name: &'static str,
    pub(crate) items: Vec<Value>,
}

/// Type of what `query` gives.
pub(crate) const QUERY_RESULT: &str = "template.queryResult";

/// What an alerting rule's template sees.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) labels: Labels,
    pub(crate) external_labels: Labels,
    pub(crate) external_url: Arc<str>,
    pub(crate) value: SampleValue,
}

impl Value {
    pub(crate) fn string(text: impl Into<Arc<str>>) -> Value {
        Value::String(text.into())
    }

    /// The value of a sample.
    pub(crate) fn of(value: &SampleValue) -> Value {
        match value {
            SampleValue::Float(v) => Value::Float(*v),
            SampleValue::Histogram(h) => Value::Histogram(Arc::clone(h)),
        }
    }

    /// Name of the Go type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::None => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::Labels(_) => "map[string]string",
            Value::Map(_) => "map[string]interface {}",
            Value::List(list) => list.type_name,
            Value::Sample(_) => "*template.sample",
            Value::Histogram(_) => "*histogram.FloatHistogram",
            Value::Data(_) => {
                "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
            }
            Value::Duration(_) => "*time.Duration",
            Value::Time(_) => "*time.Time",
        }
    }

    /// Whether `if` takes it for true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Uint(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::String(text) => !text.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Sample(_) | Value::Histogram(_) | Value::Data(_) | Value::Duration(_) | Value::Time(_) => true,
        }
    }

    /// As `%v` prints it. Stops soon once `out` is larger than any output may be.
    pub(crate) fn write_to(&self, out: &mut String) {
        if out.len() > OUTPUT_BYTES_MAX {
            return;
        }
        // Writing to a string cannot fail.
        let _ = match self {
            Value::None => out.write_str("<nil>"),
            Value::Bool(value) => write!(out, "{value}"),
            Value::Int(value) => write!(out, "{value}"),
            Value::Uint(value) => write!(out, "{value}"),
            Value::Float(value) => out.write_str(&float_text(*value)),
            Value::String(text) => out.write_str(text),
            Value::Labels(labels) => {
                out.push_str("map[");
                for (idx, (name, value)) in labels.iter().enumerate() {
                    let _ = write!(out, "{}{name}:{value}", if idx > 0 { " " } else { "" });
                }
                out.write_char(']')
            }
            Value::Map(map) => {
                out.push_str("map[");
                for (idx, (name, value)) in map.entries.iter().enumerate() {
                    let _ = write!(out, "{}{name}:", if idx > 0 { " " } else { "" });
                    value.write_to(out);
                }
                out.write_char(']')
            }
            Value::List(list) => {
                out.push('[');
                for (idx, value) in list.items.iter().enumerate() {
                    if idx > 0 {
                        out.push(' ');
                    }
                    value.write_to(out);
                }
                out.write_char(']')
            }
            Value::Sample(sample) => {
                out.push('{');
                Value::Labels(sample.labels.clone()).write_to(out);
                out.push(' ');
                Value::of(&sample.value).write_to(out);
                out.write_char('}')
            }
            Value::Data(data) => {
                out.push('{');
                Value::Labels(data.labels.clone()).write_to(out);
                out.push(' ');
                Value::Labels(data.external_labels.clone()).write_to(out);
                let _ = write!(out, " {} ", data.external_url);
                Value::of(&data.value).write_to(out);
                out.write_char('}')
            }
            Value::Histogram(h) => write!(out, "{h}"),
            Value::Duration(ns) => out.write_str(&duration_text(*ns)),
            Value::Time(time) => out.write_str(&time.to_string()),
        };
    }

    /// As a template prints it: like `%v`, but nothing at all is `<no value>`.
    pub(crate) fn printed(&self) -> String {
        if matches!(self, Value::None) {
            return "<no value>".to_owned();
        }
        let mut out = String::new();
        self.write_to(&mut out);
        out
    }

    /// The number that the `humanize` functions make of it.
    pub(crate) fn to_float(&self) -> Result<f64, String> {
        match self {
            Value::Float(value) => Ok(*value),
            Value::Int(value) => Ok(*value as f64),
            Value::Uint(value) => Ok(*value as f64),
            Value::String(text) => parse_float(text),
            Value::Duration(ns) => Ok(*ns as f64 / 1e9),
            other => Err(format!("can't convert {} to float", other.type_name())),
        }
    }
}

/// `strconv.ParseFloat`, decimal notations and names.
fn parse_float(text: &str) -> Result<f64, String> {
    let error = |reason: &str| format!("strconv.ParseFloat: parsing {}: {reason}", crate::text::quote(text));
    let value: f64 = match text.trim_start_matches(['+', '-']).len() + 1 < text.len() {
        true => return Err(error("invalid syntax")),
        false => text.parse().map_err(|_| error("invalid syntax"))?,
    };
    let named = text.bytes().any(|b| b.eq_ignore_ascii_case(&b'n'));
    if value.is_infinite() && !named { Err(error("value out of range")) } else { Ok(value) }
}
