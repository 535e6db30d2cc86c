//! YAML as a tree of nodes that keep the text of their scalars and know where they stand.
//!
//! Prometheus decides by the field what a scalar is: `123` in a text field is the text, `yes` in a switch is true. So the
//! tree keeps every scalar as written, and the walker in [`crate::reader`] gives it a type. The YAML library hands out
//! either typed values or texts, not both, so a document is read twice: once for its shape, once along that shape for the
//! texts. It tells positions only with errors: a position is found by reading the document once more and failing on
//! purpose at the wanted node. That costs nothing until something is wrong.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Most nodes of one document, aliases counted each time they are used. A rule file with 40,000 rules has about 500,000.
const NODES_MAX: u32 = 4_000_000;

/// A document.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Node,
    /// Whether another document follows in the same file.
    pub more_documents: bool,
    shape: Shape,
}

/// One node. `id` counts the nodes in the order of the text.
#[derive(Debug)]
pub(crate) struct Node {
    pub id: u32,
    pub value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(Scalar),
    Seq(Vec<Node>),
    /// Merge keys are resolved; repeated keys are still there, for the walker to refuse.
    Map(Vec<(Node, Node)>),
}

#[derive(Debug)]
pub(crate) struct Scalar {
    pub text: String,
    pub kind: ScalarKind,
}

/// What the text of a scalar looks like to YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Text,
    Bool,
    Int,
    Float,
    /// Tagged `!!binary`.
    Binary,
}

/// A text that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// From 1; 0: not known.
    pub line: usize,
    /// From 1; 0: not known.
    pub column: usize,
    pub message: String,
}

impl Document {
    /// Reads the first document of `text`.
    pub fn parse(text: &str) -> Result<Document, SyntaxError> {
        let mut documents = serde_yaml::Deserializer::from_str(text);
        let shape = match documents.next() {
            Some(document) => shape_seed(document)?,
            None => Shape::Void,
        };
        let more_documents = documents.next().is_some();
        let mut root = Node { id: 0, value: Value::Null };
        if !matches!(shape, Shape::Void) {
            let binary = binary_nodes(text);
            let build = Build { next_id: Cell::new(0), stop_at: None, binary };
            if let Some(document) = serde_yaml::Deserializer::from_str(text).next() {
                root = NodeSeed { shape: &shape, build: &build }.deserialize(document).map_err(syntax_error)?;
            }
        }
        Ok(Document { root, more_documents, shape })
    }

    /// Line and column of node `id` of the document that was read from `text`; zeros if it has no place.
    pub fn locate(&self, text: &str, id: u32) -> (usize, usize) {
        let build = Build { next_id: Cell::new(0), stop_at: Some(id), binary: HashSet::new() };
        let Some(document) = serde_yaml::Deserializer::from_str(text).next() else { return (0, 0) };
        match (NodeSeed { shape: &self.shape, build: &build }).deserialize(document) {
            Err(error) => error.location().map_or((0, 0), |at| (at.line(), at.column())),
            Ok(_) => (0, 0),
        }
    }
}

/// The ids of scalars tagged `!!binary`. The library drops that tag but reports local ones, so where the tag occurs the
/// shape is read again with the tag made local.
fn binary_nodes(text: &str) -> HashSet<u32> {
    const TAG: &str = "!!binary";
    let mut ids = HashSet::new();
    if text.contains(TAG) {
        let local = text.replace(TAG, "!binary");
        let shape = serde_yaml::Deserializer::from_str(&local).next().map(shape_seed);
        if let Some(Ok(shape)) = shape {
            collect_binary(&shape, &mut 0, &mut ids);
        }
    }
    ids
}

fn collect_binary(shape: &Shape, next_id: &mut u32, ids: &mut HashSet<u32>) {
    let id = *next_id;
    *next_id += 1;
    match shape {
        Shape::Binary => {
            ids.insert(id);
        }
        Shape::Seq(items) => items.iter().for_each(|item| collect_binary(item, next_id, ids)),
        Shape::Map(entries) => {
            for (key, value) in entries {
                collect_binary(key, next_id, ids);
                collect_binary(value, next_id, ids);
            }
        }
        Shape::Void | Shape::Null | Shape::Scalar(_) => {}
    }
}

