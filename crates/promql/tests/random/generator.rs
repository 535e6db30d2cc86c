//! Makes data and queries out of bytes: each byte is a choice. Queries have the right types almost everywhere, so that they
//! get past the parser and into the evaluation. Shared by the test and the fuzz target.

use fk_model::{Labels, stale_nan};
use fk_promql::{Query, QueryOptions, evaluate};
use fk_promql_syntax::functions::FUNCTIONS;
use fk_promql_syntax::{ParserOptions, ValueType, parse};
use fk_storage::{Control, MemoryBudget};
use fk_testkit::MemoryStorage;

/// Deepest query.
const DEPTH_MAX: u32 = 5;

const METRICS: &[&str] = &["a_total", "b", "c_bucket", "target_info"];
const MATCHERS: &[&str] = &[
    "",
    "{x=\"1\"}",
    "{y=~\"1|2\"}",
    "{x!=\"1\"}",
    "{z=\"\"}",
    "{le=~\".+\"}",
    "{instance=\"i1\"}",
    "{x=~\"[12].*\"}",
];
const MODIFIERS: &[&str] =
    &["", "", "", " offset 20s", " offset -45s", " @ 100", " @ start()", " @ end() offset 1m", " @ -7"];
const RANGES: &[&str] = &["1m", "30s", "5m", "1ms", "90s", "1h", "step()", "(1m + 15s)"];
const NUMBERS: &[&str] =
    &["0", "1", "-1", "0.5", "NaN", "Inf", "-Inf", "1e300", "2", "3", "-0.5", "0x1f", "1e18", "-1e19", "time()", "60"];
const STRINGS: &[&str] =
    &["\"x\"", "\"y\"", "\"(.*)\"", "\"$1\"", "\"le\"", "\"__name__\"", "\"new\"", "\"\"", "\"a b\"", "\"1|2\""];
const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless", "> bool", "== bool",
];
const MATCHING: &[&str] = &[
    "",
    "",
    " on (x)",
    " ignoring (y)",
    " on ()",
    " on (x, y)",
    " on (x) group_left",
    " ignoring (z) group_right (y)",
    " on (x) group_left (z)",
    " on (x, y) fill (0)",
    " fill_left (1)",
    " fill_right (NaN)",
];
const AGGREGATIONS: &[&str] = &[
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "limitk",
    "limit_ratio",
    "quantile",
    "count_values",
];
const GROUPINGS: &[&str] = &["", " by (x)", " without (y)", " by ()", " by (x, y, le)", " without (x, __name__)"];

