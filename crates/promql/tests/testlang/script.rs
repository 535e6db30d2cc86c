//! Reads scripts of the PromQL test language.

use fk_model::{Duration, Labels, MatchKind, stale_nan};
use fk_promql_syntax::{ExprKind, ParserOptions, parse};

/// A command with the line it begins at, counted from 1.
#[derive(Clone, Debug)]
pub struct Command {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// Series to add.
#[derive(Clone, Debug)]
pub struct Load {
    pub step_ms: i64,
    /// Classic histograms are to be converted, too.
    pub with_nhcb: bool,
    pub series: Vec<LoadedSeries>,
}

#[derive(Clone, Debug)]
pub struct LoadedSeries {
    pub labels: Labels,
    pub values: Values,
    /// The line gives start timestamps to the next one.
    pub start_times: bool,
}

/// The values of a line.
#[derive(Clone, Debug)]
pub enum Values {
    Floats(Vec<Option<f64>>),
    /// There are native histograms among them.
    Histograms,
}

/// An evaluation with what must come out.
#[derive(Clone, Debug, Default)]
pub struct Eval {
    pub query: String,
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0: instant.
    pub step_ms: i64,
    pub results: Vec<(Labels, Values)>,
    pub scalar: Option<f64>,
    pub string: Option<String>,
    /// Times of the listed values of an instant query that gives a matrix.
    pub range_vector: Option<(i64, i64, i64)>,
    pub ordered: bool,
    pub fail: Option<Text>,
    /// `fail` comes from an `expect` line, which there may be one of.
    pub expects_fail: bool,
    pub warn: Notes,
    pub info: Notes,
}

/// What is expected of annotations of a kind.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    pub none: bool,
    pub some: Vec<Text>,
}

/// What is expected of a text.
#[derive(Clone, Debug)]
pub enum Text {
    Any,
    Exactly(String),
    Matches(fk_model::Regex),
}

impl Text {
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(want) => want == text,
            Text::Matches(regex) => regex.is_match(text),
        }
    }

    /// An expression that may match anywhere in the text.
    fn matching(regex: &str) -> Result<Text, String> {
        fk_model::Regex::new(&format!("(?s:.*)(?:{regex})(?s:.*)")).map(Text::Matches).map_err(|e| e.to_string())
    }

    fn read(text: &str) -> Result<Text, String> {
        let text = text.trim();
        if let Some(text) = text.strip_prefix("msg:") {
            Ok(Text::Exactly(text.trim().to_owned()))
        } else if let Some(regex) = text.strip_prefix("regex:") {
            Text::matching(regex.trim())
        } else if text.is_empty() {
            Ok(Text::Any)
        } else {
            Err(format!("unexpected {text:?}"))
        }
    }
}

/// Reads a whole script; errors begin with the line.
pub fn read(script: &str) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    let mut open = false;
    for (at, line) in script.lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            open = false;
            continue;
        }
        let fail = |error: String| format!("line {number}: {error}");
        if open {
            let command = commands.last_mut().expect("open means there is one");
            match &mut command.kind {
                Kind::Load(load) => load.series.push(read_series(line).map_err(fail)?),
                Kind::Eval(eval) => read_expectation(eval, line).map_err(fail)?,
                Kind::Clear => return Err(fail("clear takes nothing".to_owned())),
            }
            continue;
        }
        let kind = read_command(line).map_err(fail)?;
        open = !matches!(kind, Kind::Clear);
        commands.push(Command { line: number, kind });
    }
    Ok(commands)
}

fn read_command(line: &str) -> Result<Kind, String> {
    let (word, rest) = split_word(line);
    match word.to_lowercase().as_str() {
        "clear" => Ok(Kind::Clear),
        name @ ("load" | "load_with_nhcb") => {
            Ok(Kind::Load(Load { step_ms: read_time(rest)?, with_nhcb: name != "load", series: Vec::new() }))
        }
        name if name.starts_with("eval") => read_eval(name, rest).map(|eval| Kind::Eval(Box::new(eval))),
        other => Err(format!("unknown command {other:?}")),
    }
}

fn read_eval(name: &str, rest: &str) -> Result<Eval, String> {
    let mut eval = Eval::default();
    match name {
        "eval" => {}
        "eval_fail" => eval.fail = Some(Text::Any),
        "eval_warn" => eval.warn.some.push(Text::Any),
        "eval_info" => eval.info.some.push(Text::Any),
        "eval_ordered" => eval.ordered = true,
        other => return Err(format!("unknown command {other:?}")),
    }
    let (kind, mut rest) = split_word(rest);
    let mut time = |word: &str| -> Result<i64, String> {
        let (found, after) = split_word(rest);
        if found != word {
            return Err(format!("expected {word:?}, got {found:?}"));
        }
        let (text, after) = split_word(after);
        rest = after;
        read_time(text)
    };
    match kind {
        "instant" => {
            eval.start_ms = time("at")?;
            eval.end_ms = eval.start_ms;
        }
        "range" => (eval.start_ms, eval.end_ms, eval.step_ms) = (time("from")?, time("to")?, time("step")?),
        other => return Err(format!("expected instant or range, got {other:?}")),
    }
    if eval.end_ms < eval.start_ms {
        return Err("the range ends before it starts".to_owned());
    }
    eval.query = rest.to_owned();
    Ok(eval)
}

