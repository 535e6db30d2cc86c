//! Values at run time, with what Go's reflection would know of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use fk_model::{FloatHistogram, Labels, SampleValue, Span};

use crate::gotime::{MONTHS, Time, WEEKDAYS, duration_text};
use crate::{QuerySample, float, format};

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing at all: `nil`, or what a missing thing gives.
    None,
    Bool(bool),
    Int(i64),
    /// An integer of another type.
    Named(i64, Named),
    Uint(u64),
    /// `uint8`: what an index into a text gives.
    Byte(u8),
    Float(f64),
    String(Arc<str>),
    /// A text that `safeHtml` has declared to be HTML.
    Html(Arc<str>),
    /// `map[string]string`
    Labels(Labels),
    /// What `args` makes.
    Map(Rc<Map>),
    List(Rc<List>),
    Sample(Rc<QuerySample>),
    Histogram(Arc<FloatHistogram>),
    /// What `.` is in a template of an alerting rule or a console.
    Data(Rc<Data>),
    Time(Time),
    /// What `toTime` and `toDuration` give: a time or a duration behind a pointer.
    Pointer(Rc<Value>),
}

/// Types of integers other than `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Int32,
    Int64,
    /// Nanoseconds.
    Duration,
    /// From 1.
    Month,
    /// From Sunday, 0.
    Weekday,
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

/// A field of a struct.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
}

/// A struct: what a template sees.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) type_name: &'static str,
    pub(crate) fields: Vec<Field>,
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
    pub(crate) fn type_name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Value::None => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Named(_, Named::Int32) => "int32",
            Value::Named(_, Named::Int64) => "int64",
            Value::Named(_, Named::Duration) => "time.Duration",
            Value::Named(_, Named::Month) => "time.Month",
            Value::Named(_, Named::Weekday) => "time.Weekday",
            Value::Uint(_) => "uint",
            Value::Byte(_) => "uint8",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::Html(_) => "template.HTML",
            Value::Labels(_) => "map[string]string",
            Value::Map(_) => "map[string]interface {}",
            Value::List(list) => list.type_name,
            Value::Sample(_) => "*template.sample",
            Value::Histogram(_) => "*histogram.FloatHistogram",
            Value::Data(data) => data.type_name,
            Value::Time(_) => "time.Time",
            Value::Pointer(inner) => return Cow::Owned(format!("*{}", inner.type_name())),
        })
    }

    /// What is behind a pointer; the value itself if it is none.
    pub(crate) fn pointed(&self) -> &Value {
        match self {
            Value::Pointer(inner) => inner,
            other => other,
        }
    }

    /// Whether `if` takes it for true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) | Value::Named(value, _) => *value != 0,
            Value::Uint(value) => *value != 0,
            Value::Byte(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::String(text) | Value::Html(text) => !text.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Sample(_) | Value::Histogram(_) | Value::Data(_) | Value::Time(_) | Value::Pointer(_) => true,
        }
    }

    /// The text of a value that knows how to print itself.
    pub(crate) fn own_text(&self) -> Option<String> {
        match self {
            Value::Named(ns, Named::Duration) => Some(duration_text(*ns)),
            Value::Named(n, Named::Month) => {
                let name = usize::try_from(*n - 1).ok().and_then(|at| MONTHS.get(at));
                Some(name.map_or_else(|| format!("%!Month({n})"), |name| (*name).to_owned()))
            }
            Value::Named(n, Named::Weekday) => {
                let name = usize::try_from(*n).ok().and_then(|at| WEEKDAYS.get(at));
                Some(name.map_or_else(|| format!("%!Weekday({n})"), |name| (*name).to_owned()))
            }
            Value::Histogram(h) => Some(h.to_string()),
            Value::Time(time) => Some(time.to_string()),
            Value::Pointer(inner) => inner.own_text(),
            _ => None,
        }
    }

    /// The entries of a map, by name.
    pub(crate) fn entries(&self) -> Vec<(String, Value)> {
        match self {
            Value::Labels(labels) => {
                labels.iter().map(|(name, value)| (name.to_owned(), Value::string(value))).collect()
            }
            Value::Map(map) => map.entries.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            _ => Vec::new(),
        }
    }

    /// The fields of a struct.
    pub(crate) fn fields(&self) -> Vec<Field> {
        match self {
            Value::Sample(sample) => vec![
                Field { name: "Labels", value: Value::Labels(sample.labels.clone()) },
                Field { name: "Value", value: Value::of(&sample.value) },
            ],
            Value::Data(data) => data.fields.clone(),
            Value::Histogram(h) => histogram_fields(h),
            _ => Vec::new(),
        }
    }

    /// As a template prints it: like `%v`, but nothing at all is `<no value>`, and pointers are followed.
    pub(crate) fn printed(&self) -> String {
        match self {
            Value::None => "<no value>".to_owned(),
            Value::String(text) | Value::Html(text) => text.to_string(),
            Value::Sample(_) => format::sprint(std::slice::from_ref(self)).trim_start_matches('&').to_owned(),
            other => format::sprint(std::slice::from_ref(other)),
        }
    }

    /// The number that the `humanize` functions make of it.
    pub(crate) fn to_float(&self) -> Result<f64, String> {
        match self {
            Value::Float(value) => Ok(*value),
            Value::Int(value) | Value::Named(value, Named::Int64) => Ok(*value as f64),
            Value::Uint(value) => Ok(*value as f64),
            Value::String(text) => parse_float(text),
            Value::Named(ns, Named::Duration) => Ok(crate::gotime::seconds(*ns)),
            other => Err(format!("can't convert {} to float", other.type_name())),
        }
    }
}

