//! Files below a folder of the operator's (`--web.user-assets`). Nothing outside of the folder is ever read: neither by `..` nor by
//! links that lead out of it.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};

use crate::answer;
use crate::call::{Call, Reply};

/// Value of the label `handler` for the operator's files.
pub(crate) const USER_LABEL: &str = "/user/*filepath";

/// The largest file that is handed out: it is held in memory while it is sent.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What browsers have to know to use a file. Anything else is bytes.
const KINDS: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("md", "text/plain; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "text/xml; charset=utf-8"),
    ("yaml", "text/plain; charset=utf-8"),
    ("yml", "text/plain; charset=utf-8"),
];

/// What is at a path.
#[derive(Debug)]
enum Found {
    File {
        bytes: Vec<u8>,
        kind: &'static str,
        modified: Option<DateTime<Utc>>,
    },
    /// A folder, asked for without the slash at its end.
    Folder,
    Nothing,
    TooLarge,
}

pub(crate) async fn user(call: Call) -> Reply {
    let Some(folder) = call.state().options.user_assets.clone() else { return Ok(not_found()) };
    let raw = call.req.uri().path();
    let raw = raw.strip_prefix(call.state().options.route_prefix.as_str()).unwrap_or(raw);
    let raw = raw.trim_start_matches('/').strip_prefix("user").unwrap_or("");
    let Ok(path) = crate::params::decode(raw.as_bytes(), false) else { return Ok(not_found()) };
    // DIFFERENCE: folders are not listed.
    let found = match web::block(move || find(&folder, &path)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            log::debug!("user assets: {error}");
            Found::Nothing
        }
        Err(_) => return Err(answer::ApiError::internal("reading a file panicked")),
    };
    Ok(match found {
        Found::File { bytes, kind, modified } => file(&call, bytes, kind, modified),
        Found::Folder => {
            let name = call.req.uri().path().rsplit('/').next().unwrap_or("");
            HttpResponse::MovedPermanently().insert_header((header::LOCATION, format!("{name}/"))).finish()
        }
        Found::TooLarge => answer::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("files above {FILE_BYTES_MAX} bytes are not handed out\n"),
        ),
        Found::Nothing => not_found(),
    })
}

fn file(call: &Call, bytes: Vec<u8>, kind: &'static str, modified: Option<DateTime<Utc>>) -> HttpResponse {
    let Some(modified) = modified else { return HttpResponse::Ok().content_type(kind).body(bytes) };
    let known = call.req.headers().get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let known = known.and_then(|text| DateTime::parse_from_rfc2822(&text.replace("GMT", "+0000")).ok());
    let stamp = (header::LAST_MODIFIED, modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if known.is_some_and(|known| known.timestamp() >= modified.timestamp()) {
        return HttpResponse::NotModified().insert_header(stamp).finish();
    }
    HttpResponse::Ok().insert_header(stamp).content_type(kind).body(bytes)
}

fn not_found() -> HttpResponse {
    // Text as in Prometheus.
    answer::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Looks a path up. Only its plain parts count; anything else is nothing.
fn find(folder: &Path, path: &str) -> std::io::Result<Found> {
    if path.contains('\0') {
        return Ok(Found::Nothing);
    }
    let mut place = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => place.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Ok(Found::Nothing),
        }
    }
    let folder = folder.canonicalize()?;
    let mut place = match folder.join(place).canonicalize() {
        Ok(place) => place,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if place.is_dir() && place.starts_with(&folder) {
        if !path.ends_with('/') && !path.is_empty() {
            return Ok(Found::Folder);
        }
        place = match place.join("index.html").canonicalize() {
            Ok(place) => place,
            Err(_) => return Ok(Found::Nothing),
        };
    }
    if !place.starts_with(&folder) || !place.is_file() {
        return Ok(Found::Nothing);
    }
    let mut bytes = Vec::new();
    let opened = File::open(&place)?;
    let modified = opened.metadata()?.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.and_then(|since| DateTime::from_timestamp(since.as_secs() as i64, 0));
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Ok(Found::TooLarge);
    }
    let extension = place.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let kind = KINDS.binary_search_by(|(known, _)| known.cmp(&extension.as_str()));
    Ok(Found::File { bytes, kind: kind.map_or("application/octet-stream", |at| KINDS[at].1), modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_folder_is_found() {
        let outside = fk_testkit::TempDir::new("assets");
        let folder = outside.path().join("inside");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("a b.css"), "body{}").unwrap();
        std::fs::write(folder.join("sub/index.html"), "<p>").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.join("up")).unwrap();
        for (path, expected) in [
            ("/a b.css", "text/css; charset=utf-8"),
            ("/sub/", "text/html; charset=utf-8"),
            ("/sub/index.html", "text/html; charset=utf-8"),
            ("/./a b.css", "text/css; charset=utf-8"),
            ("/sub", "folder"),
            ("/", "nothing"),
            ("/../secret", "nothing"),
            ("/sub/../../secret", "nothing"),
            ("/link", "nothing"),
            ("/up/secret", "nothing"),
            ("/up", "nothing"),
            ("/none", "nothing"),
            ("/a\0b", "nothing"),
            ("//etc/passwd", "nothing"),
        ] {
            let got = match find(&folder, path).unwrap() {
                Found::File { kind, .. } => kind,
                Found::Folder => "folder",
                Found::Nothing => "nothing",
                Found::TooLarge => "too large",
            };
            assert_eq!(got, expected, "{path}");
        }
        assert!(KINDS.is_sorted());
    }
}
