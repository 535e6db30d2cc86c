//! The functions that templates can call: Go's own and those of Prometheus (`template/template.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use fk_model::SearchRegex;

use crate::exec::TOO_LARGE;
use crate::format::{float_g, float_text, sprint, sprintf, sprintln};
use crate::gotime::Time;
use crate::text::query_escape;
use crate::value::{List, Map, QUERY_RESULT, Value};
use crate::{Functions, OUTPUT_BYTES_MAX};

/// Functions of Go's templates that are not built; refused by name.
pub(crate) const UNSUPPORTED: [&str; 1] = ["call"];

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Any,
    String,
    Sample,
    Samples,
    Duration,
    Time,
}

impl Type {
    /// Name of the Go type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Any => "interface {}",
            Type::String => "string",
            Type::Sample => "*template.sample",
            Type::Samples => QUERY_RESULT,
            Type::Duration => "time.Duration",
            Type::Time => "time.Time",
        }
    }

    /// Whether a value can be handed over as it is.
    pub(crate) fn takes(self, value: &Value) -> bool {
        match self {
            Type::Any => true,
            Type::String => matches!(value, Value::String(_)),
            Type::Sample => matches!(value, Value::Sample(_)),
            Type::Samples => matches!(value, Value::List(list) if list.type_name == QUERY_RESULT),
            Type::Duration => matches!(value, Value::Duration(_)),
            Type::Time => matches!(value, Value::Time(_)),
        }
    }
}

type Call = fn(&[Value], &dyn Functions) -> Result<Value, String>;

/// A function or method. The arguments are checked before it is called.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Type],
    /// Whether any number of further arguments of any type may follow.
    pub(crate) variadic: bool,
    pub(crate) call: Call,
}

/// The function called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

const fn function(name: &'static str, params: &'static [Type], variadic: bool, call: Call) -> Function {
    Function { name, params, variadic, call }
}

use Type::{Any, Sample, Samples};

