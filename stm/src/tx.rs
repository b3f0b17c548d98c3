//! Running transactions: `atomically` and its relatives, and the handle that a body gets.
#![expect(unsafe_code, reason = "calls the barriers")]

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::abort::Abort;
use crate::atomics::Native;
use crate::attempt::{Attempt, Mode, Place};
use crate::hooks::Anything;
use crate::protocol::{Any, Protocol, Shipped};
use crate::run::{Body, Interrupt, Stop};
use crate::runtime;

/// What a transaction's body returns: a value, or the abort that a barrier reported.
pub type Result<T> = std::result::Result<T, Abort>;

/// A running transaction: reads and writes.
///
/// `P` is the protocol; by default the one in force, whichever it is.
#[derive(Debug)]
pub struct Tx<'a, P: Protocol = Any> {
    pub(crate) attempt: &'a mut Attempt,
    protocol: PhantomData<P>,
}

/// A running transaction that only reads.
#[derive(Debug)]
pub struct ReadTx<'a, P: Protocol = Any> {
    attempt: &'a mut Attempt,
    /// The descriptor's limit, which a read-only attempt never moves: here it can stay in a register.
    limit: u64,
    protocol: PhantomData<P>,
}

/// Whatever can read transactional variables: [`Tx`], [`ReadTx`], and handles that contain one.
///
/// # Safety
/// Words come from the barrier of a running attempt and from nowhere else, and that attempt goes on for as long as the borrow of the handle.
pub unsafe trait Read {
    /// Reads a word.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    ///
    /// # Safety
    /// The object stays allocated until the attempt ends.
    unsafe fn read_word(&mut self, place: Place) -> Result<u64>;

    /// Notes the line of the program whose read has just been refused, for whoever reports collisions.
    #[cold]
    fn note_lost_at(&mut self, _place: &'static Location<'static>) {}
}

// SAFETY: the barrier of the attempt.
unsafe impl<P: Protocol> Read for Tx<'_, P> {
    #[inline(always)]
    unsafe fn read_word(&mut self, place: Place) -> Result<u64> {
        // SAFETY: by the caller's promise.
        unsafe { P::read(self.attempt, place) }
    }

    #[cold]
    fn note_lost_at(&mut self, place: &'static Location<'static>) {
        self.attempt.note_lost_at(place);
    }
}

// SAFETY: the barrier of the attempt.
unsafe impl<P: Protocol> Read for ReadTx<'_, P> {
    #[inline(always)]
    unsafe fn read_word(&mut self, place: Place) -> Result<u64> {
        // SAFETY: by the caller's promise.
        let (field, header) = unsafe { (place.field(), place.header()) };
        // The fast path that rule 1 of the contract allows, with the orderings of `eager`.
        let value = field.load(Ordering::Acquire);
        if header.load(Ordering::Relaxed) <= self.limit {
            return Ok(value);
        }
        // SAFETY: by the caller's promise.
        unsafe { P::read_only(self.attempt, place) }
    }
}

impl<'a, P: Protocol> ReadTx<'a, P> {
    #[inline(always)]
    fn new(attempt: &'a mut Attempt) -> Self {
        ReadTx { limit: attempt.limit, attempt, protocol: PhantomData }
    }
}

impl<'a, P: Protocol> Tx<'a, P> {
    /// The face of a running attempt.
    #[inline(always)]
    pub fn new(attempt: &'a mut Attempt) -> Self {
        Tx { attempt, protocol: PhantomData }
    }

    /// The bare descriptor, for layers with barriers of their own.
    #[inline(always)]
    pub fn attempt(&mut self) -> &mut Attempt {
        self.attempt
    }

