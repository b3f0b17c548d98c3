//! The atomics a protocol is written against.
//!
//! A commit protocol is generic over [`Atomics`], so that one source is compiled natively for use and against a model
//! checker's atomics for proof, in the same binary. The façade is deliberately small: words, a fence, the asymmetric pair
//! of fences that keeps the fence out of `begin`, and whether a wait may block at all.
//!
//! What it does not offer: `SeqCst` accesses. Loom models `SeqCst` fences but treats such accesses as acquire-release, so
//! a protocol that needs store → load order says so with [`Atomics::fence`] or the [`Atomics::light`]/[`Atomics::heavy`] pair.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

/// `condition`, which hardly ever holds: what depends on it is laid out apart, so that the usual way has no jumps.
#[inline(always)]
pub(crate) fn unlikely(condition: bool) -> bool {
    if condition {
        apart();
    }
    condition
}

/// As [`unlikely`], for a condition that hardly ever does not hold.
#[inline(always)]
pub(crate) fn likely(condition: bool) -> bool {
    if !condition {
        apart();
    }
    condition
}

/// Tells the compiler that whatever leads here is unusual.
#[cold]
#[inline(always)]
fn apart() {}

/// One shared 64-bit word.
pub trait Word: Send + Sync + Debug + 'static {
    /// A word holding `value`.
    fn new(value: u64) -> Self;
    /// Loads the word.
    fn load(&self, order: Ordering) -> u64;
    /// Stores the word.
    fn store(&self, value: u64, order: Ordering);
    /// Replaces `current` by `new`; the error is the value found instead. The failure order is relaxed.
    ///
    /// # Errors
    /// The value found when it was not `current`.
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64>;
    /// Adds and returns the previous value.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Raises the word to `value` if it is smaller, and returns the previous value.
    fn fetch_max(&self, value: u64, order: Ordering) -> u64;
}

/// A family of atomics: the machine's own, or a model checker's.
pub trait Atomics: Send + Sync + Debug + Sized + 'static {
    /// The word of this family.
    type Word: Word;

    /// Whether a thread may block or spin until another one acts. Model checkers explore every schedule, so under them a
    /// wait becomes an abort and the schedules in which the wait would have ended are explored as well.
    const CAN_WAIT: bool;

    /// Whether a thread that is alone does without locked instructions; see `alone.rs`. A model has as many descriptors as threads all
    /// the time.
    const BIASED: bool = false;

    /// A sequentially consistent fence.
    fn fence();

    /// A sequentially consistent fence right after a read-modify-write, which on x86 is one already.
    #[track_caller]
    fn fence_after_update() {
        Self::fence();
    }

    /// The cheap half of an asymmetric fence: a store before it and a load after it are ordered against every thread that
    /// executes [`heavy`](Self::heavy) in between. Natively it costs nothing where the kernel offers `membarrier`.
    fn light();

    /// The expensive half of an asymmetric fence: as if every running thread executed a fence at some point during the call.
    fn heavy();

    /// Orders the loads before it and the loads after it in the eyes of third threads: if a store is missing from what another thread loaded
    /// and is found here before, what that thread had stored until then is found after. A full fence, except where a store becomes visible
    /// to all other threads at once.
    #[track_caller]
    fn settle() {
        Self::fence();
    }

    /// Tells the processor or the scheduler that the caller polls.
    fn spin();

    /// Whether the planted bug `id` is switched on. Natively never, at no cost; a model checker switches them on one at a time to
    /// prove that it would find them.
    #[inline(always)]
    #[must_use]
    fn mutated(_id: &'static str) -> bool {
        false
    }
}

/// A place where a model checker can plant a bug: `mutant!(A, "id", good, bad)` is `good`, unless the family of atomics `A` says
/// that the bug is planted.
#[macro_export]
macro_rules! mutant {
    ($atomics:ty, $id:literal, $good:expr, $bad:expr) => {
        if <$atomics as $crate::atomics::Atomics>::mutated($id) { $bad } else { $good }
    };
}

/// The machine's own atomics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Atomics for Native {
    type Word = AtomicU64;

    const CAN_WAIT: bool = true;

    const BIASED: bool = true;

    #[inline(always)]
    fn fence() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn fence_after_update() {
        if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            Self::fence();
        }
    }

    #[inline(always)]
    fn light() {
        crate::membarrier::light();
    }

    #[inline]
    fn heavy() {
        crate::membarrier::heavy();
    }

    /// Nothing on x86 and 64-bit ARM, where stores become visible to all others at once and loads after an acquire stay after it.
    #[inline(always)]
    fn settle() {
        if cfg!(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")) {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            Self::fence();
        }
    }

    #[inline(always)]
    fn spin() {
        std::hint::spin_loop();
    }
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn new(value: u64) -> Self {
        AtomicU64::new(value)
    }

    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline(always)]
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, current, new, success, Ordering::Relaxed)
    }

    #[inline(always)]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_add(self, value, order)
    }

    #[inline(always)]
    fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_max(self, value, order)
    }
}
