//! What sections of the configuration share while they are read: where relative paths start, and names of labels.

use std::path::Path;

use fk_model::Labels;
use fk_model::name::NameValidation;

use crate::shown::{Shown, ShownMap};

/// `path` seen from the folder `base`, without needless dots (`filepath.Join` in Go). Empty and absolute paths stay.
pub(crate) fn resolve(base: &Path, path: &str) -> String {
    if path.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    clean(&format!("{}/{path}", if base.as_os_str().is_empty() { ".".into() } else { base.to_string_lossy() }))
}

/// Removes empty elements, `.` and what `..` takes back.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." if elements.last().is_some_and(|last| *last != "..") => {
                elements.pop();
            }
            ".." if absolute => {}
            element => elements.push(element),
        }
    }
    let joined = elements.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The name of a validation scheme, as configuration writes it.
pub(crate) fn validation_name(validation: NameValidation) -> &'static str {
    match validation {
        NameValidation::Utf8 => "utf8",
        NameValidation::Legacy => "legacy",
    }
}

/// A label set as a mapping.
pub(crate) fn shown_labels(labels: &Labels) -> ShownMap {
    labels.iter().map(|(name, value)| (name.to_owned(), Shown::Text(value.to_owned()))).collect()
}

/// A list of texts.
pub(crate) fn shown_texts<S: AsRef<str>>(texts: &[S]) -> Vec<Shown> {
    texts.iter().map(|text| Shown::Text(text.as_ref().to_owned())).collect()
}

/// A URL with its password made unreadable, as Go's `URL.Redacted` does.
pub(crate) fn redact_url(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // A URL that had a password can hold another one.
            let _ = url.set_password(Some("xxxxx"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        for (base, path, wanted) in [
            ("testdata", "a.yml", "testdata/a.yml"),
            (".", "a.yml", "a.yml"),
            ("", "a.yml", "a.yml"),
            ("/etc/prom", "rules/*.yml", "/etc/prom/rules/*.yml"),
            ("/etc/prom", "../x//./y", "/etc/x/y"),
            ("a", "../../b", "../b"),
            ("a", "/abs", "/abs"),
            ("a", "", ""),
        ] {
            assert_eq!(resolve(Path::new(base), path), wanted, "{base} and {path}");
        }
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        assert_eq!(redact_url("http://u:p@proxy:3128/x"), "http://u:xxxxx@proxy:3128/x");
        assert_eq!(redact_url("http://proxy:3128"), "http://proxy:3128");
    }
}
