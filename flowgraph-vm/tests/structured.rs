//! Structured statements mean what they say: random functions, carried out directly on their syntax tree by the small interpreter below, and
//! lowered to a flowgraph and run by the machine, print the same and fail at the same place. So do they after being printed in
//! the flat form and read back.
//!
//! `OPTIMIST_PROGRAMS=N` sets how many programs are tried.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use optimist_flowgraph::flowgraph::fault::Fault;
use optimist_flowgraph::flowgraph::op::Op;
use optimist_flowgraph::flowgraph::print;
use optimist_flowgraph::flowgraph::semantics::evaluate;
use optimist_flowgraph::model::random::Random;
use optimist_flowgraph::syntax::ast::{Body, Expr, ExprKind, Item, Over, Stmt, StmtKind};
use optimist_flowgraph::syntax::parser::parse;
use optimist_flowgraph::vm::{Collected, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, Span, compile};

/// What happens after a statement.
enum Flow {
    Next,
    Break,
    Continue,
    Return,
}

/// Why the way on is barred.
enum Bar {
    Failure(Fault, Span),
    Retry,
}

/// The meaning of structured statements, as directly as it can be said.
#[derive(Default)]
struct Direct {
    variables: HashMap<Arc<str>, Literal>,
    output: String,
}

impl Direct {
    fn body(&mut self, body: &Body) -> Result<Flow, Bar> {
        for stmt in &body.stmts {
            match self.stmt(stmt)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<Flow, Bar> {
        match &stmt.kind {
            StmtKind::Assign { place, op, value } => {
                let ExprKind::Name(name) = &place.kind else { unreachable!("only names are assigned here") };
                let old = self.variables.get(name).cloned();
                let value = self.value(value)?;
                let value = match op {
                    Some(op) => apply(*op, &[old.expect("is set"), value], stmt.span)?,
                    None => value,
                };
                self.variables.insert(name.clone(), value);
            }
            StmtKind::Expr(expr) => {
                let ExprKind::Call(_, args) = &expr.kind else { unreachable!("only calls stand alone") };
                let shown: Vec<String> =
                    args.iter().map(|arg| Ok(self.value(arg)?.to_string())).collect::<Result<_, Bar>>()?;
                let _ = writeln!(self.output, "{}", shown.join(" "));
            }
            StmtKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if !self.value(condition)?.is_zero() {
                        return self.body(body);
                    }
                }
                return otherwise.as_ref().map_or(Ok(Flow::Next), |body| self.body(body));
            }
            StmtKind::While { condition, body } => {
                while !self.value(condition)?.is_zero() {
                    match self.body(body)? {
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                        Flow::Next | Flow::Continue => {}
                    }
                }
            }
            StmtKind::For { name, over: Over::Range(from, to), body, .. } => {
                let span = from.span.to(to.span);
                let (start, end) = (self.value(from)?, self.value(to)?);
                self.variables.insert(name.text.clone(), start);
                while !apply(Op::Lt, &[self.variables[&name.text].clone(), end.clone()], span)?.is_zero() {
                    match self.body(body)? {
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                        Flow::Next | Flow::Continue => {}
                    }
                    let next = apply(Op::Add, &[self.variables[&name.text].clone(), Literal::int(1)], span)?;
                    self.variables.insert(name.text.clone(), next);
                }
            }
            StmtKind::For { name, value, over: Over::Each(list), body } => {
                let Literal::List(items) = self.value(list)? else { unreachable!("only lists are gone over here") };
                for item in items.iter() {
                    match (value, item) {
                        (None, _) => {
                            self.variables.insert(name.text.clone(), item.clone());
                        }
                        (Some(value), Literal::List(pair)) => {
                            self.variables.insert(name.text.clone(), pair[0].clone());
                            self.variables.insert(value.text.clone(), pair[1].clone());
                        }
                        (Some(_), other) => unreachable!("{other} is no pair"),
                    }
                    match self.body(body)? {
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                        Flow::Next | Flow::Continue => {}
                    }
                }
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
            StmtKind::Return(_) => return Ok(Flow::Return),
            StmtKind::Raise(value) => {
                let value = self.value(value)?.to_string();
                return Err(Bar::Failure(Fault::Raised { value }, stmt.span));
            }
            StmtKind::Retry => return Err(Bar::Retry),
            StmtKind::Try { body, name, handler } => {
                let before = (self.variables.clone(), self.output.len());
                match self.body(body) {
                    Err(Bar::Failure(fault, _)) => {
                        self.undo(before);
                        // Only the kind of the error is looked at.
                        let name = name.as_ref().expect("errors have a name here");
                        self.variables.insert(name.text.clone(), Literal::symbol(fault.kind()));
                        return self.body(handler);
                    }
                    other => return other,
                }
            }
            StmtKind::Either(alternatives) => {
                let (last, first) = alternatives.split_last().expect("there are two");
                for body in first {
                    let before = (self.variables.clone(), self.output.len());
                    match self.body(body) {
                        Err(Bar::Retry) => self.undo(before),
                        other => return other,
                    }
                }
                return self.body(last);
            }
            other => unreachable!("{other:?} is not generated"),
        }
        Ok(Flow::Next)
    }

    fn undo(&mut self, (variables, output): (HashMap<Arc<str>, Literal>, usize)) {
        self.variables = variables;
        self.output.truncate(output);
    }

    fn value(&self, expr: &Expr) -> Result<Literal, Bar> {
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(literal.clone()),
            ExprKind::List(items) => {
                let items: Vec<Literal> = items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?;
                Ok(Literal::List(items.into()))
            }
            ExprKind::Name(name) => Ok(self.variables[name].clone()),
            ExprKind::Paren(inner) => self.value(inner),
            ExprKind::Neg(inner) => apply(Op::Neg, &[self.value(inner)?], expr.span),
            ExprKind::Not(inner) => Ok(Literal::truth(self.value(inner)?.is_zero())),
            ExprKind::Binary(op, left, right) => apply(*op, &[self.value(left)?, self.value(right)?], expr.span),
            ExprKind::Index(list, index) => apply(Op::ReadList, &[self.value(list)?, self.value(index)?], expr.span),
            ExprKind::In(element, list) => {
                let (element, list) = (self.value(element)?, self.value(list)?);
                let Literal::List(items) = list else { unreachable!("only lists are searched here") };
                let equal = |item: &Literal| apply(Op::Eq, &[item.clone(), element.clone()], expr.span);
                let found: Vec<Literal> = items.iter().map(equal).collect::<Result<_, _>>()?;
                Ok(Literal::truth(found.iter().any(|same| !same.is_zero())))
            }
            ExprKind::And(left, right) => {
                let left = self.value(left)?;
                if left.is_zero() { Ok(left) } else { self.value(right) }
            }
            ExprKind::Or(left, right) => {
                let left = self.value(left)?;
                if left.is_zero() { self.value(right) } else { Ok(left) }
            }
            // `e.kind`, the one field there is: the variable itself holds the kind.
            ExprKind::Field(error, _) => self.value(error),
            ExprKind::Call(..) => unreachable!("only `print` is called"),
        }
    }
}