/// Bytes to choose by; zero when they are used up, which leads to short queries.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn of<'t>(&mut self, table: &[&'t str]) -> &'t str {
        table[self.byte() % table.len()]
    }

    /// A query of this type.
    pub fn query(&mut self, ty: ValueType, depth: u32) -> String {
        match ty {
            ValueType::String => self.of(STRINGS).to_owned(),
            ValueType::Scalar => match self.byte() % 4 {
                0 if depth < DEPTH_MAX => format!("scalar({})", self.query(ValueType::Vector, depth + 1)),
                1 if depth < DEPTH_MAX => {
                    let (left, right) = (self.query(ty, depth + 1), self.query(ty, depth + 1));
                    format!("({left} {} {right})", self.of(&["+", "-", "*", "/", "%", "^", "> bool", "atan2"]))
                }
                _ => self.of(NUMBERS).to_owned(),
            },
            ValueType::Matrix => match self.byte() % 3 {
                0 if depth < DEPTH_MAX => {
                    let inner = self.query(ValueType::Vector, depth + 1);
                    let step = self.of(&["", "10s", "17s", "1m"]);
                    format!("({inner})[{}:{step}]{}", self.of(&["2m", "90s", "1s"]), self.of(MODIFIERS))
                }
                1 => {
                    let mode = self.of(&[" anchored", " smoothed"]);
                    format!(
                        "{}{}[{}]{mode}{}",
                        self.of(METRICS),
                        self.of(MATCHERS),
                        self.of(RANGES),
                        self.of(MODIFIERS)
                    )
                }
                _ => format!("{}{}[{}]{}", self.of(METRICS), self.of(MATCHERS), self.of(RANGES), self.of(MODIFIERS)),
            },
            ValueType::Vector if depth >= DEPTH_MAX => self.selector(),
            ValueType::Vector => match self.byte() % 8 {
                0 => self.selector(),
                1..4 => self.call(depth),
                4 | 5 => self.aggregation(depth),
                6 => {
                    let left = self.query(ValueType::Vector, depth + 1);
                    let ty = if self.byte().is_multiple_of(3) { ValueType::Scalar } else { ValueType::Vector };
                    let right = self.query(ty, depth + 1);
                    let matching = if ty == ValueType::Vector { self.of(MATCHING) } else { "" };
                    format!("(({left}) {}{matching} ({right}))", self.of(OPERATORS))
                }
                _ => format!("-({})", self.query(ValueType::Vector, depth + 1)),
            },
        }
    }

    fn selector(&mut self) -> String {
        format!("{}{}{}", self.of(METRICS), self.of(MATCHERS), self.of(MODIFIERS))
    }

    fn call(&mut self, depth: u32) -> String {
        let function = &FUNCTIONS[self.byte() % FUNCTIONS.len()];
        let args: Vec<String> = function.args.iter().map(|ty| self.query(*ty, depth + 1)).collect();
        let call = format!("{}({})", function.name, args.join(", "));
        if function.returns == ValueType::Scalar { format!("vector({call})") } else { call }
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let (name, grouping) = (self.of(AGGREGATIONS), self.of(GROUPINGS));
        let inner = self.query(ValueType::Vector, depth + 1);
        match name {
            "topk" | "bottomk" | "limitk" | "limit_ratio" | "quantile" => {
                format!("{name}{grouping} ({}, {inner})", self.query(ValueType::Scalar, depth + 1))
            }
            "count_values" => format!("{name}{grouping} ({}, {inner})", self.of(STRINGS)),
            _ => format!("{name}{grouping} ({inner})"),
        }
    }

    /// A few series with gaps, staleness markers and odd values.
    pub fn data(&mut self) -> MemoryStorage {
        let storage = MemoryStorage::new();
        for _ in 0..1 + self.byte() % 12 {
            let mut pairs = vec![("__name__", self.of(METRICS)), ("x", self.of(&["1", "2", "2b"]))];
            pairs.push(("y", self.of(&["1", "2", ""])));
            pairs.push(("le", self.of(&["", "", "0.1", "1", "+Inf", "x"])));
            pairs.push(("instance", self.of(&["", "i1", "i2"])));
            pairs.push(("job", self.of(&["", "j"])));
            let labels = Labels::from_pairs(pairs.into_iter().filter(|(_, value)| !value.is_empty()));
            if storage.dump().contains_key(&labels) {
                continue;
            }
            let (mut t, mut v, mut samples) = (0, 0.0, Vec::new());
            for _ in 0..self.byte() % 40 {
                let choice = self.byte();
                t += [15_000, 15_000, 14_999, 1, 61_000, 400_000][choice % 6];
                v = match choice / 6 % 12 {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => stale_nan(),
                    3 => 0.0,
                    4 => -v,
                    5 => 1e300,
                    n => {
                        if v.is_finite() {
                            v + n as f64
                        } else {
                            n as f64
                        }
                    }
                };
                samples.push((t, v));
            }
            storage.add(&labels, &samples);
        }
        storage
    }
}

/// Evaluates what the bytes say, as an instant and as a range query, under tight limits. Whether it was a valid query.
pub fn evaluate_anything(bytes: &[u8]) -> bool {
    let mut choices = Choices(bytes);
    let storage = choices.data();
    let text = choices.query(ValueType::Vector, 0);
    let Ok(expr) = parse(&text, &ParserOptions::all()) else { return false };
    let options = QueryOptions {
        max_samples: 200_000,
        delayed_name_removal: choices.byte() % 2 == 1,
        per_step_stats: choices.byte() % 2 == 1,
        explain: choices.byte() % 2 == 1,
        ..QueryOptions::default()
    };
    let budget = MemoryBudget::new(64 << 20, 64 << 20);
    for (start_ms, end_ms, step_ms) in [(300_000, 300_000, 0), (0, 600_000, 30_000), (i64::MIN, i64::MIN + 5, 5)] {
        let control = Control::within(&budget);
        let query = Query { expr: &expr, text: &text, start_ms, end_ms, step_ms, options: &options, control: &control };
        // Any answer and any error will do, but not a panic, and nothing that stays behind.
        drop(evaluate(&storage, &query));
        assert_eq!(budget.used(), 0, "{text}");
    }
    true
}
