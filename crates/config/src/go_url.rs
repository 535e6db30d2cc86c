//! URLs as Go's `url.Parse` takes them: nearly any text. Only what is asked of configured URLs is known here: whether the text is
//! one, its scheme, its host, and the text without its password.

/// The parts of a URL that configurations are checked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GoUrl<'t> {
    /// In lower case; empty: the text is relative.
    pub scheme: String,
    /// With its port; empty: there is none.
    pub host: &'t str,
}

/// Takes a text for a URL.
///
/// Errors: Go's text.
pub(crate) fn parse(text: &str) -> Result<GoUrl<'_>, String> {
    parse_parts(text).map_err(|reason| format!("parse {text:?}: {reason}"))
}

fn parse_parts(text: &str) -> Result<GoUrl<'_>, String> {
    // Texts as in Prometheus:
    let text = text.split('#').next().unwrap_or_default();
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = split_scheme(text)?;
    let rest = rest.split('?').next().unwrap_or_default();
    let Some(authority) = rest.strip_prefix("//") else {
        let first_segment = rest.split('/').next().unwrap_or_default();
        if scheme.is_empty() && first_segment.contains(':') && !rest.starts_with('/') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        check_escapes(rest)?;
        return Ok(GoUrl { scheme: scheme.to_ascii_lowercase(), host: "" });
    };
    let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let known = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(known) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            check_escapes(user)?;
            host
        }
        None => authority,
    };
    check_host(host)?;
    check_escapes(path)?;
    Ok(GoUrl { scheme: scheme.to_ascii_lowercase(), host })
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    if !(port.is_empty() || port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {port:?} after host"));
    }
    // Go refuses these in hosts wherever they stand; everything above ASCII passes.
    if let Some(c) = host.chars().find(|c| " ^`{|}\\".contains(*c)) {
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    check_escapes(host)
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

/// The text with its password made unreadable, as `URL.Redacted` prints it.
pub(crate) fn redacted(text: &str) -> String {
    let Some(start) = text.find("//").map(|at| at + 2) else { return text.to_owned() };
    let end = start + text[start..].find(['/', '?', '#']).unwrap_or(text.len() - start);
    let Some((user, host)) = text[start..end].rsplit_once('@') else { return text.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{}{name}:xxxxx@{host}{}", &text[..start], &text[end..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_any_text_is_a_url() {
        for (text, scheme, host) in [
            ("http://a:9090/x?y#z", "http", "a:9090"),
            ("HTTPS://u:p@[::1]:80", "https", "[::1]:80"),
            ("a/b", "", ""),
            ("", "", ""),
            ("/x:y", "", ""),
            ("unix:///var/run/docker.sock", "unix", ""),
            ("http://", "http", ""),
            ("mailto:a@b", "mailto", ""),
            ("http://\u{e4}.example", "http", "\u{e4}.example"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.scheme.as_str(), url.host), (scheme, host), "{text}");
        }
        for (text, wanted) in [
            (":a", "parse \":a\": missing protocol scheme"),
            ("localhost!:80", "parse \"localhost!:80\": first path segment in URL cannot contain colon"),
            ("http://a:b/", "parse \"http://a:b/\": invalid port \":b\" after host"),
            ("http://a b/", "parse \"http://a b/\": invalid character \" \" in host name"),
            ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
            ("http://a/%zz", "parse \"http://a/%zz\": invalid URL escape \"%zz\""),
            ("a\u{7}", "parse \"a\\u{7}\": net/url: invalid control character in URL"),
        ] {
            assert_eq!(parse(text).unwrap_err(), wanted);
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (text, wanted) in [
            ("http://u:p@proxy:3128/x", "http://u:xxxxx@proxy:3128/x"),
            ("http://u:p@proxy", "http://u:xxxxx@proxy"),
            ("http://u@proxy", "http://u@proxy"),
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://a/b@c:d", "http://a/b@c:d"),
        ] {
            assert_eq!(redacted(text), wanted);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-z%:/@\\[\\]?# \u{e4}\\\\]{0,24}") {
            let _ = parse(&text);
            let _ = redacted(&text);
        }
    }
}
