//! RE2 syntax, as Go's `regexp` package reads it, to the representation that the engine compiles.
//!
//! The Rust dialect cannot stand in for it: there `\d` and `\w` are Unicode, classes nest and intersect, `a**` and
//! `\u0041` are fine, while `\Q…\E`, `\07`, a literal `{` and `[\w-.]` are errors. Error texts are those of Go, because
//! people know them from Prometheus.
//!
//! The parser keeps its own stack, so nothing here recurses.

use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Dot, Hir, HirKind, Look, Repetition,
};

/// How high the tree of an expression may be, as in Go.
const HEIGHT_MAX: usize = 1000;

/// How many copies of one part nested counted repetitions may make, as in Go.
const COPIES_MAX: u32 = 1000;

/// What is wrong with an expression: Go's text, and the part of the expression it is about.
pub(super) type Failure<'a> = (&'static str, &'a str);

/// A parsed expression.
pub(super) struct Parsed {
    pub hir: Hir,
    /// Names of the groups that have one, with their numbers, in the order of the numbers. A name may occur twice.
    pub names: Vec<(String, usize)>,
    /// Whether it ends inside of `\Q`, without `\E`.
    pub open_quote: bool,
}

/// Parses `source` with Go's Perl flags, and with the dot matching newlines.
pub(super) fn parse(source: &str) -> Result<Parsed, Failure<'_>> {
    let mut parser = Parser {
        source,
        at: 0,
        flags: Flags { fold: false, multi_line: false, dot_newline: true, swap_greed: false },
        frames: vec![Frame::default()],
        n_captures: 0,
        names: Vec::new(),
        open_quote: false,
    };
    parser.run()?;
    let (names, open_quote) = (parser.names, parser.open_quote);
    match (parser.frames.pop(), parser.frames.is_empty()) {
        (Some(frame), true) => Ok(Parsed { hir: frame.finish(source)?.hir, names, open_quote }),
        _ => Err(("missing closing )", source)),
    }
}

#[derive(Clone, Copy)]
struct Flags {
    /// `i`
    fold: bool,
    /// `m`
    multi_line: bool,
    /// `s`
    dot_newline: bool,
    /// `U`
    swap_greed: bool,
}

/// A part of an expression, with what the limits are about.
struct Node {
    hir: Hir,
    height: usize,
    /// Most copies that counted repetitions within make of one part.
    copies: u32,
}

impl Node {
    fn leaf(hir: Hir) -> Node {
        Node { hir, height: 1, copies: 1 }
    }
}

/// An open group; the whole expression is the first.
#[derive(Default)]
struct Frame {
    alternatives: Vec<Node>,
    /// The alternative being read.
    parts: Vec<Node>,
    /// For a capturing group its number.
    capture: Option<u32>,
    /// Flags to go back to behind the group.
    flags: Option<Flags>,
}

impl Frame {
    fn end_alternative<'a>(&mut self, source: &'a str) -> Result<(), Failure<'a>> {
        let mut parts = std::mem::take(&mut self.parts);
        let node = match parts.len() {
            0 => Node::leaf(Hir::empty()),
            1 => parts.remove(0),
            _ => combined(parts, Hir::concat, source)?,
        };
        self.alternatives.push(node);
        Ok(())
    }

    fn finish(mut self, source: &str) -> Result<Node, Failure<'_>> {
        self.end_alternative(source)?;
        let mut node = match self.alternatives.len() {
            1 => self.alternatives.remove(0),
            _ => combined(self.alternatives, alternation, source)?,
        };
        if let Some(index) = self.capture {
            node.height += 1;
            node.hir = Hir::capture(Capture { index, name: None, sub: Box::new(node.hir) });
            check_height(&node, source)?;
        }
        Ok(node)
    }
}

fn combined(nodes: Vec<Node>, join: fn(Vec<Hir>) -> Hir, source: &str) -> Result<Node, Failure<'_>> {
    let height = nodes.iter().map(|n| n.height).max().unwrap_or(0) + 1;
    let copies = nodes.iter().map(|n| n.copies).max().unwrap_or(1);
    let node = Node { hir: join(nodes.into_iter().map(|n| n.hir).collect()), height, copies };
    check_height(&node, source)?;
    Ok(node)
}

