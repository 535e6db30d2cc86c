//! Reads scripts of the PromQL test language.
//!
//! A script is a list of commands; a blank line or a comment ends one. Indentation means nothing, and the first word of a
//! command, in any case, says which it is.

use fk_model::{Duration, Labels};
use fk_promql_syntax::{SeriesDesc, SeriesValue, parse_series_desc};

use crate::starts;

/// Why a script cannot be run.
#[derive(Clone, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptError {
    /// Where, counted from 1; of what a command says as a whole its first line.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    /// The line it begins at, counted from 1.
    pub line: usize,
    /// What to do.
    pub kind: Kind,
}

/// What a command does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Drops all data.
    Clear,
    /// Adds data.
    Load(Load),
    /// Evaluates a query and compares.
    Eval(Box<Eval>),
}

/// Series to add.
#[derive(Clone, Debug)]
pub struct Load {
    /// Distance of the samples; the first is at 0.
    pub step_ms: i64,
    /// Classic histograms are to be converted, too.
    pub with_nhcb: bool,
    /// The series.
    pub series: Vec<LoadedSeries>,
}

/// A series to add.
#[derive(Clone, Debug)]
pub struct LoadedSeries {
    /// Labels.
    pub labels: Labels,
    /// One value for each step.
    pub values: Vec<SeriesValue>,
    /// Start timestamps of the values, ms from the time of each, if the script gives them: as many as values.
    pub starts: Option<Vec<Option<i64>>>,
}

/// An evaluation with what must come out.
#[derive(Clone, Debug, Default)]
pub struct Eval {
    /// The query.
    pub query: String,
    /// First step, ms.
    pub start_ms: i64,
    /// Last step, ms.
    pub end_ms: i64,
    /// Distance of the steps, ms; 0: instant.
    pub step_ms: i64,
    /// Elements of the result.
    pub results: Vec<(Labels, Vec<SeriesValue>)>,
    /// The result is this number.
    pub scalar: Option<f64>,
    /// The result is this text.
    pub string: Option<String>,
    /// Times of the listed values of an instant query that gives a matrix: first, last, distance.
    pub range_vector: Option<(i64, i64, i64)>,
    /// The elements must come in the order of the lines.
    pub ordered: bool,
    /// The query must fail with such an error.
    pub fail: Option<Text>,
    /// `fail` comes from an `expect` line, which there may be one of.
    expects_fail: bool,
    /// Warnings.
    pub warn: Notes,
    /// Hints.
    pub info: Notes,
}

/// What is expected of annotations of a kind.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// There must be none.
    pub none: bool,
    /// Each of these must be matched by one, and each one by one of these.
    pub some: Vec<Text>,
}

/// What is expected of a text.
#[derive(Clone, Debug)]
pub enum Text {
    /// Nothing in particular.
    Any,
    /// This.
    Exactly(String),
    /// The expression finds something in it.
    Matches(fk_model::Regex),
}

impl Text {
    /// Whether the text is as expected.
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

/// Reads a whole script.
pub fn read(script: &str) -> Result<Vec<Command>, ScriptError> {
    let mut commands: Vec<Command> = Vec::new();
    // The command that the next line belongs to, and start timestamps that wait for their series.
    let (mut open, mut starts): (Option<Command>, Option<Starts>) = (None, None);
    for (at, line) in script.lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        let fail = |reason: String| ScriptError { line: number, reason };
        if line.is_empty() || line.starts_with('#') {
            close(&mut open, &starts, &mut commands)?;
            continue;
        }
        match open.as_mut().map(|command| &mut command.kind) {
            Some(Kind::Load(load)) => read_series(line, &mut starts, &mut load.series).map_err(fail)?,
            Some(Kind::Eval(eval)) => read_expectation(eval, line).map_err(fail)?,
            Some(Kind::Clear) => return Err(fail("clear takes nothing".to_owned())),
            None => {
                let kind = read_command(line).map_err(fail)?;
                match kind {
                    Kind::Clear => commands.push(Command { line: number, kind }),
                    kind => open = Some(Command { line: number, kind }),
                }
            }
        }
    }
    close(&mut open, &starts, &mut commands)?;
    Ok(commands)
}

/// Start timestamps of the series that the next line loads.
struct Starts {
    series: String,
    offsets: Vec<Option<i64>>,
}

fn close(open: &mut Option<Command>, starts: &Option<Starts>, to: &mut Vec<Command>) -> Result<(), ScriptError> {
    let Some(command) = open.take() else { return Ok(()) };
    if let Some(starts) = starts {
        let reason = format!("start timestamps of {} without a line of its samples", starts.series);
        return Err(ScriptError { line: command.line, reason });
    }
    to.push(command);
    Ok(())
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
                let SeriesDesc { labels, values } = read_values(line)?;
                eval.results.push((labels, values));
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
    let seconds = digits.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    seconds.map(|v| sign * (v * 1000.0) as i64).ok_or_else(|| format!("bad time {text:?}"))
}

/// A line of a `load`: samples, or start timestamps of the next line's.
fn read_series(line: &str, waiting: &mut Option<Starts>, series: &mut Vec<LoadedSeries>) -> Result<(), String> {
    if let Some((name, rest)) = split_at_starts(line) {
        if let Some(before) = waiting {
            return Err(format!("start timestamps of {} without a line of its samples", before.series));
        }
        *waiting = Some(Starts { series: name.to_owned(), offsets: starts::read(rest)? });
        return Ok(());
    }
    let SeriesDesc { labels, values } = read_values(line)?;
    let starts = match waiting.take() {
        None => None,
        Some(Starts { series, offsets }) => {
            if read_values(&series)?.labels != labels {
                return Err(format!("start timestamps of {series} before a line of {labels}"));
            }
            if offsets.len() != values.len() {
                return Err(format!("{} start timestamps for {} samples of {labels}", offsets.len(), values.len()));
            }
            Some(offsets)
        }
    };
    series.push(LoadedSeries { labels, values, starts });
    Ok(())
}

fn read_values(line: &str) -> Result<SeriesDesc, String> {
    parse_series_desc(line).map_err(|errors| errors.to_string())
}

/// The series and what stands behind its `@st`, if the line has one behind name and braces.
fn split_at_starts(line: &str) -> Option<(&str, &str)> {
    let (mut quote, mut escaped, mut inside) = (None, false, false);
    for (at, c) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' | '`' if inside => quote = Some(c),
                '{' => inside = true,
                '}' => inside = false,
                '@' if !inside => return line[at..].strip_prefix("@st").map(|rest| (&line[..at], rest)),
                c if c.is_whitespace() && !inside => return None,
                _ => {}
            },
        }
    }
    None
}
