//! Child queues: events that belong together, within the run of another queue.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::event::{Event, EventResult};
use crate::queue::{Additions, Target, TransactionQueue};
use crate::task::{Handler, Options, Task};

/// A queue within a queue: its events run in the runs of its parent, on the same workers, but at most so many of them at once; they are counted,
/// dropped and waited for by themselves. What an event of it adds belongs to it too. Cloning it gives another handle to the same child.
///
/// ```
/// use optimist_dispatcher::{Config, Output, TransactionQueue, outln};
///
/// let (stdout, printed) = Output::memory("printed");
/// let queue = TransactionQueue::new(Config { threads: 4, stdout, ..Config::default() });
/// let one_by_one = queue.child(1);
/// for n in 1..=3 {
///     one_by_one.add(move |ev| {
///         outln!(ev, "{n}");
///         Ok(())
///     });
/// }
/// one_by_one.when_empty(|ev| {
///     outln!(ev, "all three");
///     Ok(())
/// });
/// queue.run()?;
/// assert_eq!(printed.text(), "1\n2\n3\nall three\n");
/// assert_eq!((one_by_one.executed(), one_by_one.pending()), (3, 0));
/// # Ok::<(), optimist_dispatcher::RunError>(())
/// ```
#[derive(Clone)]
pub struct ChildQueue {
    inner: Arc<Inner>,
}

struct Inner {
    parent: TransactionQueue,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Task, Option<Duration>)>,
    /// Handed to the parent, and not over.
    under_way: usize,
    executed: u64,
    failed: u64,
    when_empty: Vec<Task>,
}

impl TransactionQueue {
    /// A child queue of which at most so many events run at once; 1 makes them run one after the other, in the order in which they were added.
    ///
    /// # Panics
    /// If `most` is 0.
    #[must_use]
    pub fn child(&self, most: usize) -> ChildQueue {
        assert!(most > 0, "a child queue whose events may never run");
        ChildQueue { inner: Arc::new(Inner { parent: self.clone(), most, state: Mutex::default() }) }
    }
}

impl ChildQueue {
    /// Adds an event. Within an event, it starts only if that one commits.
    #[track_caller]
    pub fn add(&self, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        self.push(Task::new(event, Location::caller()), None);
    }

    /// Adds an event with options.
    #[track_caller]
    pub fn add_with(&self, options: Options, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        self.add_handler(options, event);
    }

    /// Adds a handler of one's own.
    #[track_caller]
    pub fn add_handler(&self, options: Options, handler: impl Handler + 'static) {
        let after = options.after;
        self.push(Task::with(handler, Location::caller(), options), after);
    }

    /// Adds an event to the parent queue as soon as none of this one's is left; at once if that is so already. Within an event, that is looked at
    /// when it has committed.
    #[track_caller]
    pub fn when_empty(&self, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        let task = Task::new(event, Location::caller());
        if Additions::inside() {
            Additions::push_for(Target::Emptied(self.clone()), task, None);
        } else {
            self.await_empty(task);
        }
    }

    /// The queue in whose runs the events run.
    #[must_use]
    pub fn parent(&self) -> &TransactionQueue {
        &self.inner.parent
    }

    /// How many events are not over.
    #[must_use]
    pub fn pending(&self) -> usize {
        let state = self.inner.state.lock();
        state.waiting.len() + state.under_way
    }

    /// How many events have committed.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.inner.state.lock().executed
    }

    /// How many events have failed or panicked.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.inner.state.lock().failed
    }

    /// Drops the events that have not been handed to the parent: all but as many as may run at once.
    pub fn clear(&self) {
        // Dropped outside the lock: a handler's destructor may do anything.
        let dropped = std::mem::take(&mut self.inner.state.lock().waiting);
        drop(dropped);
    }

    fn push(&self, task: Task, after: Option<Duration>) {
        if Additions::inside() {
            Additions::push_for(Target::Child(self.clone()), task, after);
        } else {
            self.admit(task, after);
        }
    }

    /// Takes an event that has certainly been added.
    pub(crate) fn admit(&self, task: Task, after: Option<Duration>) {
        let mut state = self.inner.state.lock();
        if state.under_way < self.inner.most {
            state.under_way += 1;
            self.hand_over(task, after);
        } else {
            state.waiting.push_back((task, after));
        }
    }

    pub(crate) fn await_empty(&self, task: Task) {
        let mut state = self.inner.state.lock();
        if state.under_way == 0 && state.waiting.is_empty() {
            drop(state);
            self.inner.parent.shared().push(task, None);
        } else {
            state.when_empty.push(task);
        }
    }

    fn hand_over(&self, task: Task, after: Option<Duration>) {
        let place = Arc::new(Place { child: self.clone(), free: AtomicBool::new(false) });
        let task = task.wrapped(|task| Member { task, place });
        self.inner.parent.shared().push(task, after);
    }

    fn count(&self, committed: bool) {
        let mut state = self.inner.state.lock();
        if committed {
            state.executed += 1;
        } else {
            state.failed += 1;
        }
    }
}

impl fmt::Debug for ChildQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildQueue").field("most", &self.inner.most).field("pending", &self.pending()).finish()
    }
}

/// One of the places of a child queue, taken by an event until it is over.
struct Place {
    child: ChildQueue,
    free: AtomicBool,
}

impl Place {
    /// The event is over: the next one may take its place.
    fn give_up(&self) {
        // Relaxed: the lock below orders what matters.
        if self.free.swap(true, Ordering::Relaxed) {
            return;
        }
        let child = &self.child;
        let mut state = child.inner.state.lock();
        match state.waiting.pop_front() {
            Some((task, after)) => child.hand_over(task, after),
            None => {
                state.under_way -= 1;
                if state.under_way == 0 {
                    let after = std::mem::take(&mut state.when_empty);
                    drop(state);
                    after.into_iter().for_each(|task| child.inner.parent.shared().push(task, None));
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// An event of a child queue as its parent sees it.
struct Member {
    task: Task,
    place: Arc<Place>,
}

impl Handler for Member {
    fn run(&mut self, event: &mut Event<'_>) -> EventResult {
        let first = Additions::len();
        self.task.handler.run(event)?;
        Additions::adopt(first, &self.place.child);
        let (place, again) = (self.place.clone(), event.runs_again());
        // At the commit and not at the end, so that in an ordered run the next event gets its position within this one's turn.
        event.on_commit(move || {
            place.child.count(true);
            if !again {
                place.give_up();
            }
        });
        Ok(())
    }

    fn joins(&self) -> bool {
        self.task.handler.joins()
    }

    fn aborted(&mut self) {
        self.task.handler.aborted();
    }

    fn failed(&mut self) {
        self.task.handler.failed();
        self.place.child.count(false);
        self.place.give_up();
    }

    fn ended(&mut self, committed: bool) {
        self.task.handler.ended(committed);
    }
}
