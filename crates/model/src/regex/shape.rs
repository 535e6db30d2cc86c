//! What an expression looks like, for matching without an engine: most expressions of selectors and relabelling rules
//! are a list of texts, or texts with `.*` and `.+` between them.

use std::sync::Arc;

use memchr::memmem::Finder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Most texts of a set.
const SET_MAX: usize = 1000;

/// Most bytes of text in a shape.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Most patterns that are tried one after another.
const GLOBS_MAX: usize = 16;

/// Sets up to this size are searched from the front.
const LINEAR_MAX: usize = 4;

/// How to match without an engine.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// One of these texts. Sorted, without repeats.
    Set(Arc<[String]>),
    /// One of these patterns.
    Globs(Arc<[Glob]>),
    /// Anything else; with the text that every match starts with.
    Other(Arc<str>),
}

/// Texts with gaps between them.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    /// What a match starts with.
    prefix: String,
    /// Gap in front of each further text.
    middle: Vec<(usize, Finder<'static>)>,
    /// Least length of the last gap, and what a match ends with.
    last_gap: usize,
    suffix: String,
}

impl Shape {
    /// The shape of an expression that is anchored at both ends.
    pub(super) fn of(hir: &Hir) -> Shape {
        if let Some(mut texts) = texts_of(hir) {
            texts.sort_unstable();
            texts.dedup();
            return Shape::Set(texts.into());
        }
        let alternatives = match uncaptured(hir).kind() {
            HirKind::Alternation(alternatives) if alternatives.len() <= GLOBS_MAX => &alternatives[..],
            _ => std::slice::from_ref(hir),
        };
        let possible = alternatives.iter().filter(|hir| !is_fail(hir));
        match possible.map(glob_of).collect::<Option<Vec<Glob>>>() {
            Some(globs) => Shape::Globs(globs.into()),
            None => Shape::Other(prefix_of(hir).into()),
        }
    }

    /// Whether `text` matches; `None`: ask the engine.
    #[inline]
    pub(super) fn is_match(&self, text: &str) -> Option<bool> {
        match self {
            Shape::Set(texts) if texts.len() <= LINEAR_MAX => Some(texts.iter().any(|t| t == text)),
            Shape::Set(texts) => Some(texts.binary_search_by(|t| t.as_str().cmp(text)).is_ok()),
            Shape::Globs(globs) => Some(globs.iter().any(|glob| glob.is_match(text))),
            Shape::Other(prefix) if !text.starts_with(&**prefix) => Some(false),
            Shape::Other(_) => None,
        }
    }

    pub(super) fn texts(&self) -> Option<&[String]> {
        match self {
            Shape::Set(texts) => Some(texts),
            _ => None,
        }
    }

    pub(super) fn prefix(&self) -> Option<&str> {
        let prefix = match self {
            Shape::Set(texts) => match &**texts {
                [text] => text.as_str(),
                _ => "",
            },
            Shape::Globs(globs) => match &**globs {
                [glob] => glob.prefix.as_str(),
                _ => "",
            },
            Shape::Other(prefix) => prefix,
        };
        if prefix.is_empty() { None } else { Some(prefix) }
    }
}

impl Glob {
    #[inline]
    fn is_match(&self, text: &str) -> bool {
        let Some(mut rest) = text.strip_prefix(self.prefix.as_str()) else { return false };
        // Taking each text where it first occurs leaves the most room for the others.
        for (gap, finder) in &self.middle {
            let Some(from) = skip(rest, *gap) else { return false };
            let Some(at) = finder.find(from.as_bytes()) else { return false };
            rest = &from[at + finder.needle().len()..];
        }
        match rest.strip_suffix(self.suffix.as_str()) {
            Some(gap) => skip(gap, self.last_gap).is_some(),
            None => false,
        }
    }
}

/// `text` behind its first `n` characters.
fn skip(text: &str, n: usize) -> Option<&str> {
    match n {
        0 => Some(text),
        n => text.char_indices().nth(n - 1).map(|(at, c)| &text[at + c.len_utf8()..]),
    }
}

fn uncaptured(hir: &Hir) -> &Hir {
    let mut hir = hir;
    while let HirKind::Capture(capture) = hir.kind() {
        hir = &capture.sub;
    }
    hir
}

/// All texts that match, if they are few.
fn texts_of(hir: &Hir) -> Option<Vec<String>> {
    // The enumeration recurses, but not into expressions that could make it go deep.
    const DEPTH_MAX: usize = 64;
    texts_within(hir, DEPTH_MAX)
}

