//! Tokens for `oauth2` sections: asked for at the token's server, kept until shortly before they expire.
//!
//! [`TokenSource`] belongs to a client. One request for a token is under way at a time, and all who need it wait for
//! that one. What is sent, and how errors read, is as with Go's `golang.org/x/oauth2`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fk_config::{OAuth2Config, OAuth2Grant, SecretSource, SignatureAlgorithm};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Response, StatusCode};
use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use url::form_urlencoded;

use crate::credentials::{base64, base64_url, secret};
use crate::tls::{self, Material};
use crate::{proxy, status_text};

/// The largest answer of a token's server, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// So long before its end a token is not used any more.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// How long an assertion is valid.
const ASSERTION_VALID_S: u64 = 600;

/// Where a client's name and secret go: tried in this order, and what worked is remembered.
const STYLE_UNKNOWN: u8 = 0;
const STYLE_HEADER: u8 = 1;
const STYLE_PARAMS: u8 = 2;

/// Gives the credentials of requests.
pub(crate) struct TokenSource {
    config: OAuth2Config,
    style: AtomicU8,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<(reqwest::Client, Material)>,
    /// The secret or key that the token was asked for with.
    credential: String,
    token: Option<Token>,
}

struct Token {
    /// Value of the header, scheme included.
    header: HeaderValue,
    expires: Option<Instant>,
}

impl TokenSource {
    /// A source without a token. Fails if the section's certificates or proxy are no good.
    pub(crate) fn new(config: &OAuth2Config) -> Result<TokenSource, String> {
        let material = Material::read(&config.tls)?;
        let client = token_client(config, &material)?;
        let state = State { client: Some((client, material)), ..State::default() };
        Ok(TokenSource { config: config.clone(), style: AtomicU8::new(STYLE_UNKNOWN), state: state.into() })
    }

    /// The `Authorization` header of a request now. `deadline` is the request's.
    pub(crate) async fn header(&self, user_agent: &HeaderValue, deadline: Instant) -> Result<HeaderValue, String> {
        let source = match &self.config.grant {
            OAuth2Grant::ClientCredentials { secret } => secret,
            OAuth2Grant::JwtBearer { key, .. } => key,
        };
        // Texts as in Prometheus:
        let source: &SecretSource = source.as_ref().ok_or("oauth2 client secret is required")?;
        let credential = secret(source).map_err(|error| format!("unable to read oauth2 client secret: {error}"))?;
        let late = || "context deadline exceeded".to_owned();
        let mut state = tokio::time::timeout_at(deadline, self.state.lock()).await.map_err(|_elapsed| late())?;
        if state.credential != credential {
            state.token = None;
        }
        if let Some(token) = &state.token
            && token.expires.is_none_or(|expires| Instant::now() + EXPIRY_MARGIN < expires)
        {
            return Ok(token.header.clone());
        }
        if state.client.is_none() || tls::has_files(&self.config.tls) {
            let material = Material::read(&self.config.tls)?;
            if state.client.as_ref().is_none_or(|(_, old)| *old != material) {
                state.client = Some((token_client(&self.config, &material)?, material));
            }
        }
        let Some((client, _)) = &state.client else { return Err("oauth2: no client".to_owned()) };
        let fetched = tokio::time::timeout_at(deadline, self.fetch(client, &credential, user_agent)).await;
        let token = fetched.map_err(|_elapsed| format!("oauth2: cannot fetch token: {}", late()))??;
        let header = token.header.clone();
        state.credential = credential;
        state.token = Some(token);
        Ok(header)
    }

