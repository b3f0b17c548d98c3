//! A first-in, first-out queue whose ends are separate objects.
//!
//! ```text
//!   head: the node popped last, count popped          tail: last node, count pushed
//!          │                                                  │
//!          └──► popped ──► node ──► node ──► … ──► node ◄─────┘
//! ```
//!
//! 1. A push writes the tail and the link of the last node. A pop reads the link of the node popped last and writes the head. So one
//!    conflicts with the other only where the queue is empty: then the pop has seen that the link, which the push writes, leads nowhere.
//!    It is the queue of Michael and Scott (PODC 1996) in transactions.
//! 2. A node's value never changes. The node is retired with the pop that comes after its own, and so is its value.
#![expect(unsafe_code, reason = "follows words that lead to nodes")]

use std::fmt;
use std::marker::PhantomData;

use crossbeam_utils::CachePadded;

use super::cell::{Link, Two, birth, free_node, new_node, node, unlink};
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
    /// None in the node with which a queue begins.
    value: Option<T>,
}

impl<T> Node<T> {
    fn new(value: Option<T>) -> Self {
        // SAFETY: a node is retired when it is unlinked, or with the queue.
        Node { next: unsafe { Link::new(0) }, value }
    }

    fn value(&self) -> &T {
        self.value.as_ref().expect("a node that was pushed has a value")
    }
}

impl<T: Clone + Send + Sync + 'static> TQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the queue is retired with its last handle.
        let end = |node| CachePadded::new(unsafe { Two::new([node, 0]) });
        let node = new_node(Node::<T>::new(None));
        TQueue { inner: Shared::new(Inner { head: end(node), tail: end(node), values: PhantomData }) }
    }

    /// Appends `value`.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn push<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<()> {
        let tail = &self.inner.tail;
        let new = birth(tx, Node::new(Some(value)));
        let last = tail.get(tx, NODE)?;
        // SAFETY: the tail, just read, leads to it.
        unsafe { node::<Node<T>>(last) }.next.set(tx, new)?;
        tail.set(tx, NODE, new)?;
        let count = tail.get(tx, COUNT)?;
        tail.set(tx, COUNT, count + 1)
    }

    /// The node popped last, and the first one that has not been, if there is one.
    fn ends<'a, R: Read>(&'a self, tx: &mut R) -> Result<(u64, Option<(u64, &'a Node<T>)>)> {
        let popped = self.inner.head.get(tx, NODE)?;
        // SAFETY: the head, just read, leads to it.
        let first = unsafe { node::<Node<T>>(popped) }.next.get(tx)?;
        // SAFETY: the link, just read, leads to it.
        Ok((popped, (first != 0).then(|| (first, unsafe { node(first) }))))
    }

    /// Removes the first value, if there is one. The queue's own copy of it is dropped after the pop that comes next.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn pop<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<Option<T>> {
        let head = &self.inner.head;
        let (popped, Some((first, here))) = self.ends(tx)? else { return Ok(None) };
        let value = here.value().clone();
        head.set(tx, NODE, first)?;
        let count = head.get(tx, COUNT)?;
        head.set(tx, COUNT, count + 1)?;
        // SAFETY: the head no longer leads to it; the tail has not since the first node was pushed; no other node does.
        unsafe { unlink::<Node<T>, P>(tx, popped) };
        Ok(Some(value))
    }

    /// Removes every value. Conflicts with every push and pop.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TQueue};
    /// let jobs = TQueue::new();
    /// (0..3).for_each(|job| atomically(|tx| jobs.push(tx, job)));
    /// atomically(|tx| jobs.clear(tx));
    /// assert!(atomically(|tx| jobs.is_empty(tx)));
    /// ```
    pub fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        let head = &self.inner.head;
        while let (popped, Some((first, _))) = self.ends(tx)? {
            head.set(tx, NODE, first)?;
            // SAFETY: as in `pop`.
            unsafe { unlink::<Node<T>, P>(tx, popped) };
        }
        let count = self.inner.tail.get(tx, COUNT)?;
        head.set(tx, COUNT, count)
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
        Ok(self.ends(tx)?.1.map(|(_, first)| f(first.value())))
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
        Ok(self.ends(tx)?.1.is_none())
    }

    /// All values, cloned, from first to last.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    pub fn values<R: Read>(&self, tx: &mut R) -> Result<Vec<T>> {
        let mut values = Vec::new();
        let mut next = self.ends(tx)?.1.map(|(_, first)| first);
        while let Some(here) = next {
            values.push(here.value().clone());
            let word = here.next.get(tx)?;
            // SAFETY: the link just read leads to it.
            next = (word != 0).then(|| unsafe { node(word) });
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
