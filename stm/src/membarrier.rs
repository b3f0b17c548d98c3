//! An asymmetric fence: free for the frequent side, a system call for the rare one.
//!
//! Every transaction publishes that it is running (a store) and then reads shared objects (loads); every reclaimer unlinks an
//! object (a store) and then looks who is running (loads). Each side must see the other's store if the other does not see
//! its own, which takes a fence on both sides, some five nanoseconds for each transaction. Linux can execute the fence of
//! all the *other* threads on request (`membarrier(2)`, private expedited), so the transaction's side shrinks to a compiler
//! fence. Where the system call is missing both sides execute a real fence.
#![expect(unsafe_code, reason = "calls membarrier(2)")]

use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};

use crate::atomics::unlikely;

const UNKNOWN: u8 = 0;
const ASYMMETRIC: u8 = 1;
const SYMMETRIC: u8 = 2;

/// Which kind of fence this process uses. Decided once, before the first transaction of the process publishes anything.
static KIND: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Chooses the kind of fence. Every thread calls it before its first [`light`], so that a light fence never meets
/// an undecided kind.
pub(crate) fn register() {
    if KIND.load(Ordering::Acquire) == UNKNOWN {
        let kind = if register_with_kernel() { ASYMMETRIC } else { SYMMETRIC };
        KIND.store(kind, Ordering::Release);
    }
}

/// The frequent side.
#[inline(always)]
pub(crate) fn light() {
    compiler_fence(Ordering::SeqCst);
    // Relaxed: the kind is decided before the thread's first transaction and never changes.
    if unlikely(KIND.load(Ordering::Relaxed) != ASYMMETRIC) {
        fence(Ordering::SeqCst);
    }
}

/// The rare side.
pub(crate) fn heavy() {
    register();
    fence(Ordering::SeqCst);
    if KIND.load(Ordering::Relaxed) == ASYMMETRIC {
        run_on_all();
    }
}

#[cfg(target_os = "linux")]
const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
#[cfg(target_os = "linux")]
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

#[cfg(target_os = "linux")]
fn register_with_kernel() -> bool {
    // SAFETY: membarrier takes plain integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 }
}

#[cfg(target_os = "linux")]
fn run_on_all() {
    // SAFETY: as above; the process has registered, so the call cannot fail with EPERM.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, PRIVATE_EXPEDITED, 0, 0) };
    assert_eq!(result, 0, "membarrier was registered and must not fail");
}

#[cfg(not(target_os = "linux"))]
fn register_with_kernel() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn run_on_all() {}

#[cfg(test)]
mod tests {
    #[test]
    fn both_sides_run() {
        super::register();
        super::light();
        super::heavy();
    }
}
