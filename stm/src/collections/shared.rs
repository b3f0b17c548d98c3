//! Handles to a structure, and the counter that is split by thread.
#![expect(unsafe_code, reason = "counts handles and retires the structure with the last")]

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use crossbeam_utils::CachePadded;

use super::cell::{Cell, retire};
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// A counted handle. With the last one the structure is retired and not freed, since a running transaction may have it in its logs.
pub(super) struct Shared<T: 'static> {
    counted: NonNull<Counted<T>>,
}

struct Counted<T> {
    handles: AtomicUsize,
    value: T,
}

// SAFETY: a handle gives shared access from any thread that has it (`Sync`), and the last one drops (`Send`).
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Shared { counted: NonNull::from(Box::leak(Box::new(Counted { handles: AtomicUsize::new(1), value }))) }
    }
}

impl<T: 'static> Shared<T> {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.counted == other.counted
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: the structure lives as long as a handle.
        unsafe { self.counted.as_ref() }
    }
}

impl<T: 'static> Deref for Shared<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T: 'static> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Relaxed: a new handle is made from an existing one.
        self.counted().handles.fetch_add(1, Ordering::Relaxed);
        Shared { counted: self.counted }
    }
}

impl<T: 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        // Release pairs with the acquire fence: what was done through other handles happens before the structure is retired.
        if self.counted().handles.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: no handle is left, so only running transactions can reach the structure.
            unsafe { retire(self.counted.as_ptr().expose_provenance() as u64, super::cell::free_node::<Counted<T>>) };
        }
    }
}

/// A sum kept in parts, one for each of the threads that add to it at the same time.
///
/// A transaction adds to the part of its thread's slot. Slots are numbered densely, so threads share a part only if there are more of
/// them than parts.
pub(super) struct Stripes {
    parts: Box<[CachePadded<Cell<i64>>]>,
}

/// Twice the processors, so that a few more threads than processors still do not meet.
static PARTS: LazyLock<usize> =
    LazyLock::new(|| (std::thread::available_parallelism().map_or(4, usize::from) * 2).next_power_of_two().min(128));

impl Stripes {
    /// # Safety
    /// As [`Cell::new`].
    pub(super) unsafe fn new(value: i64) -> Self {
        let part = |index| {
            // SAFETY: passed on to the caller.
            CachePadded::new(unsafe { Cell::new(if index == 0 { value } else { 0 }) })
        };
        Stripes { parts: (0..*PARTS).map(part).collect() }
    }

    #[inline(always)]
    pub(super) fn add<P: Protocol>(&self, tx: &mut Tx<'_, P>, n: i64) -> Result<()> {
        let part = &self.parts[tx.attempt.slot().index & (self.parts.len() - 1)];
        let sum = part.get(tx)?;
        part.set(tx, sum.wrapping_add(n))
    }

    pub(super) fn sum<R: Read>(&self, tx: &mut R) -> Result<i64> {
        let mut sum = 0_i64;
        for part in &self.parts {
            sum = sum.wrapping_add(part.get(tx)?);
        }
        Ok(sum)
    }

    /// Makes the sum `value`, which conflicts with everybody who adds.
    pub(super) fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: i64) -> Result<()> {
        let sum = self.sum(tx)?;
        self.add(tx, value.wrapping_sub(sum))
    }
}
