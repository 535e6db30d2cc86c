//! The description of the API for programs: an OpenAPI document, versions 3.1 and 3.2, made from the tables in `openapi/table.rs`.
//! What it says of paths, parameters and answers is what Prometheus' document says; a test compares them where the conformance
//! data is, and another one holds it against the routes.

mod schema;
mod table;
mod yaml;

use table::{Answers, OPERATIONS, Operation, Parameter, SCHEMAS, TAGS};
use yaml::Node;

use crate::routes::ROUTES;

/// Version of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V31,
    V32,
}

impl Version {
    /// What a request asks for; anything unknown is 3.1.
    pub(crate) fn asked(text: &str) -> Version {
        if matches!(text, "3.2" | "3.2.0") { Version::V32 } else { Version::V31 }
    }
}

/// What the document says of this server.
#[derive(Clone, Debug)]
pub(crate) struct About<'a> {
    /// Version of the API.
    pub(crate) version: &'a str,
    /// The routes are below this.
    pub(crate) server: &'a str,
    /// Results of a search unless the request says otherwise.
    pub(crate) search_limit: usize,
}

/// The document as YAML.
pub(crate) fn document(version: Version, about: &About<'_>) -> String {
    let info = Node::map([
        ("title", Node::text("Prometheus API")),
        ("description", Node::text("The HTTP API of Prometheus as Firekeeper serves it.")),
        ("version", Node::text(about.version)),
    ]);
    let tags = TAGS.iter().map(|(name, title, description)| {
        let mut tag = Node::map([("name", Node::text(*name)), ("description", Node::text(*description))]);
        if version == Version::V32 {
            tag.insert("summary", Node::text(*title));
        }
        tag
    });
    let schemas =
        SCHEMAS.iter().map(|(name, notation)| ((*name).to_owned(), schema::read(notation, about.search_limit)));
    let root = Node::map([
        ("openapi", Node::text(if version == Version::V32 { "3.2.0" } else { "3.1.0" })),
        ("info", info),
        ("servers", Node::List(vec![Node::map([("url", Node::text(about.server))])])),
        ("paths", paths(version, about)),
        ("components", Node::map([("schemas", Node::map(schemas.chain(bodies())))])),
        ("tags", Node::List(tags.collect())),
    ]);
    root.to_yaml()
}

fn paths(version: Version, about: &About<'_>) -> Node {
    let mut paths = Node::map::<&str>([]);
    for operation in OPERATIONS.iter().filter(|operation| is_route(operation.path)) {
        if version == Version::V31 && operation.answers == Answers::Events {
            // 3.1 has no words for streams of events.
            continue;
        }
        let mut item = Node::map::<&str>([]);
        for (method, id) in operation.methods {
            item.insert(method, describe(operation, method, id, about));
        }
        paths.insert(operation.path, item);
    }
    paths
}

/// Whether this server has the route: what it does not have is not described.
fn is_route(path: &str) -> bool {
    ROUTES.iter().any(|route| route.path.strip_prefix("/api/v1") == Some(path))
}