    /// Gives up this attempt and runs the transaction again once something that it has read changes. Blocks the thread meanwhile (an
    /// event of the dispatcher is put aside and blocks nothing).
    ///
    /// The idea and the name are from Harris, Marlow, Peyton Jones and Herlihy, "Composable memory transactions" (PPoPP 2005).
    ///
    /// # Errors
    /// Always [`Abort::Retry`], to be passed on with `?`.
    ///
    /// ```
    /// # use optimist_stm::{TVar, Tx, Result};
    /// fn take(tx: &mut Tx, queue: &TVar<Vec<u32>>) -> Result<u32> {
    ///     let mut items = queue.get(tx)?;
    ///     let Some(item) = items.pop() else { return tx.retry() };
    ///     queue.set(tx, items)?;
    ///     Ok(item)
    /// }
    /// ```
    #[inline]
    pub fn retry<T>(&mut self) -> Result<T> {
        Err(Abort::Retry)
    }

    /// Goes on if `condition` holds, else as [`retry`](Self::retry).
    ///
    /// # Errors
    /// [`Abort::Retry`] if it does not hold.
    #[inline]
    pub fn check(&mut self, condition: bool) -> Result<()> {
        if condition { Ok(()) } else { Err(Abort::Retry) }
    }

    /// Runs `first`; if that retries, undoes what it wrote and runs `second`. If both retry, the transaction waits for a change in
    /// anything that either has read.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn or_else<T>(
        &mut self,
        first: impl FnOnce(&mut Tx<'_, P>) -> Result<T>,
        second: impl FnOnce(&mut Tx<'_, P>) -> Result<T>,
    ) -> Result<T> {
        let savepoint = P::savepoint(self.attempt);
        match first(&mut Tx::new(self.attempt)) {
            Err(Abort::Retry) => {
                P::rollback_to(self.attempt, savepoint);
                second(&mut Tx::new(self.attempt))
            }
            other => other,
        }
    }

    /// Has `check` look at the state that this transaction is about to commit: an invariant, stated where it may come to be broken, and
    /// judged when all is done. It runs after the body. If it fails, the transaction is rolled back and ends with its error,
    /// which should be of the type that [`try_atomically`] returns: under [`atomically`], which has none, it is a panic.
    ///
    /// The idea is from Harris and Peyton Jones, "Transactional memory with data invariants" (TRANSACT 2006), the name from GHC. There an
    /// invariant, once registered, is checked by all later transactions; here it belongs to the one that registers it.
    ///
    /// # Atomicity
    /// What the check reads belongs to the transaction's state and is validated with it. It cannot write.
    ///
    /// # Abort safety
    /// Registered anew by each attempt. Forgotten if the nested part in which it was registered is rolled back.
    ///
    /// ```
    /// use optimist_stm::{Interrupt, Result, TVar, Tx, try_atomically};
    ///
    /// fn pay(tx: &mut Tx<'_>, account: &TVar<i64>, amount: i64) -> Result<()> {
    ///     let checked = account.clone();
    ///     tx.always(move |state| {
    ///         let balance = checked.get(state)?;
    ///         if balance < 0 { Err(Interrupt::Error(format!("overdrawn: {balance}"))) } else { Ok(()) }
    ///     });
    ///     account.modify(tx, |balance| balance - amount)
    /// }
    ///
    /// let account = TVar::new(10);
    /// let outcome = try_atomically(|tx| {
    ///     pay(tx, &account, 30)?;
    ///     // Only the end counts.
    ///     account.modify(tx, |balance| balance + 25)?;
    ///     Ok(())
    /// });
    /// assert_eq!((outcome, account.load()), (Ok(()), 5));
    /// let outcome = try_atomically(|tx| Ok(pay(tx, &account, 6)?));
    /// assert_eq!((outcome, account.load()), (Err(String::from("overdrawn: -1")), 5));
    /// ```
    ///
    /// A check cannot write:
    ///
    /// ```compile_fail
    /// use optimist_stm::{TVar, atomically};
    ///
    /// let account = TVar::new(10);
    /// atomically(|tx| {
    ///     let checked = account.clone();
    ///     tx.always::<()>(move |state| Ok(checked.set(state, 0)?));
    ///     Ok(())
    /// });
    /// ```
    pub fn always<E: Send + 'static>(
        &mut self,
        check: impl FnOnce(&mut FinalState<'_, P>) -> std::result::Result<(), Interrupt<E>> + 'static,
    ) {
        self.attempt.add_check(Box::new(|attempt| {
            check(&mut FinalState { tx: Tx::new(attempt) }).map_err(|interrupt| match interrupt {
                Interrupt::Abort(abort) => Interrupt::Abort(abort),
                Interrupt::Error(error) => Interrupt::Error(Box::new(error) as Anything),
            })
        }));
    }

    /// Calls `hook` once, when this transaction has committed: after its locks are released and outside of it, so that the hook may do
    /// what cannot be undone and may run transactions of its own. Hooks run in the order in which they were registered.
    ///
    /// # Panics
    /// If a hook panics, the others run all the same; then the panic reaches whoever ran the transaction, which *has* committed.
    ///
    /// # Abort safety
    /// Registered anew by each attempt. Forgotten if the nested part in which it was registered is rolled back.
    ///
    /// ```
    /// use optimist_stm::{TVar, atomically};
    ///
    /// let stock = TVar::new(3);
    /// atomically(|tx| {
    ///     stock.modify(tx, |n| n - 1)?;
    ///     let left = stock.get(tx)?;
    ///     tx.on_commit(move || println!("sold one, {left} left"));
    ///     Ok(())
    /// });
    /// ```
    pub fn on_commit(&mut self, hook: impl FnOnce() + 'static) {
        self.attempt.add_commit_hook(Box::new(hook));
    }

    /// Calls `hook` once if what is done here is rolled back, to give back what an attempt has taken outside of transactional memory. It
    /// runs after the attempt has been rolled back, before the next one begins; if only the nested part in which it was registered is
    /// rolled back, when the attempt is over.
    ///
    /// # Panics
    /// If a hook panics, the others run all the same; then the panic reaches whoever ran the transaction, which is not attempted again.
    /// If the body has panicked as well, its panic goes on instead.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use optimist_stm::{Interrupt, TVar, try_atomically};
    ///
    /// static TAKEN: AtomicU32 = AtomicU32::new(0);
    /// let outcome = try_atomically(|tx| {
    ///     TAKEN.fetch_add(1, Ordering::Relaxed);
    ///     tx.on_abort(|| {
    ///         TAKEN.fetch_sub(1, Ordering::Relaxed);
    ///     });
    ///     Err::<(), _>(Interrupt::Error("changed my mind"))
    /// });
    /// assert_eq!((outcome, TAKEN.load(Ordering::Relaxed)), (Err("changed my mind"), 0));
    /// ```
    pub fn on_abort(&mut self, hook: impl FnOnce() + 'static) {
        self.attempt.add_abort_hook(Box::new(hook));
    }

    /// Runs `body` as a closed nested transaction: if it fails with an error of its own, what it wrote is undone and the error is a
    /// value of the enclosing transaction. An abort ends the whole attempt.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    ///
    /// # Atomicity
    /// What the body wrote becomes visible with the enclosing transaction. What it read is validated even if it failed.
    pub fn nested<T, E>(
        &mut self,
        body: impl FnOnce(&mut Tx<'_, P>) -> std::result::Result<T, Interrupt<E>>,
    ) -> Result<std::result::Result<T, E>> {
        let savepoint = P::savepoint(self.attempt);
        match body(&mut Tx::new(self.attempt)) {
            Ok(value) => Ok(Ok(value)),
            Err(Interrupt::Abort(abort)) => Err(abort),
            Err(Interrupt::Error(error)) => {
                P::rollback_to(self.attempt, savepoint);
                Ok(Err(error))
            }
        }
    }
}

/// The state that a transaction is about to commit, as a [check](Tx::always) sees it: to be read and not to be changed.
#[derive(Debug)]
pub struct FinalState<'a, P: Protocol = Any> {
    tx: Tx<'a, P>,
}

// SAFETY: the barrier of the attempt.
unsafe impl<P: Protocol> Read for FinalState<'_, P> {
    #[inline(always)]
    unsafe fn read_word(&mut self, place: Place) -> Result<u64> {
        // SAFETY: by the caller's promise.
        unsafe { self.tx.read_word(place) }
    }
}