/// Any of `alternatives`, the first that matches.
///
/// The constructor of the library takes out what all of them start with. For `.*a|.*` that changes which of them a text
/// matches, so it is kept from doing so by one more alternative that never matches.
fn alternation(mut alternatives: Vec<Hir>) -> Hir {
    let start = |hir: &Hir| match hir.kind() {
        HirKind::Concat(parts) => parts.first().cloned(),
        _ => None,
    };
    let first = alternatives.first().and_then(start);
    if first.is_some() && alternatives.iter().all(|hir| start(hir) == first) {
        alternatives.push(Hir::fail());
    }
    Hir::alternation(alternatives)
}

fn check_height<'a>(node: &Node, source: &'a str) -> Result<(), Failure<'a>> {
    if node.height > HEIGHT_MAX { Err(("expression nests too deeply", source)) } else { Ok(()) }
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
    flags: Flags,
    /// Invariant: never empty.
    frames: Vec<Frame>,
    n_captures: u32,
    names: Vec<(String, usize)>,
    open_quote: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the frame of the whole expression is only taken at the end")
    }

    fn push(&mut self, hir: Hir) {
        self.frame().parts.push(Node::leaf(hir));
    }

    fn run(&mut self) -> Result<(), Failure<'a>> {
        // Where the repetition right in front started, if there is one.
        let mut last_repeat: Option<usize> = None;
        while let Some(c) = self.peek() {
            let start = self.at;
            let mut repeat = None;
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.at += 1;
                    let source = self.source;
                    self.frame().end_alternative(source)?;
                }
                '^' => {
                    self.at += 1;
                    self.push(Hir::look(if self.flags.multi_line { Look::StartLF } else { Look::Start }));
                }
                '$' => {
                    self.at += 1;
                    self.push(Hir::look(if self.flags.multi_line { Look::EndLF } else { Look::End }));
                }
                '.' => {
                    self.at += 1;
                    let dot = if self.flags.dot_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                    self.push(Hir::dot(dot));
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.at += 1;
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(min, max, false, start, last_repeat)?;
                    repeat = Some(start);
                }
                '{' => match counts(self.rest()) {
                    None => {
                        self.at += 1;
                        self.literal('{');
                    }
                    Some((bounds, len)) => {
                        self.at += len;
                        let Some((min, max)) = bounds else {
                            return Err(("invalid repeat count", &self.source[start..self.at]));
                        };
                        self.repeat(min, max, true, start, last_repeat)?;
                        repeat = Some(start);
                    }
                },
                '\\' => self.backslash()?,
                c => {
                    self.at += c.len_utf8();
                    self.literal(c);
                }
            }
            last_repeat = repeat;
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        let hir = if self.flags.fold { folded_char(c) } else { Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes()) };
        self.push(hir);
    }

    // --- Groups ---

    fn open(&mut self) -> Result<(), Failure<'a>> {
        if self.rest().starts_with("(?") {
            return self.perl_group();
        }
        self.at += 1;
        self.open_capture(None);
        Ok(())
    }

    fn open_capture(&mut self, name: Option<&str>) {
        self.n_captures += 1;
        if let Some(name) = name {
            self.names.push((name.to_owned(), self.n_captures as usize));
        }
        let (capture, flags) = (Some(self.n_captures), Some(self.flags));
        self.frames.push(Frame { capture, flags, ..Frame::default() });
    }

    fn close(&mut self) -> Result<(), Failure<'a>> {
        self.at += 1;
        if self.frames.len() < 2 {
            return Err(("unexpected )", self.source));
        }
        let frame = self.frames.pop().expect("counted above");
        if let Some(flags) = frame.flags {
            self.flags = flags;
        }
        let node = frame.finish(self.source)?;
        self.frame().parts.push(node);
        Ok(())
    }

    /// `(?P<name>…)`, `(?<name>…)`, `(?flags)`, `(?flags:…)`
    fn perl_group(&mut self) -> Result<(), Failure<'a>> {
        const INVALID_NAME: &str = "invalid named capture";
        let text = self.rest();
        let name_at = match text.as_bytes() {
            [_, _, b'P', b'<', _, ..] => Some(4),
            [_, _, b'<', _, ..] => Some(3),
            _ => None,
        };
        if let Some(name_at) = name_at {
            let end = text.find('>').ok_or((INVALID_NAME, text))?;
            let name = text.get(name_at..end).unwrap_or("");
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                return Err((INVALID_NAME, &text[..=end]));
            }
            self.at += end + 1;
            self.open_capture(Some(name));
            return Ok(());
        }
        let start = self.at;
        self.at += 2;
        let (mut flags, mut negative, mut saw_flag) = (self.flags, false, false);
        while let Some(c) = self.next() {
            match c {
                'i' => flags.fold = !negative,
                'm' => flags.multi_line = !negative,
                's' => flags.dot_newline = !negative,
                'U' => flags.swap_greed = !negative,
                '-' if !negative => {
                    negative = true;
                    saw_flag = false;
                    continue;
                }
                ':' | ')' if !negative || saw_flag => {
                    if c == ':' {
                        self.frames.push(Frame { flags: Some(self.flags), ..Frame::default() });
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            saw_flag = true;
        }
        Err(("invalid or unsupported Perl syntax", &self.source[start..self.at]))
    }

    // --- Repetitions ---

    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        counted: bool,
        start: usize,
        last_repeat: Option<usize>,
    ) -> Result<(), Failure<'a>> {
        let mut greedy = !self.flags.swap_greed;
        if self.peek() == Some('?') {
            self.at += 1;
            greedy = !greedy;
        }
        let source = self.source;
        let text = &source[start..self.at];
        if let Some(last) = last_repeat {
            return Err(("invalid nested repetition operator", &source[last..self.at]));
        }
        let Some(node) = self.frame().parts.last_mut() else {
            return Err(("missing argument to repetition operator", text));
        };
        let sub = std::mem::replace(&mut node.hir, Hir::empty());
        node.hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(sub) });
        node.height += 1;
        check_height(node, source)?;
        if counted {
            match max {
                // Nothing is copied.
                Some(0) => node.copies = 1,
                max => node.copies = node.copies.saturating_mul(max.unwrap_or(min).max(1)),
            }
            if (min >= 2 || max.is_some_and(|max| max >= 2)) && node.copies > COPIES_MAX {
                return Err(("invalid repeat count", text));
            }
        }
        Ok(())
    }

    // --- Escapes and classes ---

    fn backslash(&mut self) -> Result<(), Failure<'a>> {
        let text = self.rest();
        let look = match text.as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            Some(b'C') => return Err((INVALID_ESCAPE, &text[..2])),
            Some(b'Q') => {
                let (quoted, len) = match text[2..].find("\\E") {
                    Some(end) => (&text[2..2 + end], end + 4),
                    None => {
                        self.open_quote = true;
                        (&text[2..], text.len())
                    }
                };
                quoted.chars().for_each(|c| self.literal(c));
                self.at += len;
                return Ok(());
            }
            _ => None,
        };
        if let Some(look) = look {
            self.at += 2;
            self.push(Hir::look(look));
            return Ok(());
        }
        if let Some(class) = self.class_escape()? {
            self.push(class_hir(class));
            return Ok(());
        }
        match self.escape()? {
            Some(c) => self.literal(c),
            // A surrogate, which no text contains.
            None => self.push(Hir::fail()),
        }
        Ok(())
    }

    /// `\d`, `\pL` and the like, if that is what comes next.
    fn class_escape(&mut self) -> Result<Option<ClassUnicode>, Failure<'a>> {
        let text = self.rest();
        let [b'\\', letter, ..] = text.as_bytes() else { return Ok(None) };
        let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
            b'd' => DIGIT,
            b's' => PERL_SPACE,
            b'w' => WORD,
            b'p' => return self.unicode_class().map(Some),
            _ => return Ok(None),
        };
        self.at += 2;
        Ok(Some(self.group(ranges, letter.is_ascii_uppercase())))
    }

    /// A named set, folded if the flag says so, then negated.
    fn group(&self, ranges: &[(char, char)], negate: bool) -> ClassUnicode {
        let mut class = ClassUnicode::new(ranges.iter().map(|(lo, hi)| ClassUnicodeRange::new(*lo, *hi)));
        self.fold_and_negate(&mut class, negate);
        class
    }

    fn fold_and_negate(&self, class: &mut ClassUnicode, negate: bool) {
        if self.flags.fold {
            // The tables are compiled in; without them nothing is folded.
            let _ = class.try_case_fold_simple();
        }
        if negate {
            class.negate();
        }
    }

    /// `\pL`, `\p{Greek}`, `\P{^Lu}`
    fn unicode_class(&mut self) -> Result<ClassUnicode, Failure<'a>> {
        const INVALID: &str = "invalid character class range";
        let text = self.rest();
        let mut negate = text.as_bytes()[1] == b'P';
        let (mut name, len) = match text[2..].chars().next() {
            Some('{') => {
                let end = text.find('}').ok_or((INVALID, text))?;
                (&text[3..end], end + 1)
            }
            Some(c) => (&text[2..2 + c.len_utf8()], 2 + c.len_utf8()),
            None => ("", 2),
        };
        if let Some(positive) = name.strip_prefix('^') {
            name = positive;
            negate = !negate;
        }
        let mut class = unicode_table(name).ok_or((INVALID, &text[..len]))?;
        self.at += len;
        self.fold_and_negate(&mut class, negate);
        Ok(class)
    }

    /// One escaped character, in or outside of a class. `None`: a surrogate.
    fn escape(&mut self) -> Result<Option<char>, Failure<'a>> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.next() else { return Err(("trailing backslash at end of expression", "")) };
        let octal = |c: char| c.to_digit(8);
        let found = match c {
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '0'..='7' if c == '0' || self.peek().and_then(octal).is_some() => {
                let mut value = c as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(octal) else { break };
                    value = value * 8 + digit;
                    self.at += 1;
                }
                char::from_u32(value)
            }
            'x' => {
                if let Some(value) = self.hex() {
                    return Ok(char::from_u32(value));
                }
                None
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        found.map(Some).ok_or((INVALID_ESCAPE, &self.source[start..self.at]))
    }

    /// What follows `\x`: two digits, or any number of them in braces.
    fn hex(&mut self) -> Option<u32> {
        let first = self.next()?;
        if first != '{' {
            let second = self.next();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut value, mut n_digits) = (0, 0);
        loop {
            match self.next()? {
                '}' if n_digits > 0 => return Some(value),
                c => value = value * 16 + c.to_digit(16)?,
            }
            if value > char::MAX as u32 {
                return None;
            }
            n_digits += 1;
        }
    }

    /// `[a-z\d[:space:]]`
    fn class(&mut self) -> Result<(), Failure<'a>> {
        let whole = self.rest();
        self.at += 1;
        let negate = self.peek() == Some('^');
        if negate {
            self.at += 1;
        }
        let mut class = ClassUnicode::empty();
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if let Some(named) = self.posix_class()? {
                class.union(&named);
                continue;
            }
            if let Some(escaped) = self.class_escape()? {
                class.union(&escaped);
                continue;
            }
            let start = self.at;
            let lo = self.class_char(whole)?;
            let mut hi = lo;
            // A minus in front of the closing bracket is itself.
            if let [b'-', after, ..] = self.rest().as_bytes()
                && *after != b']'
            {
                self.at += 1;
                hi = self.class_char(whole)?;
                if hi < lo {
                    return Err(("invalid character class range", &self.source[start..self.at]));
                }
            }
            if let Some((lo, hi)) = without_surrogates(lo, hi) {
                let mut range = ClassUnicode::new([ClassUnicodeRange::new(lo, hi)]);
                self.fold_and_negate(&mut range, false);
                class.union(&range);
            }
        }
        self.at += 1;
        if negate {
            class.negate();
        }
        self.push(class_hir(class));
        Ok(())
    }

    /// One end of a range, as a code point, which may be a surrogate.
    fn class_char(&mut self, whole: &'a str) -> Result<u32, Failure<'a>> {
        match self.peek() {
            None => Err(("missing closing ]", whole)),
            // Which surrogate does not matter: none is ever found.
            Some('\\') => Ok(self.escape()?.map_or(0xD800, u32::from)),
            Some(c) => {
                self.at += c.len_utf8();
                Ok(u32::from(c))
            }
        }
    }

    /// `[:alpha:]` or `[:^alpha:]`, if that is what comes next.
    fn posix_class(&mut self) -> Result<Option<ClassUnicode>, Failure<'a>> {
        let text = self.rest();
        let Some(end) = text.strip_prefix("[:").and_then(|name| name.find(":]")) else { return Ok(None) };
        let name = &text[2..2 + end];
        let (name, negate) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let ranges: &[(char, char)] = match name {
            "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
            "alpha" => &[('A', 'Z'), ('a', 'z')],
            "ascii" => &[('\0', '\x7f')],
            "blank" => &[('\t', '\t'), (' ', ' ')],
            "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
            "digit" => DIGIT,
            "graph" => &[('!', '~')],
            "lower" => &[('a', 'z')],
            "print" => &[(' ', '~')],
            "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "space" => &[('\t', '\r'), (' ', ' ')],
            "upper" => &[('A', 'Z')],
            "word" => WORD,
            "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
            _ => return Err(("invalid character class range", &text[..end + 4])),
        };
        self.at += end + 4;
        Ok(Some(self.group(ranges, negate)))
    }
}

