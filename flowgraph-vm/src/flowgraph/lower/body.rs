//! One function: statements become blocks.
//!
//! The builder appends to the block that is open; a statement that ends it leaves none open, and what comes next without a label is
//! unreachable. Blocks that the lowering makes have labels such as `while1`, numbered per function and never equal to one of the
//! program's. Blocks that cannot be reached are left out in the end.
//!
//! Guarded regions: each statement stands in a known number of enclosing regions. A jump out of some of them goes through one `Leave` for each; a
//! jump into one is a mistake.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::lower::INITIALISER;
use crate::flowgraph::lower::declarations::Scope;
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{Assign, Block, BlockId, End, Function, Immediate, Operand, Terminator, VarId};
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{self, Body, Expr, ExprKind, Name, Stmt, StmtKind};

/// A block under construction.
pub(super) struct Draft {
    pub(super) label: Arc<str>,
    pub(super) ops: Vec<Assign>,
    pub(super) end: Option<End>,
    pub(super) span: Span,
    /// Whether the label stands in the program's text.
    pub(super) written: bool,
    /// Whether some block leads here.
    pub(super) entered: bool,
}

/// A label of the program.
pub(super) struct Target {
    pub(super) block: BlockId,
    pub(super) span: Span,
    /// The guarded regions around it, from the outside.
    pub(super) regions: Vec<u32>,
}

/// An enclosing loop.
pub(super) struct Loop {
    pub(super) next: BlockId,
    pub(super) done: BlockId,
    pub(super) regions: usize,
}

pub(super) struct Builder<'a, 'p> {
    pub scope: &'a mut Scope<'p>,
    pub variables: Vec<Arc<str>>,
    pub locals: HashMap<Arc<str>, VarId>,
    pub(super) drafts: Vec<Draft>,
    pub(super) open: Option<BlockId>,
    pub(super) targets: HashMap<Arc<str>, Target>,
    label_counts: HashMap<&'static str, usize>,
    temporaries: usize,
    pub(super) loops: Vec<Loop>,
    /// The variables of the enclosing `for` statements.
    pub(super) counters: Vec<Name>,
    /// The guarded regions around the present statement, from the outside.
    pub(super) regions: Vec<u32>,
    pub(super) region_count: u32,
    /// Whether this is the function that gives shared variables their first values.
    initialising: bool,
}

impl<'a, 'p> Builder<'a, 'p> {
    fn new(scope: &'a mut Scope<'p>) -> Self {
        Self {
            scope,
            variables: Vec::new(),
            locals: HashMap::new(),
            drafts: Vec::new(),
            open: None,
            targets: HashMap::new(),
            label_counts: HashMap::new(),
            temporaries: 0,
            loops: Vec::new(),
            counters: Vec::new(),
            regions: Vec::new(),
            region_count: 0,
            initialising: false,
        }
    }

    /// Lowers a function of the program.
    pub(super) fn function(scope: &'a mut Scope<'p>, function: &ast::Function) -> Function {
        let mut builder = Self::new(scope);
        builder.initialising = *function.name.text == *INITIALISER;
        for parameter in &function.parameters {
            if builder.locals.contains_key(&parameter.text) {
                let message = format!("the parameter `{}` is there twice", parameter.text);
                builder.report(Diagnostic::new(Code::Duplicate, parameter.span, message));
            }
            builder.local(&parameter.text);
        }
        builder.collect_names(&function.body.stmts);
        let entry = match function.body.stmts.first().map(|stmt| &stmt.kind) {
            // A function that starts with a label starts at that label.
            Some(StmtKind::Label(name)) => builder.draft(Arc::clone(&name.text), name.span, true),
            _ => builder.made("entry", function.head),
        };
        builder.collect_labels(&function.body.stmts, &mut Vec::new(), &mut 0, entry);
        builder.open = Some(entry);
        builder.region_count = 0;
        builder.stmts(&function.body.stmts);
        let end = Span { start: function.body.span.end.saturating_sub(1), end: function.body.span.end };
        let none = builder.constant(Literal::None);
        builder.end(Terminator::Return(none), end);
        builder.finish(Arc::clone(&function.name.text), function.parameters.len(), function.pure, function.head)
    }