    async fn fetch(&self, client: &reqwest::Client, credential: &str, agent: &HeaderValue) -> Result<Token, String> {
        match &self.config.grant {
            OAuth2Grant::JwtBearer { .. } => {
                let mut params = vec![
                    ("grant_type".to_owned(), "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()),
                    ("assertion".to_owned(), assertion(&self.config, credential)?),
                ];
                self.complete(&mut params)?;
                ask(client, &self.config.token_url, agent, None, params).await.map_err(|refused| refused.text)
            }
            OAuth2Grant::ClientCredentials { .. } => {
                let mut params = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
                self.complete(&mut params)?;
                let style = self.style.load(Ordering::Relaxed);
                if style != STYLE_PARAMS {
                    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                    let pair = format!("{}:{}", encode(&self.config.client_id), encode(credential));
                    let header = format!("Basic {}", base64(pair.as_bytes()));
                    let asked = ask(client, &self.config.token_url, agent, Some(header), params.clone()).await;
                    match asked {
                        Ok(token) => {
                            self.style.store(STYLE_HEADER, Ordering::Relaxed);
                            return Ok(token);
                        }
                        // A server that was never asked before may want them in the form instead.
                        Err(refused) if style == STYLE_HEADER || !refused.by_server => return Err(refused.text),
                        Err(_) => {}
                    }
                }
                params.push(("client_id".to_owned(), self.config.client_id.clone()));
                if !credential.is_empty() {
                    params.push(("client_secret".to_owned(), credential.to_owned()));
                }
                let token = ask(client, &self.config.token_url, agent, None, params).await;
                let token = token.map_err(|refused| refused.text)?;
                self.style.store(STYLE_PARAMS, Ordering::Relaxed);
                Ok(token)
            }
        }
    }

    /// Adds scopes and the configured parameters. Those may replace the grant's type, for servers that want another name.
    fn complete(&self, params: &mut Vec<(String, String)>) -> Result<(), String> {
        if !self.config.scopes.is_empty() {
            params.push(("scope".to_owned(), self.config.scopes.join(" ")));
        }
        for (name, value) in &self.config.endpoint_params {
            if name == "grant_type" {
                params.retain(|(known, _)| known != name);
            } else if params.iter().any(|(known, _)| known == name) {
                // Text as in Go:
                return Err(format!("oauth2: cannot overwrite parameter {name:?}"));
            }
            params.push((name.clone(), value.clone()));
        }
        Ok(())
    }
}

/// A client for the token's server. It follows no redirects: they would be given the secret.
fn token_client(config: &OAuth2Config, material: &Material) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(&config.tls, material, false)?)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(10));
    if let Some(proxy) = proxy::proxy(&config.proxy)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| error.to_string())
}

/// Why there is no token.
struct Refused {
    text: String,
    /// The server was reached and did not give one.
    by_server: bool,
}

