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
use crate::flowgraph::lower::declarations::{Callee, Scope};
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{Assign, Block, BlockId, End, Function, Guard, Immediate, Operand, Terminator, VarId};
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{self, Body, Expr, ExprKind, Name, Over, Stmt, StmtKind};

/// A block under construction.
struct Draft {
    label: Arc<str>,
    ops: Vec<Assign>,
    end: Option<End>,
    span: Span,
    /// Whether the label stands in the program's text.
    written: bool,
    /// Whether some block leads here.
    entered: bool,
}

/// A label of the program.
struct Target {
    block: BlockId,
    span: Span,
    /// The guarded regions around it, from the outside.
    regions: Vec<u32>,
}

/// An enclosing loop.
struct Loop {
    next: BlockId,
    done: BlockId,
    regions: usize,
}

pub(super) struct Builder<'a, 'p> {
    pub scope: &'a mut Scope<'p>,
    pub variables: Vec<Arc<str>>,
    pub locals: HashMap<Arc<str>, VarId>,
    drafts: Vec<Draft>,
    open: Option<BlockId>,
    targets: HashMap<Arc<str>, Target>,
    label_counts: HashMap<&'static str, usize>,
    temporaries: usize,
    loops: Vec<Loop>,
    /// The variables of the enclosing `for` statements.
    counters: Vec<Name>,
    /// The guarded regions around the present statement, from the outside.
    regions: Vec<u32>,
    region_count: u32,
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
    fn open_block(&mut self, span: Span) -> BlockId {
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
    fn jump(&mut self, to: BlockId, regions: usize, span: Span) {
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

    // Statements.

    fn stmts(&mut self, stmts: &[Stmt]) {
        let mut told = false;
        for stmt in stmts {
            if self.open.is_none() && !matches!(stmt.kind, StmtKind::Label(_)) && !told {
                told = true;
                self.report(
                    Diagnostic::new(Code::Unreachable, stmt.span, "this is never reached").label("comes after a jump"),
                );
            }
            self.stmt(stmt);
        }
    }

    fn body(&mut self, body: &Body) {
        self.stmts(&body.stmts);
    }

    fn stmt(&mut self, stmt: &Stmt) {
        let span = stmt.span;
        match &stmt.kind {
            StmtKind::Label(name) => {
                let Some(target) = self.targets.get(&name.text).filter(|target| target.span == name.span) else {
                    return;
                };
                let block = target.block;
                if self.open != Some(block) {
                    self.end(Terminator::Goto(block), name.span);
                    self.start(block);
                }
            }
            StmtKind::Assign { place, op, value } => self.assign(place, *op, value, span),
            StmtKind::Expr(expr) => self.effect(expr),
            StmtKind::While { condition, body } => self.while_loop(condition, body, span),
            StmtKind::If { arms, otherwise } => self.if_chain(arms, otherwise.as_ref(), span),
            StmtKind::For { name, value, over, body } => self.for_loop((name, value.as_ref()), over, body, span),
            StmtKind::Break => self.leave_loop("break", span, |enclosing| enclosing.done),
            StmtKind::Continue => self.leave_loop("continue", span, |enclosing| enclosing.next),
            StmtKind::Return(value) => {
                let operand = match value {
                    Some(value) => self.value(value),
                    None => self.constant(Literal::None),
                };
                self.open_block(span);
                for _ in 0..self.regions.len() {
                    let outside = self.made("leave", span);
                    self.end(Terminator::Leave(outside), span);
                    self.start(outside);
                }
                self.end(Terminator::Return(operand), span);
            }
            StmtKind::Raise(value) => self.end_with(value, span, Terminator::Raise),
            StmtKind::PrintAndStop(value) => self.end_with(value, span, Terminator::PrintAndStop),
            StmtKind::Retry => {
                self.open_block(span);
                self.end(Terminator::Retry, span);
            }
            StmtKind::Try { body, name, handler } => self.try_region(body, name.as_ref(), handler, span),
            StmtKind::Either(alternatives) => self.alternatives(alternatives, span),
            StmtKind::Add { function, args, after } => self.add_event(function, args, after.as_ref(), span),
            StmtKind::Each { item, source, of, function, args } => self.each(item, *source, of, (function, args), span),
            StmtKind::When { condition, of, function, args } => self.when(*condition, of, function, args, span),
            StmtKind::Goto(label) => {
                self.open_block(span);
                if let Some((block, regions)) = self.target(label) {
                    self.jump(block, regions, span);
                }
            }
            StmtKind::Branch { condition, then, other } => {
                let condition_operand = self.value(condition);
                let (then, other) = (self.landing(then), self.landing(other));
                self.open_block(span);
                self.end(Terminator::If { condition: condition_operand, then, other }, span);
            }
            StmtKind::Promote { value, then } => {
                let operand = self.value(value);
                match then {
                    Some(label) => {
                        let then = self.landing(label);
                        self.open_block(span);
                        self.end(Terminator::Promote { value: operand, then }, span);
                    }
                    None => self.emit(None, Op::PromoteHint, Immediate::None, vec![operand], span),
                }
            }
            StmtKind::Enter { failure, body, name, handler } => {
                let error = name.as_ref().map(|name| self.local(&name.text));
                let (body, handler) = (self.landing(body), self.landing(handler));
                let guard = if *failure { Guard::Failure(error) } else { Guard::Retry };
                self.open_block(span);
                self.end(Terminator::Enter { guard, body, handler }, span);
            }
            StmtKind::Leave(label) => {
                let then = self.landing(label);
                self.open_block(span);
                self.end(Terminator::Leave(then), span);
            }
        }
    }

    fn end_with(&mut self, value: &Expr, span: Span, terminator: impl FnOnce(Operand) -> Terminator) {
        let operand = self.value(value);
        self.open_block(span);
        self.end(terminator(operand), span);
    }

    /// Where a label is and how many regions are around it, if it is there and can be jumped to from here.
    fn target(&mut self, name: &Name) -> Option<(BlockId, usize)> {
        let Some(target) = self.targets.get(&name.text) else {
            let message = format!("there is no label `{}` in this function", name.text);
            let diagnostic = Diagnostic::new(Code::UnknownLabel, name.span, message).label("jumps to nowhere");
            let diagnostic = diagnostic.suggest(&name.text, self.targets.keys().map(|label| &**label));
            self.report(diagnostic);
            return None;
        };
        if !self.regions.starts_with(&target.regions) {
            let message = format!("the label `{}` stands inside a guarded part", name.text);
            let diagnostic =
                Diagnostic::new(Code::Misplaced, name.span, message).label("cannot jump into it from here");
            let diagnostic = diagnostic.also(target.span, "the label");
            self.report(diagnostic);
            return None;
        }
        Some((target.block, target.regions.len()))
    }

    /// The block to jump to for a label: its own, or one that leaves regions first.
    fn landing(&mut self, name: &Name) -> BlockId {
        let Some((block, regions)) = self.target(name) else {
            return BlockId(0);
        };
        if regions == self.regions.len() {
            return block;
        }
        let open = self.open.take();
        let landing = self.made("leave", name.span);
        self.start(landing);
        for remaining in (regions..self.regions.len()).rev() {
            let next = if remaining == regions { block } else { self.made("leave", name.span) };
            self.end(Terminator::Leave(next), name.span);
            if remaining != regions {
                self.start(next);
            }
        }
        self.open = open;
        landing
    }

    fn assign(&mut self, place: &Expr, op: Option<Op>, value: &Expr, span: Span) {
        match &place.kind {
            ExprKind::Name(name) => {
                if let Some(counter) = self.counters.iter().find(|counter| counter.text == *name) {
                    let diagnostic = Diagnostic::new(
                        Code::NotAssignable,
                        place.span,
                        format!("`{name}` counts a loop and cannot be assigned in it"),
                    )
                    .also(counter.span, "the loop's variable");
                    return self.report(diagnostic);
                }
                if let Some(declared) = self.scope.declares_constant(name) {
                    let diagnostic = Diagnostic::new(
                        Code::NotAssignable,
                        place.span,
                        format!("`{name}` is a constant and cannot be assigned"),
                    )
                    .also(declared, "declared here");
                    return self.report(diagnostic);
                }
                let global = self.scope.globals.get(name).copied();
                let Some(global) = global else {
                    let target = self.local(name);
                    return match op {
                        None => self.into(value, target),
                        Some(op) => {
                            let operand = self.value(value);
                            self.emit(Some(target), op, Immediate::None, vec![Operand::Var(target), operand], span);
                        }
                    };
                };
                let operand = self.combined(op, value, span, |builder| {
                    let old = builder.temporary();
                    builder.emit(Some(old), Op::GetGlobal, Immediate::Global(global), vec![], place.span);
                    old
                });
                self.emit(None, Op::SetGlobal, Immediate::Global(global), vec![operand], span);
            }
            ExprKind::Field(object, field) => {
                let object = self.value(object);
                let Some(name) = self.field(field) else {
                    return;
                };
                let operand = self.combined(op, value, span, |builder| {
                    let old = builder.temporary();
                    builder.emit(Some(old), Op::GetField, Immediate::Field(name), vec![object], place.span);
                    old
                });
                self.emit(None, Op::SetField, Immediate::Field(name), vec![object, operand], span);
            }
            ExprKind::Index(collection, index) => {
                let collection = self.value(collection);
                let index = self.value(index);
                let operand = self.combined(op, value, span, |builder| {
                    let old = builder.temporary();
                    builder.emit(Some(old), Op::ReadList, Immediate::None, vec![collection, index], place.span);
                    old
                });
                self.emit(None, Op::SetIndex, Immediate::None, vec![collection, index, operand], span);
            }
            other => unreachable!("the parser lets nobody assign to {other:?}"),
        }
    }

    /// The value to assign: as it is, or combined with the old one.
    fn combined(&mut self, op: Option<Op>, value: &Expr, span: Span, old: impl FnOnce(&mut Self) -> VarId) -> Operand {
        let Some(op) = op else {
            return self.value(value);
        };
        let old = old(self);
        let operand = self.value(value);
        let result = self.temporary();
        self.emit(Some(result), op, Immediate::None, vec![Operand::Var(old), operand], span);
        Operand::Var(result)
    }

    fn while_loop(&mut self, condition: &Expr, body: &Body, span: Span) {
        let (head, inside, done) = (self.made("while", span), self.made("body", span), self.made("done", span));
        self.open_block(span);
        self.end(Terminator::Goto(head), condition.span);
        self.start(head);
        self.condition(condition, inside, done);
        self.start(inside);
        self.loops.push(Loop { next: head, done, regions: self.regions.len() });
        self.body(body);
        self.loops.pop();
        self.end(Terminator::Goto(head), span);
        self.start_if_reached(done);
    }

    /// Goes on in this block if anything leads to it; otherwise what follows is unreachable.
    fn start_if_reached(&mut self, block: BlockId) {
        if self.drafts[block.index()].entered {
            self.start(block);
        }
    }

    fn if_chain(&mut self, arms: &[(Expr, Body)], otherwise: Option<&Body>, span: Span) {
        let done = self.made("endif", span);
        for (index, (condition, body)) in arms.iter().enumerate() {
            let last = index + 1 == arms.len() && otherwise.is_none();
            let then = self.made("then", body.span);
            let other = if last { done } else { self.made("else", body.span) };
            self.open_block(span);
            self.condition(condition, then, other);
            self.start(then);
            self.body(body);
            self.end(Terminator::Goto(done), body.span);
            if !last {
                self.start(other);
            }
        }
        if let Some(body) = otherwise {
            self.body(body);
            self.end(Terminator::Goto(done), body.span);
        }
        self.start_if_reached(done);
    }

    fn for_loop(&mut self, (name, value): (&Name, Option<&Name>), over: &Over, body: &Body, span: Span) {
        let names = || std::iter::once(name).chain(value);
        for name in names() {
            if let Some(outer) = self.counters.iter().find(|counter| counter.text == name.text) {
                let message = format!("`{}` counts a loop around this one", name.text);
                let diagnostic =
                    Diagnostic::new(Code::NotAssignable, name.span, message).also(outer.span, "the outer loop");
                self.report(diagnostic);
            }
        }
        let variable = self.local(&name.text);
        // Over a range the variable itself counts; over elements a temporary does.
        let (counter, limit, collection, over_span) = match over {
            Over::Range(from, to) => {
                let from_operand = self.value(from);
                let to_operand = self.pinned(to);
                self.emit(Some(variable), Op::Same, Immediate::None, vec![from_operand], from.span);
                (variable, to_operand, None, from.span.to(to.span))
            }
            Over::Each(expr) => {
                let operand = self.value(expr);
                let (elements, length, counter) = (self.temporary(), self.temporary(), self.temporary());
                let listing = if value.is_some() { Op::Items } else { Op::Iterate };
                self.emit(Some(elements), listing, Immediate::None, vec![operand], expr.span);
                self.emit(Some(length), Op::Len, Immediate::None, vec![Operand::Var(elements)], expr.span);
                let zero = self.constant(Literal::int(0));
                self.emit(Some(counter), Op::Same, Immediate::None, vec![zero], expr.span);
                (counter, Operand::Var(length), Some(elements), expr.span)
            }
        };
        let (head, inside) = (self.made("for", span), self.made("body", span));
        let (next, done) = (self.made("next", span), self.made("done", span));
        self.open_block(span);
        self.end(Terminator::Goto(head), span);
        self.start(head);
        let more = self.temporary();
        self.emit(Some(more), Op::Lt, Immediate::None, vec![Operand::Var(counter), limit], over_span);
        self.end(Terminator::If { condition: Operand::Var(more), then: inside, other: done }, over_span);
        self.start(inside);
        if let Some(elements) = collection {
            let read = |builder: &mut Self, target, list, index| {
                builder.emit(Some(target), Op::ReadList, Immediate::None, vec![Operand::Var(list), index], over_span);
            };
            match value {
                None => read(self, variable, elements, Operand::Var(counter)),
                Some(value) => {
                    let (pair, value) = (self.temporary(), self.local(&value.text));
                    read(self, pair, elements, Operand::Var(counter));
                    for (index, target) in [variable, value].into_iter().enumerate() {
                        let index = self.constant(Literal::int(index as i64));
                        read(self, target, pair, index);
                    }
                }
            }
        }
        self.loops.push(Loop { next, done, regions: self.regions.len() });
        let outside = self.counters.len();
        self.counters.extend(names().cloned());
        self.body(body);
        self.counters.truncate(outside);
        self.loops.pop();
        self.end(Terminator::Goto(next), span);
        self.start(next);
        let one = self.constant(Literal::int(1));
        self.emit(Some(counter), Op::Add, Immediate::None, vec![Operand::Var(counter), one], over_span);
        self.end(Terminator::Goto(head), span);
        self.start(done);
    }

    /// A value that stays as it is even if the variable it came from is assigned later.
    fn pinned(&mut self, expr: &Expr) -> Operand {
        match self.value(expr) {
            Operand::Var(var) if !self.variables[var.index()].starts_with('_') => {
                let pinned = self.temporary();
                self.emit(Some(pinned), Op::Same, Immediate::None, vec![Operand::Var(var)], expr.span);
                Operand::Var(pinned)
            }
            operand => operand,
        }
    }

    fn leave_loop(&mut self, word: &str, span: Span, to: impl FnOnce(&Loop) -> BlockId) {
        let Some(enclosing) = self.loops.last() else {
            let diagnostic = Diagnostic::new(Code::Misplaced, span, format!("`{word}` stands outside a loop"));
            return self.report(diagnostic);
        };
        let (block, regions) = (to(enclosing), enclosing.regions);
        self.open_block(span);
        self.jump(block, regions, span);
    }

    fn guarded(&mut self, body: &Body, after: BlockId) {
        self.regions.push(self.region_count);
        self.region_count += 1;
        self.body(body);
        self.regions.pop();
        let end = Span { start: body.span.end.saturating_sub(1), end: body.span.end };
        self.end(Terminator::Leave(after), end);
    }

    fn try_region(&mut self, body: &Body, name: Option<&Name>, handler: &Body, span: Span) {
        let error = name.map(|name| self.local(&name.text));
        let (inside, caught, done) =
            (self.made("try", body.span), self.made("catch", handler.span), self.made("done", span));
        self.open_block(span);
        self.end(Terminator::Enter { guard: Guard::Failure(error), body: inside, handler: caught }, span);
        self.start(inside);
        self.guarded(body, done);
        self.start(caught);
        self.body(handler);
        self.end(Terminator::Goto(done), handler.span);
        self.start_if_reached(done);
    }

    fn alternatives(&mut self, alternatives: &[Body], span: Span) {
        let done = self.made("done", span);
        let last = alternatives.len() - 1;
        self.open_block(span);
        for body in &alternatives[..last] {
            let (inside, other) = (self.made("either", body.span), self.made("or", body.span));
            self.end(Terminator::Enter { guard: Guard::Retry, body: inside, handler: other }, body.span);
            self.start(inside);
            self.guarded(body, done);
            self.start(other);
        }
        self.body(&alternatives[last]);
        self.end(Terminator::Goto(done), alternatives[last].span);
        self.start_if_reached(done);
    }

    fn add_event(&mut self, name: &Name, args: &[Expr], after: Option<&Expr>, span: Span) {
        let operands = self.operands(after.into_iter().chain(args));
        let Some(callee) = self.event_function(name, args.len(), span) else { return };
        let op = if after.is_some() { Op::AddAfter } else { Op::AddEvent };
        self.emit(None, op, Immediate::Function(callee.id), operands, span);
    }

    /// `when condition(of) add name(args)`.
    fn when(&mut self, condition: Op, of: &Expr, name: &Name, args: &[Expr], span: Span) {
        let operands = self.operands(std::iter::once(of).chain(args));
        let Some(callee) = self.event_function(name, args.len(), span) else { return };
        self.emit(None, condition, Immediate::Function(callee.id), operands, span);
    }

    /// `for each item in source(of) add name(args)`: the item's place among the arguments becomes part of the operation.
    fn each(&mut self, item: &Name, source: Op, of: &Expr, (name, args): (&Name, &[Expr]), span: Span) {
        let is_item = |arg: &Expr| matches!(&arg.kind, ExprKind::Name(name) if *name == item.text);
        let place = args.iter().position(is_item);
        let mistake = match (place, args.iter().filter(|arg| is_item(arg)).count()) {
            (Some(_), 1) => None,
            (Some(_), _) => Some("is handed over more than once"),
            (None, _) => Some("is not handed to the event"),
        };
        if let Some(mistake) = mistake {
            let diagnostic = Diagnostic::new(Code::Misplaced, item.span, format!("`{}` {mistake}", item.text));
            let help = format!(
                "it is known only when the event starts: write it as an argument by itself, as in `{}({})`",
                name.text, item.text
            );
            return self.report(diagnostic.help(help));
        }
        let others = args.iter().enumerate().filter(|(index, _)| Some(*index) != place).map(|(_, arg)| arg);
        let operands = self.operands(std::iter::once(of).chain(others));
        let Some(callee) = self.event_function(name, args.len(), span) else { return };
        let place = place.unwrap_or_default() as u32;
        self.emit(None, source, Immediate::Each(callee.id, place), operands, span);
    }

    fn operands<'e>(&mut self, exprs: impl Iterator<Item = &'e Expr>) -> Vec<Operand> {
        exprs.map(|expr| self.value(expr)).collect()
    }

    /// The function that is to be an event with so many arguments.
    fn event_function(&mut self, name: &Name, count: usize, span: Span) -> Option<Callee> {
        let Some(&callee) = self.scope.functions.get(&name.text) else {
            let message = format!("there is no function `{}` to add as an event", name.text);
            let diagnostic = Diagnostic::new(Code::UnknownFunction, name.span, message);
            let diagnostic = if Op::called(&name.text).is_some() || self.scope.hosts.contains_key(&name.text) {
                diagnostic
                    .help(format!("an event is a call of a function of the program, which can call `{}`", name.text))
            } else {
                diagnostic.suggest(&name.text, self.scope.functions.keys().map(|name| &**name))
            };
            self.report(diagnostic);
            return None;
        };
        if callee.parameters != count {
            self.wrong_count(name, callee, count, span);
            return None;
        }
        Some(callee)
    }

    /// Names for suggestions: everything that a value can be read from.
    pub(super) fn readable(&self) -> HashSet<&str> {
        let scope = &*self.scope;
        self.locals.keys().chain(scope.globals.keys()).chain(scope.constants.keys()).map(|name| &**name).collect()
    }
}
