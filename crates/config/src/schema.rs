//! What a configuration may contain, as data: a JSON schema for editors, and the list of all keys. Both come from the tables that
//! the sections are read with.

use serde_json::{Map, Value as Json, json};

use crate::sections::{Field, Initial, Kind, Section, written};
use crate::targets::MECHANISMS;

/// A duration as Prometheus writes it.
const DURATION: &str = r"^((([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?|0)$";

/// The JSON schema (draft 2020-12) of the main file. It says what shape a configuration has; rules between fields are for
/// `check config`.
pub fn schema() -> Json {
    let mut definitions = Map::new();
    for (name, section) in SHARED {
        definitions.insert(name.to_owned(), object(section));
    }
    for mechanism in &MECHANISMS {
        definitions.insert(mechanism.key.to_owned(), object(discovery(mechanism.section, mechanism.key)));
    }
    let mut root = object(&written::MAIN);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Prometheus configuration"));
        root.insert("$defs".to_owned(), Json::Object(definitions));
    }
    root
}

/// Sections that are used in many places.
const SHARED: [(&str, &Section); 2] = [("tls_config", &written::TLS), ("relabel_config", &written::RELABEL)];

fn discovery(table: Option<&'static Section>, key: &str) -> &'static Section {
    table.unwrap_or(if key == "static_configs" { &written::STATIC } else { &written::FILE_SD })
}

fn object(section: &Section) -> Json {
    let mut properties = Map::new();
    for field in section.fields {
        match field.kind {
            Kind::HttpClient(redirects, http2) => {
                for inner in written::HTTP_CLIENT.fields {
                    let mut property = property(inner);
                    let default = match inner.name {
                        "follow_redirects" => Some(redirects),
                        "enable_http2" => Some(http2),
                        _ => None,
                    };
                    if let (Some(default), Some(property)) = (default, property.as_object_mut()) {
                        property.insert("default".to_owned(), Json::Bool(default));
                    }
                    properties.insert(inner.name.to_owned(), property);
                }
            }
            Kind::Discoveries => {
                for mechanism in &MECHANISMS {
                    let item = json!({ "$ref": format!("#/$defs/{}", mechanism.key) });
                    properties.insert(mechanism.key.to_owned(), json!({ "type": ["array", "null"], "items": item }));
                }
            }
            _ => {
                properties.insert(field.name.to_owned(), property(field));
            }
        }
    }
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": properties })
}

fn property(field: &Field) -> Json {
    // Any scalar is a text where Prometheus wants one, and null is the zero of every type.
    let scalar = json!(["string", "number", "boolean", "null"]);
    let texts = || json!({ "type": ["array", "null"], "items": { "type": scalar } });
    let mut property = match field.kind {
        Kind::Text | Kind::Path | Kind::Url | Kind::Size => json!({ "type": scalar }),
        Kind::Secret => json!({ "type": scalar, "writeOnly": true }),
        Kind::Int => json!({ "type": ["integer", "null"] }),
        Kind::Uint => json!({ "type": ["integer", "null"], "minimum": 0 }),
        Kind::Float => json!({ "type": ["number", "null"] }),
        // YAML 1.1 has words for these that a schema does not know as such.
        Kind::Bool => json!({ "enum": [true, false, null, "yes", "no", "on", "off", "y", "n"] }),
        Kind::Duration => json!({ "type": ["string", "integer", "null"], "pattern": DURATION }),
        Kind::Texts => texts(),
        Kind::TextMap | Kind::Labels => {
            json!({ "type": ["object", "null"], "additionalProperties": { "type": scalar } })
        }
        Kind::TextsMap => json!({ "type": ["object", "null"], "additionalProperties": texts() }),
        Kind::Any => json!({ "type": ["object", "null"] }),
        Kind::Word(words, _) => {
            let words = words.iter().map(|word| Json::from(*word)).chain([Json::Null]);
            json!({ "enum": words.collect::<Vec<_>>() })
        }
        Kind::Tls => json!({ "$ref": "#/$defs/tls_config" }),
        Kind::Relabel(_) => json!({ "type": ["array", "null"], "items": { "$ref": "#/$defs/relabel_config" } }),
        Kind::Section(section) | Kind::Optional(section) => object(section),
        Kind::List(section) => json!({ "type": ["array", "null"], "items": object(section) }),
        Kind::SectionMap(section) => json!({ "type": ["object", "null"], "additionalProperties": object(section) }),
        // Expanded by the section they stand in.
        Kind::HttpClient(..) | Kind::Discoveries => json!({}),
    };
    if let (Some(default), Some(property)) = (default(field), property.as_object_mut()) {
        property.insert("default".to_owned(), default);
    }
    property
}

fn default(field: &Field) -> Option<Json> {
    match field.initial {
        Initial::Zero => None,
        Initial::Text(text) => Some(json!(text)),
        Initial::Int(number) => Some(json!(number)),
        Initial::Ms(ms) => Some(json!(fk_model::Duration(i64::try_from(ms).unwrap_or(i64::MAX)).to_string())),
        Initial::True => Some(json!(true)),
    }
}

/// What becomes of a key in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It works.
    Works,
    /// It is read and checked; a server that is told to use it does not start, and says so.
    RefusedByServer,
    /// It is read and checked, and has nothing to do here.
    NoEffect,
}

