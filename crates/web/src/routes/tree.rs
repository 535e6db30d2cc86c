//! Syntax trees as JSON (`/api/v1/parse_query`), in the shape that Prometheus' user interface reads.

use fk_model::Matcher;
use fk_promql_syntax::ValueType;
use fk_promql_syntax::ast::{
    At, Cardinality, DurationExpr, DurationNode, Expr, ExprKind, Grouping, Matching, RangeMode, VectorSelector,
};
use serde_json::{Value, json};

use crate::json::plain_float;

/// The tree below `expr`. The parser bounds its depth.
pub(crate) fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(v) | ExprKind::Duration(v) => json!({"type": "numberLiteral", "val": plain_float(*v)}),
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::VectorSelector(selector) => vector_selector(selector),
        ExprKind::MatrixSelector(matrix) => {
            let mut node = vector_selector(&matrix.selector);
            node["type"] = "matrixSelector".into();
            node["range"] = constant_ms(&matrix.range).into();
            node["rangeExpr"] = duration(&matrix.range);
            node
        }
        ExprKind::Subquery(subquery) => {
            let (timestamp, start_or_end) = at(subquery.at);
            json!({
                "type": "subquery",
                "expr": tree(&subquery.expr),
                "range": constant_ms(&subquery.range),
                "rangeExpr": duration(&subquery.range),
                "offset": constant_ms(&subquery.offset),
                "offsetExpr": duration(&subquery.offset),
                "step": subquery.step.as_ref().map_or(0, constant_ms),
                "stepExpr": subquery.step.as_ref().map_or(Value::Null, duration),
                "timestamp": timestamp,
                "startOrEnd": start_or_end,
            })
        }
        ExprKind::Call(call) => json!({
            "type": "call",
            "func": {
                "name": call.function.name,
                "argTypes": call.function.args.iter().copied().map(type_name).collect::<Vec<_>>(),
                "variadic": call.function.variadic,
                "returnType": type_name(call.function.returns),
            },
            "args": call.args.iter().map(tree).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate(aggregate) => {
            let (without, grouping) = match &aggregate.grouping {
                Grouping::By(labels) => (false, labels),
                Grouping::Without(labels) => (true, labels),
            };
            json!({
                "type": "aggregation",
                "op": aggregate.op.name(),
                "expr": tree(&aggregate.expr),
                "param": aggregate.param.as_ref().map(tree),
                "grouping": grouping,
                "without": without,
            })
        }
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.name(),
            "lhs": tree(&binary.lhs),
            "rhs": tree(&binary.rhs),
            "matching": binary.matching.as_ref().map(matching),
            "bool": binary.return_bool,
        }),
        ExprKind::Unary { negate, expr } => {
            json!({"type": "unaryExpr", "op": if *negate { "-" } else { "+" }, "expr": tree(expr)})
        }
        ExprKind::Paren(expr) => json!({"type": "parenExpr", "expr": tree(expr)}),
    }
}

fn vector_selector(selector: &VectorSelector) -> Value {
    let (timestamp, start_or_end) = at(selector.at);
    json!({
        "type": "vectorSelector",
        "name": selector.name.as_deref().unwrap_or(""),
        "offset": constant_ms(&selector.offset),
        "offsetExpr": duration(&selector.offset),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
        "anchored": selector.mode == RangeMode::Anchored,
        "smoothed": selector.mode == RangeMode::Smoothed,
    })
}

fn matcher(matcher: &Matcher) -> Value {
    json!({"name": matcher.name, "value": matcher.value, "type": matcher.kind.to_string()})
}

fn matching(matching: &Matching) -> Value {
    let card = match matching.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    })
}