fn describe(operation: &Operation, method: &str, id: &str, about: &About<'_>) -> Node {
    let mut node = Node::map([
        ("tags", Node::List(vec![Node::text(operation.tag)])),
        ("summary", Node::text(operation.summary)),
        ("operationId", Node::text(id)),
    ]);
    let as_form = operation.form.filter(|_| method == "post");
    if let Some(schema) = as_form {
        let content = Node::map([("application/x-www-form-urlencoded", Node::map([("schema", reference(schema))]))]);
        node.insert("requestBody", Node::map([("content", content), ("required", Node::Bool(true))]));
    } else if !operation.parameters.is_empty() {
        node.insert("parameters", Node::List(operation.parameters.iter().map(|p| parameter(p, about)).collect()));
    }
    let ok = |status: &'static str, content: Option<Node>| {
        let mut answer = Node::map([("description", Node::text("Success"))]);
        if let Some(content) = content {
            answer.insert("content", content);
        }
        (status, answer)
    };
    let json = |schema: Node| Node::map([("application/json", Node::map([("schema", schema)]))]);
    let success = match operation.answers {
        Answers::Nothing => ok("204", None),
        Answers::Body(name) => ok("200", Some(json(reference(&format!("{name}OutputBody"))))),
        Answers::Lines => {
            let schema = Node::map([("type", Node::text("string"))]);
            ok("200", Some(Node::map([("application/x-ndjson", Node::map([("schema", schema)]))])))
        }
        Answers::Events => {
            let item = schema::read("{data!: json<#Notification>}", about.search_limit);
            ok("200", Some(Node::map([("text/event-stream", Node::map([("itemSchema", item)]))])))
        }
    };
    let error = Node::map([("description", Node::text("Error")), ("content", json(reference("Error")))]);
    node.insert("responses", Node::map([success, ("default", error)]));
    node
}

fn parameter(parameter: &Parameter, about: &About<'_>) -> Node {
    let Parameter { name, notation, description } = parameter;
    let (name, required) = name.strip_suffix('!').map_or((*name, false), |name| (name, true));
    let (name, in_path) = name.strip_suffix('@').map_or((name, false), |name| (name, true));
    let mut node = Node::map([
        ("name", Node::text(name)),
        ("in", Node::text(if in_path { "path" } else { "query" })),
        ("description", Node::text(*description)),
        ("required", Node::Bool(required)),
    ]);
    if !in_path {
        node.insert("explode", Node::Bool(false));
    }
    node.insert("schema", schema::read(notation, about.search_limit));
    node
}

fn reference(name: &str) -> Node {
    Node::map([("$ref", Node::text(format!("#/components/schemas/{name}")))])
}

/// The envelopes of all answers.
fn bodies() -> impl Iterator<Item = (String, Node)> {
    table::BODIES.iter().map(|(name, data)| {
        let data = if data.is_empty() { String::new() } else { format!("data!: {data}, ") };
        let notation = format!("{{status!: =success/error, {data}warnings: [string], infos: [string]}}");
        (format!("{name}OutputBody"), schema::read(&notation, 0))
    })
}

