//! The process-wide heap: one domain, one descriptor per thread, and the protocol in force.
//!
//! All [`TVar`](crate::TVar)s and all objects of virtual machines live in one domain, so that a Rust program can share them. One
//! protocol is in force at a time; it changes only while no transaction runs:
//!
//! 1. A transaction publishes itself in its slot, then looks at the regime; if that is not the one it is compiled for, it withdraws.
//! 2. Whoever changes the regime first marks it as changing, then waits until every slot is idle, then sets the new one. (A new
//!    [era](Domain::begin_era) of the same regime, which only asks for new snapshots, needs none of that.)
//! 3. The two meet through the light and the heavy fence: a transaction that did not see the mark is seen in its slot.
//! 4. A [`Lease`] keeps the regime for as long as it is held; others that want a different one wait.
#![expect(unsafe_code, reason = "one descriptor per thread, reached by pointer")]

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use parking_lot::{Condvar, Mutex};

use crate::atomics::Native;
use crate::attempt::{Attempt, DropWord, Mode};
use crate::domain::{Domain, ERA, IDLE, Statistics, kind_of};
use crate::protocol::ordered::ANY_POSITION;
use crate::protocol::{Any, Kind, Shipped};
use crate::run::{Body, Interrupt, Stop, transact};

/// The kind of the regime while it is being changed.
const CHANGING: u64 = ERA - 1;

static DOMAIN: LazyLock<Arc<Domain>> = LazyLock::new(|| {
    crate::membarrier::register();
    Arc::default()
});

/// Who has asked for the regime to stay. The mutex also orders changes.
struct Leases {
    kind: Kind,
    count: usize,
}

static LEASES: Mutex<Leases> = Mutex::new(Leases { kind: Kind::Eager, count: 0 });
static RELEASED: Condvar = Condvar::new();

/// The domain of this process.
#[must_use]
pub fn domain() -> &'static Arc<Domain> {
    &DOMAIN
}

/// Totals over all transactions of this process.
#[must_use]
pub fn statistics() -> Statistics {
    DOMAIN.statistics()
}

/// What this thread has counted so far, transactions of earlier threads in its slot included.
pub(crate) fn own_statistics() -> Statistics {
    idle_descriptor().slot().statistics()
}

/// The protocol in force.
#[must_use]
pub fn protocol() -> Kind {
    LEASES.lock().kind
}

/// Keeps a protocol in force while it lives. See [`lease`].
#[derive(Debug)]
#[must_use = "the protocol stays in force only while the lease is held"]
pub struct Lease {
    kind: Kind,
    _not_send: std::marker::PhantomData<*mut ()>,
}

impl Lease {
    /// The protocol held in force.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        let mut leases = LEASES.lock();
        leases.count -= 1;
        if leases.count == 0 {
            RELEASED.notify_all();
        }
    }
}

