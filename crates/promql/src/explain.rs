//! Explain analyze: what each part of a query took and gave. Nothing of it costs anything unless it is asked for.
//!
//! Series pass through all operators one after another, so parts do not run one behind the other. Time is kept by a stop
//! watch that always runs for one part: it is switched when an operator asks a part for its series, when a part hands on a
//! series, and when the operator comes back for the next one. The times of all parts add up to that of the evaluation.
//! Reading and decoding the samples of a range selector is the business of the function around it; the selector itself
//! only finds series.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use fk_promql_syntax::ast::{Expr, ExprKind, VectorSelector};
use fk_promql_syntax::walk;
use hashbrown::HashMap;

use crate::QueryError;
use crate::column::Series;

/// Most parts of a query that can be explained.
const NODES_MAX: usize = 10_000;

/// Longest text of a part, bytes.
const TEXT_BYTES_MAX: usize = 200;

/// One part of a query, with what it took and gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExplainNode {
    /// What kind of expression: `call rate`, `aggregation sum`, `vector selector`.
    pub operator: String,
    /// The expression as it was written, cut where it is long; empty if the text is not known.
    pub text: String,
    /// Time spent in the part itself, those below left out.
    pub own_time: Duration,
    /// How often it was evaluated over a range of steps; 0 where another part stood in for it.
    pub evaluations: u64,
    /// Series taken in: those that the parts below gave, of a selector those that the storage found.
    pub series_in: u64,
    /// Series given.
    pub series_out: u64,
    /// Values given, of all series and steps.
    pub values_out: u64,
    /// Samples that took part in the computation, each counted at every step.
    pub samples: u64,
    /// Samples read for that.
    pub samples_read: u64,
    /// Memory taken for what has to be held, bytes, given back or not.
    pub bytes: u64,
    /// The parts below, in the order in which they are written.
    pub children: Vec<ExplainNode>,
}

impl ExplainNode {
    /// Time spent in the part and all below it.
    pub fn total_time(&self) -> Duration {
        self.children.iter().map(ExplainNode::total_time).sum::<Duration>() + self.own_time
    }
}

/// Counters of a part.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    time: Duration,
    evaluations: u64,
    found: u64,
    series: u64,
    values: u64,
    samples: u64,
    samples_read: u64,
    bytes: u64,
}

/// The number of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part(usize);

/// What is known about the parts of a query while it runs.
#[derive(Debug)]
pub(crate) struct Trace {
    /// By the address of the expression, and of the selector that a range selector wraps.
    numbers: HashMap<usize, Part>,
    counters: RefCell<Vec<Counters>>,
    current: Cell<Part>,
    since: Cell<Instant>,
}

/// Addresses name the parts: the tree does not move while it is evaluated.
fn address<T>(part: &T) -> usize {
    std::ptr::from_ref(part).addr()
}

impl Trace {
    /// With the stop watch running for `root`.
    pub(crate) fn new(root: &Expr) -> Result<Trace, QueryError> {
        let mut numbers = HashMap::new();
        let mut n = 0;
        walk(root, &mut |expr, _| {
            // `or_insert`: a selector may begin where its expression does.
            numbers.entry(address(expr)).or_insert(Part(n));
            match &expr.kind {
                ExprKind::VectorSelector(selector) => numbers.entry(address(selector)).or_insert(Part(n)),
                ExprKind::MatrixSelector(matrix) => numbers.entry(address(&matrix.selector)).or_insert(Part(n)),
                _ => &mut Part(n),
            };
            n += 1;
        });
        if n > NODES_MAX {
            return Err(QueryError::execution(format!("a query of more than {NODES_MAX} parts cannot be explained")));
        }
        Ok(Trace {
            numbers,
            counters: RefCell::new(vec![Counters::default(); n]),
            current: Cell::new(Part(0)),
            since: Cell::new(Instant::now()),
        })
    }

    /// Lets the stop watch run for `part` from now on; the part it ran for.
    pub(crate) fn switch(&self, part: Part) -> Part {
        let now = Instant::now();
        let before = self.current.replace(part);
        let took = now.duration_since(self.since.replace(now));
        self.with(before, |counters| counters.time += took);
        before
    }

    /// Begins an evaluation of `expr`; the part to go back to.
    pub(crate) fn enter(&self, expr: &Expr) -> Part {
        let part = self.numbers.get(&address(expr)).copied().unwrap_or(self.current.get());
        self.with(part, |counters| counters.evaluations += 1);
        self.switch(part)
    }

    /// Begins to find the series of a selector; the part to go back to.
    pub(crate) fn enter_selector(&self, selector: &VectorSelector) -> Part {
        let part = self.numbers.get(&address(selector)).copied().unwrap_or(self.current.get());
        self.switch(part)
    }

    /// The current part has given a series.
    pub(crate) fn gave(&self, series: &Series) {
        let values = series.col.ok.count() as u64;
        self.count(|counters| {
            counters.series += 1;
            counters.values += values;
        });
    }

    /// The current part has given a scalar.
    pub(crate) fn gave_scalar(&self, steps: usize) {
        self.count(|counters| counters.values += steps as u64);
    }

    /// The current part has found series in the storage.
    pub(crate) fn found(&self, series: usize) {
        self.count(|counters| {
            counters.evaluations = counters.evaluations.max(1);
            counters.found += series as u64;
        });
    }

    /// The current part has used and read samples.
    pub(crate) fn sampled(&self, samples: u64, read: u64) {
        self.count(|counters| {
            counters.samples += samples;
            counters.samples_read += read;
        });
    }

    /// The current part has taken memory.
    pub(crate) fn held(&self, bytes: usize) {
        self.count(|counters| counters.bytes += bytes as u64);
    }