/// What templates see of a histogram.
fn histogram_fields(h: &FloatHistogram) -> Vec<Field> {
    let floats = |values: &[f64]| {
        let items = values.iter().map(|v| Value::Float(*v)).collect();
        Value::List(Rc::new(List { type_name: "[]float64", items }))
    };
    let spans = |spans: &[Span]| {
        let span = |span: &Span| {
            let offset = Field { name: "Offset", value: Value::Named(i64::from(span.offset), Named::Int32) };
            let length = Field { name: "Length", value: Value::Uint(u64::from(span.length)) };
            Value::Data(Rc::new(Data { type_name: "histogram.Span", fields: vec![offset, length] }))
        };
        Value::List(Rc::new(List { type_name: "[]histogram.Span", items: spans.iter().map(span).collect() }))
    };
    [
        ("CounterResetHint", Value::Byte(h.counter_reset as u8)),
        ("Schema", Value::Named(i64::from(h.schema), Named::Int32)),
        ("ZeroThreshold", Value::Float(h.zero_threshold)),
        ("ZeroCount", Value::Float(h.zero_count)),
        ("Count", Value::Float(h.count)),
        ("Sum", Value::Float(h.sum)),
        ("PositiveSpans", spans(&h.positive_spans)),
        ("NegativeSpans", spans(&h.negative_spans)),
        ("PositiveBuckets", floats(&h.positive_buckets)),
        ("NegativeBuckets", floats(&h.negative_buckets)),
        ("CustomValues", floats(&h.custom_values)),
    ]
    .map(|(name, value)| Field { name, value })
    .into()
}

/// `strconv.ParseFloat`
fn parse_float(text: &str) -> Result<f64, String> {
    let error = |reason: &str| format!("strconv.ParseFloat: parsing {}: {reason}", crate::text::quote(text));
    let value = float::parse(text).ok_or_else(|| error("invalid syntax"))?;
    let named = text.bytes().any(|b| b.eq_ignore_ascii_case(&b'n'));
    if value.is_infinite() && !named { Err(error("value out of range")) } else { Ok(value) }
}