/// `and` and `or` are special: the caller evaluates their arguments only as far as it takes.
static FUNCTIONS: &[Function] = &[
    // === Go ===
    function("and", &[Any], true, |args, _| Ok(args.last().cloned().unwrap_or(Value::None))),
    function("or", &[Any], true, |args, _| Ok(args.last().cloned().unwrap_or(Value::None))),
    function("not", &[Any], false, |args, _| Ok(Value::Bool(!args[0].is_true()))),
    function("len", &[Any], false, |args, _| length(&args[0])),
    function("index", &[Any], true, |args, _| index(&args[0], &args[1..])),
    function("slice", &[Any], true, |args, _| slice(&args[0], &args[1..])),
    function("print", &[], true, |args, _| Ok(Value::string(sprint(args)))),
    function("println", &[], true, |args, _| Ok(Value::string(sprintln(args)))),
    function("printf", &[Type::String], true, |args, _| Ok(Value::string(sprintf(&text(&args[0]), &args[1..])))),
    function("html", &[], true, |args, _| Ok(Value::string(escape_html(&joined(args))))),
    function("js", &[], true, |args, _| Ok(Value::string(escape_js(&joined(args))))),
    function("urlquery", &[], true, |args, _| Ok(Value::string(query_escape(&joined(args))))),
    function("eq", &[Any], true, |args, _| equal_to_any(&args[0], &args[1..]).map(Value::Bool)),
    function("ne", &[Any, Any], false, |args, _| equal(&args[0], &args[1]).map(|eq| Value::Bool(!eq))),
    function("lt", &[Any, Any], false, |args, _| less(&args[0], &args[1]).map(Value::Bool)),
    function("le", &[Any, Any], false, |args, _| less_or_equal(&args[0], &args[1]).map(Value::Bool)),
    function("gt", &[Any, Any], false, |args, _| less_or_equal(&args[0], &args[1]).map(|le| Value::Bool(!le))),
    function("ge", &[Any, Any], false, |args, _| less(&args[0], &args[1]).map(|lt| Value::Bool(!lt))),
    // === Queries ===
    function("query", &[Type::String], false, query),
    function("first", &[Samples], false, |args, _| {
        let empty = || "first() called on vector with no elements".to_owned();
        items(&args[0]).first().cloned().ok_or_else(empty)
    }),
    function("label", &[Type::String, Sample], false, |args, _| Ok(Value::string(label(&args[1], &text(&args[0]))))),
    function("value", &[Sample], false, |args, _| match &args[0] {
        Value::Sample(sample) => Ok(Value::of(&sample.value)),
        _ => Ok(Value::None),
    }),
    function("strvalue", &[Sample], false, |args, _| Ok(Value::string(label(&args[0], "__value__")))),
    function("sortByLabel", &[Type::String, Samples], false, |args, _| {
        let (name, mut sorted) = (text(&args[0]), items(&args[1]).to_vec());
        sorted.sort_by_cached_key(|sample| label(sample, &name));
        Ok(Value::List(Rc::new(List { type_name: QUERY_RESULT, items: sorted })))
    }),
    function("args", &[], true, |args, _| {
        let named = args.iter().enumerate().map(|(idx, value)| (format!("arg{idx}"), value.clone()));
        Map::new(named.collect::<BTreeMap<_, _>>()).map(|map| Value::Map(Rc::new(map)))
    }),
    // === Texts ===
    function("reReplaceAll", &[Type::String, Type::String, Type::String], false, |args, _| {
        let replaced = regex(&text(&args[0]))?.replace_all(&text(&args[2]), &text(&args[1]), OUTPUT_BYTES_MAX);
        replaced.map(Value::string).ok_or_else(|| TOO_LARGE.to_owned())
    }),
    function("match", &[Type::String, Type::String], false, |args, _| {
        Ok(Value::Bool(regex(&text(&args[0]))?.is_match(&text(&args[1]))))
    }),
    function("safeHtml", &[Type::String], false, |args, _| Ok(args[0].clone())),
    function("title", &[Type::String], false, |args, _| Ok(Value::string(title(&text(&args[0]))))),
    function("toUpper", &[Type::String], false, |args, _| Ok(Value::string(upper(&text(&args[0]))))),
    function("toLower", &[Type::String], false, |args, _| Ok(Value::string(lower(&text(&args[0]))))),
    function("graphLink", &[Type::String], false, |args, _| Ok(link(&text(&args[0]), 0))),
    function("tableLink", &[Type::String], false, |args, _| Ok(link(&text(&args[0]), 1))),
    function("urlQueryEscape", &[Type::String], false, |args, _| Ok(Value::string(query_escape(&text(&args[0]))))),
    function("stripPort", &[Type::String], false, |args, _| {
        let all = text(&args[0]);
        Ok(Value::string(split_host_port(&all).map_or(&*all, |(host, _)| host)))
    }),
    function("stripDomain", &[Type::String], false, |args, _| Ok(Value::string(strip_domain(&text(&args[0]))))),
    // === Numbers and times ===
    function("humanize", &[Any], false, |args, _| Ok(Value::string(humanize(args[0].to_float()?)))),
    function("humanize1024", &[Any], false, |args, _| Ok(Value::string(humanize1024(args[0].to_float()?)))),
    function("humanizeDuration", &[Any], false, |args, _| Ok(Value::string(humanize_duration(args[0].to_float()?)))),
    function("humanizePercentage", &[Any], false, |args, _| {
        Ok(Value::string(format!("{}%", float_g(args[0].to_float()? * 100.0, 4))))
    }),
    function("humanizeTimestamp", &[Any], false, |args, _| {
        let v = args[0].to_float()?;
        if v.is_nan() || v.is_infinite() {
            return Ok(Value::string(float_g(v, 4)));
        }
        Ok(Value::string(to_time(v)?.to_string()))
    }),
    function("toTime", &[Any], false, |args, _| to_time(args[0].to_float()?).map(Value::Time)),
    function("toDuration", &[Any], false, |args, _| {
        to_ns(args[0].to_float()?, "cannot be represented as nanoseconds since it overflows int64").map(Value::Duration)
    }),
    function("now", &[], false, |_, world| Ok(Value::Float(world.now_ms() as f64 / 1000.0))),
    function("parseDuration", &[Type::String], false, |args, _| {
        let text = text(&args[0]);
        let (sign, magnitude) = text.strip_prefix('-').map_or((1.0, &*text), |rest| (-1.0, rest));
        let duration = fk_model::Duration::parse(magnitude).map_err(|error| error.to_string())?;
        Ok(Value::Float(sign * duration.as_secs_f64()))
    }),
    // === The server ===
    function("externalURL", &[], false, |_, world| Ok(Value::string(world.external_url()))),
    function("pathPrefix", &[], false, |_, world| Ok(Value::string(path_of(world.external_url())))),
];

