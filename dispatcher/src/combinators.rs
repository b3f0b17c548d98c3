//! On top of single events: sequences of steps, many inputs, map and reduce.

use std::iter::Peekable;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::error::{RunError, RunErrorKind};
use crate::event::{Event, EventResult};
use crate::queue::TransactionQueue;
use crate::task::{Handler, Options};

/// How many inputs of a feed are events at the same time, at least.
const BATCH: usize = 256;

impl TransactionQueue {
    /// Adds a sequence of steps: each item is an event of its own, and starts when the one before has committed. An item is taken from the
    /// iterator once, and handed to the step again if its event is re-run.
    ///
    /// ```
    /// use optimist_dispatcher::{TVar, TransactionQueue};
    ///
    /// let queue = TransactionQueue::default();
    /// let log = TVar::new(Vec::new());
    /// let steps = log.clone();
    /// queue.add_generator(["a", "b", "c"], move |ev, letter| {
    ///     let mut log = steps.get(ev)?;
    ///     log.push(*letter);
    ///     Ok(steps.set(ev, log)?)
    /// });
    /// queue.run()?;
    /// assert_eq!(log.load(), ["a", "b", "c"]);
    /// # Ok::<(), optimist_dispatcher::RunError>(())
    /// ```
    #[track_caller]
    pub fn add_generator<I>(&self, items: I, step: impl FnMut(&mut Event<'_>, &I::Item) -> EventResult + Send + 'static)
    where
        I: IntoIterator<IntoIter: Send + 'static, Item: Send + 'static>,
    {
        let items = items.into_iter().peekable();
        self.add_handler(Options::new(), Generator { items, current: None, step });
    }

    /// Adds an event for each item, all independent of each other. Items are taken from the iterator as the run proceeds, so that a long
    /// input needs little memory.
    #[track_caller]
    pub fn add_each<I>(&self, items: I, event: impl Fn(&mut Event<'_>, &I::Item) -> EventResult + Send + Sync + 'static)
    where
        I: IntoIterator<IntoIter: Send + 'static, Item: Send + Sync + 'static>,
    {
        let items = items.into_iter().peekable();
        let feed = Feed { items, batch: None, event: Arc::new(event), site: Location::caller() };
        self.add_handler(Options::new(), feed);
    }

    /// Runs the queue with an event for each item, and returns what they computed, in the order of the items.
    ///
    /// # Errors
    /// As [`run`](Self::run); and the first error of an event, where errors are collected.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn map<T, R>(
        &self,
        items: impl IntoIterator<Item = T>,
        event: impl Fn(&mut Event<'_>, &T) -> EventResult<R> + Send + Sync + 'static,
    ) -> Result<Vec<R>, RunError>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let event = Arc::new(event);
        let site = Location::caller();
        let mut results = Vec::new();
        for item in items {
            let slot = Arc::new(Mutex::new(None));
            results.push(slot.clone());
            let event = event.clone();
            let body = move |ev: &mut Event<'_>| {
                *slot.lock() = Some(event(ev, &item)?);
                Ok(())
            };
            self.push(crate::task::Task::new(body, site), None);
        }
        let mut report = self.run()?;
        if report.counters.failures > 0 && !report.errors.is_empty() {
            let error = report.errors.remove(0);
            return Err(RunError { kind: RunErrorKind::Event(Box::new(error)), report: Box::new(report) });
        }
        Ok(results.into_iter().filter_map(|slot| slot.lock().take()).collect())
    }