thread_local! {
    static DESCRIPTOR: Cell<*mut Attempt> = const { Cell::new(ptr::null_mut()) };
    static OWNER: Descriptor = const { Descriptor };
    /// How many leases this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Frees the thread's descriptor when the thread ends.
struct Descriptor;

impl Drop for Descriptor {
    fn drop(&mut self) {
        let descriptor = DESCRIPTOR.replace(ptr::null_mut());
        if !descriptor.is_null() {
            // SAFETY: the pointer came from `Box::into_raw` and has just been taken out of the only place that held it.
            let mut descriptor = unsafe { Box::from_raw(descriptor) };
            crate::reclaim::collect(&mut descriptor);
        }
    }
}

/// Puts `kind` in force and keeps it there while the lease lives. Waits until leases for other protocols are gone and no
/// transaction runs; new ones wait meanwhile, so no body should wait for a transaction of another thread.
///
/// # Panics
/// If this thread runs a transaction, or holds a lease for another protocol: it would wait for itself.
pub fn lease(kind: Kind) -> Lease {
    assert!(!in_transaction(), "the protocol cannot be chosen within a transaction");
    let mut leases = LEASES.lock();
    while leases.kind != kind && leases.count > 0 {
        assert!(HELD.get() == 0, "this thread holds a lease for `{}` and asks for `{kind}`", leases.kind);
        RELEASED.wait(&mut leases);
    }
    put_in_force(&mut leases, kind);
    leases.count += 1;
    HELD.set(HELD.get() + 1);
    Lease { kind, _not_send: std::marker::PhantomData }
}

/// Puts `kind` in force, unless somebody holds a lease for another protocol. It stays until somebody wants another one. Waits until no
/// transaction runs. Says whether `kind` is in force.
///
/// # Panics
/// As [`lease`].
pub fn change(kind: Kind) -> bool {
    assert!(!in_transaction(), "the protocol cannot be chosen within a transaction");
    let mut leases = LEASES.lock();
    if leases.count == 0 {
        put_in_force(&mut leases, kind);
    }
    leases.kind == kind
}

fn put_in_force(leases: &mut Leases, kind: Kind) {
    if leases.kind != kind {
        // Rule 2. Relaxed: the heavy fence inside `oldest_active` publishes the mark.
        DOMAIN.regime.fetch_or(CHANGING, Ordering::Relaxed);
        let mut rounds = 0_u32;
        while DOMAIN.oldest_active() != IDLE {
            rounds += 1;
            if rounds < 16 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        }
        leases.kind = kind;
        // A deferred clock leaves versions in the heap that are one ahead of it; under a clock that is not deferred nobody would make
        // it catch up, and readers would ask for ever.
        DOMAIN.clock.fetch_add(1, Ordering::AcqRel);
        // From the mark to the kind of the next era, whatever the era is.
        DOMAIN.regime.fetch_add(ERA - CHANGING + kind as u64, Ordering::Release);
    }
}

/// Whether this thread runs a transaction.
#[must_use]
pub fn in_transaction() -> bool {
    let descriptor = DESCRIPTOR.get();
    // SAFETY: the descriptor belongs to this thread and lives until the thread ends; only a field is read, by value.
    !descriptor.is_null() && unsafe { (*descriptor).is_running() }
}

/// Waits until every transaction that runs now, on any thread, has ended: the fence to be executed between making an object private and
/// touching it without transactions, under a protocol that is not [privatisation-safe](crate::protocol::Info::privatisation_safe).
///
/// A transaction that has unlinked an object and committed knows that no *later* transaction reaches it. But one that began before may
/// still have the object in its hands: it is bound to fail and has yet to undo what it wrote, or it has committed and is still writing
/// back. Once those are over the object belongs to whoever has unlinked it.
///
/// The values of a [`TVar`](crate::TVar) and of the collections need no such fence, because nothing reaches them but transactions.
///
/// # Panics
/// Within a transaction: it would wait for itself.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use optimist_stm::{TVar, atomically, runtime};
///
/// // Transactions add to the shared counter that they find, which is not transactional.
/// let current = TVar::new(Some(Arc::new(AtomicU32::new(0))));
/// let mine = atomically(|tx| current.replace(tx, None)).unwrap();
/// runtime::quiesce();
/// // Nobody who has found it in a transaction is still running.
/// mine.store(1, Ordering::Relaxed);
/// ```
pub fn quiesce() {
    assert!(!in_transaction(), "a transaction cannot wait for its own end");
    DOMAIN.quiesce();
}

/// Runs `f` as if this thread ran no transaction, while its descriptor is borrowed: code of the user's that is called from within the
/// machinery. Should it run transactions, they get another descriptor.
pub(crate) fn aside<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(*mut Attempt);
    impl Drop for Restore {
        fn drop(&mut self) {
            let other = DESCRIPTOR.replace(self.0);
            if !other.is_null() {
                // SAFETY: made by `new_descriptor` since, and just taken out of the only place that held it.
                drop(unsafe { Box::from_raw(other) });
            }
        }
    }
    let _restore = Restore(DESCRIPTOR.replace(ptr::null_mut()));
    f()
}

/// The thread's descriptor.
#[inline(always)]
fn descriptor() -> *mut Attempt {
    let descriptor = DESCRIPTOR.get();
    if descriptor.is_null() { new_descriptor() } else { descriptor }
}

#[cold]
#[inline(never)]
fn new_descriptor() -> *mut Attempt {
    // Registers the destructor that frees the descriptor. A thread that is ending has none any more: what is freed there may run
    // transactions all the same, in a descriptor that `aside` frees.
    let _ = OWNER.try_with(|_| ());
    let mut descriptor = Box::new(Attempt::new(&DOMAIN));
    adopt(&mut descriptor, protocol());
    let descriptor = Box::into_raw(descriptor);
    DESCRIPTOR.set(descriptor);
    descriptor
}

/// Runs a transaction in this thread's descriptor, under the protocol in force. The body gets the bare descriptor and reaches the
/// heap through `Any`'s barriers; see [`atomically`](crate::atomically) for the typed face.
///
/// # Errors
/// The error of the body, after the transaction has been rolled back.
///
/// # Panics
/// If called within a transaction of this thread, or if the body panics.
///
/// # Atomicity
/// As [`run::run`](crate::run::run).
///
/// # Abort safety
/// As [`run::run`](crate::run::run).
#[inline]
pub fn execute<R, E>(mode: Mode, mut body: impl FnMut(&mut Attempt) -> Result<R, Interrupt<E>>) -> Result<R, E> {
    execute_to_end(mode, &mut body)
}