fn text(value: &Value) -> Arc<str> {
    match value {
        Value::String(text) => text.clone(),
        other => other.printed().into(),
    }
}

fn joined(args: &[Value]) -> String {
    match args {
        [Value::String(text)] => text.to_string(),
        args => sprint(args),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::List(list) => &list.items,
        _ => &[],
    }
}

fn label(sample: &Value, name: &str) -> String {
    match sample {
        Value::Sample(sample) => sample.labels.value(name).to_owned(),
        _ => String::new(),
    }
}

fn query(args: &[Value], world: &dyn Functions) -> Result<Value, String> {
    let samples = world.query(&text(&args[0]))?;
    let items = samples.into_iter().map(|sample| Value::Sample(Rc::new(sample))).collect();
    Ok(Value::List(Rc::new(List { type_name: QUERY_RESULT, items })))
}

// === Collections ===

fn length(value: &Value) -> Result<Value, String> {
    let n = match value {
        Value::None => return Err("len of untyped nil".to_owned()),
        Value::String(text) => text.len(),
        Value::Labels(labels) => labels.len(),
        Value::Map(map) => map.entries.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(n as i64))
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    if matches!(value, Value::None) {
        return Err("index of untyped nil".to_owned());
    }
    keys.iter().try_fold(value.clone(), |value, key| match &value {
        Value::List(list) => Ok(list.items[position(key, list.items.len(), false)?].clone()),
        Value::String(text) => Ok(Value::Uint(u64::from(text.as_bytes()[position(key, text.len(), false)?]))),
        Value::Labels(labels) => Ok(Value::string(labels.value(&map_key(key)?))),
        Value::Map(map) => Ok(map.entries.get(&*map_key(key)?).cloned().unwrap_or(Value::None)),
        Value::None => Err("index of nil pointer".to_owned()),
        other => Err(format!("can't index item of type {}", other.type_name())),
    })
}

fn map_key(key: &Value) -> Result<Arc<str>, String> {
    match key {
        Value::String(text) => Ok(text.clone()),
        Value::None => Err("value is nil; should be of type string".to_owned()),
        other => Err(format!("value has type {}; should be string", other.type_name())),
    }
}

/// An index below `len`, or up to it for the ends of slices.
fn position(key: &Value, len: usize, is_end: bool) -> Result<usize, String> {
    let at = match key {
        Value::Int(n) => usize::try_from(*n).ok(),
        Value::Uint(n) => usize::try_from(*n).ok(),
        Value::None => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    let last = if is_end { len } else { len.checked_sub(1).unwrap_or(usize::MAX) };
    at.filter(|at| *at <= last && last != usize::MAX).ok_or_else(|| format!("index out of range: {}", key.printed()))
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let len = match value {
        Value::None => return Err("slice of untyped nil".to_owned()),
        Value::String(_) if bounds.len() == 3 => return Err("cannot 3-index slice a string".to_owned()),
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let start = bounds.first().map_or(Ok(0), |key| position(key, len, true))?;
    let end = bounds.get(1).map_or(Ok(len), |key| position(key, len, true))?;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    match value {
        Value::String(text) => {
            let part = text.get(start..end).ok_or("slice cuts a character")?;
            Ok(Value::string(part))
        }
        Value::List(list) => {
            let items = list.items[start..end].to_vec();
            Ok(Value::List(Rc::new(List { type_name: list.type_name, items })))
        }
        _ => Ok(Value::None),
    }
}

// === Comparison ===

#[derive(PartialEq, Eq)]
enum Basic {
    Bool,
    Int,
    Uint,
    Float,
    String,
    Other,
}

fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(_) | Value::Duration(_) => Basic::Int,
        Value::Uint(_) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::String(_) => Basic::String,
        _ => Basic::Other,
    }
}