/// The two fields of `@`.
fn at(at: Option<At>) -> (Option<i64>, Option<&'static str>) {
    match at {
        None => (None, None),
        Some(At::Time(t_ms)) => (Some(t_ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}

/// Expressions over the step or range have no value yet: 0.
fn constant_ms(duration: &DurationExpr) -> i64 {
    match duration {
        DurationExpr::Const(ms) => *ms,
        DurationExpr::Expr(_) => 0,
    }
}

/// A duration that is an expression; `null` for constants.
fn duration(duration: &DurationExpr) -> Value {
    match duration {
        DurationExpr::Const(_) => Value::Null,
        DurationExpr::Expr(node) => duration_node(node, false),
    }
}

/// The tree below `node`; `wrapped`: it stands in parentheses, which Prometheus notes at operators only.
fn duration_node(node: &DurationNode, wrapped: bool) -> Value {
    let operator = |op: &str, lhs: Option<&DurationNode>, rhs: Option<&DurationNode>| {
        let side = |node: Option<&DurationNode>| node.map_or(Value::Null, |node| duration_node(node, false));
        json!({"type": "durationExpr", "op": op, "lhs": side(lhs), "rhs": side(rhs), "wrapped": wrapped})
    };
    let number = |v: f64, duration: bool| json!({"type": "numberLiteral", "val": plain_float(v), "duration": duration});
    match node {
        DurationNode::Number(v) => number(*v, false),
        DurationNode::Duration(v) => number(*v, true),
        DurationNode::Step => operator("step", None, None),
        DurationNode::Range => operator("range", None, None),
        DurationNode::Negate(inner) => operator("-", None, Some(inner)),
        DurationNode::Binary(op, lhs, rhs) => operator(op.name(), Some(lhs), Some(rhs)),
        DurationNode::Min(lhs, rhs) => operator("min_of", Some(lhs), Some(rhs)),
        DurationNode::Max(lhs, rhs) => operator("max_of", Some(lhs), Some(rhs)),
        DurationNode::Paren(inner) => duration_node(inner, true),
    }
}

fn type_name(ty: ValueType) -> &'static str {
    match ty {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

#[cfg(test)]
mod tests {
    use fk_promql_syntax::ParserOptions;

    use super::*;

    fn check(query: &str, expected: Value) {
        let expr = fk_promql_syntax::parse(query, &ParserOptions::all()).unwrap();
        assert_eq!(tree(&expr), expected, "{query}");
    }

    fn selector(name: &str) -> Value {
        json!({
            "type": "vectorSelector", "name": name, "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": null,
            "matchers": [{"name": "__name__", "type": "=", "value": name}], "anchored": false, "smoothed": false,
        })
    }

    #[test]
    fn every_kind_of_node_has_its_fields() {
        check(
            "-(1.5)",
            json!({"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr", "expr": {"type": "numberLiteral", "val": "1.5"}}}),
        );
        check("\"a\"", json!({"type": "stringLiteral", "val": "a"}));
        for (text, val) in [("1e22", "10000000000000000000000"), ("1e-7", "0.0000001"), ("Inf", "+Inf"), ("NaN", "NaN")]
        {
            check(text, json!({"type": "numberLiteral", "val": val}));
        }
        let mut matrix = selector("x");
        matrix["type"] = "matrixSelector".into();
        matrix["range"] = 300_000.into();
        matrix["rangeExpr"] = Value::Null;
        matrix["offset"] = 60_000.into();
        matrix["startOrEnd"] = "end".into();
        check(
            "rate(x[5m] @ end() offset 1m)",
            json!({
                "type": "call", "args": [matrix],
                "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"},
            }),
        );
        check(
            "topk without (a) (3, x)",
            json!({
                "type": "aggregation", "op": "topk", "expr": selector("x"), "grouping": ["a"], "without": true,
                "param": {"type": "numberLiteral", "val": "3"},
            }),
        );
        check(
            "x == bool on (a) group_left (b) y",
            json!({
                "type": "binaryExpr", "op": "==", "lhs": selector("x"), "rhs": selector("y"), "bool": true,
                "matching": {
                    "card": "many-to-one", "labels": ["a"], "on": true, "include": ["b"],
                    "fillValues": {"lhs": null, "rhs": null},
                },
            }),
        );
        check(
            "x[1h:5m] @ 10",
            json!({
                "type": "subquery", "expr": selector("x"), "range": 3_600_000, "step": 300_000, "offset": 0,
                "rangeExpr": null, "stepExpr": null, "offsetExpr": null, "timestamp": 10_000, "startOrEnd": null,
            }),
        );
    }
}
