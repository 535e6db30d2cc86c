//! Templates of replacements (`regexp.Expand` in Go).

use crate::labels::STRING_BYTES_MAX;

/// The next piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    /// Text as it is.
    Text(&'t str),
    /// `$1`, `${1}`
    Number(usize),
    /// `$name`, `${name}`
    Name(&'t str),
}

/// Cuts a template into its pieces. `$name` takes the longest word there is, so `$1x` is the group called `1x`; `$$` is a
/// dollar sign; a dollar sign without a valid name is itself.
fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let dollar = rest.find('$').unwrap_or(rest.len());
        if dollar > 0 {
            let (text, after) = rest.split_at(dollar);
            rest = after;
            return Some(Piece::Text(text));
        }
        if let Some((name, len)) = reference(&rest[1..]) {
            rest = &rest[1 + len..];
            return Some(number(name).map_or(Piece::Name(name), Piece::Number));
        }
        let text = &rest[..1];
        rest = &rest[if rest[1..].starts_with('$') { 2 } else { 1 }..];
        Some(Piece::Text(text))
    })
}

/// The template with its references replaced. A number without a group is replaced by nothing. Ends soon behind
/// [`STRING_BYTES_MAX`]: no name and no value may be as long as that.
pub(super) fn expanded<'a>(
    template: &'a str,
    number: impl Fn(usize) -> Option<&'a str>,
    name: impl Fn(&str) -> &'a str,
) -> String {
    let mut out = String::new();
    for piece in pieces(template) {
        if out.len() > STRING_BYTES_MAX {
            break;
        }
        out.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Number(group) => number(group).unwrap_or(""),
            Piece::Name(group) => name(group),
        });
    }
    out
}

/// The name behind a dollar sign, and how many bytes it takes with its braces.
fn reference(text: &str) -> Option<(&str, usize)> {
    let braced = text.starts_with('{');
    let start = usize::from(braced);
    let word = &text[start..];
    let is_word = |c: char| c == '_' || c.is_alphabetic() || c.is_numeric();
    let len = word.find(|c| !is_word(c)).unwrap_or(word.len());
    if len == 0 || (braced && !word[len..].starts_with('}')) {
        return None;
    }
    Some((&word[..len], len + 2 * start))
}

/// The name as a number: digits without a leading zero, fewer than ten.
fn number(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|b| b.is_ascii_digit()) && name.len() < 10 && (name == "0" || !name.starts_with('0'));
    if plain { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_cut_as_go_cuts_them() {
        use Piece::{Name, Number, Text};
        let check = |template: &str, expected: &[Piece<'_>]| {
            assert_eq!(pieces(template).collect::<Vec<_>>(), expected, "{template}");
        };
        check("", &[]);
        check("a$1b", &[Text("a"), Name("1b")]);
        check("${1}b", &[Number(1), Text("b")]);
        check("$1-$2", &[Number(1), Text("-"), Number(2)]);
        check("$$1", &[Text("$"), Text("1")]);
        check("$", &[Text("$")]);
        check("a$", &[Text("a"), Text("$")]);
        check("${1", &[Text("$"), Text("{1")]);
        check("${}", &[Text("$"), Text("{}")]);
        check("$01", &[Name("01")]);
        check("$0", &[Number(0)]);
        check("${näme}!", &[Name("näme"), Text("!")]);
        check("$-", &[Text("$"), Text("-")]);
        check("$12345678901", &[Name("12345678901")]);
    }
}
