//! A first-in, first-out queue whose ends are separate objects.
//!
//! ```text
//!   head: first node, count popped          tail: last node, count pushed
//!          │                                        │
//!          └──► node ──► node ──► … ──► node ◄──────┘
//! ```
//!
//! 1. A push writes the tail and the link of the last node, a pop the head and, if it took the last node, the tail. So one conflicts
//!    with the other only where at most one node is left.
//! 2. A node's value never changes. The node is retired with the pop that unlinks it.
#![expect(unsafe_code, reason = "follows words that lead to nodes")]

use std::fmt;
use std::marker::PhantomData;

use crossbeam_utils::CachePadded;

use super::cell::{Link, Two, birth, free_node, node, unlink};
use super::shared::Shared;
use crate::abort::Abort;
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// The fields of an end.
const NODE: usize = 0;
const COUNT: usize = 1;

/// A transactional queue.
///
/// Cloning it gives another handle to the same queue.
///
/// ```
/// use optimist_stm::atomically;
/// use optimist_stm::collections::TQueue;
///
/// let jobs = TQueue::new();
/// std::thread::scope(|scope| {
///     // Waits for each job without polling.
///     let sum = scope.spawn(|| (0..10).map(|_| atomically(|tx| jobs.take(tx))).sum::<u32>());
///     (0..10).for_each(|job| atomically(|tx| jobs.push(tx, job)));
///     assert_eq!(sum.join().unwrap(), 45);
/// });
/// ```
pub struct TQueue<T: 'static> {
    inner: Shared<Inner<T>>,
}

struct Inner<T: 'static> {
    head: CachePadded<Two>,
    tail: CachePadded<Two>,
    values: PhantomData<T>,
}

struct Node<T> {
    next: Link,
    value: T,
}

impl<T: Clone + Send + Sync + 'static> TQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the queue is retired with its last handle.
        let end = || CachePadded::new(unsafe { Two::new() });
        TQueue { inner: Shared::new(Inner { head: end(), tail: end(), values: PhantomData }) }
    }

    /// Appends `value`.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn push<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<()> {
        let Inner { head, tail, .. } = &*self.inner;
        // SAFETY: a node is retired when it is unlinked, or with the queue.
        let new = birth(tx, Node { next: unsafe { Link::new(0) }, value });
        let last = tail.get(tx, NODE)?;
        if last == 0 {
            head.set(tx, NODE, new)?;
        } else {
            // SAFETY: the tail, just read, leads to it.
            unsafe { node::<Node<T>>(last) }.next.set(tx, new)?;
        }
        tail.set(tx, NODE, new)?;
        let count = tail.get(tx, COUNT)?;
        tail.set(tx, COUNT, count + 1)
    }

    /// Removes the first value, if there is one.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn pop<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<Option<T>> {
        let Inner { head, tail, .. } = &*self.inner;
        let first = head.get(tx, NODE)?;
        if first == 0 {
            return Ok(None);
        }
        // SAFETY: the head, just read, leads to it.
        let Node { next, value } = unsafe { node::<Node<T>>(first) };
        let next = next.get(tx)?;
        let value = value.clone();
        head.set(tx, NODE, next)?;
        if next == 0 {
            tail.set(tx, NODE, 0)?;
        }
        let count = head.get(tx, COUNT)?;
        head.set(tx, COUNT, count + 1)?;
        // SAFETY: the head no longer leads to it, nor the tail, and no other node does.
        unsafe { unlink::<Node<T>, P>(tx, first) };
        Ok(Some(value))
    }

    /// Removes the first value, and waits for one where the queue is empty.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`; [`Abort::Retry`] where the queue is empty.
    pub fn take<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<T> {
        self.pop(tx)?.ok_or(Abort::Retry)
    }

    /// Calls `f` with the first value, if there is one, without cloning it.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn with_first<R: Read, U>(&self, tx: &mut R, f: impl FnOnce(&T) -> U) -> Result<Option<U>> {
        let first = self.inner.head.get(tx, NODE)?;
        // SAFETY: the head, just read, leads to it.
        Ok((first != 0).then(|| f(&unsafe { node::<Node<T>>(first) }.value)))
    }

    /// How many values there are. Conflicts with every push and pop.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        let (pushed, popped) = (self.inner.tail.get(tx, COUNT)?, self.inner.head.get(tx, COUNT)?);
        Ok((pushed - popped) as usize)
    }

    /// Whether there is no value. Conflicts with pops, and with the push that ends the emptiness.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        Ok(self.inner.head.get(tx, NODE)? == 0)
    }

    /// All values, cloned, from first to last.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn values<R: Read>(&self, tx: &mut R) -> Result<Vec<T>> {
        let mut values = Vec::new();
        let mut at = self.inner.head.get(tx, NODE)?;
        while at != 0 {
            // SAFETY: the head or the link just read leads to it.
            let here = unsafe { node::<Node<T>>(at) };
            values.push(here.value.clone());
            at = here.next.get(tx)?;
        }
        Ok(values)
    }
}

impl<T: 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        let mut at = self.head.get_mut(NODE);
        while at != 0 {
            // SAFETY: the queue is freed, so no transaction can reach its nodes.
            unsafe {
                let next = node::<Node<T>>(at).next.get_unreachable();
                free_node::<Node<T>>(at);
                at = next;
            }
        }
    }
}

impl<T> Clone for TQueue<T> {
    fn clone(&self) -> Self {
        TQueue { inner: self.inner.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Default for TQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for TQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TQueue").finish_non_exhaustive()
    }
}
