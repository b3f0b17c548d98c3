//! Labelled blocks: one operation to an assignment, one end to a block.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{
    Assign, Block, BlockId, End, Function, Immediate, Operand, Program, Terminator, VarId,
};
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, Name, Stmt, StmtKind};

const BEGIN: &str = "start with a label, as in `start:`, or put statements into a function, as in `fn main() { … }`";

pub(super) fn lower(stmts: &[Stmt], program: &mut Program) -> Vec<Diagnostic> {
    let function = Function {
        name: "".into(),
        parameters: 0,
        variables: Vec::new(),
        blocks: Vec::new(),
        pure: false,
        span: Span::default(),
    };
    let mut lowering =
        Core { program, function, variables: HashMap::new(), labels: HashMap::new(), diagnostics: Vec::new() };
    lowering.labels(stmts);
    lowering.blocks(stmts);
    let Core { function, diagnostics, .. } = lowering;
    program.functions.push(function);
    diagnostics
}

struct Core<'a> {
    program: &'a mut Program,
    function: Function,
    variables: HashMap<Arc<str>, VarId>,
    labels: HashMap<Arc<str>, (BlockId, Span)>,
    diagnostics: Vec<Diagnostic>,
}

impl Core<'_> {
    fn labels(&mut self, stmts: &[Stmt]) {
        let mut count = 0_usize;
        for stmt in stmts {
            let StmtKind::Label(name) = &stmt.kind else {
                continue;
            };
            let id = BlockId::from(count);
            count += 1;
            if let Some(&(_, first)) = self.labels.get(&name.text) {
                let message = format!("the label `{}` is there twice", name.text);
                self.diagnostics.push(Diagnostic::new(Code::Duplicate, name.span, message).also(first, "first here"));
            } else {
                self.labels.insert(Arc::clone(&name.text), (id, name.span));
            }
        }
        if stmts.is_empty() {
            self.diagnostics
                .push(Diagnostic::new(Code::Unfinished, Span::default(), "the program is empty").help(BEGIN));
        }
    }

    fn blocks(&mut self, stmts: &[Stmt]) {
        let mut open: Option<(Name, Vec<Assign>)> = None;
        let mut any = false;
        for stmt in stmts {
            if let StmtKind::Label(name) = &stmt.kind {
                if let Some(block) = open.take() {
                    self.unfinished(block);
                }
                any = true;
                open = Some((name.clone(), Vec::new()));
                continue;
            }
            let Some((name, ops)) = &mut open else {
                let diagnostic = if any {
                    Diagnostic::new(Code::Misplaced, stmt.span, "this comes after the end of its block").label("never reached").help(
                        "a block ends with its first `goto`, `if`, `print_and_stop` or `promote`; give the next one a label",
                    )
                } else {
                    Diagnostic::new(Code::Misplaced, stmt.span, "this stands before the first label")
                        .label("belongs to no block")
                        .help(BEGIN)
                };
                self.diagnostics.push(diagnostic);
                continue;
            };
            if let StmtKind::Assign { place, value, .. } = &stmt.kind {
                let (name, mut ops) = (name.clone(), std::mem::take(ops));
                if let (ExprKind::Name(target), Some((op, args))) = (&place.kind, self.operation(value)) {
                    let target = Some(self.variable(target));
                    ops.push(Assign { target, op, immediate: Immediate::None, args, span: value.span });
                }
                open = Some((name, ops));
                continue;
            }
            let (name, ops) = open.take().expect("a block is open");
            let terminator = self.terminator(stmt);
            self.push_block(name, ops, End { terminator, span: stmt.span });
        }
        if let Some(block) = open {
            self.unfinished(block);
        }
    }

    fn push_block(&mut self, name: Name, ops: Vec<Assign>, end: End) {
        self.function.blocks.push(Block { label: name.text, ops, end, span: name.span });
    }

    fn unfinished(&mut self, (name, ops): (Name, Vec<Assign>)) {
        self.diagnostics.push(
            Diagnostic::new(
                Code::Unfinished,
                name.span,
                format!("the block `{}` does not say where to go on", name.text),
            )
            .label("there is no falling through to the next block")
            .help("end it with `goto L`, `if v goto L1 else goto L2`, `print_and_stop(v)` or `promote(v) goto L`"),
        );
        let span = name.span;
        self.push_block(name, ops, End { terminator: Terminator::Retry, span });
    }

    fn terminator(&mut self, stmt: &Stmt) -> Terminator {
        let zero = Operand::Const(self.program.constants.intern(Literal::int(0)));
        match &stmt.kind {
            StmtKind::Goto(label) => Terminator::Goto(self.label(label)),
            StmtKind::Branch { condition, then, other } => Terminator::If {
                condition: self.operand(condition).unwrap_or(zero),
                then: self.label(then),
                other: self.label(other),
            },
            StmtKind::PrintAndStop(value) => Terminator::PrintAndStop(self.operand(value).unwrap_or(zero)),
            StmtKind::Promote { value, then: Some(then) } => {
                Terminator::Promote { value: self.operand(value).unwrap_or(zero), then: self.label(then) }
            }
            other => unreachable!("the parser makes no {other:?} in a core program"),
        }
    }

    fn label(&mut self, name: &Name) -> BlockId {
        if let Some(&(id, _)) = self.labels.get(&name.text) {
            return id;
        }
        let message = format!("there is no label `{}`", name.text);
        let diagnostic = Diagnostic::new(Code::UnknownLabel, name.span, message).label("jumps to nowhere");
        self.diagnostics.push(diagnostic.suggest(&name.text, self.labels.keys().map(|label| &**label)));
        BlockId(0)
    }

    fn variable(&mut self, name: &Arc<str>) -> VarId {
        if let Some(&id) = self.variables.get(name) {
            return id;
        }
        let id = VarId::from(self.function.variables.len());
        self.function.variables.push(Arc::clone(name));
        self.variables.insert(Arc::clone(name), id);
        id
    }

    fn operation(&mut self, value: &Expr) -> Option<(Op, Vec<Operand>)> {
        let (op, args): (Op, Vec<&Expr>) = match &value.kind {
            ExprKind::Binary(op, left, right) => (*op, vec![&**left, &**right]),
            ExprKind::Index(list, index) => (Op::ReadList, vec![&**list, &**index]),
            ExprKind::Neg(inner) => (Op::Neg, vec![&**inner]),
            ExprKind::Paren(inner) => return self.operation(inner),
            _ => (Op::Same, vec![value]),
        };
        let args: Vec<Option<Operand>> = args.into_iter().map(|arg| self.operand(arg)).collect();
        Some((op, args.into_iter().collect::<Option<_>>()?))
    }

    fn operand(&mut self, expr: &Expr) -> Option<Operand> {
        let (message, help) = match &expr.kind {
            ExprKind::Name(name) => return Some(Operand::Var(self.variable(name))),
            ExprKind::Literal(_) | ExprKind::List(_) => {
                return self.literal(expr).map(|literal| Operand::Const(self.program.constants.intern(literal)));
            }
            ExprKind::Paren(inner) => return self.operand(inner),
            ExprKind::Call(..) => (
                "a program of labelled blocks cannot call functions",
                "put the code into `fn main() { … }` to call functions",
            ),
            ExprKind::Field(..) => {
                ("a program of labelled blocks has no objects", "put the code into `fn main() { … }` to use objects")
            }
            _ => (
                "one operation at a time in a program of labelled blocks",
                "give the inner operation a variable of its own, or put the code into `fn main() { … }`",
            ),
        };
        self.diagnostics.push(Diagnostic::new(Code::NotCore, expr.span, message).help(help));
        None
    }

    fn literal(&mut self, expr: &Expr) -> Option<Literal> {
        match &expr.kind {
            ExprKind::Literal(literal) => Some(literal.clone()),
            ExprKind::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.literal(item)).collect();
                items.into_iter().collect::<Option<Vec<_>>>().map(|items| Literal::List(items.into()))
            }
            _ => {
                let diagnostic = Diagnostic::new(Code::NotConstant, expr.span, "a list literal holds constants only")
                    .label("not a constant");
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }
}