    fn count(&self, f: impl FnOnce(&mut Counters)) {
        self.with(self.current.get(), f);
    }

    fn with(&self, part: Part, f: impl FnOnce(&mut Counters)) {
        if let Some(counters) = self.counters.borrow_mut().get_mut(part.0) {
            f(counters);
        }
    }

    /// The tree. Stops the watch.
    pub(crate) fn finish(self, root: &Expr, text: &str) -> ExplainNode {
        self.switch(Part(0));
        let counters = self.counters.into_inner();
        // Children come behind their parents, so parents are complete when taken from behind.
        let mut parts: Vec<(usize, ExplainNode)> = Vec::with_capacity(counters.len());
        walk(root, &mut |expr, path| {
            let of = counters.get(parts.len()).copied().unwrap_or_default();
            parts.push((path.len(), node(expr, &of, text)));
        });
        let mut waiting: Vec<(usize, ExplainNode)> = Vec::new();
        for (depth, mut node) in parts.into_iter().rev() {
            // The children of this one were pushed last, the first of them last of all.
            while waiting.last().is_some_and(|(below, _)| *below == depth + 1) {
                let (_, child) = waiting.pop().unwrap_or_default();
                node.series_in += child.series_out;
                node.children.push(child);
            }
            waiting.push((depth, node));
        }
        waiting.pop().map(|(_, node)| node).unwrap_or_default()
    }
}

fn node(expr: &Expr, counters: &Counters, text: &str) -> ExplainNode {
    let operator = match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) => "number".to_owned(),
        ExprKind::String(_) => "string".to_owned(),
        ExprKind::VectorSelector(_) => "vector selector".to_owned(),
        ExprKind::MatrixSelector(_) => "range selector".to_owned(),
        ExprKind::Subquery(_) => "subquery".to_owned(),
        ExprKind::Call(call) => format!("call {}", call.function.name),
        ExprKind::Aggregate(aggregate) => format!("aggregation {}", aggregate.op.name()),
        ExprKind::Binary(binary) => format!("binary {}", binary.op.name()),
        ExprKind::Unary { negate, .. } => format!("unary {}", if *negate { "-" } else { "+" }),
        ExprKind::Paren(_) => "parentheses".to_owned(),
    };
    let is_selector = matches!(expr.kind, ExprKind::VectorSelector(_) | ExprKind::MatrixSelector(_));
    ExplainNode {
        operator,
        text: cut(text.get(expr.pos.start..expr.pos.end).unwrap_or("")),
        own_time: counters.time,
        evaluations: counters.evaluations,
        series_in: counters.found,
        // What a range selector gives goes straight into the function around it.
        series_out: if is_selector { counters.series.max(counters.found) } else { counters.series },
        values_out: counters.values,
        samples: counters.samples,
        samples_read: counters.samples_read,
        bytes: counters.bytes,
        children: Vec::new(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > TEXT_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use fk_model::Labels;
    use fk_promql_syntax::{ParserOptions, parse};
    use fk_storage::Control;
    use fk_testkit::MemoryStorage;

    use super::*;
    use crate::{Query, QueryOptions, evaluate};

    fn explain(text: &str, options: &QueryOptions) -> Option<ExplainNode> {
        let storage = MemoryStorage::new();
        for (name, n) in [("a_total", 3), ("b_total", 2)] {
            for at in 0..n {
                let labels = Labels::from_pairs([("__name__", name.to_owned()), ("at", at.to_string())]);
                storage.add(&labels, &(0..20).map(|i| (i * 15_000, (at + 1) as f64 * i as f64)).collect::<Vec<_>>());
            }
        }
        let expr = parse(text, &ParserOptions::all()).expect(text);
        let control = Control::new();
        let (start_ms, end_ms, step_ms) = (60_000, 240_000, 60_000);
        let query = Query { expr: &expr, text, start_ms, end_ms, step_ms, options, control: &control };
        evaluate(&storage, &query).expect(text).explain
    }

    #[test]
    fn each_part_says_what_it_took_and_gave() {
        let options = QueryOptions { explain: true, ..QueryOptions::default() };
        let root = explain("sum(rate(a_total[1m])) / (b_total + 2)", &options).expect("asked for");
        let mut shown = Vec::new();
        let mut open = vec![&root];
        while let Some(node) = open.pop() {
            let numbers = (node.series_in, node.series_out, node.values_out, node.samples);
            shown.push((node.operator.as_str(), node.text.as_str(), node.evaluations, numbers));
            open.extend(node.children.iter().rev());
        }
        assert_eq!(
            shown,
            [
                ("binary /", "sum(rate(a_total[1m])) / (b_total + 2)", 1, (3, 0, 0, 0)),
                ("aggregation sum", "sum(rate(a_total[1m]))", 1, (3, 1, 4, 0)),
                ("call rate", "rate(a_total[1m])", 1, (3, 3, 12, 48)),
                ("range selector", "a_total[1m]", 1, (3, 3, 0, 0)),
                ("parentheses", "(b_total + 2)", 1, (2, 2, 8, 0)),
                ("binary +", "b_total + 2", 1, (2, 2, 8, 0)),
                ("vector selector", "b_total", 1, (2, 2, 8, 8)),
                ("number", "2", 1, (0, 0, 4, 0)),
            ]
        );
        assert!(root.bytes > 0, "both sides of the operator are held");
        assert!(root.total_time() > root.own_time && root.own_time > Duration::ZERO);
    }

    #[test]
    fn nothing_is_explained_unless_asked_for() {
        assert_eq!(explain("sum(a_total)", &QueryOptions::default()), None);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut(&"é".repeat(150)), format!("{}…", "é".repeat(100)));
        assert_eq!(cut("a"), "a");
    }
}
