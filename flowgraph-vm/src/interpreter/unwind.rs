//! Guarded regions, and the way from a failure to the handler that catches it.

use std::sync::Arc;

use super::{Guarded, Interruption, Machine, Trap};
use crate::barrier::{Attempt, Protocol};
use crate::builtins::access::{Access, Make};
use crate::bytecode::Code;
use crate::flowgraph::fault::{Fault, Frame, RuntimeError};
use crate::flowgraph::program::{ERROR_FIELDS, ERROR_TYPE, Guard};
use crate::heap::Kind;
use crate::value::Value;

impl Machine<'_> {
    /// Remembers heap, effects and variables as they are now.
    pub(super) fn enter<P: Protocol>(&mut self, tx: &mut Attempt, number: usize) {
        let slots = self.base..self.base + self.code().template.len();
        let saved = self.worker.saved.len();
        self.worker.saved.extend_from_slice(&self.worker.stack[slots]);
        self.worker.mutator.savepoint();
        self.worker.guards.push(Guarded {
            site: self.code().guards[number],
            code: self.code,
            base: self.base,
            depth: self.worker.frames.len(),
            savepoint: P::savepoint(tx),
            effects: self.context.mark(),
            saved,
        });
    }

    /// Finds out where to go on after a trap at the instruction `index`: the word to continue at, with everything rolled back to how
    /// it was when the guarded region was entered.
    ///
    /// # Errors
    /// What the event ends with, if nothing guards against it.
    #[cold]
    #[inline(never)]
    pub(super) fn unwind<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        trap: Trap,
        index: usize,
    ) -> Result<usize, Interruption> {
        let (error, raised) = match trap {
            Trap::Abort(abort) => return Err(Interruption::Abort(abort)),
            Trap::Retry => {
                let waits = self.error_at(index, Fault::RetryInvalid {});
                return match self.roll_back_to_guard::<P>(tx, |guard| guard == Guard::Retry) {
                    Some(guard) => Ok(guard.site.handler as usize),
                    None => Err(Interruption::Retry(Box::new(waits))),
                };
            }
            Trap::Fault(fault) => (self.error_at(index, *fault), Value::NONE),
            Trap::Raise(value) => {
                let fault = match self.describe::<P>(tx, value) {
                    Ok(fault) => fault,
                    Err(Trap::Abort(abort)) => return Err(Interruption::Abort(abort)),
                    Err(_) => Fault::Raised { value: "a value too large to show".to_owned() },
                };
                (self.error_at(index, fault), value)
            }
        };
        // An event that is over its limits would be so in the handler as well.
        let catchable = !matches!(
            error.fault,
            Fault::TooManySteps { .. }
                | Fault::TooMuchMemory { .. }
                | Fault::TooMuchAllocated { .. }
                | Fault::TooMuchOutput { .. }
        );
        let guard =
            if catchable { self.roll_back_to_guard::<P>(tx, |guard| matches!(guard, Guard::Failure(_))) } else { None };
        let Some(guard) = guard else { return Err(Interruption::Failed(Box::new(error))) };
        if let Guard::Failure(Some(var)) = guard.site.guard {
            let object = self.error_object(&error, raised);
            let slot = self.code().slots[var.index()] as usize;
            self.worker.stack[self.base + slot] = object;
        }
        Ok(guard.site.handler as usize)
    }

    fn roll_back_to_guard<P: Protocol>(&mut self, tx: &mut Attempt, wanted: impl Fn(Guard) -> bool) -> Option<Guarded> {
        while let Some(guard) = self.worker.guards.pop() {
            let saved = guard.saved;
            if wanted(guard.site.guard) {
                P::rollback_to(tx, guard.savepoint);
                self.context.roll_back_to(guard.effects);
                self.worker.frames.truncate(guard.depth);
                (self.code, self.base) = (guard.code, guard.base);
                let slots = self.base..self.base + self.code().template.len();
                self.worker.stack[slots].copy_from_slice(&self.worker.saved[saved..]);
                self.worker.saved.truncate(saved);
                return Some(guard);
            }
            self.worker.saved.truncate(saved);
        }
        None
    }

    /// A raised value as a fault. An error that is raised again keeps its own message.
    fn describe<P: Protocol>(&mut self, tx: &mut Attempt, value: Value) -> Result<Fault, Trap> {
        let shared = self.shared;
        let mut access = Access::<P>::new(tx, &mut self.worker.mutator);
        let mut text = String::new();
        match value.object_of(Kind::Struct).filter(|object| object.meta().shape() == ERROR_TYPE.0 as u16) {
            Some(error) => {
                let message = access.read(error, field("message"))?;
                access.format(shared, message, true, &mut text)?;
            }
            None => access.format(shared, value, true, &mut text)?,
        }
        Ok(Fault::Raised { value: text })
    }

    /// The error of a fault at an instruction of the function that runs.
    fn error_at(&self, index: usize, fault: Fault) -> RuntimeError {
        let (function, block, span) = self.place(self.code(), index);
        let trace = self.worker.frames.iter().rev().map(|frame| {
            let (function, _, span) = self.place(frame.code(), frame.call as usize);
            Frame { function, span }
        });
        // Of very deep recursion the innermost and the outermost calls say enough.
        let mut trace: Vec<Frame> = trace.collect();
        if trace.len() > 200 {
            trace.drain(100..trace.len() - 100);
        }
        RuntimeError { trace, ..RuntimeError::new(fault, function, block, span) }
    }

    fn place(&self, code: &Code, index: usize) -> (Arc<str>, Arc<str>, crate::source::Span) {
        let function = &self.shared.program.functions[code.function.index()];
        let site = code.sites[index];
        let block = &function.blocks[site.block.index()];
        let span = block.ops.get(site.op as usize).map_or(block.end.span, |op| op.span);
        (function.name.clone(), block.label.clone(), span)
    }

    /// What a handler sees of an error.
    fn error_object(&mut self, error: &RuntimeError, raised: Value) -> Value {
        let source = &self.shared.program.source;
        let kind = Value::symbol(self.shared.symbols.intern(error.fault.kind()));
        let heap = &mut self.worker.mutator;
        let message = heap.make_text(&error.fault.to_string());
        let place = heap.make_text(&source.place(error.span));
        let trace: Vec<Value> = error.trace.iter().map(|frame| heap.make_text(&source.place(frame.span))).collect();
        let trace = heap.make_list(&trace);
        let object = heap.allocate(Kind::Struct, ERROR_TYPE.0 as u16, ERROR_FIELDS.len());
        for (name, value) in ERROR_FIELDS.iter().zip([kind, message, raised, place, trace]) {
            object.init(field(name), value);
        }
        object.value()
    }
}

fn field(name: &str) -> usize {
    ERROR_FIELDS.iter().position(|field| *field == name).expect("a field of errors")
}