async fn ask(
    client: &reqwest::Client,
    url: &str,
    agent: &HeaderValue,
    authorization: Option<String>,
    mut params: Vec<(String, String)>,
) -> Result<Token, Refused> {
    // In order of names, as Go encodes forms.
    params.sort();
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
    let mut request = client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
    request = request.header(USER_AGENT, agent.clone());
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::from_str(&authorization).map_err(|_| local("invalid client_id".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    // Texts as in Go:
    let failed = |reason: String| local(format!("oauth2: cannot fetch token: {reason}"));
    let host = url::Url::parse(url).map(|url| crate::host_and_port(&url)).unwrap_or_default();
    let unreached = |error: reqwest::Error| failed(format!("Post {url:?}: {}", crate::error::reason(&error, &host)));
    let mut response = request.send().await.map_err(unreached)?;
    let status = response.status();
    let form_like = is_form(&response);
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreached)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(failed(format!("answer is larger than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    token_of(status, form_like, &body).map_err(|text| Refused { text, by_server: true })
}

fn local(text: String) -> Refused {
    Refused { text, by_server: false }
}

fn is_form(response: &Response) -> bool {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(media_type.as_str(), "application/x-www-form-urlencoded" | "text/plain")
}

/// The token in an answer.
fn token_of(status: StatusCode, form_like: bool, body: &[u8]) -> Result<Token, String> {
    let parsed: Option<Json> = if form_like {
        let pairs =
            form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Json::from(value.into_owned())));
        Some(Json::Object(pairs.collect()))
    } else {
        serde_json::from_slice(body).ok()
    };
    let text = |name: &str| parsed.as_ref().and_then(|answer| answer[name].as_str()).unwrap_or_default().to_owned();
    // Texts as in Go:
    let error = text("error");
    if !status.is_success() || !error.is_empty() {
        if error.is_empty() {
            let body = String::from_utf8_lossy(body);
            return Err(format!("oauth2: cannot fetch token: {}\nResponse: {body}", status_text(status)));
        }
        let more = [text("error_description"), text("error_uri")];
        let more: String = more.iter().filter(|text| !text.is_empty()).map(|text| format!(" {text:?}")).collect();
        return Err(format!("oauth2: {error:?}{more}"));
    }
    let Some(answer) = &parsed else {
        return Err("oauth2: cannot parse json".to_owned());
    };
    let access_token = text("access_token");
    if access_token.is_empty() {
        return Err("oauth2: server response missing access_token".to_owned());
    }
    let token_type = text("token_type");
    let scheme = match token_type.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => token_type.as_str(),
    };
    let mut header = HeaderValue::from_str(&format!("{scheme} {access_token}"))
        .map_err(|_| "oauth2: the access_token is no header value".to_owned())?;
    header.set_sensitive(true);
    // A number, or a text that is one; none or zero: it does not expire.
    let seconds = match &answer["expires_in"] {
        Json::String(text) => text.parse().unwrap_or(0.0),
        number => number.as_f64().unwrap_or(0.0),
    };
    let expires = (seconds >= 1.0).then(|| Instant::now() + Duration::from_secs(seconds.min(1e9) as u64));
    Ok(Token { header, expires })
}

/// The signed assertion of a grant by JWT (RFC 7523), with the private key in PEM.
fn assertion(config: &OAuth2Config, key_pem: &str) -> Result<String, String> {
    let OAuth2Grant::JwtBearer { key_id, algorithm, issuer, audience, claims, .. } = &config.grant else {
        return Err("oauth2: this grant signs no assertion".to_owned());
    };
    let (name, scheme) = match algorithm {
        SignatureAlgorithm::Rs256 => ("RS256", SignatureScheme::RSA_PKCS1_SHA256),
        SignatureAlgorithm::Rs384 => ("RS384", SignatureScheme::RSA_PKCS1_SHA384),
        SignatureAlgorithm::Rs512 => ("RS512", SignatureScheme::RSA_PKCS1_SHA512),
    };
    let mut header = json!({ "alg": name, "typ": "JWT" });
    if !key_id.is_empty() {
        header["kid"] = key_id.as_str().into();
    }
    let provider = rustls::crypto::ring::default_provider();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut body = json!({
        "iss": issuer,
        "sub": config.client_id,
        "jti": random_uuid(&provider)?,
        "aud": audience,
        "iat": now_s,
        "exp": now_s + ASSERTION_VALID_S,
    });
    if !config.scopes.is_empty() {
        body["scope"] = config.scopes.join(" ").into();
    }
    for (name, value) in claims {
        body[name] = value.clone();
    }
    let signed = format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(body.to_string().as_bytes()));
    let signature = sign(&provider, scheme, key_pem, &signed)?;
    Ok(format!("{signed}.{}", base64_url(&signature)))
}

/// The signature of a text with an RSA key in PEM.
fn sign(provider: &CryptoProvider, scheme: SignatureScheme, key_pem: &str, text: &str) -> Result<Vec<u8>, String> {
    // Texts as in Prometheus:
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|_| "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 private key".to_owned())?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| format!("invalid key: {error}"))?;
    let signer = key.choose_scheme(&[scheme]).ok_or_else(|| "key is not a valid RSA private key".to_owned())?;
    signer.sign(text.as_bytes()).map_err(|error| format!("oauth2: {error}"))
}

/// A random UUID (RFC 9562, version 4).
fn random_uuid(provider: &CryptoProvider) -> Result<String, String> {
    let mut bytes = [0u8; 16];
    provider.secure_random.fill(&mut bytes).map_err(|_| "oauth2: no random numbers".to_owned())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests;