fn apply(op: Op, args: &[Literal], span: Span) -> Result<Literal, Bar> {
    evaluate(op, args).expect("a core operation").map_err(|fault| Bar::Failure(fault, span))
}

/// Writes random functions that always end: loops count down `fuel`.
struct Writer {
    random: Random,
    out: String,
    depth: usize,
    loops: usize,
    /// Whether `retry` would lead to another alternative.
    alternatives: usize,
}

const VARIABLES: &[&str] = &["a", "b", "c", "d"];

impl Writer {
    fn program(seed: u64) -> String {
        let mut writer = Self { random: Random::new(seed), out: String::new(), depth: 0, loops: 0, alternatives: 0 };
        let values: Vec<i64> = VARIABLES.iter().map(|_| writer.random.below(5) as i64 - 1).collect();
        writer.out = format!(
            "fn main() {{\nfuel = 12\na = {}\nb = {}\nc = {}\nd = [{}, 2, [3]]\n",
            values[0], values[1], values[2], values[3]
        );
        for _ in 0..2 + writer.random.below(5) {
            writer.statement();
        }
        writer.out += "print(a, b, c, d, fuel)\n}\n";
        writer.out
    }

    fn line(&mut self, text: &str) {
        self.out += text;
        self.out.push('\n');
    }

