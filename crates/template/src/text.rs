//! Small texts the way Go writes and reads them: quoting, code points, escapes.

pub(crate) use fk_model::labels::is_print;

/// Removes spaces at the start.
pub(crate) fn trim_spaces_left(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r', '\n'])
}

/// Removes spaces at the end.
pub(crate) fn trim_spaces_right(text: &str) -> &str {
    text.trim_end_matches([' ', '\t', '\r', '\n'])
}

/// `strconv.Quote`
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    fk_model::labels::write_quoted(&mut out, text).expect("a string takes everything");
    out
}

/// `strconv.QuoteToASCII`
pub(crate) fn quote_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for c in quote(text).chars() {
        match c {
            c if c.is_ascii() => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out
}

/// `%#U`: the code point, and the character itself if it can be shown.
pub(crate) fn quote_rune(c: char) -> String {
    if !is_print(c) { format!("U+{:04X}", c as u32) } else { format!("U+{:04X} '{c}'", c as u32) }
}

/// `url.QueryEscape`
pub(crate) fn query_escape(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    utf8_percent_encode(text, ESCAPED).to_string().replace(' ', "+")
}

/// `strconv.Unquote` of a text in double or back quotes, as the lexer found it.
pub(crate) fn unquote(quoted: &str) -> Result<String, String> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).ok_or("invalid syntax")?;
    if quoted.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match escape(&mut chars, '"').ok_or("invalid syntax")? {
            Escaped::Byte(byte) => out.push(byte),
            Escaped::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    String::from_utf8(out).map_err(|_| "text is not UTF-8".to_owned())
}

/// The code point of a character constant in single quotes.
pub(crate) fn unquote_char(quoted: &str) -> Option<char> {
    let mut chars = quoted.get(1..quoted.len().checked_sub(1)?)?.chars();
    let c = match chars.next()? {
        '\\' => match escape(&mut chars, '\'')? {
            Escaped::Byte(byte) => char::from(byte),
            Escaped::Char(c) => c,
        },
        '\'' => return None,
        c => c,
    };
    chars.next().is_none().then_some(c)
}

enum Escaped {
    Byte(u8),
    Char(char),
}

/// What stands behind a backslash.
fn escape(chars: &mut std::str::Chars<'_>, quote: char) -> Option<Escaped> {
    let simple = |c| Some(Escaped::Char(c));
    match chars.next()? {
        'a' => simple('\x07'),
        'b' => simple('\x08'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        '\\' => simple('\\'),
        'x' => digits(chars, 0, 2, 16).and_then(|code| u8::try_from(code).ok()).map(Escaped::Byte),
        'u' => digits(chars, 0, 4, 16).and_then(char::from_u32).map(Escaped::Char),
        'U' => digits(chars, 0, 8, 16).and_then(char::from_u32).map(Escaped::Char),
        c @ '0'..='7' => {
            digits(chars, c as u32 - '0' as u32, 2, 8).and_then(|code| u8::try_from(code).ok()).map(Escaped::Byte)
        }
        c if c == quote => simple(c),
        _ => None,
    }
}

/// The number that `n` further digits make of `code`.
fn digits(chars: &mut std::str::Chars<'_>, mut code: u32, n: usize, radix: u32) -> Option<u32> {
    for _ in 0..n {
        code = code.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_texts_are_read() {
        for (quoted, text) in [
            (r#""a\n\"b\\""#, Some("a\n\"b\\")),
            (r#""\x41\101\u00e9\U0001F600""#, Some("AA\u{e9}\u{1F600}")),
            ("`a\\n\"`", Some("a\\n\"")),
            (r#""\'""#, None),
            (r#""\400""#, None),
            (r#""\ud800""#, None),
            (r#""\xff""#, None),
        ] {
            assert_eq!(unquote(quoted).ok().as_deref(), text, "{quoted}");
        }
        for (quoted, c) in
            [("'a'", Some('a')), (r"'\n'", Some('\n')), (r"'\''", Some('\'')), ("'ab'", None), ("''", None)]
        {
            assert_eq!(unquote_char(quoted), c, "{quoted}");
        }
    }
}
