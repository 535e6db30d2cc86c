//! The section `oauth2` of an HTTP client.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::http::{read_proxy, read_source, read_tls};
use crate::reader::{Fields, Reader, parse_float, parse_int};
use crate::section::shown_texts;
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::types::{OAuth2Config, OAuth2Grant, SignatureAlgorithm};
use crate::yaml::{Node, ScalarKind, Value};

/// The grant of RFC 7523.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Reads the section; `shown` gets it as it is displayed.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, base: &Path, shown: &mut ShownMap) -> OAuth2Config {
    let mut fields = Fields::new(reader, node, "config.plain");
    let client_id = fields.string(reader, "client_id");
    // Texts as in Prometheus:
    if client_id.is_empty() {
        reader.invalid(node.id, "oauth2 client_id must be configured");
    }
    let token_url = fields.string(reader, "token_url");
    if token_url.is_empty() {
        reader.invalid(node.id, "oauth2 token_url must be configured");
    }
    let grant_type = fields.string(reader, "grant_type");
    let by_assertion = grant_type == JWT_BEARER;
    // Only what the grant uses is checked: more than one source of the other one is no mistake in Prometheus either.
    let rule = "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using \
                grant-type=client_credentials";
    let secret = read_source(reader, &mut fields, base, "client_secret", Some(rule).filter(|_| !by_assertion));
    let key_id = fields.string(reader, "client_certificate_key_id");
    let rule = format!(
        "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be \
         configured using grant-type={JWT_BEARER}"
    );
    let key =
        read_source(reader, &mut fields, base, "client_certificate_key", Some(rule.as_str()).filter(|_| by_assertion));
    let algorithm_text = fields.string(reader, "signature_algorithm");
    let algorithm = match algorithm_text.as_str() {
        "" | "RS256" => SignatureAlgorithm::Rs256,
        "RS384" => SignatureAlgorithm::Rs384,
        "RS512" => SignatureAlgorithm::Rs512,
        _ => {
            if by_assertion {
                reader.invalid(node.id, "valid signature algorithms are RS256, RS384 and RS512");
            }
            SignatureAlgorithm::Rs256
        }
    };
    let issuer = fields.string(reader, "iss");
    let audience = fields.string(reader, "audience");
    let (claims, claims_shown) = read_claims(reader, &mut fields);
    let scopes = fields.take("scopes").map(|node| reader.strings(node)).unwrap_or_default();
    let endpoint_params = read_params(reader, &mut fields);
    let mut tls_shown = ShownMap::new();
    let tls = fields.take("tls_config").map(|node| read_tls(reader, node, base, &mut tls_shown)).unwrap_or_default();

    let mut map = ShownMap::new();
    map.put_text("client_id", &client_id);
    secret.show(&mut map, "client_secret", true);
    map.put_nonempty("client_certificate_key_id", &key_id);
    key.show(&mut map, "client_certificate_key", true);
    map.put_nonempty("grant_type", &grant_type);
    map.put_nonempty("signature_algorithm", &algorithm_text);
    map.put_nonempty("iss", &issuer);
    map.put_nonempty("audience", &audience);
    map.put_map("claims", claims_shown);
    map.put_seq("scopes", shown_texts(&scopes));
    map.put_text("token_url", &token_url);
    let params = endpoint_params.iter().map(|(name, value)| (name.clone(), Shown::Text(value.clone())));
    map.put_map("endpoint_params", params.collect());
    map.put_map("tls_config", tls_shown);
    let proxy = read_proxy(reader, &mut fields, &mut map);
    fields.finish(reader);
    shown.put("oauth2", Shown::Map(map));
    let grant = if by_assertion {
        OAuth2Grant::JwtBearer {
            key: key.get(),
            key_id,
            algorithm,
            issuer: if issuer.is_empty() { client_id.clone() } else { issuer },
            audience: if audience.is_empty() { token_url.clone() } else { audience },
            claims,
        }
    } else {
        OAuth2Grant::ClientCredentials { secret: secret.get() }
    };
    OAuth2Config { client_id, grant, scopes, token_url, endpoint_params, tls, proxy }
}

fn read_params(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let Some(node) = fields.take("endpoint_params") else { return BTreeMap::new() };
    let entries = reader.entries(node, "map[string]string");
    entries.iter().map(|(key, value)| (reader.string(key), reader.string(value))).collect()
}