fn texts_within(hir: &Hir, depth: usize) -> Option<Vec<String>> {
    let depth = depth.checked_sub(1)?;
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Class(class) => chars_of(class),
        HirKind::Capture(capture) => texts_within(&capture.sub, depth),
        HirKind::Alternation(alternatives) => {
            let mut all = Vec::new();
            for alternative in alternatives {
                all.extend(texts_within(alternative, depth)?);
                bounded(&all)?;
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for (i, part) in parts.iter().enumerate() {
                // Anchors at the ends change nothing: the whole text must match anyway.
                if is_outer_anchor(part, i == 0, i + 1 == parts.len()) {
                    continue;
                }
                let next = texts_within(part, depth)?;
                if all.len().checked_mul(next.len())? > SET_MAX {
                    return None;
                }
                all = all.iter().flat_map(|head| next.iter().map(move |tail| format!("{head}{tail}"))).collect();
                bounded(&all)?;
            }
            Some(all)
        }
        HirKind::Repetition(repetition) if repetition.min == 0 && repetition.max == Some(1) => {
            let mut all = texts_within(&repetition.sub, depth)?;
            all.push(String::new());
            Some(all)
        }
        HirKind::Repetition(_) | HirKind::Look(_) => None,
    }
}

fn bounded(texts: &[String]) -> Option<()> {
    let bytes: usize = texts.iter().map(String::len).sum();
    (texts.len() <= SET_MAX && bytes <= TEXT_BYTES_MAX).then_some(())
}

fn chars_of(class: &Class) -> Option<Vec<String>> {
    /// Classes with more characters are better left to the engine.
    const CHARS_MAX: usize = 64;
    let unicode;
    let class = match class {
        Class::Unicode(class) => class,
        Class::Bytes(bytes) => {
            unicode = bytes.to_unicode_class()?;
            &unicode
        }
    };
    let n_chars: usize = class.ranges().iter().map(|r| r.len()).sum();
    if n_chars > CHARS_MAX {
        return None;
    }
    Some(class.ranges().iter().flat_map(|r| r.start()..=r.end()).map(String::from).collect())
}

fn is_outer_anchor(hir: &Hir, first: bool, last: bool) -> bool {
    match hir.kind() {
        HirKind::Look(Look::Start) => first,
        HirKind::Look(Look::End) => last,
        _ => false,
    }
}

/// The least number of characters of `.*` or `.+`.
fn gap_of(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(repetition) = uncaptured(hir).kind() else { return None };
    // More than one would make a large engine of a short expression.
    if repetition.max.is_some() || repetition.min > 1 || !is_any_char(&repetition.sub) {
        return None;
    }
    Some(repetition.min as usize)
}

/// Whether nothing matches.
fn is_fail(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => class.ranges().is_empty(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().is_empty(),
        _ => false,
    }
}

fn is_any_char(hir: &Hir) -> bool {
    match uncaptured(hir).kind() {
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [r] if r.start() == '\0' && r.end() == char::MAX)
        }
        _ => false,
    }
}

fn glob_of(hir: &Hir) -> Option<Glob> {
    let whole = uncaptured(hir);
    let parts = match whole.kind() {
        HirKind::Concat(parts) => &parts[..],
        _ => std::slice::from_ref(whole),
    };
    let mut glob = Glob { prefix: String::new(), middle: Vec::new(), last_gap: 0, suffix: String::new() };
    // Each text with the gap in front of it; none in front of the first.
    let mut texts: Vec<(Option<usize>, String)> = vec![(None, String::new())];
    let mut bytes = 0;
    for (i, part) in parts.iter().enumerate() {
        if is_outer_anchor(part, i == 0, i + 1 == parts.len()) {
            continue;
        }
        let last = texts.last_mut()?;
        if let Some(gap) = gap_of(part) {
            match last {
                (Some(before), text) if text.is_empty() => *before += gap,
                _ => texts.push((Some(gap), String::new())),
            }
            continue;
        }
        let HirKind::Literal(literal) = uncaptured(part).kind() else { return None };
        let text = std::str::from_utf8(&literal.0).ok()?;
        bytes += text.len();
        if bytes > TEXT_BYTES_MAX {
            return None;
        }
        last.1.push_str(text);
    }
    let mut texts = texts.into_iter();
    glob.prefix = texts.next()?.1;
    let mut texts: Vec<(usize, String)> = texts.map(|(gap, text)| (gap.unwrap_or(0), text)).collect();
    // Without any gap it would have been a set.
    (glob.last_gap, glob.suffix) = texts.pop()?;
    glob.middle = texts.into_iter().map(|(gap, text)| (gap, Finder::new(text.as_bytes()).into_owned())).collect();
    Some(glob)
}

/// What every match starts with.
fn prefix_of(hir: &Hir) -> String {
    let whole = uncaptured(hir);
    let parts = match whole.kind() {
        HirKind::Concat(parts) => &parts[..],
        _ => std::slice::from_ref(whole),
    };
    let mut prefix = String::new();
    for part in parts {
        match uncaptured(part).kind() {
            HirKind::Look(_) => {}
            HirKind::Literal(literal) if prefix.len() + literal.0.len() <= TEXT_BYTES_MAX => {
                match std::str::from_utf8(&literal.0) {
                    Ok(text) => prefix.push_str(text),
                    Err(_) => break,
                }
            }
            _ => break,
        }
    }
    prefix
}
