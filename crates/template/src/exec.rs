//! Running a template. Every run is bounded: in steps, in depth, in the size of values and of the output.
//!
//! Facts: `text/template/exec.go` in Go.

use std::fmt;
use std::sync::Arc;

use crate::functions::{Function, Type, find, find_method};
use crate::parse::Parsed;
use crate::tree::{Action, Arg, ArgKind, Branch, Call, Command, Node, Number, Pipe};
use crate::value::{Named, Value};
use crate::{Functions, OUTPUT_BYTES_MAX};

/// Nodes and commands that one expansion may run through. A template of an alert takes tens; this ends nested ranges.
const STEPS_MAX: usize = 1_000_000;

/// Bytes of texts and lists that the functions of one expansion may make all in all.
const PRODUCED_BYTES_MAX: usize = 16 << 20;

/// How deep templates may call each other.
const DEPTH_MAX: usize = 100;

/// What a value or an output beyond the bound is answered with.
pub(crate) const TOO_LARGE: &str = "text of a template is too large";

/// Why an expansion failed.
#[derive(Debug)]
pub(crate) struct ExecError {
    /// Where in the text, bytes.
    pub(crate) pos: usize,
    /// The template that was run, by its own name.
    pub(crate) executing: String,
    /// The node, as it is written.
    pub(crate) context: String,
    pub(crate) message: String,
}

type Result<T> = std::result::Result<T, Box<ExecError>>;

/// Runs the template `name` on `dot`.
pub(crate) fn execute(name: &str, parsed: &Parsed, dot: Value, functions: &dyn Functions) -> Result<String> {
    let mut exec = Exec {
        parsed,
        functions,
        executing: name,
        variables: vec![("$", dot.clone())],
        out: String::new(),
        steps: 0,
        produced: 0,
        depth: 0,
        at: At::Start,
    };
    exec.list(&dot, &parsed.root)?;
    Ok(exec.out)
}

struct Exec<'a> {
    parsed: &'a Parsed,
    functions: &'a dyn Functions,
    executing: &'a str,
    /// Innermost last.
    variables: Vec<(&'a str, Value)>,
    out: String,
    steps: usize,
    produced: usize,
    depth: usize,
    at: At<'a>,
}

