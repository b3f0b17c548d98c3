//! The loop around a transaction: begin, body, commit, and again after an abort.
//!
//! *Progress.* A transaction that has lost [`PATIENCE`] times takes the irrevocable token and runs once more under it, never to be
//! aborted; the token is given in the order of asking. So a transaction is attempted at most `PATIENCE + 1` times, however many others
//! run against it.

use std::panic::resume_unwind;
use std::sync::atomic::Ordering;

use crate::abort::Abort;
use crate::atomics::{Atomics, Native, Word, likely};
use crate::attempt::{Attempt, Mode};
use crate::hooks::Anything;
use crate::protocol::Protocol;
use crate::protocol::ordered::ANY_POSITION;
use crate::watch::Watch;

/// How often a transaction may lose before it runs irrevocably.
pub const PATIENCE: u32 = 3;

/// Why a body did not return a value: an abort that the loop deals with, or an error of the caller's own.
#[derive(Debug)]
pub enum Interrupt<E> {
    /// The attempt must end; the loop decides what follows.
    Abort(Abort),
    /// The transaction must be rolled back and the error returned.
    Error(E),
}

impl<E> From<Abort> for Interrupt<E> {
    #[inline(always)]
    fn from(abort: Abort) -> Self {
        Interrupt::Abort(abort)
    }
}

/// Any error at all becomes the failure of a body whose errors are boxed, so that `?` works in it on everything.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Interrupt<Box<dyn std::error::Error + Send + Sync>> {
    fn from(error: E) -> Self {
        Interrupt::Error(Box::new(error))
    }
}

/// Why a transaction that must not block ended without a value.
#[derive(Debug)]
pub enum Stop<E, A: Atomics = Native> {
    /// The error of the body.
    Error(E),
    /// The body retried: it is to be run again when the watch fires.
    Blocked(Watch<A>),
}

/// What a transaction runs: a closure, or something that also wants to know how its attempts end.
pub trait Body<A: Atomics, R, E> {
    /// One attempt.
    ///
    /// # Errors
    /// What ends the attempt.
    fn attempt(&mut self, tx: &mut Attempt<A>) -> Result<R, Interrupt<E>>;

    /// Called when an attempt has been aborted and rolled back, before the loop waits for anything. Whoever holds something besides
    /// transactional memory across the commit, such as the lock of a file, lets go of it here.
    #[inline(always)]
    fn aborted(&mut self, _reason: Abort) {}

    /// The error that the transaction ends with if a check failed with this one: as it is, if it is of the right type. What else there
    /// is goes on as a panic.
    fn violated(&mut self, error: Anything) -> E {
        resume_unwind(error)
    }

    /// Called with what a hook panicked with, once the transaction is over and all hooks have run.
    fn hook_panicked(&mut self, payload: Anything) {
        resume_unwind(payload)
    }
}

impl<A: Atomics, R, E, F: FnMut(&mut Attempt<A>) -> Result<R, Interrupt<E>>> Body<A, R, E> for F {
    #[inline(always)]
    fn attempt(&mut self, tx: &mut Attempt<A>) -> Result<R, Interrupt<E>> {
        self(tx)
    }
}

/// Rolls an attempt back if its body unwinds.
struct Unwinding<'a, A: Atomics, P: Protocol<A>> {
    tx: &'a mut Attempt<A>,
    protocol: std::marker::PhantomData<P>,
}

impl<A: Atomics, P: Protocol<A>> Unwinding<'_, A, P> {
    fn end(&mut self) {
        self.tx.slot().counters.failures.increment();
        roll_back::<P, A>(self.tx);
        let mode = self.tx.mode;
        finish_irrevocable(self.tx, mode);
        self.tx.forget_age();
        if self.tx.hooked {
            // The body's panic goes on; that of a hook, which has been reported, goes no further.
            drop(self.tx.run_hooks(false));
        }
    }
}

impl<A: Atomics, P: Protocol<A>> Drop for Unwinding<'_, A, P> {
    fn drop(&mut self) {
        if A::CAN_WAIT {
            self.end();
        } else {
            // A model checker that gives an execution up unwinds the threads that are left, and its atomics panic then.
            crate::hooks::quietly(|| self.end());
        }
    }
}

/// Ends a transaction between two attempts if a hook's panic unwinds.
struct Giving<'a, A: Atomics> {
    tx: &'a mut Attempt<A>,
    mode: Mode,
}

impl<A: Atomics> Drop for Giving<'_, A> {
    fn drop(&mut self) {
        finish_irrevocable(self.tx, self.mode);
        self.tx.forget_age();
        self.tx.blocked = None;
    }
}