fn shape_seed(document: serde_yaml::Deserializer<'_>) -> Result<Shape, SyntaxError> {
    let count = Cell::new(0);
    ShapeSeed(&count).deserialize(document).map_err(syntax_error)
}

fn syntax_error(error: serde_yaml::Error) -> SyntaxError {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    SyntaxError { line, column, message }
}

// === The first reading: shapes ===

#[derive(Debug)]
enum Shape {
    /// No document at all.
    Void,
    Null,
    Scalar(ScalarKind),
    Binary,
    Seq(Vec<Shape>),
    Map(Vec<(Shape, Shape)>),
}

#[derive(Clone, Copy)]
struct ShapeSeed<'a>(&'a Cell<u32>);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > NODES_MAX {
            return Err(de::Error::custom(format!("document has more than {NODES_MAX} nodes")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Bool))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Int))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Int))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Int))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Int))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Float))
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar(ScalarKind::Text))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Void)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Shape::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key_seed(self)? {
            entries.push((key, access.next_value_seed(self)?));
        }
        Ok(Shape::Map(entries))
    }

    /// A local tag. It means nothing here but for our own mark of binary texts.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Shape, A::Error> {
        let (tag, variant) = access.variant_seed(TagSeed)?;
        let shape = variant.newtype_variant_seed(self)?;
        Ok(match shape {
            Shape::Scalar(_) | Shape::Null if tag == "binary" => Shape::Binary,
            shape => shape,
        })
    }
}

struct TagSeed;

impl<'de> DeserializeSeed<'de> for TagSeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

// === The second reading: texts; and the third, for a position ===

struct Build {
    next_id: Cell<u32>,
    /// The node at which reading fails on purpose.
    stop_at: Option<u32>,
    binary: HashSet<u32>,
}

#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    shape: &'a Shape,
    build: &'a Build,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let id = self.build.next_id.get();
        self.build.next_id.set(id + 1);
        let visitor = NodeVisitor { seed: self, id };
        match self.shape {
            Shape::Seq(_) => deserializer.deserialize_seq(visitor),
            Shape::Map(_) => deserializer.deserialize_map(visitor),
            Shape::Void | Shape::Null | Shape::Scalar(_) | Shape::Binary => deserializer.deserialize_str(visitor),
        }
    }
}

struct NodeVisitor<'a> {
    seed: NodeSeed<'a>,
    id: u32,
}