/// A path with its methods and parameters.
#[cfg(test)]
type Tried = (&'static str, Vec<&'static str>, Vec<(&'static str, bool)>);

/// Paths below `/api/v1` with their methods and parameters, and whether these have to be there: for tests that try them out.
#[cfg(test)]
pub(crate) fn operations() -> Vec<Tried> {
    let parameter = |p: &Parameter| (p.name.trim_end_matches(['@', '!']), p.name.ends_with('!'));
    OPERATIONS
        .iter()
        .filter(|operation| is_route(operation.path) && operation.answers != Answers::Events)
        .map(|operation| {
            let methods = operation.methods.iter().map(|(method, _)| *method).collect();
            (operation.path, methods, operation.parameters.iter().map(parameter).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_yaml::Value;

    use super::*;
    use crate::call::Methods;

    fn about() -> About<'static> {
        About { version: "3.14.0", server: "/api/v1", search_limit: 100 }
    }

    fn parsed(version: Version) -> Value {
        serde_yaml::from_str(&document(version, &about())).unwrap()
    }

    /// Without what is said in words.
    fn bare(value: &Value) -> Value {
        match value {
            Value::Mapping(map) => {
                let words = ["description", "summary", "example", "examples", "title"];
                // A property may be called like that; then its value is a schema.
                let is_words = |key: &Value, value: &Value| {
                    let key = key.as_str().unwrap_or("");
                    words.contains(&key) && (!value.is_mapping() || key.starts_with("example"))
                };
                let kept = map.iter().filter(|(key, value)| !is_words(key, value));
                Value::Mapping(kept.map(|(key, value)| (key.clone(), bare(value))).collect())
            }
            Value::Sequence(items) => {
                let mut items: Vec<Value> = items.iter().map(bare).collect();
                if items.iter().all(Value::is_string) {
                    items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                }
                Value::Sequence(items)
            }
            other => other.clone(),
        }
    }

    fn by_name(parameters: &Value) -> BTreeMap<String, Value> {
        let items = parameters.as_sequence().cloned().unwrap_or_default();
        items.into_iter().map(|item| (item["name"].as_str().unwrap().to_owned(), item)).collect()
    }

    #[test]
    fn says_what_the_document_of_prometheus_says() {
        for (version, file) in
            [(Version::V31, "api/openapi_3.1_golden.yaml"), (Version::V32, "api/openapi_3.2_golden.yaml")]
        {
            let Some(path) = fk_testkit::conformance(file) else { return };
            let golden: Value = serde_yaml::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let (golden, ours) = (bare(&golden), bare(&parsed(version)));
            let mut wrong = Vec::new();
            let mut compare = |place: String, golden: &Value, ours: &Value| {
                if golden != ours {
                    wrong.push(format!("{place}:\n  {golden:?}\n  {ours:?}"));
                }
            };
            for (path, item) in golden["paths"].as_mapping().unwrap() {
                if !is_route(path.as_str().unwrap()) {
                    continue;
                }
                for (method, operation) in item.as_mapping().unwrap() {
                    let (path, method) = (path.as_str().unwrap(), method.as_str().unwrap());
                    let own = &ours["paths"][path][method];
                    for key in ["operationId", "tags", "requestBody", "responses"] {
                        compare(format!("{path} {method} {key}"), &operation[key], &own[key]);
                    }
                    let (theirs, own) = (by_name(&operation["parameters"]), by_name(&own["parameters"]));
                    assert!(theirs.keys().eq(own.keys()), "{path}: {:?} {:?}", theirs.keys(), own.keys());
                    for (name, parameter) in &theirs {
                        compare(format!("{path} {method} {name}"), parameter, &own[name]);
                    }
                }
            }
            for (name, schema) in golden["components"]["schemas"].as_mapping().unwrap() {
                let name = name.as_str().unwrap();
                compare(name.to_owned(), schema, &ours["components"]["schemas"][name]);
            }
            compare("tags".into(), &golden["tags"], &ours["tags"]);
            assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
        }
    }

    #[test]
    fn every_route_is_described_with_the_methods_it_takes() {
        let routes: BTreeMap<&str, Methods> =
            ROUTES.iter().filter_map(|r| Some((r.path.strip_prefix("/api/v1")?, r.methods))).collect();
        for operation in OPERATIONS {
            let Some(methods) = routes.get(operation.path) else { continue };
            for (method, _) in operation.methods {
                let takes = match *methods {
                    Methods::Get => *method == "get",
                    Methods::GetPost => matches!(*method, "get" | "post"),
                    Methods::Post => *method == "post",
                    Methods::Change => matches!(*method, "post" | "put"),
                    Methods::GetHead => false,
                };
                assert!(takes, "{} {method}", operation.path);
            }
        }
        let described: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.path).collect();
        for path in routes.keys().filter(|path| !path.starts_with("/ext/") && **path != "/openapi.yaml") {
            assert!(described.contains(path), "{path} is not described");
        }
    }

    #[test]
    fn references_lead_somewhere_and_limits_are_told() {
        let text = document(Version::V32, &About { search_limit: 7, ..about() });
        let document: Value = serde_yaml::from_str(&text).unwrap();
        for (_, rest) in text.match_indices("#/components/schemas/").map(|(at, found)| text.split_at(at + found.len()))
        {
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(!document["components"]["schemas"][name.as_str()].is_null(), "{name}");
        }
        let limit = &by_name(&document["paths"]["/search/label_names"]["get"]["parameters"])["limit"];
        assert_eq!(limit["schema"]["default"], 7);
    }
}