fn read_claims(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> (BTreeMap<String, Json>, ShownMap) {
    let Some(node) = fields.take("claims") else { return (BTreeMap::new(), ShownMap::new()) };
    let entries = reader.entries(node, "map[string]interface {}");
    let (mut claims, mut shown) = (BTreeMap::new(), ShownMap::new());
    for (key, value) in entries {
        let name = reader.string(key);
        shown.push((name.clone(), shown_any(reader, value)));
        claims.insert(name, any(reader, value));
    }
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    (claims, shown)
}

/// Any YAML as JSON. The depth is bounded by the YAML reader.
fn any(reader: &mut Reader<'_>, node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Seq(items) => Json::Array(items.iter().map(|item| any(reader, item)).collect()),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (reader.string(key), any(reader, value))).collect())
        }
        Value::Scalar(scalar) => match scalar.kind {
            ScalarKind::Bool => Json::Bool(reader.bool(node)),
            ScalarKind::Int => match parse_int(&scalar.text) {
                Some(number) => i64::try_from(number).map_or_else(|_| Json::from(number as f64), Json::from),
                None => Json::String(scalar.text.clone()),
            },
            ScalarKind::Float => match parse_float(&scalar.text).filter(|number| number.is_finite()) {
                Some(number) => Json::from(number),
                None => {
                    reader.invalid(node.id, format!("claim {:?} is not a number that JSON knows", scalar.text));
                    Json::Null
                }
            },
            ScalarKind::Text | ScalarKind::Binary => Json::String(reader.string(node)),
        },
    }
}

fn shown_any(reader: &mut Reader<'_>, node: &Node) -> Shown {
    match &node.value {
        Value::Null => Shown::Bare("null".to_owned()),
        Value::Seq(items) => Shown::Seq(items.iter().map(|item| shown_any(reader, item)).collect()),
        Value::Map(entries) => {
            let mut map: ShownMap =
                entries.iter().map(|(key, value)| (reader.string(key), shown_any(reader, value))).collect();
            map.sort_by(|a, b| a.0.cmp(&b.0));
            Shown::Map(map)
        }
        Value::Scalar(scalar) => match scalar.kind {
            ScalarKind::Bool | ScalarKind::Int | ScalarKind::Float => Shown::Bare(scalar.text.clone()),
            ScalarKind::Text | ScalarKind::Binary => Shown::Text(reader.string(node)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown;
    use crate::yaml::Document;

    fn section(text: &str) -> (OAuth2Config, String, Vec<String>) {
        let document = Document::parse(text).unwrap();
        let mut reader = Reader::new(text, &document);
        let mut shown = ShownMap::new();
        let config = read(&mut reader, &document.root, Path::new("/etc"), &mut shown);
        let (problems, _) = reader.finish();
        (config, shown::print(&shown), problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn both_grants_are_read_and_shown_without_secrets() {
        let (config, shown, problems) = section(
            "client_id: me\nclient_secret: s3cret\ntoken_url: https://auth/token\nscopes: [a, b]\n\
             endpoint_params: {resource: x}\ntls_config: {ca_file: ca.pem}\nproxy_url: http://u:p@proxy:3128\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert!(matches!(config.grant, OAuth2Grant::ClientCredentials { secret: Some(_) }));
        assert_eq!(config.endpoint_params["resource"], "x");
        for line in ["client_secret: <secret>", "ca_file: /etc/ca.pem", "proxy_url: http://u:xxxxx@proxy:3128"] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        assert!(!shown.contains("s3cret"));

        let (config, shown, problems) = section(
            "client_id: me\nclient_certificate_key_file: key.pem\nclient_certificate_key_id: k1\n\
             grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer\nsignature_algorithm: RS384\n\
             token_url: https://auth/token\nclaims: {z: 1, a: [true, x], deep: {num: 1.5}}\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let OAuth2Grant::JwtBearer { key_id, algorithm, issuer, audience, claims, .. } = config.grant else { panic!() };
        assert_eq!((key_id.as_str(), algorithm), ("k1", SignatureAlgorithm::Rs384));
        assert_eq!((issuer.as_str(), audience.as_str()), ("me", "https://auth/token"));
        let claims = serde_json::to_string(&claims).unwrap();
        assert_eq!(claims, r#"{"a":[true,"x"],"deep":{"num":1.5},"z":1}"#);
        assert!(shown.contains("client_certificate_key_file: /etc/key.pem"), "{shown}");
        assert!(shown.contains("    a:\n    - true\n    - x\n    deep:\n      num: 1.5\n    z: 1\n"), "{shown}");
    }

    #[test]
    fn mistakes_are_told_with_the_texts_of_prometheus() {
        for (text, wanted) in [
            ("token_url: http://a", "oauth2 client_id must be configured"),
            ("client_id: a", "oauth2 token_url must be configured"),
            (
                "{client_id: a, token_url: 'http://a', client_secret: x, client_secret_file: y}",
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using \
                 grant-type=client_credentials",
            ),
            (
                "{client_id: a, token_url: 'http://a', signature_algorithm: ES256, \
                 grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'}",
                "valid signature algorithms are RS256, RS384 and RS512",
            ),
            ("{client_id: a, token_url: 'http://a', nonsense: 1}", "field nonsense not found in type config.plain"),
        ] {
            let (_, _, problems) = section(text);
            assert!(problems.iter().any(|problem| problem.contains(wanted)), "{text}: {problems:?}");
        }
    }
}
