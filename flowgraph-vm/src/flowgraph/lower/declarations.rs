//! What a program of functions declares, and constants.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::lower::INITIALISER;
use crate::flowgraph::lower::body::Builder;
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{
    ERROR_FIELDS, Function, FunctionId, Global, GlobalId, HostId, ObjectType, Program, TypeId,
};
use crate::flowgraph::semantics;
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{self, Expr, ExprKind, Item, Name};

/// The functions that are called by convention, with the number of their parameters and what calls them.
const ENTRY_POINTS: [(&str, usize, &str); 3] = [
    ("main", 0, "`main` is the first event and takes no arguments"),
    ("record", 1, "`record` is called with each record of the input"),
    ("finish", 0, "`finish` runs after all events and takes no arguments"),
];

/// All that the body of a function may refer to.
pub(super) struct Scope<'a> {
    pub program: &'a mut Program,
    pub functions: HashMap<Arc<str>, Callee>,
    pub types: HashMap<Arc<str>, TypeId>,
    pub globals: HashMap<Arc<str>, GlobalId>,
    pub hosts: HashMap<Arc<str>, HostId>,
    pub constants: HashMap<Arc<str>, (Literal, Span)>,
    pub diagnostics: Vec<Diagnostic>,
    /// Constants whose value was wrong: a reference to one is no news.
    broken: HashSet<Arc<str>>,
    /// Constants that are declared, with the place, whether their value is known yet or not.
    declared_constants: HashMap<Arc<str>, Span>,
}

/// A function that can be called.
#[derive(Clone, Copy)]
pub(super) struct Callee {
    pub id: FunctionId,
    pub parameters: usize,
    pub span: Span,
}

pub(super) fn lower(items: &[Item], program: &mut Program) -> Vec<Diagnostic> {
    let mut scope = Scope {
        functions: HashMap::new(),
        types: HashMap::new(),
        globals: HashMap::new(),
        hosts: program
            .hosts
            .iter()
            .enumerate()
            .map(|(index, host)| (Arc::clone(&host.name), HostId::from(index)))
            .collect(),
        constants: HashMap::new(),
        diagnostics: Vec::new(),
        broken: HashSet::new(),
        declared_constants: HashMap::new(),
        program,
    };
    let fields = ERROR_FIELDS.iter().map(|field| scope.program.names.intern(field)).collect();
    scope.program.types.push(ObjectType { name: "Error".into(), fields, span: Span::default() });
    if !items.iter().any(|item| matches!(item, Item::Function(_))) {
        let span = items.first().map_or(Span::default(), Item::span);
        let diagnostic = Diagnostic::new(Code::Unfinished, span, "the program has no functions");
        scope.diagnostics.push(diagnostic.help("a program starts with `fn main() { … }`"));
    }
    scope.declare(items);
    scope.constant_values(items);
    scope.functions(items);
    scope.diagnostics
}

