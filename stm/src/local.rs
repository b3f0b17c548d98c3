//! Values that belong to the running transaction alone.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::Protocol;
use crate::tx::Tx;

/// A value that each attempt of each transaction has for itself.
///
/// It starts anew in every attempt, follows [`nested`](Tx::nested) and [`or_else`](Tx::or_else) back when they roll back, and is gone when
/// the attempt ends, however it ends. Nobody else sees it, so it costs no barrier and cannot conflict: the place for a cache of what has
/// been computed, for a list of things to do at the commit, or for an argument that would otherwise be handed through many
/// functions. The idea is that of ScalaSTM's `TxnLocal`.
///
/// ```
/// use optimist_stm::{TVar, Tx, TxLocal, atomically};
///
/// static CHANGES: TxLocal<Vec<String>> = TxLocal::new(Vec::new);
///
/// fn rename(tx: &mut Tx<'_>, name: &TVar<String>, to: &str) -> optimist_stm::Result<()> {
///     let old = name.replace(tx, to.to_owned())?;
///     CHANGES.with_mut(tx, |changes| changes.push(format!("{old} -> {to}")));
///     Ok(())
/// }
///
/// let name = TVar::new(String::from("a"));
/// let changes = atomically(|tx| {
///     rename(tx, &name, "b")?;
///     rename(tx, &name, "c")?;
///     Ok(CHANGES.get(tx))
/// });
/// assert_eq!(changes, ["a -> b", "b -> c"]);
/// assert!(atomically(|tx| Ok(CHANGES.get(tx))).is_empty());
/// ```
pub struct TxLocal<T: 'static> {
    /// 0 until it is first used.
    id: AtomicU64,
    initial: fn() -> T,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl<T: 'static> TxLocal<T> {
    /// A local whose value is at first what `initial` returns. That is called in the first access of each attempt.
    #[must_use]
    pub const fn new(initial: fn() -> T) -> Self {
        TxLocal { id: AtomicU64::new(0), initial }
    }

    /// Numbers and not addresses, so that a local can be moved.
    fn id(&self) -> u64 {
        // Relaxed throughout: a number is nothing but a number.
        let id = self.id.load(Ordering::Relaxed);
        if id != 0 {
            return id;
        }
        let fresh = IDS.fetch_add(1, Ordering::Relaxed);
        self.id.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|first| first, |_| fresh)
    }

    fn put<P: Protocol>(id: u64, tx: &mut Tx<'_, P>, value: T) {
        tx.attempt.hooked = true;
        tx.attempt.hooks.put(id, Box::new(value));
    }

    /// Calls `f` with the value.
    pub fn with<P: Protocol, U>(&self, tx: &mut Tx<'_, P>, f: impl FnOnce(&T) -> U) -> U {
        let id = self.id();
        if tx.attempt.hooks.find(id).is_none() {
            Self::put(id, tx, (self.initial)());
        }
        f(tx.attempt.hooks.find(id).and_then(|value| value.downcast_ref()).expect("put there by this local"))
    }

    /// The value, cloned.
    pub fn get<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> T
    where
        T: Clone,
    {
        self.with(tx, T::clone)
    }

    /// Sets the value.
    pub fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) {
        let id = self.id();
        match tx.attempt.hooks.find_mut(id) {
            Some((present, false)) => *present.downcast_mut().expect("put there by this local") = value,
            _ => Self::put(id, tx, value),
        }
    }

    /// Calls `f` with the value, which it may change in place. It is cloned first if it may have to be brought back: once after each
    /// savepoint.
    pub fn with_mut<P: Protocol, U>(&self, tx: &mut Tx<'_, P>, f: impl FnOnce(&mut T) -> U) -> U
    where
        T: Clone,
    {
        let id = self.id();
        let copy = match tx.attempt.hooks.find_mut(id) {
            Some((_, false)) => None,
            Some((present, true)) => Some(present.downcast_ref::<T>().expect("put there by this local").clone()),
            None => Some((self.initial)()),
        };
        if let Some(copy) = copy {
            Self::put(id, tx, copy);
        }
        let (present, _) = tx.attempt.hooks.find_mut(id).expect("put there just now");
        f(present.downcast_mut().expect("put there by this local"))
    }
}

impl<T: 'static> fmt::Debug for TxLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxLocal").field("id", &self.id).finish_non_exhaustive()
    }
}