/// Runs `body` as a transaction under `P` until it commits.
///
/// # Errors
/// The error of the body, after the transaction has been rolled back.
///
/// # Panics
/// If the body panics, after the transaction has been rolled back.
///
/// # Atomicity
/// Everything the body reads belongs to one state, and everything it writes becomes visible at once or not at all.
///
/// # Abort safety
/// The body runs once for each attempt; whatever it does beside its transactional accesses is repeated.
#[inline]
pub fn run<P: Protocol<A>, A: Atomics, R, E>(
    tx: &mut Attempt<A>,
    mode: Mode,
    mut body: impl FnMut(&mut Attempt<A>) -> Result<R, Interrupt<E>>,
) -> Result<R, E> {
    match transact::<P, A, R, E>(tx, mode, true, &mut body) {
        Ok(value) => Ok(value),
        Err(Interrupt::Error(error)) => Err(error),
        Err(Interrupt::Abort(_)) => unreachable!("in a domain of one protocol that one is in force"),
    }
}

/// The loop of [`run`]. It leaves it with [`Abort::Regime`] if the protocol is not in force and, unless it `blocks`, with
/// [`Abort::Retry`] if the body retried and what it waits for is in `tx.blocked`.
#[inline(always)]
pub(crate) fn transact<P: Protocol<A>, A: Atomics, R, E>(
    tx: &mut Attempt<A>,
    wanted: Mode,
    blocks: bool,
    body: &mut impl Body<A, R, E>,
) -> Result<R, Interrupt<E>> {
    let mut course = Course { mode: wanted, failed: 0 };
    if wanted == Mode::Irrevocable {
        start_irrevocable(tx);
    }
    loop {
        // Known to the compiler where nothing is registered, so that there is one test.
        let mut hooked = false;
        let outcome = attempt::<P, A, R, E>(tx, course.mode, &mut |tx| {
            let value = body.attempt(tx)?;
            if tx.hooked {
                hooked = true;
                check(tx, body)?;
            }
            Ok(value)
        });
        match outcome {
            Ok(value) => {
                finish_irrevocable(tx, course.mode);
                if hooked && let Some(payload) = tx.run_hooks(true) {
                    body.hook_panicked(payload);
                }
                return Ok(value);
            }
            Err(Interrupt::Abort(reason)) => {
                body.aborted(reason);
                if tx.hooked {
                    course.run_hooks(tx, body);
                }
                match course.after(tx, wanted, blocks, reason) {
                    Some(next) => course = next,
                    None => return Err(Interrupt::Abort(reason)),
                }
            }
            Err(Interrupt::Error(error)) => {
                course.fail(tx);
                if tx.hooked
                    && let Some(payload) = tx.run_hooks(false)
                {
                    body.hook_panicked(payload);
                }
                return Err(Interrupt::Error(error));
            }
        }
    }
}

/// Runs the checks that the body has registered.
#[cold]
fn check<A: Atomics, R, E>(tx: &mut Attempt<A>, body: &mut impl Body<A, R, E>) -> Result<(), Interrupt<E>> {
    tx.run_checks().map_err(|interrupt| match interrupt {
        Interrupt::Abort(abort) => Interrupt::Abort(abort),
        Interrupt::Error(error) => Interrupt::Error(body.violated(error)),
    })
}

/// What the loop knows about the attempts so far. Its methods are kept out of the way of a transaction that commits at once, and take
/// it by value, so that it can stay in registers.
#[derive(Clone, Copy)]
struct Course {
    mode: Mode,
    failed: u32,
}

impl Course {
    /// After an abort: waits for what is to be waited for. There is to be no other attempt if nothing is returned.
    #[cold]
    #[inline(never)]
    fn after<A: Atomics>(mut self, tx: &mut Attempt<A>, wanted: Mode, blocks: bool, reason: Abort) -> Option<Course> {
        tx.slot().counters.aborts[reason as usize].increment();
        match reason {
            Abort::Retry => {
                // The token is not kept over a wait.
                finish_irrevocable(tx, self.mode);
                self.mode = wanted;
                if !blocks && tx.blocked.is_some() {
                    tx.forget_age();
                    return None;
                }
                if let Some(watch) = tx.blocked.take() {
                    watch.wait();
                }
                if self.mode == Mode::Irrevocable {
                    start_irrevocable(tx);
                }
            }
            Abort::Regime => {
                finish_irrevocable(tx, self.mode);
                tx.forget_age();
                return None;
            }
            _ => self.mode = after_abort(tx, self.mode, reason, &mut self.failed),
        }
        Some(self)
    }

    /// After an abort: runs the abort hooks. If one has panicked and the body lets that pass, the transaction ends with it.
    #[cold]
    #[inline(never)]
    fn run_hooks<A: Atomics, R, E>(self, tx: &mut Attempt<A>, body: &mut impl Body<A, R, E>) {
        // A hook may run a transaction that needs the token.
        finish_irrevocable(tx, self.mode);
        let panicked = tx.run_hooks(false);
        if self.mode == Mode::Irrevocable {
            start_irrevocable(tx);
        }
        if let Some(payload) = panicked {
            let guard = Giving { tx, mode: self.mode };
            body.hook_panicked(payload);
            std::mem::forget(guard);
        }
    }