    /// Runs the queue with an event for each item, and combines what they computed, two at a time, each in an event of its own. `reduce` should be
    /// associative; the bracketing depends on the number of items alone. Nothing comes out of nothing.
    ///
    /// ```
    /// use optimist_dispatcher::TransactionQueue;
    ///
    /// let sum = TransactionQueue::default().map_reduce(1..=100_u64, |_, n| Ok(n * n), |_, a, b| Ok(a + b))?;
    /// assert_eq!(sum, Some(338_350));
    /// # Ok::<(), optimist_dispatcher::RunError>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`](Self::map).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn map_reduce<T, R>(
        &self,
        items: impl IntoIterator<Item = T>,
        map: impl Fn(&mut Event<'_>, &T) -> EventResult<R> + Send + Sync + 'static,
        reduce: impl Fn(&mut Event<'_>, &R, &R) -> EventResult<R> + Send + Sync + 'static,
    ) -> Result<Option<R>, RunError>
    where
        T: Send + Sync + 'static,
        R: Send + 'static,
    {
        let items: Vec<T> = items.into_iter().collect();
        let leaves = items.len();
        if leaves == 0 {
            return Ok(None);
        }
        // A heap: node n has the children 2n and 2n + 1, the leaves are the last `leaves` nodes, node 1 is the result.
        let nodes = (0..2 * leaves).map(|_| Node { value: Mutex::new(None), children: AtomicU8::new(0) }).collect();
        let tree = Arc::new(Tree { nodes, map, reduce, items, queue: self.clone() });
        for leaf in leaves..2 * leaves {
            tree.add(leaf);
        }
        let mut report = self.run()?;
        if report.counters.failures > 0 && !report.errors.is_empty() {
            let error = report.errors.remove(0);
            return Err(RunError { kind: RunErrorKind::Event(Box::new(error)), report: Box::new(report) });
        }
        let result = tree.nodes[1].value.lock().take();
        Ok(result)
    }
}

struct Generator<I: Iterator, F> {
    items: Peekable<I>,
    /// The item whose event is running.
    current: Option<I::Item>,
    step: F,
}

impl<I, F> Handler for Generator<I, F>
where
    I: Iterator<Item: Send> + Send,
    F: FnMut(&mut Event<'_>, &I::Item) -> EventResult + Send,
{
    fn run(&mut self, event: &mut Event<'_>) -> EventResult {
        if self.current.is_none() {
            self.current = self.items.next();
        }
        let Some(item) = &self.current else { return Ok(()) };
        (self.step)(event, item)?;
        if self.items.peek().is_some() {
            event.again();
        }
        Ok(())
    }

    fn ended(&mut self, committed: bool) {
        if committed {
            self.current = None;
        }
    }
}

/// Items that are events at the same time, and what is done with each: one count of references for both.
struct Portion<T, F> {
    items: Vec<T>,
    event: Arc<F>,
}

struct Feed<I: Iterator, F> {
    items: Peekable<I>,
    /// The items whose events are being added.
    batch: Option<Arc<Portion<I::Item, F>>>,
    event: Arc<F>,
    site: &'static Location<'static>,
}

impl<I, F> Handler for Feed<I, F>
where
    I: Iterator<Item: Send + Sync + 'static> + Send,
    F: Fn(&mut Event<'_>, &I::Item) -> EventResult + Send + Sync + 'static,
{
    fn run(&mut self, event: &mut Event<'_>) -> EventResult {
        let batch = self.batch.get_or_insert_with(|| {
            Arc::new(Portion { items: self.items.by_ref().take(BATCH).collect(), event: self.event.clone() })
        });
        for index in 0..batch.items.len() {
            let batch = batch.clone();
            let body = move |ev: &mut Event<'_>| (batch.event)(ev, &batch.items[index]);
            crate::queue::Additions::push(crate::task::Task::new(body, self.site), None);
        }
        if self.items.peek().is_some() {
            event.again();
        }
        Ok(())
    }

    fn ended(&mut self, committed: bool) {
        if committed {
            self.batch = None;
        }
    }
}

struct Node<R> {
    value: Mutex<Option<R>>,
    /// How many of its children have their value.
    children: AtomicU8,
}

struct Tree<T, R, M, F> {
    nodes: Box<[Node<R>]>,
    items: Vec<T>,
    map: M,
    reduce: F,
    queue: TransactionQueue,
}

impl<T, R, M, F> Tree<T, R, M, F>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
    M: Fn(&mut Event<'_>, &T) -> EventResult<R> + Send + Sync + 'static,
    F: Fn(&mut Event<'_>, &R, &R) -> EventResult<R> + Send + Sync + 'static,
{
    /// Adds the event that computes a node.
    #[track_caller]
    fn add(self: &Arc<Self>, node: usize) {
        let tree = self.clone();
        self.queue.add(move |ev| {
            let leaves = tree.items.len();
            let value = if node >= leaves {
                (tree.map)(ev, &tree.items[node - leaves])?
            } else {
                let (left, right) = (tree.nodes[2 * node].value.lock(), tree.nodes[2 * node + 1].value.lock());
                match (&*left, &*right) {
                    (Some(left), Some(right)) => (tree.reduce)(ev, left, right)?,
                    _ => unreachable!("a node is computed after its children"),
                }
            };
            *tree.nodes[node].value.lock() = Some(value);
            let tree = tree.clone();
            ev.on_commit(move || {
                let parent = node / 2;
                // AcqRel: whoever comes second sees the value of the first.
                if parent > 0 && tree.nodes[parent].children.fetch_add(1, Ordering::AcqRel) == 1 {
                    tree.add(parent);
                }
            });
            Ok(())
        });
    }
}