    fn block(&mut self) {
        self.out += " {\n";
        self.depth += 1;
        for _ in 0..1 + self.random.below(3) {
            self.statement();
        }
        self.depth -= 1;
        self.out.push('}');
    }

    fn loop_block(&mut self) {
        self.loops += 1;
        self.out += " {\nfuel -= 1\nif fuel < 0 { break }";
        let alternatives = std::mem::take(&mut self.alternatives);
        self.alternatives = alternatives;
        self.out.push('\n');
        self.depth += 1;
        for _ in 0..1 + self.random.below(3) {
            self.statement();
        }
        self.depth -= 1;
        self.loops -= 1;
        self.out.push('}');
    }

    fn statement(&mut self) {
        let choice = if self.depth >= 4 { self.random.below(9) } else { self.random.below(18) };
        match choice {
            0..=2 => {
                let (place, value) = (self.random.pick(&["a", "b", "c", "a", "b", "c", "d"]), self.expression(2));
                let value = if place == "d" { "[0, 1, 2, 7]".to_owned() } else { value };
                self.line(&format!("{place} = {value}"));
            }
            3..=4 => {
                let (place, op, value) =
                    (self.random.pick(&["a", "b", "c"]), self.random.pick(&["+=", "-=", "//="]), self.atom());
                self.line(&format!("{place} {op} {value}"));
            }
            5 => {
                let (first, second) = (self.expression(1), self.expression(2));
                self.line(&format!("print({first}, {second})"));
            }
            6 if self.loops > 0 => {
                let word = self.random.pick(&["break", "continue"]);
                let condition = self.expression(1);
                self.line(&format!("if {condition} {{ {word} }}"));
            }
            7 if self.alternatives > 0 => {
                let condition = self.expression(1);
                self.line(&format!("if {condition} {{ retry }}"));
            }
            8 if self.random.percent(30) => {
                let (condition, value) = (self.expression(1), self.atom());
                let word = self.random.pick(&["return none", "raise"]);
                let end = if word == "raise" { format!("raise {value}") } else { word.to_owned() };
                self.line(&format!("if {condition} {{ {end} }}"));
            }
            6..=8 => {
                let value = self.expression(1);
                self.line(&format!("b = {value}"));
            }
            9..=11 => {
                let condition = self.expression(2);
                self.out += &format!("if {condition}");
                self.block();
                while self.random.percent(30) {
                    let condition = self.expression(2);
                    self.out += &format!(" else if {condition}");
                    self.block();
                }
                if self.random.percent(50) {
                    self.out += " else";
                    self.block();
                }
                self.out.push('\n');
            }
            12 => {
                let condition = self.expression(2);
                self.out += &format!("while {condition}");
                self.loop_block();
                self.out.push('\n');
            }
            13 => {
                let (from, to) = (self.random.below(3), self.random.below(5));
                self.out += &format!("for i{} in {from}..{to}", self.depth);
                self.loop_block();
                self.out.push('\n');
            }
            14 => {
                self.out += &match self.random.below(2) {
                    0 => format!("for j{} in [1, [2], 0, a]", self.depth),
                    _ => format!(
                        "for k{0}, v{0} in [[1, b], [a, 2]] {{ print(k{0}, v{0}) }}\nfor k{0}, v{0} in [[2, 1]]",
                        self.depth
                    ),
                };
                self.loop_block();
                self.out.push('\n');
            }
            15..=16 => {
                self.out += "try";
                self.block();
                let name = format!("e{}", self.depth);
                self.out += &format!(" catch {name} {{\nprint({name}.kind)\n");
                self.depth += 1;
                self.statement();
                self.depth -= 1;
                self.out += "}\n";
            }
            _ => {
                self.out += "either";
                self.alternatives += 1;
                self.block();
                self.alternatives -= 1;
                self.out += " or";
                self.block();
                self.out.push('\n');
            }
        }
    }

