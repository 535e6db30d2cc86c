//! The functions that templates can call: Go's own and those of Prometheus (`template/template.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use fk_model::SearchRegex;

use crate::exec::TOO_LARGE;
use crate::float::general_text as float_g;
use crate::format::{sprint, sprintf, sprintln};
use crate::gotime::{Time, seconds};
use crate::text::{is_print, query_escape};
use crate::value::{List, Map, Named, QUERY_RESULT, Value};
use crate::{Functions, OUTPUT_BYTES_MAX};

/// What Go says when a function looks behind `nil`. Text as in Prometheus:
const NIL_POINTER: &str = "runtime error: invalid memory address or nil pointer dereference";

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Any,
    String,
    Sample,
    Samples,
    Duration,
    Time,
    Int,
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
            Type::Int => "int",
        }
    }

    /// Whether a value can be handed over as it is.
    pub(crate) fn takes(self, value: &Value) -> bool {
        match self {
            Type::Any => true,
            Type::String => matches!(value, Value::String(_)),
            Type::Sample => matches!(value, Value::Sample(_)),
            Type::Samples => matches!(value, Value::List(list) if list.type_name == QUERY_RESULT),
            Type::Duration => matches!(value, Value::Named(_, Named::Duration)),
            Type::Time => matches!(value, Value::Time(_)),
            Type::Int => matches!(value, Value::Int(_)),
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

/// The names of all functions.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}

const fn function(name: &'static str, params: &'static [Type], variadic: bool, call: Call) -> Function {
    Function { name, params, variadic, call }
}

use Type::{Any, Sample, Samples};

/// `and`, `or` and `call` are special: the caller does not get here.
static FUNCTIONS: &[Function] = &[
    // === Go ===
    function("and", &[Any], true, |args, _| Ok(args.last().cloned().unwrap_or(Value::None))),
    function("or", &[Any], true, |args, _| Ok(args.last().cloned().unwrap_or(Value::None))),
    function("call", &[Any], true, |_, _| Err("call of nil".to_owned())),
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
    function("label", &[Type::String, Sample], false, |args, _| label(&args[1], &text(&args[0])).map(Value::string)),
    function("value", &[Sample], false, |args, _| match &args[0] {
        Value::Sample(sample) => Ok(Value::of(&sample.value)),
        _ => Err(NIL_POINTER.to_owned()),
    }),
    function("strvalue", &[Sample], false, |args, _| label(&args[0], "__value__").map(Value::string)),
    function("sortByLabel", &[Type::String, Samples], false, |args, _| {
        let (name, mut sorted) = (text(&args[0]), items(&args[1]).to_vec());
        sorted.sort_by_cached_key(|sample| label(sample, &name).unwrap_or_default());
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
    function("safeHtml", &[Type::String], false, |args, _| Ok(Value::Html(text(&args[0])))),
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
    function("toTime", &[Any], false, |args, _| {
        to_time(args[0].to_float()?).map(|time| Value::Pointer(Rc::new(Value::Time(time))))
    }),
    function("toDuration", &[Any], false, |args, _| {
        let ns = args[0].to_float()? * 1e9;
        // What cannot be a duration becomes the smallest one, as in Go.
        let fits = (i64::MIN as f64..i64::MAX as f64).contains(&ns);
        let duration = Value::Named(if fits { ns as i64 } else { i64::MIN }, Named::Duration);
        Ok(Value::Pointer(Rc::new(duration)))
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
        Value::String(text) | Value::Html(text) => text.clone(),
        other => other.printed().into(),
    }
}

fn joined(args: &[Value]) -> String {
    match args {
        [Value::String(text)] => text.to_string(),
        args => {
            let shown = |value: &Value| match value {
                Value::None => Value::string(value.printed()),
                other => other.clone(),
            };
            sprint(&args.iter().map(shown).collect::<Vec<_>>())
        }
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::List(list) => &list.items,
        _ => &[],
    }
}

fn label(sample: &Value, name: &str) -> Result<String, String> {
    match sample {
        Value::Sample(sample) => Ok(sample.labels.value(name).to_owned()),
        _ => Err(NIL_POINTER.to_owned()),
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
        Value::None => return Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
        Value::String(text) | Value::Html(text) => text.len(),
        Value::Labels(labels) => labels.len(),
        Value::Map(map) => map.entries.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("len of type {}", behind(other))),
    };
    Ok(Value::Int(n as i64))
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    if matches!(value, Value::None) {
        return Err("index of untyped nil".to_owned());
    }
    keys.iter().try_fold(value.clone(), |value, key| match &value {
        Value::List(list) => {
            let item = list.items.get(position(key, list.items.len())?).cloned();
            item.ok_or_else(|| "reflect: slice index out of range".to_owned())
        }
        Value::String(text) | Value::Html(text) => {
            let byte = text.as_bytes().get(position(key, text.len())?).map(|byte| Value::Byte(*byte));
            byte.ok_or_else(|| "reflect: string index out of range".to_owned())
        }
        Value::Labels(labels) => Ok(Value::string(labels.value(&map_key(key)?))),
        Value::Map(map) => Ok(map.entries.get(&*map_key(key)?).cloned().unwrap_or(Value::None)),
        Value::None => Err("index of nil pointer".to_owned()),
        other => Err(format!("can't index item of type {}", behind(other))),
    })
}

fn map_key(key: &Value) -> Result<Arc<str>, String> {
    match key {
        Value::String(text) => Ok(text.clone()),
        Value::None => Err("value is nil; should be of type string".to_owned()),
        other => Err(format!("value has type {}; should be string", other.type_name())),
    }
}

/// The type of a value, of what is behind it if it is a pointer.
fn behind(value: &Value) -> String {
    value.type_name().trim_start_matches('*').to_owned()
}

/// An index, or the end of a slice: `len` at most.
fn position(key: &Value, len: usize) -> Result<usize, String> {
    let at = match key {
        Value::Int(n) | Value::Named(n, _) => *n,
        Value::Uint(n) => *n as i64,
        Value::Byte(n) => i64::from(*n),
        Value::None => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    usize::try_from(at).ok().filter(|at| *at <= len).ok_or_else(|| format!("index out of range: {at}"))
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let len = match value {
        Value::None => return Err("slice of untyped nil".to_owned()),
        Value::String(_) | Value::Html(_) if bounds.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::String(text) | Value::Html(text) => text.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", behind(other))),
    };
    let mut at = [0, len, len];
    for (at, bound) in at.iter_mut().zip(bounds) {
        *at = position(bound, len)?;
    }
    let [start, end, most] = at;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    if end > most {
        return Err(format!("invalid slice index: {end} > {most}"));
    }
    match value {
        Value::String(text) | Value::Html(text) => {
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

#[derive(Clone, Copy, PartialEq, Eq)]
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
        Value::Int(_) | Value::Named(..) => Basic::Int,
        Value::Uint(_) | Value::Byte(_) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::String(_) | Value::Html(_) => Basic::String,
        _ => Basic::Other,
    }
}

fn integer(value: &Value) -> i128 {
    match value {
        Value::Int(n) | Value::Named(n, _) => i128::from(*n),
        Value::Uint(n) => i128::from(*n),
        Value::Byte(n) => i128::from(*n),
        _ => 0,
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

const NOT_ORDERED: &str = "invalid type for comparison";

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (basic(a), basic(b)) {
        (Basic::Int | Basic::Uint, Basic::Int | Basic::Uint) => return Ok(integer(a) == integer(b)),
        (of_a, of_b) if of_a != of_b => {
            let known = !matches!((a, b), (Value::None, _) | (_, Value::None));
            return if known { Err(incompatible(a, b)) } else { Ok(false) };
        }
        _ => {}
    }
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::String(a) | Value::Html(a), Value::String(b) | Value::Html(b)) => Ok(a == b),
        (Value::None, _) | (_, Value::None) => Ok(matches!((a, b), (Value::None, Value::None))),
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        // Pointers are equal if they are the same.
        (Value::Sample(a), Value::Sample(b)) => Ok(Rc::ptr_eq(a, b)),
        (Value::Pointer(a), Value::Pointer(b)) => Ok(Rc::ptr_eq(a, b)),
        (Value::Histogram(a), Value::Histogram(b)) => Ok(Arc::ptr_eq(a, b)),
        (Value::Labels(_) | Value::Map(_), Value::Labels(_) | Value::Map(_))
        | (Value::List(_), Value::List(_))
        | (Value::Data(_), Value::Data(_)) => Err(format!("non-comparable type {}: {}", b.printed(), b.type_name())),
        (Value::Labels(_) | Value::Map(_) | Value::List(_) | Value::Data(_), _)
        | (_, Value::Labels(_) | Value::Map(_) | Value::List(_) | Value::Data(_)) => {
            let (of_a, of_b) = (a.type_name(), b.type_name());
            Err(format!("non-comparable types {}: {of_a}, {of_b}: {}", a.printed(), b.printed()))
        }
        _ => Ok(false),
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
    match (basic(a), basic(b)) {
        (Basic::Other, _) | (_, Basic::Other) => return Err(NOT_ORDERED.to_owned()),
        (Basic::Int | Basic::Uint, Basic::Int | Basic::Uint) => return Ok(integer(a) < integer(b)),
        (of_a, of_b) if of_a != of_b => return Err(incompatible(a, b)),
        _ => {}
    }
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::String(a) | Value::Html(a), Value::String(b) | Value::Html(b)) => Ok(a < b),
        _ => Err(NOT_ORDERED.to_owned()),
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

/// The first letter of each word in upper case. Words go on over digits, underscores, and over single dots, colons and
/// apostrophes within them.
///
/// Facts: `golang.org/x/text/cases`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_word, mut was_mid) = (false, false);
    for c in text.chars() {
        let is_mid =
            matches!(c, '\'' | '.' | ':' | '\u{b7}' | '\u{387}' | '\u{2018}' | '\u{2019}' | '\u{2024}' | '\u{2027}');
        in_word &= !(was_mid && is_mid);
        was_mid = is_mid;
        let is_cased = c.is_uppercase() || c.is_lowercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ');
        if is_cased && !in_word {
            in_word = true;
            push_title(&mut out, c);
            continue;
        }
        out.push(c);
        let goes_on =
            is_mid || c.is_alphanumeric() || matches!(c, '_' | '\u{300}'..='\u{36f}' | '\u{203f}' | '\u{2040}');
        in_word &= goes_on;
    }
    out
}

fn push_title(out: &mut String, c: char) {
    match c {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        c => {
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            out.extend(upper.flat_map(char::to_lowercase));
        }
    }
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
            c if (c as u32) < 0x20 || !(c.is_ascii() || is_print(c)) => out.push_str(&format!("\\u{:04X}", c as u32)),
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
    // Too large a number becomes the smallest one, as in Go.
    let whole = if v < i64::MAX as f64 { v as i64 } else { i64::MIN };
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
        return Err(format!("{} {overflow}", fk_model::gofloat::shortest(seconds)));
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
    let methods = match receiver.pointed() {
        Value::Time(_) => TIME_METHODS,
        Value::Named(_, Named::Duration) => DURATION_METHODS,
        Value::Named(_, Named::Month | Named::Weekday) | Value::Histogram(_) => NAME_METHODS,
        _ => return None,
    };
    methods.iter().find(|f| f.name == name)
}

fn time_of(value: &Value) -> Time {
    match value.pointed() {
        Value::Time(time) => *time,
        _ => Time(0),
    }
}

fn ns_of(value: &Value) -> i64 {
    match value.pointed() {
        Value::Named(ns, _) => *ns,
        _ => 0,
    }
}

/// To a multiple of `to`, halves away from zero.
fn rounded(ns: i64, to: i64) -> i64 {
    let rest = ns % to;
    let away = rest.unsigned_abs() >= to.unsigned_abs() - rest.unsigned_abs();
    match (ns - rest, away) {
        (down, false) => down,
        (down, true) => down.saturating_add(if ns < 0 { -to } else { to }),
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
        in_range(time_of(&args[0]).0.checked_sub(time_of(&args[1]).0)).map(|ns| Value::Named(ns, Named::Duration))
    }),
    function("After", &[Type::Time], false, |args, _| Ok(Value::Bool(time_of(&args[0]) > time_of(&args[1])))),
    function("Before", &[Type::Time], false, |args, _| Ok(Value::Bool(time_of(&args[0]) < time_of(&args[1])))),
    function("Equal", &[Type::Time], false, |args, _| Ok(Value::Bool(time_of(&args[0]) == time_of(&args[1])))),
    function("UTC", &[], false, |args, _| Ok(Value::Time(time_of(&args[0])))),
    function("Local", &[], false, |args, _| Ok(Value::Time(time_of(&args[0])))),
    function("UnixMicro", &[], false, |args, _| Ok(Value::Named(time_of(&args[0]).0.div_euclid(1_000), Named::Int64))),
    function("Nanosecond", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().ns))),
    function("IsZero", &[], false, |_, _| Ok(Value::Bool(false))),
    function("Compare", &[Type::Time], false, |args, _| {
        Ok(Value::Int(time_of(&args[0]).cmp(&time_of(&args[1])) as i64))
    }),
    function("Truncate", &[Type::Duration], false, |args, _| {
        let (ns, to) = (time_of(&args[0]).0, ns_of(&args[1]));
        // Counted from the year 1, as in Go.
        let since = i128::from(ns) + YEAR_ONE_NS;
        let cut = if to > 0 { since.rem_euclid(i128::from(to)) as i64 } else { 0 };
        in_range(ns.checked_sub(cut)).map(|ns| Value::Time(Time(ns)))
    }),
    function("AddDate", &[Type::Int, Type::Int, Type::Int], false, |args, _| {
        let number = |at: usize| match &args[at] {
            Value::Int(n) => *n,
            _ => 0,
        };
        in_range(time_of(&args[0]).add_date(number(1), number(2), number(3))).map(|ns| Value::Time(Time(ns)))
    }),
    function("Unix", &[], false, |args, _| {
        Ok(Value::Named(time_of(&args[0]).0.div_euclid(1_000_000_000), Named::Int64))
    }),
    function("UnixMilli", &[], false, |args, _| {
        Ok(Value::Named(time_of(&args[0]).0.div_euclid(1_000_000), Named::Int64))
    }),
    function("UnixNano", &[], false, |args, _| Ok(Value::Named(time_of(&args[0]).0, Named::Int64))),
    function("Year", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().year))),
    function("Day", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().day))),
    function("YearDay", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().year_day))),
    function("Hour", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().hour))),
    function("Minute", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().minute))),
    function("Second", &[], false, |args, _| Ok(Value::Int(time_of(&args[0]).civil().second))),
    function("Month", &[], false, |args, _| Ok(Value::Named(time_of(&args[0]).civil().month as i64, Named::Month))),
    function("Weekday", &[], false, |args, _| {
        Ok(Value::Named(time_of(&args[0]).civil().weekday as i64, Named::Weekday))
    }),
];