impl Scope<'_> {
    fn declare(&mut self, items: &[Item]) {
        let mut callables: HashMap<Arc<str>, Span> = HashMap::new();
        let mut variables: HashMap<Arc<str>, Span> = HashMap::new();
        let mut functions = 0;
        for item in items {
            let (names, name) = match item {
                Item::Function(function) => (&mut callables, &function.name),
                Item::Object { name, .. } => (&mut callables, name),
                Item::Shared { name, .. } | Item::Const { name, .. } => (&mut variables, name),
            };
            if let Some(&first) = names.get(&name.text) {
                let message = format!("the name `{}` is declared twice", name.text);
                self.diagnostics.push(Diagnostic::new(Code::Duplicate, name.span, message).also(first, "first here"));
            } else {
                names.insert(Arc::clone(&name.text), name.span);
            }
            match item {
                Item::Function(function) => {
                    let callee = Callee {
                        id: FunctionId::from(functions),
                        parameters: function.parameters.len(),
                        span: function.head,
                    };
                    functions += 1;
                    self.entry_point(function);
                    self.functions.entry(Arc::clone(&function.name.text)).or_insert(callee);
                }
                Item::Object { name, fields, span } => self.object(name, fields, *span),
                Item::Shared { name, .. } => {
                    let id = GlobalId::from(self.program.globals.len());
                    self.program.globals.push(Global {
                        name: Arc::clone(&name.text),
                        assigned: false,
                        span: name.span,
                    });
                    self.globals.entry(Arc::clone(&name.text)).or_insert(id);
                }
                Item::Const { name, .. } => {
                    self.declared_constants.insert(Arc::clone(&name.text), name.span);
                }
            }
        }
    }

    fn entry_point(&mut self, function: &ast::Function) {
        let count = function.parameters.len();
        let Some((name, wanted, what)) = ENTRY_POINTS.iter().find(|(name, ..)| *name == &*function.name.text) else {
            return;
        };
        if count != *wanted {
            let message = format!(
                "`{name}` must have {wanted} parameter{}, but has {count}",
                if *wanted == 1 { "" } else { "s" }
            );
            self.diagnostics.push(Diagnostic::new(Code::WrongArity, function.head, message).help(*what));
        }
    }

    fn object(&mut self, name: &Name, fields: &[Name], span: Span) {
        let mut ids = Vec::new();
        for field in fields {
            let id = self.program.names.intern(&field.text);
            if ids.contains(&id) {
                let message = format!("the field `{}` is there twice", field.text);
                self.diagnostics.push(Diagnostic::new(Code::Duplicate, field.span, message));
            } else {
                ids.push(id);
            }
        }
        let id = TypeId::from(self.program.types.len());
        self.program.types.push(ObjectType { name: Arc::clone(&name.text), fields: ids, span });
        self.types.entry(Arc::clone(&name.text)).or_insert(id);
    }

    fn constant_values(&mut self, items: &[Item]) {
        for item in items {
            let Item::Const { name, value, .. } = item else {
                continue;
            };
            match self.constant(value) {
                Some(literal) => {
                    self.constants.entry(Arc::clone(&name.text)).or_insert((literal, name.span));
                }
                None => {
                    self.broken.insert(Arc::clone(&name.text));
                }
            }
        }
    }

    fn functions(&mut self, items: &[Item]) {
        let mut functions: Vec<Function> = Vec::new();
        let mut pure = Vec::new();
        for item in items {
            let Item::Function(function) = item else {
                continue;
            };
            for parameter in &function.parameters {
                self.not_shadowing(parameter, "parameter");
            }
            pure.extend(function.pure.then_some(functions.len()));
            functions.push(Builder::function(self, function));
        }
        let initialisers: Vec<_> = items
            .iter()
            .filter_map(|item| {
                if let Item::Shared { name, value: Some(value), .. } = item { Some((name, value)) } else { None }
            })
            .collect();
        let explicit = self.functions.get(INITIALISER).map(|callee| callee.id);
        self.program.initialiser = explicit;
        if !initialisers.is_empty() {
            self.program.initialiser = Some(FunctionId::from(functions.len()));
            functions.push(Builder::initialiser(self, &initialisers));
        }
        self.program.functions = functions;
        for index in pure {
            self.check_purity(index);
        }
    }

    /// Reports a local name that would hide a shared variable or a constant.
    pub(super) fn not_shadowing(&mut self, name: &Name, what: &str) {
        let (other, span) = if let Some(id) = self.globals.get(&name.text) {
            ("shared variable", self.program.globals[id.index()].span)
        } else if let Some(&span) = self.declared_constants.get(&name.text) {
            ("constant", span)
        } else {
            return;
        };
        let message = format!("the {what} `{}` has the name of a {other}", name.text);
        self.diagnostics.push(Diagnostic::new(Code::Duplicate, name.span, message).also(span, format!("the {other}")));
    }

    /// Whether this names a constant, known or not.
    pub(super) fn declares_constant(&self, name: &str) -> Option<Span> {
        self.declared_constants.get(name).copied()
    }

    /// The value of an expression that must be known before the program runs. What is wrong has been reported if there is none.
    pub(super) fn constant(&mut self, expr: &Expr) -> Option<Literal> {
        let (op, args): (Op, Vec<&Expr>) = match &expr.kind {
            ExprKind::Literal(literal) => return Some(literal.clone()),
            ExprKind::List(items) => return self.constant_list(items),
            ExprKind::Paren(inner) => return self.constant(inner),
            ExprKind::Name(name) => {
                if let Some((value, _)) = self.constants.get(name) {
                    return Some(value.clone());
                }
                if self.broken.contains(name) {
                    return None;
                }
                let message = match self.declared_constants.get(name) {
                    Some(_) => format!("the constant `{name}` is declared only later"),
                    None => format!("`{name}` is not a constant"),
                };
                let diagnostic = Diagnostic::new(Code::NotConstant, expr.span, message)
                    .label("must be known before the program runs");
                self.diagnostics.push(diagnostic.suggest(name, self.constants.keys().map(|name| &**name)));
                return None;
            }
            ExprKind::Neg(inner) => (Op::Neg, vec![&**inner]),
            ExprKind::Binary(op, left, right) => (*op, vec![&**left, &**right]),
            ExprKind::Index(list, index) => (Op::ReadList, vec![&**list, &**index]),
            _ => {
                let diagnostic = Diagnostic::new(Code::NotConstant, expr.span, "this is not a constant")
                    .label("must be known before the program runs")
                    .help("a constant is made of literals, other constants and arithmetic");
                self.diagnostics.push(diagnostic);
                return None;
            }
        };
        let args: Vec<Option<Literal>> = args.into_iter().map(|arg| self.constant(arg)).collect();
        let args: Vec<Literal> = args.into_iter().collect::<Option<_>>()?;
        match semantics::evaluate(op, &args)? {
            Ok(value) => Some(value),
            Err(fault) => {
                self.diagnostics.push(Diagnostic::new(
                    Code::NotConstant,
                    expr.span,
                    format!("this constant cannot be computed: {fault}"),
                ));
                None
            }
        }
    }

    /// The value of a list literal.
    pub(super) fn constant_list(&mut self, items: &[Expr]) -> Option<Literal> {
        let mut values = Vec::with_capacity(items.len());
        let mut wrong: Option<Span> = None;
        for item in items {
            match &item.kind {
                // What is not even meant as a constant gets advice about lists rather than about constants.
                ExprKind::Name(name) if !self.constants.contains_key(name) && !self.broken.contains(name) => {
                    wrong.get_or_insert(item.span);
                }
                ExprKind::Call(..) | ExprKind::Field(..) | ExprKind::And(..) | ExprKind::Or(..) | ExprKind::Not(..) => {
                    wrong.get_or_insert(item.span);
                }
                _ => values.push(self.constant(item)),
            }
        }
        if let Some(span) = wrong {
            self.diagnostics.push(
                Diagnostic::new(Code::NotConstant, span, "a list literal holds constants only")
                    .label("not a constant")
                    .help("a list of computed values is `list(a, b, …)`"),
            );
            return None;
        }
        values.into_iter().collect::<Option<Vec<_>>>().map(|values| Literal::List(values.into()))
    }

    /// Reports the first thing in a function declared pure that makes its result depend on more than its arguments, or that others
    /// can see. Changing what it made itself is its own business.
    fn check_purity(&mut self, index: usize) {
        use crate::flowgraph::op::Effect;
        use crate::flowgraph::program::{Immediate, Terminator};
        let function = &self.program.functions[index];
        let mut wrong: Option<(Span, String)> = None;
        for block in &function.blocks {
            for assign in &block.ops {
                let what = match (assign.op.effect(), assign.immediate) {
                    (Effect::Context | Effect::Output, _) => {
                        Some(format!("`{}` is no pure operation", assign.op.name()))
                    }
                    (_, Immediate::Function(callee)) if !self.program.functions[callee.index()].pure => {
                        Some(format!("`{}` is not declared pure", self.program.functions[callee.index()].name))
                    }
                    (_, Immediate::Host(host)) if !self.program.hosts[host.index()].pure => {
                        Some(format!("`{}` is not pure", self.program.hosts[host.index()].name))
                    }
                    (_, Immediate::Global(global))
                        if assign.op == Op::SetGlobal || self.program.globals[global.index()].assigned =>
                    {
                        Some(format!("`{}` is shared and may change", self.program.globals[global.index()].name))
                    }
                    _ => None,
                };
                if let Some(what) = what {
                    wrong.get_or_insert((assign.span, what));
                }
            }
            if matches!(block.end.terminator, Terminator::Retry | Terminator::PrintAndStop(_)) {
                wrong.get_or_insert((block.end.span, "a pure function returns or raises".to_owned()));
            }
        }
        if let Some((span, what)) = wrong {
            let message = format!("the function `{}` is declared pure, but is not", function.name);
            let diagnostic =
                Diagnostic::new(Code::NotPure, span, message).label(what).also(function.span, "declared here");
            self.diagnostics.push(diagnostic);
        }
    }
}