    fn atom(&mut self) -> String {
        match self.random.below(10) {
            0..=6 => self.random.pick(&["a", "b", "c"]).to_owned(),
            7 => "d[1]".to_owned(),
            8 if self.random.percent(15) => self.random.pick(&["'s'", "d", "5[0]"]).to_owned(),
            _ => (self.random.below(6) as i64 - 2).to_string(),
        }
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.atom();
        }
        let (left, right) = (self.expression(depth - 1), self.expression(depth - 1));
        match self.random.below(15) {
            14 => format!("({left} in [{right}, 2, [a]])"),
            0..=2 => format!("({left} and {right})"),
            3..=4 => format!("({left} or {right})"),
            5..=6 => format!("(not {left})"),
            7 => format!("({left} == {right})"),
            8 => format!("({left} < {right})"),
            9 => format!("(-{left})"),
            10 => format!("d[{right} % 3]"),
            11 => format!("({left} * 3)"),
            _ => format!("({left} {} {right})", self.random.pick(&["+", "-", ">=", "-", "+", "%"])),
        }
    }
}

/// What the machine prints, and the failure with its place.
fn lowered(text: &str) -> (String, Option<(Fault, Span)>) {
    let source = Source::new("s.flow", text);
    let program = compile(&source).unwrap_or_else(|mistakes| {
        panic!("{text}\n{}", mistakes.iter().map(|mistake| mistake.render(&source, false)).collect::<String>())
    });
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut context = Collected::default();
    let main = vm.function("main").expect("there is a main");
    match vm.run_event(&mut vm.worker(), main, &[], &mut context) {
        Ok(_) => (context.output, None),
        Err(error) => (context.output, Some((error.fault, error.span))),
    }
}

#[test]
fn lowered_functions_do_what_their_statements_say() {
    let programs: u64 = std::env::var("OPTIMIST_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(600);
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..programs {
        let text = Writer::program(seed);
        let (file, mistakes) = parse(&text);
        assert_eq!(mistakes, [], "{text}");
        let Item::Function(main) = &file.items[0] else { unreachable!("there is one function") };
        let mut direct = Direct::default();
        let (output, failure) = match direct.body(&main.body) {
            Ok(_) => (direct.output, None),
            // An event that fails prints nothing.
            Err(Bar::Failure(fault, span)) => (String::new(), Some((fault, span))),
            Err(Bar::Retry) => unreachable!("`retry` always has an alternative here"),
        };
        *outcomes.entry(failure.as_ref().map_or("printed", |(fault, _)| fault.kind())).or_default() += 1;
        let found = lowered(&text);
        assert_eq!(found, (output.clone(), failure.clone()), "seed {seed}\n{text}");

        let flat = print::program(&compile(&Source::new("s.flow", text.clone())).expect("compiles"), |_, _| None);
        let (flat_output, flat_failure) = lowered(&flat);
        assert_eq!(
            (flat_output, flat_failure.map(|(fault, _)| fault)),
            (output, failure.map(|(fault, _)| fault)),
            "seed {seed}\n{text}\n{flat}"
        );
    }
    println!("{outcomes:?}");
    for kind in ["printed", "raised", "not_a_number", "not_indexable", "division_by_zero"] {
        assert!(outcomes.get(kind).is_some_and(|&count| count * 100 > programs), "{kind}: {outcomes:?}");
    }
}
