//! What sections of the configuration share while they are read: where relative paths start, and names of labels.

use std::path::Path;

use fk_model::name::NameValidation;

use crate::shown::Shown;

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

/// A list of texts.
pub(crate) fn shown_texts<S: AsRef<str>>(texts: &[S]) -> Vec<Shown> {
    texts.iter().map(|text| Shown::Text(text.as_ref().to_owned())).collect()
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
}