    /// After an error of the body.
    #[cold]
    #[inline(never)]
    fn fail<A: Atomics>(self, tx: &mut Attempt<A>) {
        tx.slot().counters.failures.increment();
        finish_irrevocable(tx, self.mode);
        tx.forget_age();
    }
}

/// One attempt: begin, body, commit or rollback.
///
/// # Errors
/// What interrupted it; it has been rolled back.
#[inline(always)]
pub fn attempt<P: Protocol<A>, A: Atomics, R, E>(
    tx: &mut Attempt<A>,
    mode: Mode,
    body: &mut impl FnMut(&mut Attempt<A>) -> Result<R, Interrupt<E>>,
) -> Result<R, Interrupt<E>> {
    let begun = if likely(tx.enter(mode)) || tx.enter_era() { P::begin(tx) } else { Err(Abort::Regime) };
    if let Err(abort) = begun {
        // Nothing was begun, so nothing is rolled back.
        tx.leave();
        return Err(abort.into());
    }
    let outcome = {
        let guard = Unwinding::<A, P> { tx: &mut *tx, protocol: std::marker::PhantomData };
        let outcome = body(&mut *guard.tx);
        std::mem::forget(guard);
        outcome
    };
    let error = match outcome {
        Ok(value) => match P::commit(tx) {
            Ok(()) => {
                committed(tx);
                return Ok(value);
            }
            Err(abort) => Interrupt::Abort(abort),
        },
        Err(error) => error,
    };
    if matches!(error, Interrupt::Abort(Abort::Retry)) {
        watch_reads::<P, A>(tx);
    }
    roll_back::<P, A>(tx);
    Err(error)
}

/// After a commit: values are handed over, waiters woken.
#[inline(always)]
fn committed<A: Atomics>(tx: &mut Attempt<A>) {
    tx.leave_committed();
    tx.tidy();
}

/// Prepares the wait of a transaction that retries; see the rules of [`watch`](crate::watch).
#[cold]
fn watch_reads<P: Protocol<A>, A: Atomics>(tx: &mut Attempt<A>) {
    if crate::mutant!(A, "watch-after-validation", false, true) {
        tx.blocked = if P::validate(tx).is_ok() { Some(P::watch(tx)) } else { None };
        return;
    }
    let watch = P::watch(tx);
    let holds = crate::mutant!(A, "watch-not-validated", P::validate(tx).is_ok(), true);
    tx.blocked = holds.then_some(watch);
}

fn roll_back<P: Protocol<A>, A: Atomics>(tx: &mut Attempt<A>) {
    P::rollback(tx);
    // It has met something newer, or would have.
    tx.keeps_snapshot = false;
    tx.replaced.clear();
    if tx.locks.is_empty() {
        tx.leave();
        if crate::mutant!(A, "born-not-dropped", true, false) {
            tx.drop_born(0);
        }
    } else {
        // Locks are kept for the next attempt, so it stays visible that there is one: the protocol must not be changed. And a destructor
        // could run a transaction that waits for them.
        tx.retire_born();
    }
    tx.born.clear();
    let ended = &tx.slot().ended;
    ended.store(ended.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    tx.slot().wake();
}

#[cold]
#[inline(never)]
fn after_abort<A: Atomics>(tx: &mut Attempt<A>, mode: Mode, reason: Abort, failed: &mut u32) -> Mode {
    *failed += 1;
    if !A::CAN_WAIT {
        // The abort stands for a wait: others must have their turn.
        A::spin();
    }
    if mode == Mode::Irrevocable {
        return mode;
    }
    if tx.position != ANY_POSITION {
        // A fixed order has its own last resort: in its turn a transaction cannot lose. Irrevocability would let it lock what an
        // earlier position has yet to write; so if that is what it wants, it waits for its turn as well.
        if A::CAN_WAIT && (*failed >= PATIENCE || reason == Abort::Irrevocable) {
            tx.domain().await_turn(tx.position);
        }
        if reason != Abort::Irrevocable {
            return mode;
        }
    }
    if *failed >= PATIENCE || reason == Abort::Irrevocable {
        start_irrevocable(tx);
        return Mode::Irrevocable;
    }
    tx.age();
    // Whoever lost to a transaction that is still running would most likely lose to it again.
    if let Some((slot, ended)) = tx.lost_to.take() {
        let other = tx.domain().slot(slot);
        other.wait_while(|| other.attempts_ended() == ended);
    }
    mode
}

#[cold]
fn start_irrevocable<A: Atomics>(tx: &mut Attempt<A>) {
    while tx.domain().take_token().is_err() {
        A::spin();
    }
    tx.become_eldest();
    tx.slot().counters.irrevocable.increment();
}

/// Gives the token back if this transaction holds it.
#[inline]
fn finish_irrevocable<A: Atomics>(tx: &mut Attempt<A>, mode: Mode) {
    if mode == Mode::Irrevocable {
        tx.domain().give_token();
    }
}
