//! What a transaction leaves to be done at its end: checks, hooks, and values of its own.
//!
//! 1. A *check* runs when the body has ended, before the commit, and sees the state that is about to be committed. What it reads is
//!    validated with everything else.
//! 2. A *commit hook* runs once, after the commit. An *abort hook* runs once, after what it was registered in has been rolled back: the
//!    attempt, or a nested part of it; in the latter case when the attempt is over, however it ends.
//! 3. Both run outside of the transaction: its locks are released, its token is given back, and they may run transactions themselves.
//! 4. What is rolled back to a savepoint takes its checks, its commit hooks and the values of its [locals](crate::TxLocal) with it.
//! 5. A panic of one hook keeps none of the others from running; then it reaches whoever ran the transaction, whose outcome it does not
//!    change.
//!
//! A transaction that uses none of this tests one byte.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::atomics::Atomics;
use crate::attempt::Attempt;
use crate::run::Interrupt;
use crate::runtime;

/// An error or a panic's payload, whatever its type.
pub type Anything = Box<dyn Any + Send>;

type Hook = Box<dyn FnOnce()>;
type Check<A> = Box<dyn FnOnce(&mut Attempt<A>) -> Result<(), Interrupt<Anything>>>;

enum Entry<A: Atomics> {
    Check(Check<A>),
    OnCommit(Hook),
    OnAbort(Hook),
}

/// The value of a [`TxLocal`](crate::TxLocal) in the running attempt.
struct Local {
    id: u64,
    value: Box<dyn Any>,
}

/// What is registered with the running attempt.
pub(crate) struct Hooks<A: Atomics> {
    log: Vec<Entry<A>>,
    /// Abort hooks of parts that have been rolled back already.
    rolled_back: Vec<Hook>,
    /// The newest value of a local is its last.
    locals: Vec<Local>,
    /// Values of locals before this one were there at the last savepoint.
    floor: usize,
}

impl<A: Atomics> Default for Hooks<A> {
    fn default() -> Self {
        Hooks { log: Vec::new(), rolled_back: Vec::new(), locals: Vec::new(), floor: 0 }
    }
}

impl<A: Atomics> fmt::Debug for Hooks<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("log", &self.log.len())
            .field("locals", &self.locals.len())
            .finish_non_exhaustive()
    }
}

/// A position to roll back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    log: usize,
    locals: usize,
}

impl<A: Atomics> Hooks<A> {
    pub(crate) fn mark(&mut self) -> Mark {
        self.floor = self.locals.len();
        Mark { log: self.log.len(), locals: self.locals.len() }
    }

    /// Rule 4.
    pub(crate) fn roll_back_to(&mut self, mark: Mark) {
        if self.log.len() == mark.log && self.locals.len() == mark.locals {
            return;
        }
        if crate::mutant!(A, "undone-hook-kept", false, true) {
            return;
        }
        let undone: Vec<Entry<A>> = self.log.drain(mark.log..).collect();
        let locals: Vec<Local> = self.locals.drain(mark.locals..).collect();
        // An older savepoint may stand further down; treating all that is left as older than a savepoint costs a copy at most.
        self.floor = mark.locals;
        for entry in undone {
            match entry {
                Entry::OnAbort(hook) if crate::mutant!(A, "undone-abort-hook-forgotten", true, false) => {
                    self.rolled_back.push(hook);
                }
                other => quietly(|| drop(other)),
            }
        }
        locals.into_iter().for_each(|local| quietly(|| drop(local)));
    }

    /// The place of a local's value, if it has one in this attempt.
    pub(crate) fn find(&self, id: u64) -> Option<&dyn Any> {
        self.locals.iter().rev().find(|local| local.id == id).map(|local| &*local.value)
    }

    /// As [`find`](Self::find), to be changed; and whether a savepoint forbids that.
    pub(crate) fn find_mut(&mut self, id: u64) -> Option<(&mut dyn Any, bool)> {
        let index = self.locals.iter().rposition(|local| local.id == id)?;
        Some((&mut *self.locals[index].value, index < self.floor))
    }

    pub(crate) fn put(&mut self, id: u64, value: Box<dyn Any>) {
        self.locals.push(Local { id, value });
    }
}

impl<A: Atomics> Attempt<A> {
    pub(crate) fn add_check(&mut self, check: Check<A>) {
        self.register(Entry::Check(check));
    }

    pub(crate) fn add_commit_hook(&mut self, hook: Hook) {
        self.register(Entry::OnCommit(hook));
    }

    pub(crate) fn add_abort_hook(&mut self, hook: Hook) {
        self.register(Entry::OnAbort(hook));
    }

    fn register(&mut self, entry: Entry<A>) {
        self.hooked = true;
        self.hooks.log.push(entry);
    }

    /// Runs the checks (rule 1), those included that other checks register.
    ///
    /// # Errors
    /// The first that fails, or an abort.
    #[cold]
    #[inline(never)]
    pub(crate) fn run_checks(&mut self) -> Result<(), Interrupt<Anything>> {
        let mut at = 0;
        while at < self.hooks.log.len() {
            if matches!(self.hooks.log[at], Entry::Check(_)) {
                // Removed from its place, which the hooks after it do not mind.
                let Entry::Check(check) = self.hooks.log.remove(at) else { unreachable!("just looked at") };
                check(self)?;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// Ends what is registered: runs the hooks that the outcome asks for, outside of the transaction, and drops everything else.
    /// Gives back what the first of them that panicked panicked with.
    #[cold]
    #[inline(never)]
    pub(crate) fn run_hooks(&mut self, committed: bool) -> Option<Anything> {
        debug_assert!(!self.is_running());
        self.hooked = false;
        self.hooks.floor = 0;
        let log = std::mem::take(&mut self.hooks.log);
        let rolled_back = std::mem::take(&mut self.hooks.rolled_back);
        let locals = std::mem::take(&mut self.hooks.locals);
        let mut panicked = None;
        let mut run = |hook: Hook| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(hook)) {
                panicked.get_or_insert(payload);
            }
        };
        runtime::aside(|| {
            locals.into_iter().for_each(|local| run(Box::new(move || drop(local))));
            rolled_back.into_iter().for_each(&mut run);
            for entry in log {
                match entry {
                    Entry::OnCommit(hook) if committed || crate::mutant!(A, "commit-hook-after-abort", false, true) => {
                        run(hook);
                    }
                    Entry::OnAbort(hook) if !committed || crate::mutant!(A, "abort-hook-after-commit", false, true) => {
                        run(hook);
                    }
                    other => quietly(|| drop(other)),
                }
            }
        });
        panicked
    }
}

/// Drops values of the user's, whose destructors may panic: the panic hook has reported that, and nobody is left who could do anything
/// about it.
pub(crate) fn quietly(drops: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(drops));
}
