//! Statements: each ends, opens or extends blocks of the function under construction.

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::lower::body::{Builder, Loop};
use crate::flowgraph::lower::declarations::Callee;
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{BlockId, Guard, Immediate, Operand, Terminator, VarId};
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{Body, Expr, ExprKind, Name, Over, Stmt, StmtKind};

impl Builder<'_, '_> {
    pub(super) fn stmts(&mut self, stmts: &[Stmt]) {
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
}