const INCOMPATIBLE: &str = "incompatible types for comparison";
const NOT_ORDERED: &str = "invalid type for comparison";

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Ok(a == b),
        (Value::Uint(a), Value::Uint(b)) => Ok(a == b),
        (Value::Int(a), Value::Uint(b)) | (Value::Uint(b), Value::Int(a)) => Ok(u64::try_from(*a) == Ok(*b)),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        (Value::None, Value::None) => Ok(true),
        (Value::None, _) | (_, Value::None) => Ok(false),
        (a, b) if basic(a) != basic(b) => Err(INCOMPATIBLE.to_owned()),
        (a, b) => {
            Err(format!("non-comparable types {}: {}, {}: {}", a.printed(), a.type_name(), b.type_name(), b.printed()))
        }
    }
}

fn equal_to_any(a: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(a, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Ok(a < b),
        (Value::Uint(a), Value::Uint(b)) => Ok(a < b),
        (Value::Int(a), Value::Uint(b)) => Ok(u64::try_from(*a).map_or(true, |a| a < *b)),
        (Value::Uint(a), Value::Int(b)) => Ok(u64::try_from(*b).is_ok_and(|b| *a < b)),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::String(a), Value::String(b)) => Ok(a < b),
        (a, b) => match (basic(a), basic(b)) {
            (Basic::Other, _) | (_, Basic::Other) | (Basic::Bool, Basic::Bool) => Err(NOT_ORDERED.to_owned()),
            _ => Err(INCOMPATIBLE.to_owned()),
        },
    }
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(less(a, b)? || equal(a, b)?)
}

// === Texts ===

fn regex(pattern: &str) -> Result<SearchRegex, String> {
    SearchRegex::new(pattern).map_err(|error| error.to_string())
}

/// One character for one character, as Go maps cases.
fn map_case(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn upper(text: &str) -> String {
    text.chars().map(|c| map_case(c, c.to_uppercase())).collect()
}

fn lower(text: &str) -> String {
    text.chars().map(|c| map_case(c, c.to_lowercase())).collect()
}

fn title(text: &str) -> String {
    let separates = |c: char| match c {
        c if c.is_ascii() => !(c.is_ascii_alphanumeric() || c == '_'),
        c => !c.is_alphanumeric() && c.is_whitespace(),
    };
    let mut before = ' ';
    let shape = |c: char| {
        let first = separates(std::mem::replace(&mut before, c));
        if first { map_case(c, c.to_uppercase()) } else { c }
    };
    text.chars().map(shape).collect()
}

fn link(expr: &str, tab: u8) -> Value {
    Value::string(format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expr)))
}

fn path_of(url: &str) -> &str {
    let behind_scheme = url.find("://").map_or(0, |at| at + 3);
    url[behind_scheme..].find('/').map_or("", |at| &url[behind_scheme + at..])
}

/// `net.SplitHostPort`
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']')?;
            (!inner.contains(['[', ']']) && !port.contains(['[', ']'])).then_some((inner, port))
        }
        None => (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port)),
    }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    match port {
        "" => first.to_owned(),
        port if first.contains(':') => format!("[{first}]:{port}"),
        port => format!("{first}:{port}"),
    }
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

// === Numbers and times ===

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const LARGE_1024: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn scaled_down(mut v: f64, step: f64, prefixes: &[&'static str; 8]) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if v.abs() < step {
            break;
        }
        (prefix, v) = (next, v / step);
    }
    (v, prefix)
}

fn scaled_up(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALL {
        if v.abs() >= 1.0 {
            break;
        }
        (prefix, v) = (next, v * 1000.0);
    }
    (v, prefix)
}

fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return float_g(v, 4);
    }
    let (v, prefix) = if v.abs() >= 1.0 { scaled_down(v, 1000.0, &LARGE) } else { scaled_up(v) };
    format!("{}{prefix}", float_g(v, 4))
}