    /// Makes the function that gives the shared variables their first values.
    pub(super) fn initialiser(scope: &'a mut Scope<'p>, values: &[(&Name, &Expr)]) -> Function {
        let mut builder = Self::new(scope);
        builder.initialising = true;
        let span = values.first().map_or(Span::default(), |(name, _)| name.span);
        let entry = builder.made("entry", span);
        builder.open = Some(entry);
        for (name, value) in values {
            let operand = builder.value(value);
            let global = builder.scope.globals[&name.text];
            builder.emit(None, Op::SetGlobal, Immediate::Global(global), vec![operand], value.span);
        }
        let none = builder.constant(Literal::None);
        builder.end(Terminator::Return(none), span);
        builder.finish(INITIALISER.into(), 0, false, span)
    }

    // What the expressions need too.

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.scope.diagnostics.push(diagnostic);
    }

    pub(super) fn constant(&mut self, literal: Literal) -> Operand {
        Operand::Const(self.scope.program.constants.intern(literal))
    }

    pub(super) fn local(&mut self, name: &Arc<str>) -> VarId {
        if let Some(&id) = self.locals.get(name) {
            return id;
        }
        let id = VarId::from(self.variables.len());
        self.variables.push(Arc::clone(name));
        self.locals.insert(Arc::clone(name), id);
        id
    }

    pub(super) fn temporary(&mut self) -> VarId {
        loop {
            self.temporaries += 1;
            let name: Arc<str> = format!("_{}", self.temporaries).into();
            if !self.locals.contains_key(&name) {
                return self.local(&name);
            }
        }
    }

    pub(super) fn emit(&mut self, target: Option<VarId>, op: Op, immediate: Immediate, args: Vec<Operand>, span: Span) {
        if let Immediate::Global(global) = immediate
            && op == Op::SetGlobal
            && !self.initialising
        {
            self.scope.program.globals[global.index()].assigned = true;
        }
        let open = self.open_block(span);
        self.drafts[open.index()].ops.push(Assign { target, op, immediate, args, span });
    }

    /// The block that is open; what stands behind the end of one gets a block that nothing leads to.
    pub(super) fn open_block(&mut self, span: Span) -> BlockId {
        match self.open {
            Some(open) => open,
            None => {
                let block = self.made("unreachable", span);
                self.open = Some(block);
                block
            }
        }
    }

    // Blocks.

    fn draft(&mut self, label: Arc<str>, span: Span, written: bool) -> BlockId {
        let id = BlockId::from(self.drafts.len());
        self.drafts.push(Draft { label, ops: Vec::new(), end: None, span, written, entered: false });
        id
    }

    /// A block of the lowering's own making.
    pub(super) fn made(&mut self, hint: &'static str, span: Span) -> BlockId {
        loop {
            let count = self.label_counts.entry(hint).or_insert(0);
            *count += 1;
            let label = if hint == "entry" && *count == 1 { hint.to_owned() } else { format!("{hint}{count}") };
            if !self.targets.contains_key(label.as_str()) {
                return self.draft(label.into(), span, false);
            }
        }
    }

    /// Ends the open block, if any.
    pub(super) fn end(&mut self, terminator: Terminator, span: Span) {
        if let Some(open) = self.open.take() {
            for successor in terminator.successors() {
                self.drafts[successor.index()].entered = true;
            }
            self.drafts[open.index()].end = Some(End { terminator, span });
        }
    }

    /// Goes on in this block.
    pub(super) fn start(&mut self, block: BlockId) {
        debug_assert!(self.open.is_none(), "a block is still open");
        self.open = Some(block);
    }

    /// Jumps out of the regions that are around this statement but not around the target.
    pub(super) fn jump(&mut self, to: BlockId, regions: usize, span: Span) {
        for _ in regions..self.regions.len() {
            let outside = self.made("leave", span);
            self.end(Terminator::Leave(outside), span);
            self.start(outside);
        }
        self.end(Terminator::Goto(to), span);
    }

    fn finish(self, name: Arc<str>, parameters: usize, pure: bool, span: Span) -> Function {
        let mut numbers: Vec<Option<BlockId>> = vec![None; self.drafts.len()];
        let mut pending = vec![0_usize];
        let mut reached = vec![false; self.drafts.len()];
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut reached[index], true) {
                continue;
            }
            if let Some(end) = &self.drafts[index].end {
                pending.extend(end.terminator.successors().map(BlockId::index));
            }
        }
        let mut count = 0;
        for (index, number) in numbers.iter_mut().enumerate() {
            if reached[index] {
                *number = Some(BlockId::from(count));
                count += 1;
            }
        }
        let mut blocks = Vec::with_capacity(count);
        for (index, draft) in self.drafts.into_iter().enumerate() {
            if !reached[index] {
                if draft.written {
                    let message = format!("the block `{}` is never reached", draft.label);
                    self.scope
                        .diagnostics
                        .push(Diagnostic::new(Code::Unreachable, draft.span, message).label("nothing jumps here"));
                }
                continue;
            }
            // A label without an end was declared twice; that has been reported.
            let mut end = draft.end.unwrap_or(End { terminator: Terminator::Retry, span: draft.span });
            end.terminator.map_successors(|successor| numbers[successor.index()].unwrap_or(BlockId(0)));
            blocks.push(Block { label: draft.label, ops: draft.ops, end, span: draft.span });
        }
        Function { name, parameters, variables: self.variables, blocks, pure, span }
    }

    // Collecting.

    /// Every name that the function assigns is a variable of its own, unless it is shared.
    fn collect_names(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match &stmt.kind {
                StmtKind::Assign { place, .. } => {
                    if let ExprKind::Name(name) = &place.kind
                        && !self.scope.globals.contains_key(name)
                        && self.scope.declares_constant(name).is_none()
                    {
                        self.local(name);
                    }
                }
                StmtKind::For { name, value, body, .. } => {
                    for name in std::iter::once(name).chain(value) {
                        self.scope.not_shadowing(name, "variable");
                        self.local(&name.text);
                    }
                    self.collect_names(&body.stmts);
                }
                StmtKind::While { body, .. } => self.collect_names(&body.stmts),
                StmtKind::If { arms, otherwise } => {
                    for (_, body) in arms {
                        self.collect_names(&body.stmts);
                    }
                    if let Some(body) = otherwise {
                        self.collect_names(&body.stmts);
                    }
                }
                StmtKind::Try { body, name, handler } => {
                    if let Some(name) = name {
                        self.scope.not_shadowing(name, "variable");
                        self.local(&name.text);
                    }
                    self.collect_names(&body.stmts);
                    self.collect_names(&handler.stmts);
                }
                StmtKind::Enter { name: Some(name), .. } => {
                    self.local(&name.text);
                }
                StmtKind::Either(alternatives) => {
                    for body in alternatives {
                        self.collect_names(&body.stmts);
                    }
                }
                _ => {}
            }
        }
    }

    /// Makes a block for every label, with the regions around it. Regions are numbered in the order of the text, here as in [`stmts`](Self::stmts).
    fn collect_labels(&mut self, stmts: &[Stmt], regions: &mut Vec<u32>, count: &mut u32, entry: BlockId) {
        for stmt in stmts {
            let guarded = |builder: &mut Self, body: &Body, regions: &mut Vec<u32>, count: &mut u32| {
                regions.push(*count);
                *count += 1;
                builder.collect_labels(&body.stmts, regions, count, entry);
                regions.pop();
            };
            match &stmt.kind {
                StmtKind::Label(name) => {
                    if let Some(first) = self.targets.get(&name.text) {
                        let first = first.span;
                        let message = format!("the label `{}` is there twice", name.text);
                        self.report(Diagnostic::new(Code::Duplicate, name.span, message).also(first, "first here"));
                        continue;
                    }
                    let is_entry = self.drafts[entry.index()].written && self.drafts[entry.index()].span == name.span;
                    let block = if is_entry { entry } else { self.draft(Arc::clone(&name.text), name.span, true) };
                    self.targets
                        .insert(Arc::clone(&name.text), Target { block, span: name.span, regions: regions.clone() });
                }
                StmtKind::For { body, .. } | StmtKind::While { body, .. } => {
                    self.collect_labels(&body.stmts, regions, count, entry)
                }
                StmtKind::If { arms, otherwise } => {
                    for (_, body) in arms {
                        self.collect_labels(&body.stmts, regions, count, entry);
                    }
                    if let Some(body) = otherwise {
                        self.collect_labels(&body.stmts, regions, count, entry);
                    }
                }
                StmtKind::Try { body, handler, .. } => {
                    guarded(self, body, regions, count);
                    self.collect_labels(&handler.stmts, regions, count, entry);
                }
                StmtKind::Either(alternatives) => {
                    let last = alternatives.len() - 1;
                    for body in &alternatives[..last] {
                        guarded(self, body, regions, count);
                    }
                    self.collect_labels(&alternatives[last].stmts, regions, count, entry);
                }
                _ => {}
            }
        }
    }

    /// Names for suggestions: everything that a value can be read from.
    pub(super) fn readable(&self) -> HashSet<&str> {
        let scope = &*self.scope;
        self.locals.keys().chain(scope.globals.keys()).chain(scope.constants.keys()).map(|name| &**name).collect()
    }
}
