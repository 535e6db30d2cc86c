//! Sections that are tables: each field with its type, its default and whether it is shown when it is empty, and a check of what
//! the fields have to do with each other. Everything that Prometheus has and this server does not run yet is read this way, so
//! that it is checked and shown like the rest; what is not run is for the caller to say.
//!
//! Start with [`Section`] and [`read`]; the tables are in [`aws`], [`clouds`], [`platforms`] and [`remote`]. [`written`] has the
//! tables of the sections that have readers of their own, for those who only want to know which fields there are.

pub(crate) mod aws;
pub(crate) mod clouds;
pub(crate) mod platforms;
pub(crate) mod remote;
mod selector;
pub(crate) mod written;

use std::path::Path;

use fk_model::Duration;
use fk_model::name::NameValidation;

use crate::http;
use crate::reader::{Fields, Reader};
use crate::section::{resolve, shown_texts};
use crate::shown::{self, SECRET, Shown, ShownMap, ShownMapExt};
use crate::types::HttpClientConfig;
use crate::yaml::Node;
use crate::{go_url, relabel};

/// A section: which fields it has, and what must hold between them.
pub(crate) struct Section {
    /// What its type is called in Prometheus' errors.
    pub go_type: &'static str,
    /// Its fields in the order in which they are shown.
    pub fields: &'static [Field],
    /// Checks and completes what was read.
    pub check: fn(&mut Values, &mut Complaints),
}

/// One field.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub initial: Initial,
    /// Whether it is left out where it is empty.
    pub omit_empty: bool,
}

