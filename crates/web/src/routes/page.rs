//! The user interface: its pages, which are all the same document with what the page has to know in its head, and its files, which are
//! part of the program. Built from `ui/`; `build.rs` makes the table of files.
//!
//! A page may run the program's own scripts and nothing else: what labels, annotations and queries contain is text, and would stay
//! text if the pages had a mistake.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde_json::json;

use crate::answer;
use crate::call::{Call, Reply};
use crate::state::Readiness;

/// A file of the user interface.
struct Asset {
    /// Below the route prefix, without a slash in front.
    path: &'static str,
    content_type: &'static str,
    /// Entity tag, with its quotes.
    tag: &'static str,
    /// Whether its name changes with its contents.
    hashed: bool,
    plain: &'static [u8],
    /// Compressed with gzip.
    packed: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

static INDEX: &str = include_str!(concat!(env!("OUT_DIR"), "/index.html"));

/// The first page: where the others begin, below the external address as in Prometheus.
pub(crate) async fn first(call: Call) -> Reply {
    Ok(moved(&call, "/query", false))
}

/// The query page's address before version 3, with its parameters.
pub(crate) async fn graph(call: Call) -> Reply {
    Ok(moved(&call, "/query", true))
}

fn moved(call: &Call, to: &str, with_query: bool) -> HttpResponse {
    let external = &call.state().options.external_url;
    let path = external.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or("");
    let mut place = format!("{}{to}", path.trim_end_matches('/'));
    if with_query && !call.req.query_string().is_empty() {
        place.push('?');
        place.push_str(call.req.query_string());
    }
    HttpResponse::Found().insert_header((header::LOCATION, place)).finish()
}

/// Any page.
pub(crate) async fn app(call: Call) -> Reply {
    let state = call.state();
    let nonce = format!("{:032x}", rand::random::<u128>());
    let settings = json!({
        "title": state.options.page_title,
        "nonce": nonce,
        "ready": state.status.readiness() == Readiness::Ready,
        "agent": false,
        "lookback": format!("{}s", state.queries.settings().lookback.as_secs()),
        "admin": state.options.admin,
        "lifecycle": state.options.lifecycle,
    });
    let html = INDEX.replacen("FIREKEEPER_SETTINGS", &escaped(&settings.to_string()), 1).replacen(
        "FIREKEEPER_TITLE",
        &escaped(&state.options.page_title),
        1,
    );
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self'; \
         font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    );
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::REFERRER_POLICY, "same-origin"))
        // The document names files that the next version does not have.
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(html))
}

/// A file of the user interface.
pub(crate) async fn asset(call: Call) -> Reply {
    let options = &call.state().options;
    let path = call.req.path().strip_prefix(options.route_prefix.as_str()).unwrap_or("").trim_start_matches('/');
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        // Text as in Prometheus.
        return Ok(answer::text(StatusCode::NOT_FOUND, "404 page not found\n"));
    };
    let text = |name| call.req.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let caching = if asset.hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::ETAG, asset.tag))
        .insert_header((header::CACHE_CONTROL, caching))
        .insert_header((header::VARY, "Accept-Encoding"));
    if text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.tag) {
        response.status(StatusCode::NOT_MODIFIED);
        return Ok(response.finish());
    }
    response.content_type(asset.content_type);
    if takes_gzip(text(header::ACCEPT_ENCODING)) {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
        return Ok(response.body(asset.packed));
    }
    Ok(response.body(asset.plain))
}

/// Whether a client says that it takes gzip.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|entry| {
        let (name, weight) = entry.split_once(';').unwrap_or((entry, ""));
        let refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q == 0.0);
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}

/// Text as part of HTML, also within quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped() {
        assert_eq!(escaped("<a href='x'>\"&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&#34;&amp;&#34;&lt;/a&gt;");
    }

    #[test]
    fn encodings_are_understood() {
        for (accepted, takes) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accepted), takes, "{accepted}");
        }
    }

    /// What a browser has to load, compressed: the first paint, the query page, and everything.
    #[test]
    fn the_interface_stays_within_its_budget() {
        const FIRST_PAINT_MAX: usize = 40_000;
        const QUERY_PAGE_MAX: usize = 230_000;
        const DIST_MAX: usize = 1_000_000;
        let packed = |wanted: &dyn Fn(&str) -> bool| -> usize {
            ASSETS.iter().filter(|asset| wanted(asset.path)).map(|asset| asset.packed.len()).sum()
        };
        let first = |path: &str| INDEX.contains(path);
        assert!((5_000..FIRST_PAINT_MAX).contains(&packed(&first)), "first paint: {} bytes", packed(&first));
        let scripts = packed(&|path| path.ends_with(".js") || path.ends_with(".css"));
        // The query page needs less than all scripts together.
        let query = |path: &str| {
            first(path)
                || ["query-", "plot-", "codemirror-", "state-", "time-", "fuzzy-"]
                    .iter()
                    .any(|name| path.contains(name))
        };
        assert!(
            (50_000..QUERY_PAGE_MAX).contains(&packed(&query)),
            "query page: {} of {scripts} bytes",
            packed(&query)
        );
        let all = ASSETS.iter().map(|asset| asset.plain.len()).sum::<usize>() + INDEX.len();
        assert!(all < DIST_MAX, "dist: {all} bytes");
    }

    /// Nothing is loaded from elsewhere, no map of the source is shipped, and no script or style stands in the document.
    #[test]
    fn the_document_is_bare() {
        for wrong in ["http://", "https://", "<style", "<script>", "onload=", "style="] {
            assert!(!INDEX.contains(wrong), "{wrong} in {INDEX}");
        }
        assert!(ASSETS.iter().all(|asset| !asset.path.ends_with(".map")));
        assert!(INDEX.contains("FIREKEEPER_SETTINGS") && INDEX.contains("FIREKEEPER_TITLE"));
    }
}