/// The node that is being evaluated, for errors.
#[derive(Clone, Copy)]
enum At<'a> {
    Start,
    Action(&'a Action),
    Call(&'a Call),
    Pipe(&'a Pipe),
    Command(&'a Command),
    Arg(&'a Arg),
}

impl At<'_> {
    fn pos(self) -> usize {
        match self {
            At::Start => 0,
            At::Action(node) => node.pos,
            At::Call(node) => node.pos,
            At::Pipe(node) => node.pos,
            At::Command(node) => node.pos,
            At::Arg(node) => node.pos,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Start => Ok(()),
            At::Action(node) => node.fmt(f),
            At::Call(node) => node.fmt(f),
            At::Pipe(node) => node.fmt(f),
            At::Command(node) => node.fmt(f),
            At::Arg(node) => node.fmt(f),
        }
    }
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'a> Exec<'a> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Box::new(ExecError {
            pos: self.at.pos(),
            executing: self.executing.to_owned(),
            context: self.at.to_string(),
            message: message.into(),
        }))
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX { self.fail(format!("template takes more than {STEPS_MAX} steps")) } else { Ok(()) }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > OUTPUT_BYTES_MAX {
            return self.fail(TOO_LARGE);
        }
        self.out.push_str(text);
        Ok(())
    }

    // === Nodes ===

    fn list(&mut self, dot: &Value, list: &'a [Node]) -> Result<Flow> {
        for node in list {
            let flow = self.node(dot, node)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Result<Flow> {
        self.step()?;
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(action) => {
                self.at = At::Action(action);
                let value = self.pipeline(dot, &action.pipe)?;
                if action.pipe.variables.is_empty() {
                    self.at = At::Action(action);
                    self.write(&value.printed())?;
                }
            }
            Node::If(branch) | Node::With(branch) => {
                let n_variables = self.variables.len();
                let value = self.pipeline(dot, &branch.pipe)?;
                let is_with = matches!(node, Node::With(_));
                let flow = match value.is_true() {
                    true => self.list(if is_with { &value } else { dot }, &branch.list)?,
                    false => self.list(dot, &branch.otherwise)?,
                };
                self.variables.truncate(n_variables);
                return Ok(flow);
            }
            Node::Range(branch) => {
                let n_variables = self.variables.len();
                let flow = self.range(dot, branch)?;
                self.variables.truncate(n_variables);
                return Ok(flow);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Template(call) => self.call_template(dot, call)?,
        }
        Ok(Flow::Next)
    }

    /// One after another, so that a range over many numbers needs no list of them.
    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Result<Flow> {
        let value = self.pipeline(dot, &branch.pipe)?;
        let n_items = match &value {
            Value::None => 0,
            Value::List(list) => list.items.len(),
            Value::Labels(labels) => labels.len(),
            Value::Map(map) => map.entries.len(),
            Value::Int(n) => usize::try_from(*n).unwrap_or(0),
            Value::Uint(n) => usize::try_from(*n).unwrap_or(usize::MAX),
            other => return self.fail(format!("range can't iterate over {}", other.printed())),
        };
        if matches!(value, Value::Int(_) | Value::Named(..) | Value::Uint(_) | Value::Byte(_))
            && branch.pipe.variables.len() > 1
        {
            return self.fail(format!("can't use {} to iterate over more than one variable", value.printed()));
        }
        if n_items == 0 {
            return self.list(dot, &branch.otherwise);
        }
        let mut labels = match &value {
            Value::Labels(labels) => labels.iter().collect::<Vec<_>>().into_iter(),
            _ => Vec::new().into_iter(),
        };
        let mut entries = match &value {
            Value::Map(map) => Some(map.entries.iter()),
            _ => None,
        };
        let mark = self.variables.len();
        for idx in 0..n_items {
            self.step()?;
            let (key, item) = match &value {
                Value::List(list) => (Value::Int(idx as i64), list.items[idx].clone()),
                Value::Labels(_) => match labels.next() {
                    Some((name, value)) => (Value::string(name), Value::string(value)),
                    None => break,
                },
                Value::Map(_) => match entries.as_mut().and_then(Iterator::next) {
                    Some((name, value)) => (Value::string(name.as_str()), value.clone()),
                    None => break,
                },
                _ => (Value::Int(idx as i64), Value::Int(idx as i64)),
            };
            self.set_range_variables(&branch.pipe, mark, key, &item)?;
            let flow = self.list(&item, &branch.list)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// The pipeline has declared the variables; each turn gives them the item, or key and item.
    fn set_range_variables(&mut self, pipe: &'a Pipe, mark: usize, key: Value, item: &Value) -> Result<()> {
        let names = &pipe.variables;
        let values = match names.len() {
            0 => return Ok(()),
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        let first = mark - if pipe.assigns { 0 } else { names.len() };
        for (at, (name, value)) in names.iter().zip(values).enumerate() {
            if pipe.assigns {
                self.assign(name, value)?;
            } else {
                self.variables[first + at].1 = value;
            }
        }
        Ok(())
    }

    fn call_template(&mut self, dot: &Value, call: &'a Call) -> Result<()> {
        self.at = At::Call(call);
        let Some((name, list)) = self.parsed.defined.get_key_value(&call.name) else {
            return self.fail(format!("template {} not defined", crate::text::quote(&call.name)));
        };
        if self.depth == DEPTH_MAX {
            return self.fail(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        let dot = match &call.pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Value::None,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let executing = std::mem::replace(&mut self.executing, name);
        self.depth += 1;
        self.list(&dot, list)?;
        self.depth -= 1;
        self.executing = executing;
        self.variables = variables;
        Ok(())
    }

    // === Pipelines ===

    fn pipeline(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value> {
        self.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::None);
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some(variable) => variable.1 = value,
            None => return self.fail(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    /// `last` is what the command before gave: it becomes the last argument.
    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Result<Value> {
        self.step()?;
        let first = &command.args[0];
        let args = &command.args[1..];
        match &first.kind {
            ArgKind::Field(names) => {
                self.at = At::Arg(first);
                self.fields(dot, dot.clone(), At::Arg(first), names, args, last)
            }
            ArgKind::Chain(base, names) => {
                let receiver = self.chain_base(dot, first, base)?;
                self.fields(dot, receiver, At::Arg(first), names, args, last)
            }
            ArgKind::Variable(name, names) => {
                self.at = At::Arg(first);
                let value = self.variable(name)?;
                if names.is_empty() {
                    self.not_a_function(command, &last)?;
                }
                self.fields(dot, value, At::Arg(first), names, args, last)
            }
            ArgKind::Identifier(name) => {
                self.at = At::Arg(first);
                let function = self.function(name)?;
                self.call(dot, function, None, At::Command(command), args, last)
            }
            ArgKind::Pipe(pipe) => {
                self.not_a_function(command, &last)?;
                self.pipeline(dot, pipe)
            }
            ArgKind::Bool(_) | ArgKind::Dot | ArgKind::Nil | ArgKind::Number(_) | ArgKind::String { .. } => {
                self.at = At::Arg(first);
                self.not_a_function(command, &last)?;
                match &first.kind {
                    ArgKind::Bool(value) => Ok(Value::Bool(*value)),
                    ArgKind::Dot => Ok(dot.clone()),
                    ArgKind::Number(number) => self.constant(number),
                    ArgKind::String { text, .. } => Ok(Value::String(text.clone())),
                    _ => self.fail("nil is not a command"),
                }
            }
        }
    }

    fn not_a_function(&self, command: &Command, last: &Option<Value>) -> Result<()> {
        if command.args.len() > 1 || last.is_some() {
            return self.fail(format!("can't give argument to non-function {}", command.args[0]));
        }
        Ok(())
    }

    fn function(&self, name: &str) -> Result<&'static Function> {
        match find(name) {
            Some(function) => Ok(function),
            None => self.fail(format!("{} is not a defined function", crate::text::quote(name))),
        }
    }

    fn variable(&self, name: &str) -> Result<Value> {
        match self.variables.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn chain_base(&mut self, dot: &Value, chain: &'a Arg, base: &'a Arg) -> Result<Value> {
        self.at = At::Arg(chain);
        self.arg(dot, Type::Any, base)
    }

    fn constant(&self, number: &Number) -> Result<Value> {
        match number.int {
            _ if number.is_float => Ok(Value::Float(number.float)),
            Some(int) => Ok(Value::Int(int)),
            None => self.fail(format!("{} overflows int", number.text)),
        }
    }

    /// `receiver.a.b args`: only the last name may be a method with arguments.
    fn fields(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        node: At<'a>,
        names: &'a [String],
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        let Some((name, before)) = names.split_last() else { return Ok(receiver) };
        for name in before {
            receiver = self.field(dot, receiver, node, name, &[], None)?;
        }
        self.field(dot, receiver, node, name, args, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        node: At<'a>,
        name: &str,
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        if let Some(method) = find_method(&receiver, name) {
            return self.call(dot, method, Some(receiver), node, args, last);
        }
        let has_args = !args.is_empty() || last.is_some();
        let value = match (&receiver, name) {
            (Value::None, _) => return Ok(Value::None),
            (Value::Data(_) | Value::Sample(_) | Value::Histogram(_), _) => {
                let field = receiver.fields().into_iter().find(|field| field.name == name);
                let Some(field) = field else {
                    let type_name = receiver.type_name();
                    return self.fail(format!("can't evaluate field {name} in type {type_name}"));
                };
                field.value
            }
            (Value::Labels(_) | Value::Map(_), _) if has_args => {
                return self.fail(format!("{name} is not a method but has arguments"));
            }
            (Value::Labels(labels), _) => Value::string(labels.value(name)),
            (Value::Map(map), _) => map.entries.get(name).cloned().unwrap_or(Value::None),
            (other, _) => {
                return self.fail(format!("can't evaluate field {name} in type {}", other.type_name()));
            }
        };
        if has_args {
            return self.fail(format!("{name} has arguments but cannot be invoked as function"));
        }
        Ok(value)
    }

    // === Calls ===

    fn call(
        &mut self,
        dot: &Value,
        function: &'static Function,
        receiver: Option<Value>,
        node: At<'a>,
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        let (name, params) = (function.name, function.params);
        let n_args = args.len() + usize::from(last.is_some());
        if function.variadic && n_args < params.len() {
            return self.fail(format!(
                "wrong number of args for {name}: want at least {} got {}",
                params.len(),
                args.len()
            ));
        }
        if !function.variadic && n_args != params.len() {
            return self.fail(format!("wrong number of args for {name}: want {} got {n_args}", params.len()));
        }
        if receiver.is_none() && matches!(name, "and" | "or") {
            return self.short_circuit(dot, name == "or", args, last);
        }
        if receiver.is_none() && name == "call" {
            return self.call_value(dot, node, args, last);
        }
        let mut values: Vec<Value> = receiver.into_iter().collect();
        let type_of = |idx: usize| params.get(idx).copied().unwrap_or(Type::Any);
        for (idx, arg) in args.iter().enumerate() {
            values.push(self.arg(dot, type_of(idx), arg)?);
        }
        if let Some(last) = last {
            values.push(self.typed(last, type_of(args.len()))?);
        }
        match (function.call)(&values, self.functions) {
            Ok(value) => {
                let bytes = match &value {
                    Value::String(text) => text.len(),
                    Value::List(list) => list.items.len() * size_of::<Value>(),
                    _ => 0,
                };
                self.produced = self.produced.saturating_add(bytes);
                let text_too_large = matches!(value, Value::String(_)) && bytes > OUTPUT_BYTES_MAX;
                if text_too_large || self.produced > PRODUCED_BYTES_MAX {
                    self.at = node;
                    return self.fail(format!("error calling {name}: {TOO_LARGE}"));
                }
                Ok(value)
            }
            Err(message) => {
                self.at = node;
                self.fail(format!("error calling {name}: {message}"))
            }
        }
    }

    /// `call`: there are no values that are functions, so it always fails.
    fn call_value(&mut self, dot: &Value, node: At<'a>, args: &'a [Arg], last: Option<Value>) -> Result<Value> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.arg(dot, Type::Any, arg)?);
        }
        let name = args.first().map(Arg::to_string);
        let callee = values.into_iter().next().or(last).unwrap_or(Value::None);
        self.at = node;
        match callee {
            Value::None => self.fail("error calling call: call of nil"),
            other => {
                let name = name.unwrap_or_else(|| other.printed());
                self.fail(format!("error calling call: non-function {name} of type {}", other.type_name()))
            }
        }
    }

    /// `and`, `or`: the first argument that decides, else the last.
    fn short_circuit(&mut self, dot: &Value, is_or: bool, args: &'a [Arg], last: Option<Value>) -> Result<Value> {
        let mut value = Value::None;
        for arg in args {
            value = self.arg(dot, Type::Any, arg)?;
            if value.is_true() == is_or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn arg(&mut self, dot: &Value, wanted: Type, arg: &'a Arg) -> Result<Value> {
        self.at = At::Arg(arg);
        let value = match &arg.kind {
            ArgKind::Dot => dot.clone(),
            ArgKind::Field(names) => self.fields(dot, dot.clone(), At::Arg(arg), names, &[], None)?,
            ArgKind::Variable(name, names) => {
                let value = self.variable(name)?;
                self.fields(dot, value, At::Arg(arg), names, &[], None)?
            }
            ArgKind::Pipe(pipe) => self.pipeline(dot, pipe)?,
            ArgKind::Identifier(name) => {
                let function = self.function(name)?;
                self.call(dot, function, None, At::Arg(arg), &[], None)?
            }
            ArgKind::Chain(base, names) => {
                let receiver = self.chain_base(dot, arg, base)?;
                self.fields(dot, receiver, At::Arg(arg), names, &[], None)?
            }
            ArgKind::Nil if matches!(wanted, Type::Any | Type::Sample | Type::Samples) => return Ok(Value::None),
            ArgKind::Nil => return self.fail(format!("cannot assign nil to {}", wanted.name())),
            ArgKind::Bool(_) | ArgKind::Number(_) | ArgKind::String { .. } => return self.literal(wanted, arg),
        };
        self.typed(value, wanted)
    }

    fn literal(&mut self, wanted: Type, arg: &'a Arg) -> Result<Value> {
        match (wanted, &arg.kind) {
            (Type::Any, ArgKind::Bool(value)) => Ok(Value::Bool(*value)),
            (Type::Any, ArgKind::Number(number)) => self.constant(number),
            (Type::Any | Type::String, ArgKind::String { text, .. }) => Ok(Value::String(Arc::clone(text))),
            (Type::Duration, ArgKind::Number(Number { int: Some(int), .. })) => Ok(Value::Named(*int, Named::Duration)),
            (Type::String, _) => self.fail(format!("expected string; found {arg}")),
            (Type::Int, ArgKind::Number(Number { int: Some(int), .. })) => Ok(Value::Int(*int)),
            (Type::Duration | Type::Int, _) => self.fail(format!("expected integer; found {arg}")),
            _ => self.fail(format!("can't handle {arg} for arg of type {}", wanted.name())),
        }
    }

    /// `value`, if a parameter of type `wanted` takes it.
    fn typed(&self, value: Value, wanted: Type) -> Result<Value> {
        match &value {
            value if wanted.takes(value) => {}
            Value::Pointer(inner) if wanted.takes(inner) => return Ok(Value::clone(inner)),
            Value::None if matches!(wanted, Type::Sample | Type::Samples) => {}
            Value::None => return self.fail(format!("invalid value; expected {}", wanted.name())),
            other => {
                let (wanted, got) = (wanted.name(), other.type_name());
                return self.fail(format!("wrong type for value; expected {wanted}; got {got}"));
            }
        }
        Ok(value)
    }
}
