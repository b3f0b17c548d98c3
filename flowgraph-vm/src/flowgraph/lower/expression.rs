//! One expression: nested operations become temporaries, `and`, `or` and `not` become jumps.

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::lower::body::Builder;
use crate::flowgraph::lower::declarations::Callee;
use crate::flowgraph::op::{Notation, Op};
use crate::flowgraph::program::{BlockId, Immediate, NameId, Operand, Terminator, VarId};
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, Name};

const READING: &str = "each line of the input is an event: `for each line in lines(\"-\") add f(line)`";

/// What other languages call, and what to write here.
const FOREIGN_FUNCTIONS: &[(&str, &str)] = &[
    ("range", "a range of integers is written `for i in 0..n`"),
    ("length", "the length is `len(x)`"),
    ("size", "the length is `len(x)`"),
    ("count", "the length is `len(x)`"),
    ("println", "a line is printed with `print(x)`"),
    ("printf", "a line is printed with `print(x)`"),
    ("echo", "a line is printed with `print(x)`"),
    ("puts", "a line is printed with `print(x)`"),
    ("string", "text is made with `str(x)`"),
    ("format", "text is made with `str(a, b)`, and `fixed(x, digits)` for a number of digits"),
    ("dict", "a map is made with `map()`"),
    ("set", "a map can serve as a set: `m[x] = true`, `has(m, x)`"),
    ("append", "a value is put at the end of a queue with `push(q, x)`"),
    ("substring", "a part is taken with `slice(x, from, to)`"),
    ("substr", "a part is taken with `slice(x, from, to)`"),
    ("type", "the kind of a value is `kind(x)`"),
    ("typeof", "the kind of a value is `kind(x)`"),
    ("time", "the time is `now()`"),
    ("sleep", "an event can be put off: `add f(x) after 100`"),
    ("exit", "an event ends with `return`"),
    ("input", READING),
    ("readline", READING),
    ("read_line", READING),
    ("readln", READING),
    ("gets", READING),
    ("open", "`for each line in lines(name) add f(line)` reads a file, `write_file(name, text)` appends to one"),
    ("connect", "a program waits for connections, `for each c in connections(address) add f(c)`, and makes none"),
    ("strlen", "the length is `len(x)`"),
    ("to_string", "text is made with `str(x)`"),
    ("toString", "text is made with `str(x)`"),
    ("parseInt", "an integer is made with `int(x)`"),
    ("atoi", "an integer is made with `int(x)`"),
    ("rand", "a random number is `random()`, a random integer below n `random(n)`"),
    ("randint", "a random integer below n is `random(n)`"),
    (
        "enumerate",
        "a loop over a map has keys and values: `for key, value in m`; one over indices is `for i in 0..len(x)`",
    ),
    ("delete", "a key is taken out of a map with `remove(m, key)`"),
    ("insert", "a map is filled with `m[key] = value`"),
    ("put", "a map is filled with `m[key] = value`"),
    ("enqueue", "a value is put at the end of a queue with `push(q, x)`"),
    ("dequeue", "a value is taken out of a queue with `pop(q)`"),
    ("shift", "a value is taken out of a queue with `pop(q)`"),
    ("power", "a power is `pow(a, b)`"),
    ("mod", "the rest of a division is `a % b`"),
    ("lock", "no locks are needed: every event runs as if it were alone"),
    ("unlock", "no locks are needed: every event runs as if it were alone"),
    ("mutex", "no locks are needed: every event runs as if it were alone"),
    ("commit", "an event commits when its function is done"),
    ("rollback", "`raise` undoes what the event, or the `try` around it, has done"),
    ("abort", "`raise` undoes what the event, or the `try` around it, has done"),
    ("wait", "`retry` waits until something that was read has changed"),
    ("error", "write `raise`"),
    ("throw", "write `raise`"),
    ("Error", "any value can be raised: `raise \"text\"`"),
    ("Exception", "any value can be raised: `raise \"text\"`"),
    ("log2", "the natural logarithm is `ln(x)`"),
    ("log10", "the natural logarithm is `ln(x)`"),
];

impl Builder<'_, '_> {
    /// The value of an expression as an operand, computed into a temporary if it has to be.
    pub(super) fn value(&mut self, expr: &Expr) -> Operand {
        match &expr.kind {
            ExprKind::Literal(literal) => self.constant(literal.clone()),
            ExprKind::List(items) if items.iter().all(|item| self.is_constant(item)) => {
                let list = self.scope.constant_list(items).unwrap_or(Literal::None);
                self.constant(list)
            }
            ExprKind::Paren(inner) => self.value(inner),
            ExprKind::Name(name) => {
                if let Some(&local) = self.locals.get(name) {
                    return Operand::Var(local);
                }
                if let Some((literal, _)) = self.scope.constants.get(name) {
                    let literal = literal.clone();
                    return self.constant(literal);
                }
                if self.scope.globals.contains_key(name) {
                    let target = self.temporary();
                    self.into(expr, target);
                    return Operand::Var(target);
                }
                self.unknown(name, expr.span);
                self.constant(Literal::None)
            }
            _ => {
                let target = self.temporary();
                self.into(expr, target);
                Operand::Var(target)
            }
        }
    }