/// All keys of the main file with their state, in the order in which they are shown. Sections that are used in several places
/// are listed once, by `<name>`.
pub fn keys() -> Vec<(String, KeyState)> {
    let mut keys = Vec::new();
    list(&mut keys, "", &written::MAIN, KeyState::Works);
    list(&mut keys, "<http_client>.", &written::HTTP_CLIENT, KeyState::Works);
    list(&mut keys, "<tls_config>.", &written::TLS, KeyState::Works);
    list(&mut keys, "<relabel_config>.", &written::RELABEL, KeyState::Works);
    for mechanism in &MECHANISMS {
        let state = if mechanism.section.is_some() { KeyState::RefusedByServer } else { KeyState::Works };
        let path = format!("<sd_configs>.{}[].", mechanism.key);
        list(&mut keys, &path, discovery(mechanism.section, mechanism.key), state);
    }
    keys
}

/// Keys that end so are names in a secret manager, which there is none of; those that end in the others wait for their section.
const REFUSED: [&str; 6] = ["_ref", "tracing", "remote_write", "remote_read", "otlp", "sigv4"];

fn list(keys: &mut Vec<(String, KeyState)>, path: &str, section: &Section, state: KeyState) {
    for field in section.fields {
        let state = match field.name {
            "gogc" => KeyState::NoEffect,
            name if REFUSED.iter().any(|refused| name.ends_with(refused)) => KeyState::RefusedByServer,
            _ => state,
        };
        let name = match field.kind {
            Kind::HttpClient(..) => "<http_client>",
            Kind::Discoveries => "<sd_configs>",
            _ => field.name,
        };
        let (inner, brackets) = match field.kind {
            Kind::Section(section) | Kind::Optional(section) => (Some(section), ""),
            Kind::List(section) => (Some(section), "[]"),
            Kind::SectionMap(section) => (Some(section), ".<name>"),
            _ => (None, ""),
        };
        let path = format!("{path}{name}{brackets}");
        match inner {
            Some(inner) => list(keys, &format!("{path}."), inner, state),
            None => keys.push((path, state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reader::asked_for;
    use crate::{LoadOptions, check};

    /// A configuration that enters every section there is.
    const EVERYTHING: &str = "
global: {external_labels: {a: b}}
runtime: {gogc: 5}
alerting:
  alertmanagers: [{sigv4: {region: x}, static_configs: [{targets: [a]}]}]
scrape_configs:
- job_name: a
  basic_auth: {username: u}
  tls_config: {insecure_skip_verify: true}
  http_headers: {x: {values: [y]}}
  relabel_configs: [{action: keep, regex: a, source_labels: [b]}]
  file_sd_configs: [{files: [a.json]}]
- job_name: b
  authorization: {credentials: c}
- job_name: c
  oauth2: {client_id: a, token_url: http://b}
storage: {tsdb: {retention: {time: 1d}, chunk_encoding: {floats: xor}}, exemplars: {max_exemplars: 1}}
tracing: {endpoint: a}
remote_write: [{url: http://a, azuread: {managed_identity: {}, cloud: AzurePublic}}, {url: http://b, google_iam: {}}]
remote_read: [{url: http://a}]
otlp: {}
";

    /// All names in the tables, wherever they stand.
    fn names(section: &Section, into: &mut BTreeSet<String>) {
        for field in section.fields {
            into.insert(field.name.to_owned());
            match field.kind {
                Kind::Section(inner) | Kind::Optional(inner) | Kind::List(inner) | Kind::SectionMap(inner) => {
                    names(inner, into);
                }
                _ => {}
            }
        }
        into.remove("");
    }

    #[test]
    fn the_tables_name_what_is_read() {
        let folder = fk_testkit::TempDir::new("schema");
        let path = folder.path().join("p.yml");
        std::fs::write(&path, EVERYTHING).unwrap();
        check(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
        let asked = asked_for();
        let mut known: BTreeSet<String> = MECHANISMS.iter().map(|mechanism| mechanism.key.to_owned()).collect();
        let tables = [&written::MAIN, &written::HTTP_CLIENT, &written::TLS, &written::RELABEL];
        for section in tables.into_iter().chain([&written::FILE_SD, &written::STATIC]) {
            names(section, &mut known);
        }
        // Names of the sections that are tables only are asked for by construction, where the section occurs.
        let missing: Vec<_> = asked.difference(&known).collect();
        assert_eq!(missing, Vec::<&String>::new(), "read, and in no table");
        let mut tables_only = BTreeSet::new();
        for section in [&crate::sections::remote::AZUREAD, &crate::sections::remote::REMOTE_WRITE] {
            names(section, &mut tables_only);
        }
        let unread: Vec<_> = known.difference(&asked).filter(|name| !tables_only.contains(*name)).collect();
        assert_eq!(unread, Vec::<&String>::new(), "in a table, and never read");
    }

    #[test]
    fn the_schema_has_every_section() {
        let schema = schema();
        let scrape = &schema["properties"]["scrape_configs"]["items"]["properties"];
        assert_eq!(scrape["consul_sd_configs"]["items"]["$ref"], "#/$defs/consul_sd_configs");
        assert_eq!(schema["$defs"]["consul_sd_configs"]["properties"]["server"]["default"], "localhost:8500");
        assert_eq!(schema["properties"]["remote_write"]["items"]["properties"]["enable_http2"]["default"], false);
        assert_eq!(scrape["enable_http2"]["default"], true);
        assert_eq!(schema["$defs"].as_object().unwrap().len(), 39);
        // Every reference leads somewhere.
        let text = schema.to_string();
        for reference in text.split("#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn keys_know_what_becomes_of_them() {
        let keys = keys();
        let state = |wanted: &str| keys.iter().find(|(key, _)| key == wanted).map(|(_, state)| *state);
        for (key, wanted) in [
            ("global.scrape_interval", KeyState::Works),
            ("runtime.gogc", KeyState::NoEffect),
            ("remote_write[].queue_config.capacity", KeyState::RefusedByServer),
            ("<sd_configs>.consul_sd_configs[].server", KeyState::RefusedByServer),
            ("<sd_configs>.static_configs[].targets", KeyState::Works),
            ("<http_client>.basic_auth.password_ref", KeyState::RefusedByServer),
            ("<http_client>.http_headers.<name>.values", KeyState::Works),
        ] {
            assert_eq!(state(key), Some(wanted), "{key}");
        }
        let mut names: Vec<_> = keys.iter().map(|(key, _)| key).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), keys.len());
    }
}
