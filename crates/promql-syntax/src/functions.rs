//! The catalogue of functions: names and signatures. What they compute is the evaluator's business.

use crate::ast::ValueType;

/// A function's signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Name as written.
    pub name: &'static str,
    /// Types of the arguments, in order; if `variadic` is not 0 the last one stands for the optional ones.
    pub args: &'static [ValueType],
    /// 0: exactly `args`; n > 0: the last `args` entry may be left out or occur up to n times; -1: any number of times.
    pub variadic: i32,
    /// Result.
    pub returns: ValueType,
    /// Only with `promql-experimental-functions`.
    pub experimental: bool,
}

/// All functions, sorted by name.
pub static FUNCTIONS: &[Function] = &[];

/// The function called `name`.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}