impl NodeVisitor<'_> {
    /// Fails at the node whose position is wanted; the library adds the position to the error.
    fn arrive<E: de::Error>(&self) -> Result<(), E> {
        if self.seed.build.stop_at == Some(self.id) { Err(de::Error::custom("here")) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for NodeVisitor<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same value as before")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        self.arrive()?;
        let value = match self.seed.shape {
            _ if self.seed.build.binary.contains(&self.id) => {
                Value::Scalar(Scalar { text: text.to_owned(), kind: ScalarKind::Binary })
            }
            Shape::Scalar(kind) => Value::Scalar(Scalar { text: text.to_owned(), kind: *kind }),
            _ => Value::Null,
        };
        Ok(Node { id: self.id, value })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        self.arrive()?;
        let Shape::Seq(shapes) = self.seed.shape else { return Err(de::Error::custom("not a list")) };
        let mut items = Vec::with_capacity(shapes.len());
        for shape in shapes {
            match access.next_element_seed(NodeSeed { shape, build: self.seed.build })? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        Ok(Node { id: self.id, value: Value::Seq(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        self.arrive()?;
        let Shape::Map(shapes) = self.seed.shape else { return Err(de::Error::custom("not a mapping")) };
        let mut entries = Vec::with_capacity(shapes.len());
        for (key, value) in shapes {
            let Some(key) = access.next_key_seed(NodeSeed { shape: key, build: self.seed.build })? else { break };
            entries.push((key, access.next_value_seed(NodeSeed { shape: value, build: self.seed.build })?));
        }
        let entries = resolve_merges(entries).map_err(de::Error::custom)?;
        Ok(Node { id: self.id, value: Value::Map(entries) })
    }
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Null, an empty list or an empty mapping: a section without content.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(_) => false,
            Value::Seq(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}

/// Replaces merge keys by what they name; keys of the mapping itself win, then earlier sources.
fn resolve_merges(entries: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, &'static str> {
    const PROBLEM: &str = "map merge requires map or sequence of maps as the value";
    if !entries.iter().any(|(key, _)| key.text() == Some("<<")) {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text() == Some("<<"));
    let mut known: HashSet<String> = own.iter().filter_map(|(key, _)| key.text().map(str::to_owned)).collect();
    let sources = merges.into_iter().flat_map(|(_, value)| match value.value {
        Value::Seq(items) => items,
        other => vec![Node { id: value.id, value: other }],
    });
    for source in sources {
        let Value::Map(merged) = source.value else { return Err(PROBLEM) };
        for (key, value) in merged {
            if key.text().is_none_or(|text| known.insert(text.to_owned())) {
                own.push((key, value));
            }
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Scalar(scalar) => format!("{:?}:{}", scalar.kind, scalar.text),
            Value::Seq(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                format!(
                    "{{{}}}",
                    entries.iter().map(|(k, v)| format!("{} = {}", show(k), show(v))).collect::<Vec<_>>().join(", ")
                )
            }
        }
    }

    #[test]
    fn scalars_keep_their_text() {
        for (text, wanted) in [
            ("", "~"),
            ("# nothing", "~"),
            ("a: 1.50", "{Text:a = Float:1.50}"),
            ("a: 0x1F", "{Text:a = Int:0x1F}"),
            ("a: '1'", "{Text:a = Text:1}"),
            ("a:", "{Text:a = ~}"),
            ("a: ''", "{Text:a = Text:}"),
            ("[true, yes, ~]", "[Bool:true, Text:yes, ~]"),
            ("a: !!binary aGk=", "{Text:a = Binary:aGk=}"),
            ("a: '!!binary x'", "{Text:a = Text:!!binary x}"),
            ("a: !local b", "{Text:a = Text:b}"),
            ("a: 1\n---\nb: 2", "{Text:a = Int:1}"),
            (
                "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}",
                "{Text:x = {Text:a = Int:1, Text:b = Int:2}, Text:y = {Text:b = Int:3, Text:a = Int:1}}",
            ),
        ] {
            assert_eq!(show(&Document::parse(text).unwrap().root), wanted, "{text}");
        }
    }

    #[test]
    fn nodes_know_their_place() {
        let text = "a: 1\nb:\n  - c: [x,\n    y]\n";
        let document = Document::parse(text).unwrap();
        // 0 the mapping, 1 a, 2 its value, 3 b, 4 the list, 5 the inner mapping, 6 c, 7 its list, 8 x, 9 y
        let places: Vec<_> = (0..10).map(|id| document.locate(text, id)).collect();
        assert_eq!(places, [(1, 1), (1, 1), (1, 4), (2, 1), (3, 3), (3, 5), (3, 5), (3, 8), (3, 9), (4, 5)]);
    }

    #[test]
    fn broken_yaml_is_refused_with_its_line() {
        let error = Document::parse("a: 1\nb: [\n").unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (3, "did not find expected node content"));
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        assert!(Document::parse(&"[".repeat(5000)).is_err());
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (name, of) in "bcdefghij".chars().zip("abcdefghi".chars()) {
            bomb.push_str(&format!(
                "{name}: &{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]\n"
            ));
        }
        assert!(Document::parse(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ \\na-c:\\-\\[\\]{},&*!'\"|>#0-9]{0,60}") {
            if let Ok(document) = Document::parse(&text) {
                document.locate(&text, 3);
            }
        }
    }
}