fn read_expectation(eval: &mut Eval, line: &str) -> Result<(), String> {
    let (word, rest) = split_word(line);
    match word {
        "expect" => {
            let (what, rest) = split_word(rest);
            match what {
                "ordered" => eval.ordered = true,
                "fail" if eval.expects_fail => return Err("expect fail twice".to_owned()),
                "fail" => {
                    eval.fail = Some(Text::read(rest)?);
                    eval.expects_fail = true;
                }
                "warn" => eval.warn.some.push(Text::read(rest)?),
                "info" => eval.info.some.push(Text::read(rest)?),
                "no_warn" => eval.warn.none = true,
                "no_info" => eval.info.none = true,
                "string" => {
                    let unquoted =
                        fk_promql_syntax::literal::unquote(rest).map_err(|_| format!("bad string {rest}"))?;
                    eval.string = Some(String::from_utf8(unquoted).map_err(|e| e.to_string())?);
                }
                "range" => {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    let ["vector", "from", from, "to", to, "step", step] = words[..] else {
                        return Err(format!("bad range vector expectation {rest:?}"));
                    };
                    eval.range_vector = Some((read_time(from)?, read_time(to)?, read_time(step)?));
                }
                // The kind and its text may stand together: `fail msg:…`, `fail regex:…`.
                other => return Err(format!("unknown expectation {other:?}")),
            }
            for notes in [&eval.warn, &eval.info] {
                if notes.none && !notes.some.is_empty() {
                    return Err(format!("{line:?} contradicts another line"));
                }
            }
        }
        "expected_fail_message" => eval.fail = Some(Text::Exactly(rest.to_owned())),
        "expected_fail_regexp" => eval.fail = Some(Text::matching(rest)?),
        _ => match line.parse::<f64>() {
            Ok(v) => eval.scalar = Some(v),
            Err(_) => {
                let series = read_series(line)?;
                eval.results.push((series.labels, series.values));
            }
        },
    }
    Ok(())
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A duration from the epoch, or seconds.
fn read_time(text: &str) -> Result<i64, String> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    if let Ok(duration) = Duration::parse(digits) {
        return Ok(sign * duration.as_millis());
    }
    digits.parse::<f64>().map(|v| sign * (v * 1000.0) as i64).map_err(|_| format!("bad time {text:?}"))
}

fn read_series(line: &str) -> Result<LoadedSeries, String> {
    let end = end_of_labels(line)?;
    let (name, rest) = line.split_at(end);
    let start_times = rest.starts_with("@st");
    let rest = rest.strip_prefix("@st").unwrap_or(rest);
    let labels = read_labels(name)?;
    let values =
        if rest.contains("{{") || start_times { Values::Histograms } else { Values::Floats(read_values(rest)?) };
    Ok(LoadedSeries { labels, values, start_times })
}

/// Where the name and the braces end.
fn end_of_labels(line: &str) -> Result<usize, String> {
    let (mut quote, mut escaped, mut inside) = (None, false, false);
    for (at, c) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' | '`' if inside => quote = Some(c),
                '{' => inside = true,
                '}' => return Ok(at + 1),
                '@' if !inside => return Ok(at),
                c if c.is_whitespace() && !inside => return Ok(at),
                _ => {}
            },
        }
    }
    if inside { Err(format!("no end of labels in {line:?}")) } else { Ok(line.len()) }
}

fn read_labels(text: &str) -> Result<Labels, String> {
    if text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).is_some_and(|inside| inside.trim().is_empty()) {
        return Ok(Labels::empty());
    }
    let expr = parse(text, &ParserOptions::all()).map_err(|e| e.to_string())?;
    let ExprKind::VectorSelector(selector) = expr.kind else { return Err(format!("no series: {text:?}")) };
    if selector.matchers.iter().any(|m| m.kind != MatchKind::Equal) {
        return Err(format!("no labels: {text:?}"));
    }
    Ok(Labels::from_pairs(selector.matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))))
}

/// `1 2x3 _ 1+2x3 stale`
pub fn read_values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for token in text.split_whitespace() {
        read_value(token, &mut values).ok_or_else(|| format!("bad value {token:?}"))?;
    }
    Ok(values)
}

fn read_value(token: &str, values: &mut Vec<Option<f64>>) -> Option<()> {
    let (body, times) = match token.rfind('x') {
        Some(at) => (&token[..at], Some(token[at + 1..].parse::<usize>().ok()?)),
        None => (token, None),
    };
    if body == "_" {
        (times != Some(0)).then(|| values.extend(std::iter::repeat_n(None, times.unwrap_or(1))))
    } else if let Some(v) = read_number(body) {
        values.extend(std::iter::repeat_n(Some(v), times.unwrap_or(0) + 1));
        Some(())
    } else {
        let sign = |(at, c): &(usize, char)| *at > 0 && (*c == '+' || *c == '-') && !body[..*at].ends_with(['e', 'E']);
        let (at, _) = body.char_indices().find(sign)?;
        let (first, step) = (read_number(&body[..at])?, read_number(&body[at..])?);
        let mut v = first;
        for _ in 0..=times? {
            values.push(Some(v));
            v += step;
        }
        Some(())
    }
}

fn read_number(text: &str) -> Option<f64> {
    if text == "stale" { Some(stale_nan()) } else { text.parse().ok() }
}