/// The type of a field.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Secret,
    Int,
    Uint,
    Float,
    Bool,
    Duration,
    /// A size in bytes.
    Size,
    Texts,
    TextMap,
    Labels,
    /// A text that is a path, seen from the folder of the file.
    Path,
    Url,
    /// One of these words; what is said about another one, which follows in quotes.
    Word(&'static [&'static str], &'static str),
    /// Not one field but those of an HTTP client, with the default of `follow_redirects` and of `enable_http2`.
    HttpClient(bool, bool),
    Tls,
    /// Relabelling; what is said about an empty rule.
    Relabel(&'static str),
    /// A section that is there even if nothing is said.
    Section(&'static Section),
    /// A section that may be absent.
    Optional(&'static Section),
    List(&'static Section),
    /// Not one field but all the lists of discovery sections.
    Discoveries,
    /// Any YAML by name.
    Any,
    /// A list of texts by name.
    TextsMap,
    /// A section by name.
    SectionMap(&'static Section),
}

/// What a field is when nothing is said.
#[derive(Clone, Copy)]
pub(crate) enum Initial {
    Zero,
    Text(&'static str),
    Int(i64),
    Ms(u64),
    True,
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, initial: Initial::Zero, omit_empty: false }
    }

    /// Leaves the field out where it is empty.
    pub const fn omit(mut self) -> Field {
        self.omit_empty = true;
        self
    }

    pub const fn or(mut self, text: &'static str) -> Field {
        self.initial = Initial::Text(text);
        self
    }

    pub const fn or_int(mut self, number: i64) -> Field {
        self.initial = Initial::Int(number);
        self
    }

    pub const fn or_ms(mut self, ms: u64) -> Field {
        self.initial = Initial::Ms(ms);
        self
    }

    pub const fn on(mut self) -> Field {
        self.initial = Initial::True;
        self
    }
}

macro_rules! constructors {
    ($($name:ident $kind:ident,)*) => { $(
        pub(crate) const fn $name(name: &'static str) -> Field {
            Field::new(name, Kind::$kind)
        }
    )* };
}

constructors! {
    text Text, secret Secret, int Int, uint Uint, float Float, switch Bool, duration Duration, size Size,
    texts Texts, text_map TextMap, labels Labels, path Path, url Url, tls Tls, any Any, texts_map TextsMap,
}

/// A field with a kind that says more than its name.
pub(crate) const fn field(name: &'static str, kind: Kind) -> Field {
    Field::new(name, kind)
}

/// The fields of an HTTP client, where they stand in the section.
pub(crate) const HTTP: Field = Field::new("", Kind::HttpClient(true, true));

/// Nothing has to hold between fields.
pub(crate) const fn no_check(_: &mut Values, _: &mut Complaints) {}

/// What a check found: the field it is about (none: the section), and what is wrong.
#[derive(Default)]
pub(crate) struct Complaints(Vec<(&'static str, String)>);

impl Complaints {
    pub fn at(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push((field, message.into()));
    }

    /// Complains if a text is missing.
    pub fn missing(&mut self, values: &Values, field: &'static str, message: impl Into<String>) {
        if values.text(field).is_empty() {
            self.at(field, message);
        }
    }
}

/// The fields of one section, in the order of its table.
#[derive(Debug)]
pub(crate) struct Values {
    table: &'static [Field],
    items: Vec<Value>,
    /// The node of each field, if it was written.
    nodes: Vec<Option<u32>>,
    http: HttpClientConfig,
    /// What a check adds to the HTTP client.
    http_derived: ShownMap,
    /// The keys with content, those of the HTTP client among them.
    given: Vec<String>,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What one field says. A secret is no text, so that nobody prints it.
#[derive(Debug)]
enum Value {
    Text(String),
    Secret(bool),
    Int(i128),
    Float(f64),
    Bool(bool),
    Duration(Duration),
    Texts(Vec<String>),
    TextMap(Vec<(String, String)>),
    Section(Option<Box<Values>>, ShownMap),
    List(Vec<Values>, Vec<ShownMap>),
    /// Shown only.
    Other(Option<Shown>),
}

impl Values {
    fn value(&self, name: &str) -> Option<&Value> {
        let at = self.table.iter().position(|field| field.name == name)?;
        self.items.get(at)
    }

    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether a field holds anything; secrets can be asked for this only.
    pub fn is_set(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Secret(set)) => *set,
            Some(value) => !value.is_empty(),
            None => false,
        }
    }

    pub fn int(&self, name: &str) -> i128 {
        match self.value(name) {
            Some(Value::Int(number)) => *number,
            _ => 0,
        }
    }

    pub fn bool(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Bool(true)))
    }

    pub fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    pub fn texts(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub fn keys(&self, name: &str) -> impl Iterator<Item = &str> {
        let entries: &[(String, String)] = match self.value(name) {
            Some(Value::TextMap(entries)) => entries,
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    }

    pub fn section(&self, name: &str) -> Option<&Values> {
        match self.value(name) {
            Some(Value::Section(section, _)) => section.as_deref(),
            _ => None,
        }
    }

    pub fn list(&self, name: &str) -> &[Values] {
        match self.value(name) {
            Some(Value::List(items, _)) => items,
            _ => &[],
        }
    }

    /// The HTTP client, if the section has one.
    pub fn http(&self) -> &HttpClientConfig {
        &self.http
    }

    /// Whether a key was written with content, be it a field or one of the HTTP client.
    pub fn given(&self, name: &str) -> bool {
        self.given.iter().any(|given| given == name)
    }

    /// Fills in what a check derives from other fields.
    pub fn set_text(&mut self, name: &str, text: impl Into<String>) {
        if let Some(at) = self.table.iter().position(|field| field.name == name) {
            self.items[at] = Value::Text(text.into());
        }
    }

    /// Makes user name and password of the section those of its HTTP client.
    pub fn derive_basic_auth(&mut self) {
        let mut section = ShownMap::new();
        section.put_nonempty("username", self.text("username"));
        if self.is_set("password") {
            section.put_text("password", SECRET);
        }
        self.http_derived.put("basic_auth", Shown::Map(section));
    }

    pub fn set_texts(&mut self, name: &str, texts: Vec<String>) {
        if let Some(at) = self.table.iter().position(|field| field.name == name) {
            self.items[at] = Value::Texts(texts);
        }
    }

    /// Where a field was written, for problems that only the caller can see; the section itself if it was not.
    pub fn node(&self, name: &str, section: u32) -> u32 {
        let at = self.table.iter().position(|field| field.name == name);
        at.and_then(|at| self.nodes.get(at).copied().flatten()).unwrap_or(section)
    }
}

impl Value {
    fn is_empty(&self) -> bool {
        match self {
            Value::Text(text) => text.is_empty(),
            Value::Secret(set) => !set,
            Value::Int(number) => *number == 0,
            Value::Float(number) => *number == 0.0,
            Value::Bool(on) => !on,
            Value::Duration(duration) => *duration == Duration::ZERO,
            Value::Texts(texts) => texts.is_empty(),
            Value::TextMap(entries) => entries.is_empty(),
            Value::Section(section, _) => {
                section.as_ref().is_none_or(|section| section.items.iter().all(Value::is_empty))
            }
            Value::List(items, _) => items.is_empty(),
            Value::Other(shown) => shown.is_none(),
        }
    }

    fn shown(&self, kind: Kind) -> Shown {
        match self {
            Value::Text(text) if matches!(kind, Kind::Url) => Shown::Text(go_url::redacted(text)),
            Value::Text(text) => Shown::Text(text.clone()),
            Value::Secret(true) => Shown::Text(SECRET.to_owned()),
            Value::Secret(false) => Shown::Bare("null".to_owned()),
            Value::Int(number) => Shown::Bare(number.to_string()),
            Value::Float(number) => Shown::Bare(shown::go_float(*number)),
            Value::Bool(on) => Shown::Bare(on.to_string()),
            Value::Duration(duration) => Shown::Text(duration.to_string()),
            Value::Texts(texts) => Shown::Seq(shown_texts(texts)),
            Value::TextMap(entries) => {
                Shown::Map(entries.iter().map(|(key, value)| (key.clone(), Shown::Text(value.clone()))).collect())
            }
            Value::Section(_, shown) => Shown::Map(shown.clone()),
            Value::List(_, shown) => Shown::Seq(shown.iter().cloned().map(Shown::Map).collect()),
            Value::Other(shown) => shown.clone().unwrap_or_else(|| Shown::Bare("null".to_owned())),
        }
    }
}

/// What reading a section depends on.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// Where relative paths start.
    pub base: &'a Path,
    /// How strict names are, for relabelling.
    pub validation: NameValidation,
}

/// Reads a section. `None`: it is absent, and has its defaults.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    section: &'static Section,
    node: Option<&Node>,
    around: Surroundings<'_>,
) -> (Values, ShownMap) {
    let nothing = Node { id: 0, value: crate::yaml::Value::Null };
    let id = node.map_or(0, |node| node.id);
    // In Go a null empties the structure, while a mapping is laid over the defaults.
    let emptied = node.is_some_and(Node::is_null);
    let mut fields = Fields::new(reader, node.unwrap_or(&nothing), section.go_type);
    let given = fields.given();
    let problems_before = reader.problem_count();
    let mut values = Values {
        table: section.fields,
        items: Vec::new(),
        nodes: Vec::new(),
        http: HttpClientConfig::default(),
        http_derived: ShownMap::new(),
        given,
    };
    let mut http_shown = ShownMap::new();
    for field in section.fields {
        if let Kind::HttpClient(follow_redirects, http2) = field.kind {
            let defaults = if emptied { (false, false) } else { (follow_redirects, http2) };
            values.http = http::read_over(reader, &mut fields, around.base, defaults, &mut http_shown);
            values.items.push(Value::Other(None));
            values.nodes.push(None);
            continue;
        }
        let node = fields.take(field.name);
        values.nodes.push(node.map(|node| node.id));
        let value = match node {
            Some(node) => read_field(reader, field, node, around),
            None if emptied => initial(reader, Field { initial: Initial::Zero, ..*field }, around),
            None => initial(reader, *field, around),
        };
        values.items.push(value);
    }
    fields.finish(reader);
    // What could not be read needs no second complaint.
    if reader.problem_count() == problems_before && !emptied {
        let mut complaints = Complaints::default();
        (section.check)(&mut values, &mut complaints);
        for (name, message) in complaints.0 {
            reader.invalid(values.node(name, id), message);
        }
    }
    let mut http_all = std::mem::take(&mut values.http_derived);
    http_all.extend(http_shown);
    let shown = lay_out(&values, http_all);
    (values, shown)
}

fn lay_out(values: &Values, http_shown: ShownMap) -> ShownMap {
    let mut map = ShownMap::new();
    let mut http_shown = Some(http_shown);
    for (field, value) in values.table.iter().zip(&values.items) {
        if matches!(field.kind, Kind::HttpClient(..)) {
            map.extend(http_shown.take().unwrap_or_default());
        } else if !(field.omit_empty && value.is_empty() && !is_present(value)) {
            map.put(field.name, value.shown(field.kind));
        }
    }
    map
}

/// Whether an optional section is there, though nothing is in it.
fn is_present(value: &Value) -> bool {
    matches!(value, Value::Section(Some(section), _) if section.given.iter().any(|key| key.is_empty()))
}

/// What a field is when nothing is said.
fn initial(reader: &mut Reader<'_>, field: Field, around: Surroundings<'_>) -> Value {
    let (text, number) = match field.initial {
        Initial::Text(text) => (text, 0),
        Initial::Int(number) => ("", number),
        Initial::Ms(ms) => ("", i64::try_from(ms).unwrap_or(i64::MAX)),
        Initial::True => ("", 1),
        Initial::Zero => ("", 0),
    };
    match field.kind {
        Kind::Text | Kind::Path | Kind::Url | Kind::Word(..) => Value::Text(text.to_owned()),
        Kind::Secret => Value::Secret(false),
        Kind::Int | Kind::Uint | Kind::Size => Value::Int(i128::from(number)),
        Kind::Float => Value::Float(0.0),
        Kind::Bool => Value::Bool(number == 1),
        Kind::Duration => Value::Duration(Duration(number)),
        Kind::Texts => Value::Texts(Vec::new()),
        Kind::TextMap => Value::TextMap(Vec::new()),
        Kind::Section(section) => {
            let (values, shown) = read(reader, section, None, around);
            Value::Section(Some(Box::new(values)), shown)
        }
        Kind::Optional(_) => Value::Section(None, ShownMap::new()),
        Kind::List(_) => Value::List(Vec::new(), Vec::new()),
        _ => Value::Other(None),
    }
}

fn read_field(reader: &mut Reader<'_>, field: &Field, node: &Node, around: Surroundings<'_>) -> Value {
    const INT_MIN: i128 = i64::MIN as i128;
    const INT_MAX: i128 = i64::MAX as i128;
    match field.kind {
        Kind::Text => Value::Text(reader.string(node)),
        Kind::Path => Value::Text(resolve(around.base, &reader.string(node))),
        Kind::Secret => Value::Secret(!reader.string(node).is_empty()),
        Kind::Int => Value::Int(reader.int(node, "int", INT_MIN, INT_MAX)),
        Kind::Uint => Value::Int(i128::from(reader.uint(node))),
        Kind::Size => Value::Int(i128::from(reader.size(node))),
        Kind::Float => Value::Float(reader.float(node)),
        Kind::Bool => Value::Bool(reader.bool(node)),
        Kind::Duration => Value::Duration(reader.duration(node)),
        Kind::Texts => Value::Texts(reader.strings(node)),
        Kind::TextMap => {
            let entries = reader.entries(node, "map[string]string");
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| (reader.string(key), reader.string(value))).collect();
            entries.sort();
            Value::TextMap(entries)
        }
        Kind::Labels => {
            let (_, shown) = reader.labels(node, "model.LabelSet");
            Value::Other(Some(Shown::Map(shown.clone())).filter(|_| !shown.is_empty()))
        }
        Kind::Url => {
            let text = reader.string(node);
            if !node.is_null()
                && let Err(error) = go_url::parse(&text)
            {
                reader.invalid(node.id, error);
            }
            Value::Text(text)
        }
        Kind::Word(words, complaint) => {
            let text = reader.string(node);
            if !node.is_null() && !words.contains(&text.as_str()) {
                reader.invalid(node.id, format!("{complaint} {text:?}"));
            }
            Value::Text(text)
        }
        Kind::Tls => {
            let mut shown = ShownMap::new();
            http::read_tls(reader, node, around.base, &mut shown);
            Value::Other(Some(Shown::Map(shown)).filter(|shown| *shown != Shown::Map(ShownMap::new())))
        }
        Kind::Relabel(null_text) => {
            let mut shown = ShownMap::new();
            relabel::read(reader, Some(node), around.validation, null_text, &mut shown, field.name);
            Value::Other(shown.into_iter().next().map(|(_, shown)| shown))
        }
        Kind::Section(section) => {
            let (values, shown) = read(reader, section, Some(node), around);
            Value::Section(Some(Box::new(values)), shown)
        }
        Kind::Optional(_) if node.is_null() => Value::Section(None, ShownMap::new()),
        Kind::Optional(section) => {
            let (mut values, shown) = read(reader, section, Some(node), around);
            // The empty key says that the section itself was given.
            values.given.push(String::new());
            Value::Section(Some(Box::new(values)), shown)
        }
        Kind::List(section) => {
            let items = reader.list(node, section.go_type).iter();
            let (items, shown) = items.map(|item| read(reader, section, Some(item), around)).unzip();
            Value::List(items, shown)
        }
        // Only in the tables of sections that have a reader of their own.
        Kind::HttpClient(..) | Kind::Discoveries | Kind::Any | Kind::TextsMap | Kind::SectionMap(_) => {
            Value::Other(None)
        }
    }
}