    /// Computes an expression into a variable. The variable is written last, so the expression may read its old value.
    pub(super) fn into(&mut self, expr: &Expr, target: VarId) {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Paren(inner) => self.into(inner, target),
            ExprKind::Name(name) if self.scope.globals.contains_key(name) && !self.locals.contains_key(name) => {
                let global = self.scope.globals[name];
                self.emit(Some(target), Op::GetGlobal, Immediate::Global(global), vec![], span);
            }
            ExprKind::List(items) if !items.iter().all(|item| self.is_constant(item)) => {
                let args = items.iter().map(|item| self.value(item)).collect();
                self.emit(Some(target), Op::List, Immediate::None, args, span);
            }
            ExprKind::Literal(_) | ExprKind::List(_) | ExprKind::Name(_) => {
                let operand = self.value(expr);
                self.emit(Some(target), Op::Same, Immediate::None, vec![operand], span);
            }
            ExprKind::Neg(inner) => {
                let operand = self.value(inner);
                self.emit(Some(target), Op::Neg, Immediate::None, vec![operand], span);
            }
            ExprKind::Not(inner) => {
                let operand = self.value(inner);
                let zero = self.constant(Literal::int(0));
                self.emit(Some(target), Op::Eq, Immediate::None, vec![operand, zero], span);
            }
            ExprKind::Binary(op, left, right) => {
                let args = vec![self.value(left), self.value(right)];
                self.emit(Some(target), *op, Immediate::None, args, span);
            }
            ExprKind::In(element, collection) => {
                let (element, collection) = (self.value(element), self.value(collection));
                self.emit(Some(target), Op::Contains, Immediate::None, vec![collection, element], span);
            }
            ExprKind::And(left, right) => self.short_circuit(left, right, target, span, true),
            ExprKind::Or(left, right) => self.short_circuit(left, right, target, span, false),
            ExprKind::Index(collection, index) => {
                let args = vec![self.value(collection), self.value(index)];
                self.emit(Some(target), Op::ReadList, Immediate::None, args, span);
            }
            ExprKind::Field(object, field) => {
                let object = self.value(object);
                if let Some(name) = self.field(field) {
                    self.emit(Some(target), Op::GetField, Immediate::Field(name), vec![object], span);
                }
            }
            ExprKind::Call(name, args) => self.call(name, args, Some(target), span),
        }
    }

    /// Whether an item of a list is known beforehand, so that the list is a constant.
    fn is_constant(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Literal(_) => true,
            ExprKind::Name(name) => !self.locals.contains_key(name) && self.scope.constants.contains_key(name),
            ExprKind::List(items) => items.iter().all(|item| self.is_constant(item)),
            ExprKind::Neg(inner) | ExprKind::Paren(inner) => self.is_constant(inner),
            _ => false,
        }
    }

    /// A call whose result nobody wants.
    pub(super) fn effect(&mut self, expr: &Expr) {
        let ExprKind::Call(name, args) = &expr.kind else { unreachable!("only calls stand alone") };
        self.call(name, args, None, expr.span);
    }

    /// `a and b` is a if that is 0, else b; `a or b` is a if that is not 0, else b.
    fn short_circuit(&mut self, left: &Expr, right: &Expr, target: VarId, span: Span, and: bool) {
        // The target may occur on the right, so the left side cannot be kept in it.
        let result = self.temporary();
        self.into(left, result);
        let (more, done) = (self.made(if and { "and" } else { "or" }, span), self.made("endlogic", span));
        let (then, other) = if and { (more, done) } else { (done, more) };
        self.end(Terminator::If { condition: Operand::Var(result), then, other }, left.span);
        self.start(more);
        self.into(right, result);
        self.end(Terminator::Goto(done), right.span);
        self.start(done);
        self.emit(Some(target), Op::Same, Immediate::None, vec![Operand::Var(result)], span);
    }

    /// Ends the open block by going to `then` if the expression is not 0, else to `other`.
    pub(super) fn condition(&mut self, expr: &Expr, then: BlockId, other: BlockId) {
        match &expr.kind {
            ExprKind::Paren(inner) => self.condition(inner, then, other),
            ExprKind::Not(inner) => self.condition(inner, other, then),
            ExprKind::And(left, right) => {
                let more = self.made("and", expr.span);
                self.condition(left, more, other);
                self.start(more);
                self.condition(right, then, other);
            }
            ExprKind::Or(left, right) => {
                let more = self.made("or", expr.span);
                self.condition(left, then, more);
                self.start(more);
                self.condition(right, then, other);
            }
            ExprKind::Literal(literal) => {
                let to = if literal.is_zero() { other } else { then };
                self.end(Terminator::Goto(to), expr.span);
            }
            _ => {
                let condition = self.value(expr);
                self.end(Terminator::If { condition, then, other }, expr.span);
            }
        }
    }

    pub(super) fn field(&mut self, field: &Name) -> Option<NameId> {
        let mut found = self.scope.program.names.find(&field.text);
        if found.is_none() && self.scope.functions.contains_key("record") {
            // The columns of the input are fields as well, and known only when it is read.
            found = Some(self.scope.program.names.intern(&field.text));
        }
        if found.is_none() {
            let message = format!("no object type has a field `{}`", field.text);
            let names: Vec<_> = self.scope.program.names.values().to_vec();
            let diagnostic = Diagnostic::new(Code::UnknownField, field.span, message);
            if let Some((_, advice)) = FOREIGN_FUNCTIONS.iter().find(|(foreign, _)| *foreign == &*field.text) {
                self.report(diagnostic.help(*advice));
                return None;
            }
            self.report(diagnostic.suggest(&field.text, names.iter().map(|name| &**name)));
        }
        found
    }

    fn call(&mut self, name: &Name, args: &[Expr], target: Option<VarId>, span: Span) {
        let operands: Vec<Operand> = args.iter().map(|arg| self.value(arg)).collect();
        if let Some(&callee) = self.scope.functions.get(&name.text) {
            if callee.parameters != args.len() {
                return self.wrong_count(name, callee, args.len(), span);
            }
            self.emit(target, Op::Call, Immediate::Function(callee.id), operands, span);
        } else if let Some(&id) = self.scope.types.get(&name.text) {
            let declared = &self.scope.program.types[id.index()];
            let (fields, declared_span) = (declared.fields.len(), declared.span);
            if fields != args.len() {
                let message =
                    format!("`{}` has {fields} field{}, but got {}", name.text, plural(fields), values(args.len()));
                return self
                    .report(Diagnostic::new(Code::WrongArity, span, message).also(declared_span, "declared here"));
            }
            self.emit(target, Op::Construct, Immediate::Type(id), operands, span);
        } else if let Some(&id) = self.scope.hosts.get(&name.text) {
            if let Some(arity) = self.scope.program.hosts[id.index()].arity.filter(|&arity| arity != args.len()) {
                let message =
                    format!("`{}` takes {arity} argument{}, but got {}", name.text, plural(arity), args.len());
                return self.report(Diagnostic::new(Code::WrongArity, span, message));
            }
            self.emit(target, Op::CallHost, Immediate::Host(id), operands, span);
        } else if let Some(op) = Op::called(&name.text) {
            if !op.arity().allows(args.len()) {
                let message = format!("`{}` takes {}, but got {}", name.text, op.arity(), args.len());
                return self.report(Diagnostic::new(Code::WrongArity, span, message).help(op.doc()));
            }
            if target.is_none() && op.folds() && op != Op::Assert {
                let message = format!("the result of `{}` is thrown away", name.text);
                self.report(Diagnostic::new(Code::Unused, span, message).help(op.doc()));
            }
            self.emit(target, op, Immediate::None, operands, span);
        } else {
            let message = format!("there is no function `{}`", name.text);
            let diagnostic = Diagnostic::new(Code::UnknownFunction, name.span, message);
            if let Some((_, advice)) = FOREIGN_FUNCTIONS.iter().find(|(foreign, _)| *foreign == &*name.text) {
                return self.report(diagnostic.help(*advice));
            }
            let own = self
                .scope
                .functions
                .keys()
                .chain(self.scope.types.keys())
                .chain(self.scope.hosts.keys())
                .map(|name| &**name);
            let operations = Op::ALL.iter().filter(|op| op.notation() == Notation::Call).map(|op| op.name());
            let diagnostic = diagnostic.suggest(&name.text, own.chain(operations));
            self.report(diagnostic);
        }
    }

    pub(super) fn wrong_count(&mut self, name: &Name, callee: Callee, got: usize, span: Span) {
        let wanted = callee.parameters;
        let message = format!("`{}` takes {wanted} argument{}, but got {got}", name.text, plural(wanted));
        self.report(Diagnostic::new(Code::WrongArity, span, message).also(callee.span, "declared here"));
    }

    fn unknown(&mut self, name: &str, span: Span) {
        // A constant that could not be computed has been reported where it is declared.
        if self.scope.declares_constant(name).is_some() {
            return;
        }
        let diagnostic = Diagnostic::new(Code::UnknownName, span, format!("there is no variable `{name}`"));
        let diagnostic = if self.scope.functions.contains_key(name) || Op::called(name).is_some() {
            diagnostic.label("a function, not a value").help(format!("call it: `{name}(…)`"))
        } else if matches!(name, "null" | "nil" | "None" | "undefined") {
            diagnostic.help("write `none`")
        } else if matches!(name, "True" | "False") {
            diagnostic.help(format!("write `{}`", name.to_lowercase()))
        } else {
            diagnostic.label("never set in this function").suggest(name, self.readable())
        };
        self.report(diagnostic);
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn values(count: usize) -> String {
    format!("{count} value{}", plural(count))
}