/// From the year 1 to the Unix epoch.
const YEAR_ONE_NS: i128 = 62_135_596_800 * 1_000_000_000;

static NAME_METHODS: &[Function] = &[function("String", &[], false, |args, _| Ok(Value::string(args[0].printed())))];

static DURATION_METHODS: &[Function] = &[
    function("Abs", &[], false, |args, _| Ok(Value::Named(ns_of(&args[0]).saturating_abs(), Named::Duration))),
    function("Truncate", &[Type::Duration], false, |args, _| {
        let (ns, to) = (ns_of(&args[0]), ns_of(&args[1]));
        Ok(Value::Named(if to > 0 { ns - ns % to } else { ns }, Named::Duration))
    }),
    function("Round", &[Type::Duration], false, |args, _| {
        let (ns, to) = (ns_of(&args[0]), ns_of(&args[1]));
        Ok(Value::Named(if to > 0 { rounded(ns, to) } else { ns }, Named::Duration))
    }),
    function("String", &[], false, |args, _| Ok(Value::string(args[0].printed()))),
    function("Seconds", &[], false, |args, _| Ok(Value::Float(seconds(ns_of(&args[0]))))),
    function("Minutes", &[], false, |args, _| Ok(Value::Float(ns_of(&args[0]) as f64 / 6e10))),
    function("Hours", &[], false, |args, _| Ok(Value::Float(ns_of(&args[0]) as f64 / 3.6e12))),
    function("Milliseconds", &[], false, |args, _| Ok(Value::Named(ns_of(&args[0]) / 1_000_000, Named::Int64))),
    function("Microseconds", &[], false, |args, _| Ok(Value::Named(ns_of(&args[0]) / 1_000, Named::Int64))),
    function("Nanoseconds", &[], false, |args, _| Ok(Value::Named(ns_of(&args[0]), Named::Int64))),
];