const INVALID_ESCAPE: &str = "invalid escape sequence";
const DIGIT: &[(char, char)] = &[('0', '9')];
const PERL_SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// The characters of a range, which may start or end among the surrogates.
fn without_surrogates(lo: u32, hi: u32) -> Option<(char, char)> {
    let lo = char::from_u32(lo).unwrap_or('\u{e000}');
    let hi = char::from_u32(hi).unwrap_or('\u{d7ff}');
    if lo <= hi { Some((lo, hi)) } else { None }
}

fn folded_char(c: char) -> Hir {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
    let _ = class.try_case_fold_simple();
    class_hir(class)
}

/// A class, as bytes where it is ASCII only, which the engine compiles to less.
fn class_hir(class: ClassUnicode) -> Hir {
    if !class.is_ascii() || class.ranges().is_empty() {
        return Hir::class(Class::Unicode(class));
    }
    let bytes = |r: &ClassUnicodeRange| ClassBytesRange::new(r.start() as u8, r.end() as u8);
    Hir::class(Class::Bytes(ClassBytes::new(class.ranges().iter().map(bytes))))
}

/// The characters of a general category or script, by any name that Go takes: `Lu`, `Letter`, `Greek`, `Any`.
fn unicode_table(name: &str) -> Option<ClassUnicode> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'_' | b'-')) {
        return None;
    }
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase();
    // Scripts have a code of four letters besides their name, which Go does not take.
    const NAMES_OF_FOUR: [&str; 8] = ["thai", "cham", "lisu", "modi", "kawi", "toto", "newa", "ahom"];
    let script = plain.len() != 4 || NAMES_OF_FOUR.contains(&plain.as_str());
    let patterns = [
        matches!(plain.as_str(), "any" | "ascii" | "assigned").then(|| format!(r"\p{{{plain}}}")),
        Some(format!(r"\p{{gc={plain}}}")),
        script.then(|| format!(r"\p{{sc={plain}}}")),
    ];
    patterns.into_iter().flatten().find_map(|pattern| match regex_syntax::parse(&pattern).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        HirKind::Class(Class::Bytes(bytes)) => bytes.to_unicode_class(),
        _ => None,
    })
}

/// `{2}`, `{2,}` or `{2,5}`: the bounds, unless they are too large or in the wrong order, and the length. `None` if it is
/// not of this form: then the brace is a brace.
#[expect(clippy::type_complexity, reason = "two nested options with one meaning each")]
fn counts(text: &str) -> Option<(Option<(u32, Option<u32>)>, usize)> {
    let (min, rest) = integer(&text[1..])?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => {
            let (max, rest) = integer(rest)?;
            (Some(max), rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    let valid = min <= COPIES_MAX && max.is_none_or(|max| max <= COPIES_MAX && min <= max);
    Some((valid.then_some((min, max)), text.len() - rest.len()))
}

/// Digits without a leading zero; too many of them are a very large number.
fn integer(text: &str) -> Option<(u32, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(len);
    if digits.is_empty() || (len > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}
