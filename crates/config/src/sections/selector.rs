//! The selectors of Kubernetes: of fields (`metadata.name=x,status!=y`) and of labels (`a in (b,c),!d`). They are checked and
//! not kept.

/// Checks a selector of fields.
///
/// Errors: Kubernetes' text.
pub(super) fn check_fields(selector: &str) -> Result<(), String> {
    for term in split_terms(selector).into_iter().filter(|term| !term.is_empty()) {
        let Some(at) = term.find('=') else {
            // Text as in Prometheus:
            return Err(format!("invalid selector: '{selector}'; can't understand '{term}'"));
        };
        let value = term[at + 1..].strip_prefix('=').unwrap_or(&term[at + 1..]);
        let mut escaped = false;
        for c in value.chars() {
            match (escaped, c) {
                (true, '\\' | ',' | '=') => escaped = false,
                (true, c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                (false, '\\') => escaped = true,
                (false, '=') => return Err(format!("invalid field selector: unescaped character in value: {c:?}")),
                (false, _) => {}
            }
        }
        if escaped {
            return Err("invalid field selector: invalid escape sequence: \\".to_owned());
        }
    }
    Ok(())
}

/// Splits at commas that no backslash stands before.
fn split_terms(selector: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// Checks a selector of labels.
///
/// Errors: where it cannot be understood.
pub(super) fn check_labels(selector: &str) -> Result<(), String> {
    let mut rest = selector.trim_start();
    if rest.is_empty() {
        return Ok(());
    }
    loop {
        rest = requirement(rest).map_err(|error| format!("unable to parse requirement: {error}"))?.trim_start();
        if rest.is_empty() {
            return Ok(());
        }
        // Text as in Prometheus:
        let next = rest.strip_prefix(',').ok_or_else(|| format!("found '{rest}', expected: ',' or 'end of string'"))?;
        rest = next.trim_start();
        if rest.is_empty() {
            return Err("found '', expected: identifier after ','".to_owned());
        }
    }
}

/// Takes one requirement; gives what follows it.
fn requirement(text: &str) -> Result<&str, String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = word(rest.trim_start());
        return check_key(key).map(|()| rest);
    }
    let (key, rest) = word(text);
    check_key(key)?;
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with(',') {
        return Ok(rest);
    }
    for operator in ["!=", "==", "="] {
        if let Some(rest) = rest.strip_prefix(operator) {
            let (value, rest) = word(rest.trim_start());
            return check_value(value).map(|()| rest);
        }
    }
    if let Some(rest) = rest.strip_prefix(['<', '>']) {
        let (value, rest) = word(rest.trim_start());
        return match value.parse::<i64>() {
            Ok(_) => Ok(rest),
            Err(_) => Err(format!("for 'Gt', 'Lt' operators, the value must be an integer, not {value:?}")),
        };
    }
    let (operator, rest) = word(rest);
    if !["in", "notin"].contains(&operator) {
        // Text as in Prometheus:
        let known = "in, notin, =, ==, !=, gt, lt";
        return Err(format!("found '{operator}', expected: {known}"));
    }
    let list = rest.trim_start().strip_prefix('(').ok_or_else(|| format!("found '{rest}' expected: '('"))?;
    let (list, rest) = list.split_once(')').ok_or_else(|| format!("found '{list}', expected: ',' or ')'"))?;
    list.split(',').try_for_each(|value| check_value(value.trim()))?;
    Ok(rest)
}

/// Takes what is no sign and no blank.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || "=!<>(),".contains(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// A name, with a domain before a slash if there is one.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let domain = |text: &str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        !text.is_empty() && text.len() <= 253 && text.chars().all(known)
    };
    if name.is_empty() || !is_name(name) || prefix.is_some_and(|prefix| !domain(prefix)) {
        return Err(format!("key: Invalid value: {key:?}"));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) { Ok(()) } else { Err(format!("values: Invalid value: {value:?}")) }
}

/// Letters, digits, and in between `-`, `_` and `.`.
fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_fields() {
        for good in ["", "a=b", "a==b,c!=d", "metadata.name=x\\,y", ",a=b"] {
            assert_eq!(check_fields(good), Ok(()), "{good}");
        }
        for (bad, wanted) in [
            ("metadata.status-Running", "invalid selector: 'metadata.status-Running'; can't understand"),
            ("a=b=c", "invalid field selector: unescaped character in value"),
            ("a=b\\c", "invalid field selector: invalid escape sequence"),
        ] {
            let error = check_fields(bad).unwrap_err();
            assert!(error.starts_with(wanted), "{bad}: {error}");
        }
    }

    #[test]
    fn selectors_of_labels() {
        for good in ["", "a", "!a", "a=b", "a==b,c!=d", "a in (b, c),d notin (e)", "example.com/a=b", "a>1", "a="] {
            assert_eq!(check_labels(good), Ok(()), "{good}");
        }
        for bad in ["a b", "a,,b", "a,", "a in b", "a in (b", "a=-", "a>b", "=a", "A.b/c", "a=b c"] {
            assert!(check_labels(bad).is_err(), "{bad}");
        }
    }
}
