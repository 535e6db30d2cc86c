//! Walking the tree.

use fk_model::Matcher;

use crate::ast::{Expr, ExprKind, ValueType, VectorSelector};

impl Expr {
    /// The expressions directly below, in the order in which they are written. The selector of a range is not one.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Subquery(subquery) => vec![&subquery.expr],
            ExprKind::Call(call) => call.args.iter().collect(),
            ExprKind::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.expr]).collect(),
            ExprKind::Binary(binary) => vec![&binary.lhs, &binary.rhs],
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => vec![expr],
            _ => Vec::new(),
        }
    }

    /// The same for changing them.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            ExprKind::Subquery(subquery) => vec![&mut subquery.expr],
            ExprKind::Call(call) => call.args.iter_mut().collect(),
            ExprKind::Aggregate(aggregate) => aggregate.param.iter_mut().chain([&mut aggregate.expr]).collect(),
            ExprKind::Binary(binary) => vec![&mut binary.lhs, &mut binary.rhs],
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => vec![expr],
            _ => Vec::new(),
        }
    }

    /// The expression inside all parentheses around it.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}

/// Calls `visit` for every expression of the tree, an expression before its parts and those from left to right, with the
/// expressions around it from the outside in.
pub fn walk<'t>(expr: &'t Expr, visit: &mut impl FnMut(&'t Expr, &[&'t Expr])) {
    fn step<'t>(expr: &'t Expr, path: &mut Vec<&'t Expr>, visit: &mut impl FnMut(&'t Expr, &[&'t Expr])) {
        visit(expr, path);
        path.push(expr);
        for child in expr.children() {
            step(child, path, visit);
        }
        path.pop();
    }
    step(expr, &mut Vec::new(), visit);
}

/// Calls `visit` for every expression of the tree, an expression before its parts.
pub fn walk_mut(expr: &mut Expr, visit: &mut impl FnMut(&mut Expr)) {
    visit(expr);
    for child in expr.children_mut() {
        walk_mut(child, visit);
    }
}

/// Every selector of the tree, those of ranges included, from left to right.
fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    walk(expr, &mut |expr, _| match &expr.kind {
        ExprKind::VectorSelector(selector) => found.push(selector),
        ExprKind::MatrixSelector(matrix) => found.push(&matrix.selector),
        _ => {}
    });
    found
}

/// The matchers of every selector of the tree, from left to right.
pub fn extract_selectors(expr: &Expr) -> Vec<&[Matcher]> {
    selectors(expr).into_iter().map(|selector| &selector.matchers[..]).collect()
}

/// The type of the expression's result.
pub fn value_type(expr: &Expr) -> ValueType {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) => ValueType::Scalar,
        ExprKind::String(_) => ValueType::String,
        ExprKind::VectorSelector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
        ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => ValueType::Matrix,
        ExprKind::Call(call) => call.function.returns,
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => value_type(expr),
        // A constant may lie deep; a vector anywhere decides.
        ExprKind::Binary(binary) => {
            if value_type(&binary.rhs) == ValueType::Scalar && value_type(&binary.lhs) == ValueType::Scalar {
                ValueType::Scalar
            } else {
                ValueType::Vector
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParserOptions, parse};

    #[test]
    fn selectors_come_from_left_to_right() {
        let expr = parse("rate(a{x=\"1\"}[5m]) / on () topk(scalar(b), c[5m:])", &ParserOptions::all()).unwrap_err();
        assert_eq!(expr.message(), "expected type instant vector in aggregation expression, got range vector");
        let expr = parse("rate(a{x=\"1\"}[5m]) / on () topk(scalar(b), c)", &ParserOptions::all()).unwrap();
        let names: Vec<_> = selectors(&expr).iter().map(|s| s.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(extract_selectors(&expr)[0].len(), 2);
        assert_eq!(value_type(&expr), ValueType::Vector);
    }

    #[test]
    fn the_path_leads_to_the_expression() {
        let expr = parse("sum(rate(a[5m]))", &ParserOptions::default()).unwrap();
        let mut depths = Vec::new();
        walk(&expr, &mut |_, path| depths.push(path.len()));
        assert_eq!(depths, [0, 1, 2]);
    }

    #[test]
    fn types() {
        for (text, ty) in [
            ("1 + 2", ValueType::Scalar),
            ("1 + a", ValueType::Vector),
            ("(a[5m])", ValueType::Matrix),
            ("-1", ValueType::Scalar),
            ("\"x\"", ValueType::String),
            ("time()", ValueType::Scalar),
            ("a[5m:]", ValueType::Matrix),
        ] {
            assert_eq!(value_type(&parse(text, &ParserOptions::default()).unwrap()), ty, "{text}");
        }
    }
}
