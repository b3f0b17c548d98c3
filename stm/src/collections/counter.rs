//! A counter to which transactions add without conflict.
#![expect(unsafe_code, reason = "promises that the summands are retired with the last handle")]

use std::fmt;

use super::shared::{Shared, Stripes};
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// A commutative counter.
///
/// Additions go to a summand of the thread's own, so that they never conflict with each other; reading the total conflicts with all of
/// them. Sums wrap around. Cloning it gives another handle to the same counter.
///
/// ```
/// use optimist_stm::atomically;
/// use optimist_stm::collections::TCounter;
///
/// let hits = TCounter::new(0);
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| (0..100).for_each(|_| atomically(|tx| hits.add(tx, 1))));
///     }
/// });
/// assert_eq!(atomically(|tx| hits.get(tx)), 400);
/// ```
#[derive(Clone)]
pub struct TCounter {
    parts: Shared<Stripes>,
}

impl TCounter {
    /// A counter that starts with `value`.
    #[must_use]
    pub fn new(value: i64) -> Self {
        // SAFETY: the summands are retired with the last handle.
        TCounter { parts: Shared::new(unsafe { Stripes::new(value) }) }
    }

    /// Adds `n`, which may be negative.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn add<P: Protocol>(&self, tx: &mut Tx<'_, P>, n: i64) -> Result<()> {
        self.parts.add(tx, n)
    }

    /// The total.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn get<R: Read>(&self, tx: &mut R) -> Result<i64> {
        self.parts.sum(tx)
    }

    /// Makes the total `value`. Conflicts with everybody, as a read does.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: i64) -> Result<()> {
        self.parts.set(tx, value)
    }
}

impl Default for TCounter {
    fn default() -> Self {
        Self::new(0)
    }
}

impl fmt::Debug for TCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TCounter").finish_non_exhaustive()
    }
}
