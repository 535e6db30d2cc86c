//! Headers that a configuration adds to requests.

use std::path::Path;

use fk_config::{Auth, HeaderValue, HttpClientConfig, SecretSource};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue as Value};

/// The headers of one request. Files are read now, so that rotated secrets count at once. Errors are texts for users.
pub(crate) fn headers(config: &HttpClientConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    match &config.auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            let username = secret(username).map_err(|e| format!("unable to read basic auth username: {e}"))?;
            let password = password.as_ref().map_or(Ok(String::new()), secret);
            let password = password.map_err(|e| format!("unable to read basic auth password: {e}"))?;
            let token = base64(format!("{username}:{password}").as_bytes());
            headers.insert(AUTHORIZATION, sensitive(&format!("Basic {token}"), "basic_auth")?);
        }
        Auth::Header { scheme, credentials } => {
            let credentials = credentials.as_ref().map_or(Ok(String::new()), secret);
            let credentials = credentials.map_err(|e| format!("unable to read authorization credentials: {e}"))?;
            headers.insert(AUTHORIZATION, sensitive(&format!("{scheme} {credentials}"), "authorization")?);
        }
        // Its token has to be asked for first: `crate::oauth2`.
        Auth::OAuth2(_) => {}
    }
    for (name, values) in &config.headers {
        let header: HeaderName = name.parse().map_err(|_| format!("invalid header name {name:?}"))?;
        for value in values {
            let text = match value {
                HeaderValue::Plain(text) => text.clone(),
                HeaderValue::Secret(secret) => secret.expose().to_owned(),
                HeaderValue::File(path) => {
                    read_trimmed(path).map_err(|e| format!("unable to read headers file {}: {e}", path.display()))?
                }
            };
            headers.append(header.clone(), sensitive(&text, name)?);
        }
    }
    Ok(headers)
}

/// Whether [`headers`] are the same for every request: no file is read for them, and no token asked for.
pub(crate) fn are_fixed(config: &HttpClientConfig) -> bool {
    let inline = |secret: &SecretSource| matches!(secret, SecretSource::Inline(_));
    let auth = match &config.auth {
        Auth::None => true,
        Auth::Basic { username, password } => inline(username) && password.as_ref().is_none_or(inline),
        Auth::Header { credentials, .. } => credentials.as_ref().is_none_or(inline),
        Auth::OAuth2(_) => false,
    };
    let mut values = config.headers.iter().flat_map(|(_, values)| values);
    auth && values.all(|value| !matches!(value, HeaderValue::File(_)))
}

/// Never shown by `Debug`.
fn sensitive(text: &str, what: &str) -> Result<Value, String> {
    let mut value = Value::from_bytes(text.as_bytes()).map_err(|_| format!("{what} gives an invalid header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A secret as it is now.
pub(crate) fn secret(source: &SecretSource) -> Result<String, String> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.expose().to_owned()),
        SecretSource::File(path) => {
            read_trimmed(path).map_err(|error| format!("unable to read file {}: {error}", path.display()))
        }
    }
}

fn read_trimmed(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    encode(bytes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", true)
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    encode(bytes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", false)
}

fn encode(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (word >> (18 - 6 * place) & 63) as usize;
            if place <= chunk.len() {
                out.push(char::from(alphabet[index]));
            } else if padded {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_config::Secret;

    #[test]
    fn base64_is_padded() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"), ("\u{ff}>?", "w78+Pw==")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64_url("\u{ff}>?".as_bytes()), "w78-Pw");
    }

    #[test]
    fn secrets_of_files_are_read_anew_and_trimmed() {
        let dir = fk_testkit::TempDir::new("credentials");
        let file = dir.path().join("token");
        let config = HttpClientConfig {
            auth: Auth::Header { scheme: "Bearer".to_owned(), credentials: Some(SecretSource::File(file.clone())) },
            headers: vec![(
                "X-Scope".to_owned(),
                vec![HeaderValue::Plain("a".to_owned()), HeaderValue::Secret(Secret::new("b"))],
            )],
            ..HttpClientConfig::default()
        };
        let error = headers(&config).unwrap_err();
        assert!(error.starts_with("unable to read authorization credentials: unable to read file "), "{error}");
        assert!(!are_fixed(&config) && are_fixed(&HttpClientConfig::default()));
        for token in ["one", "two"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            let headers = headers(&config).unwrap();
            assert_eq!(headers[AUTHORIZATION].to_str().unwrap(), format!("Bearer {token}"));
            assert_eq!(headers.get_all("x-scope").iter().count(), 2);
            assert!(!format!("{headers:?}").contains(token));
        }
    }
}