fn humanize1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return float_g(v, 4);
    }
    let (v, prefix) = scaled_down(v, 1024.0, &LARGE_1024);
    format!("{}{prefix}", float_g(v, 4))
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return float_g(v, 4);
    }
    if v == 0.0 {
        return format!("{}s", float_g(v, 4));
    }
    if v.abs() < 1.0 {
        let (v, prefix) = scaled_up(v);
        return format!("{}{prefix}s", float_g(v, 4));
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let v = v.abs();
    let whole = v as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", float_g(v, 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

fn to_ns(seconds: f64, overflow: &str) -> Result<i64, String> {
    if !seconds.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let ns = seconds * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        return Err(format!("{} {overflow}", float_text(seconds)));
    }
    Ok(ns as i64)
}

/// Whole milliseconds, as Prometheus' times are.
fn to_time(seconds: f64) -> Result<Time, String> {
    let ns = to_ns(seconds, "cannot be represented as a nanoseconds timestamp since it overflows int64")?;
    Ok(Time(ns / 1_000_000 * 1_000_000))
}

// === Methods ===

/// The method `name` of a value; its first argument is the value itself.
pub(crate) fn find_method(receiver: &Value, name: &str) -> Option<&'static Function> {
    let methods = match receiver {
        Value::Time(_) => TIME_METHODS,
        Value::Duration(_) => DURATION_METHODS,
        _ => return None,
    };
    methods.iter().find(|f| f.name == name)
}

fn time_of(value: &Value) -> Time {
    match value {
        Value::Time(time) => *time,
        _ => Time(0),
    }
}

fn ns_of(value: &Value) -> i64 {
    match value {
        Value::Duration(ns) => *ns,
        _ => 0,
    }
}

fn in_range(ns: Option<i64>) -> Result<i64, String> {
    ns.ok_or_else(|| "time out of range".to_owned())
}

static TIME_METHODS: &[Function] = &[
    function("Format", &[Type::String], false, |args, _| Ok(Value::string(time_of(&args[0]).format(&text(&args[1]))))),
    function("String", &[], false, |args, _| Ok(Value::string(time_of(&args[0]).to_string()))),
    function("Add", &[Type::Duration], false, |args, _| {
        in_range(time_of(&args[0]).0.checked_add(ns_of(&args[1]))).map(|ns| Value::Time(Time(ns)))
    }),
    function("Sub", &[Type::Time], false, |args, _| {
        in_range(time_of(&args[0]).0.checked_sub(time_of(&args[1]).0)).map(Value::Duration)
    }),
    function("After", &[Type::Time], false, |args, _| Ok(Value::Bool(time_of(&args[0]) > time_of(&args[1])))),
    function("Before", &[Type::Time], false, |args, _| Ok(Value::Bool(time_of(&args[0]) < time_of(&args[1])))),
    function("Equal", &[Type::Time], false, |args, _| Ok(Value::Bool(time_of(&args[0]) == time_of(&args[1])))),
    function("UTC", &[], false, |args, _| Ok(args[0].clone())),
    function("Unix", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).0.div_euclid(1_000_000_000)))),
    function("UnixMilli", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).0.div_euclid(1_000_000)))),
    function("UnixNano", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).0))),
    function("Year", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().year))),
    function("Day", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().day))),
    function("YearDay", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().year_day))),
    function("Hour", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().hour))),
    function("Minute", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().minute))),
    function("Second", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().second))),
    function("Month", &[], false, |args, _| Ok(Value::string(time_of(&args[0]).format("January")))),
    function("Weekday", &[], false, |args, _| Ok(Value::string(time_of(&args[0]).format("Monday")))),
];

static DURATION_METHODS: &[Function] = &[
    function("String", &[], false, |args, _| Ok(Value::string(args[0].printed()))),
    function("Seconds", &[], false, |args, _| Ok(Value::Float(ns_of(&args[0]) as f64 / 1e9))),
    function("Minutes", &[], false, |args, _| Ok(Value::Float(ns_of(&args[0]) as f64 / 6e10))),
    function("Hours", &[], false, |args, _| Ok(Value::Float(ns_of(&args[0]) as f64 / 3.6e12))),
    function("Milliseconds", &[], false, |args, _| Ok(Value::Int(ns_of(&args[0]) / 1_000_000))),
    function("Microseconds", &[], false, |args, _| Ok(Value::Int(ns_of(&args[0]) / 1_000))),
    function("Nanoseconds", &[], false, |args, _| Ok(Value::Int(ns_of(&args[0])))),
];