/// A body whose error may also come from a check.
struct Checked<F>(F);

impl<R, E: 'static, F: FnMut(&mut Attempt) -> std::result::Result<R, Interrupt<E>>> Body<Native, R, E> for Checked<F> {
    #[inline(always)]
    fn attempt(&mut self, tx: &mut Attempt) -> std::result::Result<R, Interrupt<E>> {
        self.0(tx)
    }

    fn violated(&mut self, error: Anything) -> E {
        error.downcast().map_or_else(|other| std::panic::resume_unwind(other), |error| *error)
    }
}

/// Runs `body` as a transaction under the protocol in force, as often as it takes to commit.
///
/// # Panics
/// If called within a transaction, or if the body panics, or with the error of a [check](Tx::always) that fails; the transaction is then
/// rolled back. If a hook panics, whatever the outcome was.
///
/// # Atomicity
/// Everything the body reads belongs to one state, and everything it writes becomes visible at once. A body that panics or errs has
/// written nothing.
///
/// # Abort safety
/// The body runs once for each attempt, so it should do nothing that cannot be repeated.
///
/// ```
/// use optimist_stm::{TVar, atomically};
///
/// let (a, b) = (TVar::new(10), TVar::new(0));
/// atomically(|tx| {
///     let amount = a.get(tx)?;
///     a.set(tx, 0)?;
///     b.modify(tx, |b| b + amount)
/// });
/// assert_eq!((a.load(), b.load()), (0, 10));
/// ```
///
/// A reference must not leave its transaction:
///
/// ```compile_fail
/// use optimist_stm::{TVar, atomically};
///
/// let name = TVar::new(String::from("x"));
/// let leaked: &String = atomically(|tx| name.with(tx, |name| name));
/// ```
#[inline]
pub fn atomically<T>(mut body: impl FnMut(&mut Tx<'_>) -> Result<T>) -> T {
    let outcome: std::result::Result<T, Never> =
        runtime::execute(Mode::Update, |attempt| Ok(body(&mut Tx::new(attempt))?));
    match outcome {
        Ok(value) => value,
    }
}

/// As [`atomically`], with a body that may fail for reasons of its own.
///
/// # Errors
/// The error of the body, or that of a [check](Tx::always), after the transaction has been rolled back.
///
/// # Panics
/// As [`atomically`]; the error of a check that is not an `E` is a panic too.
///
/// ```
/// use optimist_stm::{Interrupt, TVar, try_atomically};
///
/// let balance = TVar::new(10);
/// let outcome = try_atomically(|tx| {
///     balance.modify(tx, |b| b - 20)?;
///     if balance.get(tx)? < 0 {
///         return Err(Interrupt::Error("overdrawn"));
///     }
///     Ok(())
/// });
/// assert_eq!((outcome, balance.load()), (Err("overdrawn"), 10));
/// ```
#[inline]
pub fn try_atomically<T, E: 'static>(
    mut body: impl FnMut(&mut Tx<'_>) -> std::result::Result<T, Interrupt<E>>,
) -> std::result::Result<T, E> {
    runtime::execute_to_end(Mode::Update, &mut Checked(|attempt: &mut Attempt| body(&mut Tx::new(attempt))))
}

/// As [`try_atomically`], for an event loop: where the body retries, control returns with what it waits for instead of blocking.
///
/// # Errors
/// [`Stop::Error`] with the error of the body, [`Stop::Blocked`] if it retried; the transaction has been rolled back in both cases.
///
/// # Panics
/// As [`atomically`].
#[inline]
pub fn try_event<T, E: 'static>(
    mode: Mode,
    mut body: impl FnMut(&mut Tx<'_>) -> std::result::Result<T, Interrupt<E>>,
) -> std::result::Result<T, Stop<E>> {
    runtime::execute_body(mode, &mut Checked(|attempt: &mut Attempt| body(&mut Tx::new(attempt))))
}

/// As [`atomically`], compiled for the protocol `P`, which is put in force if another one is.
///
/// # Panics
/// As [`atomically`] and [`runtime::lease`].
#[inline]
pub fn atomically_with<P: Shipped, T>(mut body: impl FnMut(&mut Tx<'_, P>) -> Result<T>) -> T {
    let outcome: std::result::Result<T, Never> =
        runtime::execute_with::<P, _, _>(Mode::Update, |attempt| Ok(body(&mut Tx::new(attempt))?));
    match outcome {
        Ok(value) => value,
    }
}

/// Runs a transaction that only reads. It keeps no log and validates nothing, so it is the cheapest way to look at several variables at once.
///
/// # Panics
/// As [`atomically`].
///
/// # Abort safety
/// The body runs again if something changes while it reads.
#[inline]
pub fn read_only<T>(mut body: impl FnMut(&mut ReadTx<'_>) -> Result<T>) -> T {
    let outcome: std::result::Result<T, Never> =
        runtime::execute(Mode::ReadOnly, |attempt| Ok(body(&mut ReadTx::new(attempt))?));
    match outcome {
        Ok(value) => value,
    }
}

/// As [`read_only`], compiled for the protocol `P`.
///
/// # Panics
/// As [`atomically_with`].
#[inline]
pub fn read_only_with<P: Shipped, T>(mut body: impl FnMut(&mut ReadTx<'_, P>) -> Result<T>) -> T {
    let outcome: std::result::Result<T, Never> =
        runtime::execute_with::<P, _, _>(Mode::ReadOnly, |attempt| Ok(body(&mut ReadTx::new(attempt))?));
    match outcome {
        Ok(value) => value,
    }
}

/// Runs a transaction irrevocably: at most one at a time, never aborted, so that its body runs once unless it retries. It may do what
/// cannot be undone. Others go on and wait only where they must:
///
/// | protocol | others read what it has not touched | write that | read what it has touched | write that |
/// | --- | --- | --- | --- | --- |
/// | `eager`, `tl2`, `mvcc`, `ordered` | go on | go on | wait | wait |
/// | `norec` | go on | wait at their commit | go on, and see the state before | wait at their commit |
/// | `global-lock` | wait | wait | wait | wait |
///
/// Welc, Saha and Adl-Tabatabai, "Irrevocable transactions and their applications" (SPAA 2008).
///
/// # Errors
/// The error of the body, after the transaction has been rolled back.
///
/// # Panics
/// As [`atomically`].
///
/// ```
/// use optimist_stm::{Interrupt, TVar, irrevocably};
///
/// let number = TVar::new(41);
/// let line = irrevocably(|tx| {
///     number.modify(tx, |n| n + 1)?;
///     // Once, whatever others do.
///     println!("the answer is {}", number.get(tx)?);
///     Ok::<_, Interrupt<()>>(())
/// });
/// assert_eq!((line, number.load()), (Ok(()), 42));
/// ```
pub fn irrevocably<T, E: 'static>(
    mut body: impl FnMut(&mut Tx<'_>) -> std::result::Result<T, Interrupt<E>>,
) -> std::result::Result<T, E> {
    runtime::execute_to_end(Mode::Irrevocable, &mut Checked(|attempt: &mut Attempt| body(&mut Tx::new(attempt))))
}

/// The error of a body that has none.
enum Never {}
