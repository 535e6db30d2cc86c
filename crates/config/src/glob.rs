//! File name patterns as Go's `filepath.Match` and `filepath.Glob` have them: `*`, `?`, `[a-z]`, `[^a]`, `\` quotes; no
//! wildcard matches a slash.

use std::path::{Path, PathBuf};

/// Most files one pattern may match, so that a pattern such as `/*/*` ends.
pub const MATCHES_MAX: usize = 100_000;

/// Whether a pattern of `rule_files` or `scrape_config_files` is of the allowed form: `*` only in the last element.
pub fn is_config_pattern(pattern: &str) -> bool {
    pattern.split_once('*').is_none_or(|(_, rest)| !rest.contains('/'))
}

/// Whether a pattern of `file_sd_configs` is of the allowed form: as above, and a name of JSON or YAML.
pub fn is_discovery_pattern(pattern: &str) -> bool {
    let stem = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().find_map(|end| pattern.strip_suffix(end));
    stem.is_some_and(is_config_pattern)
}

/// The files that match, sorted by name; none if there are none. A pattern without wildcards gives the file if it
/// exists. Folders that cannot be read are passed over, as in Go.
///
/// Errors: the pattern is not well formed (`syntax error in pattern`).
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>, String> {
    if !is_well_formed(pattern) {
        return Err("syntax error in pattern".to_owned());
    }
    let mut paths = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for element in pattern.split('/').filter(|element| !element.is_empty()) {
        let mut next = Vec::new();
        for path in paths {
            if has_wildcard(element) {
                next.extend(matching_entries(&path, element));
            } else {
                let path = path.join(element);
                if path.symlink_metadata().is_ok() {
                    next.push(path);
                }
            }
            next.truncate(MATCHES_MAX);
        }
        paths = next;
    }
    paths.sort();
    Ok(paths)
}

fn matching_entries(folder: &Path, element: &str) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| matches(element, name)).map(|name| folder.join(name)).take(MATCHES_MAX).collect()
}

fn has_wildcard(element: &str) -> bool {
    element.contains(['*', '?', '[', '\\'])
}

/// Whether `name` as a whole matches `pattern`. A pattern that is not well formed matches nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The usual two-pointer match: at a mismatch, let the last star take one character more.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
            continue;
        }
        match match_one(&pattern[p..], name[n]) {
            Some(used) => {
                p += used;
                n += 1;
            }
            None => match star {
                Some((star_p, star_n)) if name[star_n] != '/' => {
                    star = Some((star_p, star_n + 1));
                    p = star_p + 1;
                    n = star_n + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many characters of the pattern the single character `c` uses up; `None` if it does not match.
fn match_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let negated = pattern.get(1) == Some(&'^');
            let (len, found) = class(pattern, usize::from(negated) + 1, c)?;
            (found != negated && c != '/').then_some(len)
        }
        literal => (*literal == c).then_some(1),
    }
}

/// Reads a class from `at` on: its length with brackets, and whether `c` is in it. `None`: not well formed.
fn class(pattern: &[char], mut at: usize, c: char) -> Option<(usize, bool)> {
    let (mut found, mut ranges) = (false, 0);
    loop {
        if pattern.get(at)? == &']' && ranges > 0 {
            return Some((at + 1, found));
        }
        let low = class_char(pattern, &mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            at += 1;
            high = class_char(pattern, &mut at)?;
        }
        found |= (low..=high).contains(&c);
        ranges += 1;
    }
}

fn class_char(pattern: &[char], at: &mut usize) -> Option<char> {
    let first = *pattern.get(*at)?;
    *at += 1;
    match first {
        '-' | ']' => None,
        '\\' => {
            let quoted = *pattern.get(*at)?;
            *at += 1;
            Some(quoted)
        }
        other => Some(other),
    }
}

fn is_well_formed(pattern: &str) -> bool {
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' if at + 1 == chars.len() => return false,
            '\\' => at += 2,
            '[' => {
                let negated = chars.get(at + 1) == Some(&'^');
                match class(&chars[at..], usize::from(negated) + 1, '\0') {
                    Some((len, _)) => at += len,
                    None => return false,
                }
            }
            _ => at += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, wanted) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[]a]", "]", false),
            ("[x-]", "x", false),
            ("*x", "xxx", true),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} on {name}");
        }
    }

    #[test]
    fn stars_may_stand_in_the_last_element_only() {
        for (pattern, wanted) in [("a/b", true), ("a/*.yml", true), ("*", true), ("a/*/b", false), ("*/*", false)] {
            assert_eq!(is_config_pattern(pattern), wanted, "{pattern}");
        }
        for (pattern, wanted) in [("a.json", true), ("x/*.YML", true), ("a.txt", false), ("*/a.yml", false)] {
            assert_eq!(is_discovery_pattern(pattern), wanted, "{pattern}");
        }
    }

    #[test]
    fn patterns_are_expanded_in_order_of_names() {
        let folder = fk_testkit::TempDir::new("glob");
        for name in ["b.yml", "a.yml", "c.json"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let paths = expand(&folder.path().join(pattern).to_string_lossy()).unwrap();
            paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names("*.yml"), ["a.yml", "b.yml"]);
        assert_eq!(names("[ac].*"), ["a.yml", "c.json"]);
        assert_eq!(names("c.json"), ["c.json"]);
        assert!(names("missing.yml").is_empty());
        assert!(expand("a/[").is_err());
    }
}