/// As [`execute`], with a [`Body`].
#[inline]
pub(crate) fn execute_to_end<R, E>(mode: Mode, body: &mut impl Body<Native, R, E>) -> Result<R, E> {
    let tx = idle_descriptor();
    loop {
        match transact::<Any, Native, R, E>(tx, mode, true, body) {
            Ok(value) => return Ok(value),
            Err(Interrupt::Error(error)) => return Err(error),
            // Rule 1: look again. Taking the lock waits for a change in progress.
            Err(Interrupt::Abort(_)) => adopt(tx, protocol()),
        }
    }
}

/// As [`execute`], but where the body retries, control returns with what it waits for.
///
/// # Errors
/// [`Stop::Error`] with the error of the body, [`Stop::Blocked`] if it retried; the transaction has been rolled back in both cases.
///
/// # Panics
/// As [`execute`].
#[inline]
pub fn execute_event<R, E>(
    mode: Mode,
    mut body: impl FnMut(&mut Attempt) -> Result<R, Interrupt<E>>,
) -> Result<R, Stop<E>> {
    execute_body(mode, &mut body)
}

/// As [`execute_event`], with a [`Body`] that is told of aborted attempts.
///
/// # Errors
/// As [`execute_event`].
///
/// # Panics
/// As [`execute`].
#[inline]
pub fn execute_body<R, E>(mode: Mode, body: &mut impl Body<Native, R, E>) -> Result<R, Stop<E>> {
    let tx = idle_descriptor();
    loop {
        match transact::<Any, Native, R, E>(tx, mode, false, body) {
            Ok(value) => return Ok(value),
            Err(Interrupt::Error(error)) => return Err(Stop::Error(error)),
            Err(Interrupt::Abort(_)) => match tx.blocked.take() {
                Some(watch) => return Err(Stop::Blocked(watch)),
                None => adopt(tx, protocol()),
            },
        }
    }
}

/// As [`execute`], compiled for the shipped protocol `P`, which is put in force if another one is.
///
/// # Errors
/// As [`execute`].
///
/// # Panics
/// As [`execute`], and as [`lease`].
#[inline]
pub fn execute_with<P: Shipped, R, E>(
    mode: Mode,
    mut body: impl FnMut(&mut Attempt) -> Result<R, Interrupt<E>>,
) -> Result<R, E> {
    execute_with_body::<P, R, E>(mode, &mut body)
}

/// As [`execute_with`], with a [`Body`].
#[inline]
pub(crate) fn execute_with_body<P: Shipped, R, E>(mode: Mode, body: &mut impl Body<Native, R, E>) -> Result<R, E> {
    let tx = idle_descriptor();
    if kind_of(tx.regime) == P::KIND as u64 {
        match transact::<P, Native, R, E>(tx, mode, true, body) {
            Ok(value) => return Ok(value),
            Err(Interrupt::Error(error)) => return Err(error),
            Err(Interrupt::Abort(_)) => {}
        }
    }
    let _lease = lease(P::KIND);
    let tx = idle_descriptor();
    adopt(tx, P::KIND);
    match transact::<P, Native, R, E>(tx, mode, true, body) {
        Ok(value) => Ok(value),
        Err(Interrupt::Error(error)) => Err(error),
        Err(Interrupt::Abort(_)) => unreachable!("the lease keeps the protocol in force"),
    }
}

#[inline(always)]
fn idle_descriptor() -> &'static mut Attempt {
    let descriptor = descriptor();
    // SAFETY: the descriptor belongs to this thread and lives until the thread ends; callers use the reference within one
    // call. It is not borrowed already: a borrow exists only within a transaction, which the assertion excludes (the flag is
    // read by value first).
    unsafe {
        assert!(
            !(*descriptor).is_running(),
            "a transaction within a transaction: pass `tx` on instead of starting another"
        );
        &mut *descriptor
    }
}

#[cold]
fn adopt(tx: &mut Attempt, kind: Kind) {
    tx.calls = Some(kind.calls());
    tx.inlined = kind.calls().inlined();
    tx.regime = kind as u64;
    tx.keeps_snapshot = false;
    tx.position = ANY_POSITION;
}

/// Retires a value from outside or inside a transaction of this thread.
///
/// # Safety
/// `drop` may be called on `word` on any thread once no transaction that runs now is left.
pub(crate) unsafe fn retire(word: u64, drop: DropWord) {
    let descriptor = DESCRIPTOR.get();
    // SAFETY: as promised by the caller. The pending list of a descriptor that is borrowed by a running transaction must not be touched
    // through a second reference, so a value retired there goes to the orphans; a collection has put its descriptor aside.
    unsafe {
        if descriptor.is_null() || (*descriptor).is_running() {
            crate::reclaim::retire_orphan(&DOMAIN, word, drop);
        } else {
            crate::reclaim::retire(&mut *descriptor, word, drop);
        }
    }
}
