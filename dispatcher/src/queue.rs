//! Transaction queues: what is pending, and how events come in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam_deque::{Injector, Steal};
use optimist_stm::watch::Watch;
use parking_lot::Mutex;

use crate::child::ChildQueue;
use crate::config::Config;
use crate::error::{RunError, Waiter};
use crate::event::{Event, EventResult};
use crate::hold::Hold;
use crate::metrics::Totals;
use crate::reactor::Reactor;
use crate::record::{Origin, Recording};
use crate::report::Report;
use crate::run::{self, Control};
use crate::sleep::Sleep;
use crate::task::{Handler, Label, Options, Task};
use crate::timer::Timers;

/// A queue of events. Cloning it gives another handle to the same queue.
///
/// ```
/// use optimist_dispatcher::{Config, Output, TransactionQueue, outln};
///
/// let (stdout, printed) = Output::memory("printed");
/// let queue = TransactionQueue::new(Config { stdout, ..Config::default() });
/// for name in ["a", "b"] {
///     queue.add(move |ev| {
///         outln!(ev, "{name}");
///         Ok(())
///     });
/// }
/// let report = queue.run()?;
/// assert_eq!((report.counters.commits, printed.text().len()), (2, 4));
/// # Ok::<(), optimist_dispatcher::RunError>(())
/// ```
#[derive(Clone, Default)]
pub struct TransactionQueue {
    shared: Arc<Shared>,
}

/// What the handles of a queue share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Pending events, first in, first out.
    pub(crate) inbox: Injector<Task>,
    /// Events that wait for a change.
    blocked: Mutex<Blocked>,
    pub(crate) timers: Timers,
    pub(crate) sleep: Sleep,
    /// How many promise that events may still come.
    pub(crate) holds: AtomicUsize,
    config: Mutex<Config>,
    /// The source of event numbers.
    pub(crate) numbers: Arc<AtomicU64>,
    /// Sockets and signals, if there are any.
    pub(crate) reactor: OnceLock<Reactor>,
    /// Whether the origin of events matters, because runs are recorded or replayed.
    traced: AtomicBool,
    /// Whether timers fire at once, because runs are replayed.
    hurries: AtomicBool,
    /// How many events have been added from outside, where that matters.
    outside: AtomicU64,
    /// What finished runs have done.
    pub(crate) totals: Mutex<Totals>,
    /// The run in progress.
    pub(crate) current: Mutex<Option<Arc<Control>>>,
}

#[derive(Default)]
struct Blocked {
    next: u64,
    waiting: HashMap<u64, Arc<Waiting>>,
}

/// An event that waits for a change. The watch is kept until it has fired.
struct Waiting {
    task: Mutex<Option<Task>>,
    watch: OnceLock<Watch>,
    label: Label,
}

impl TransactionQueue {
    /// A queue with a configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let queue = TransactionQueue::default();
        queue.configure(config);
        queue
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        TransactionQueue { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Changes the configuration, from the next run on.
    pub fn configure(&self, config: Config) {
        let recording = config.recording.as_ref();
        // Relaxed: whoever adds events has the queue from the thread that configures it.
        self.shared.traced.store(recording.is_some(), Ordering::Relaxed);
        self.shared.hurries.store(recording.is_some_and(Recording::is_replayed), Ordering::Relaxed);
        *self.shared.config.lock() = config;
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> Config {
        self.shared.config.lock().clone()
    }

    /// Adds an event. Within an event (of whichever queue), it starts only if that one commits. May be called at any time and from any
    /// thread, also while the queue runs; see [`hold`](Self::hold).
    #[track_caller]
    pub fn add(&self, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        self.push(Task::new(event, Location::caller()), None);
    }

    /// Adds an event with options.
    #[track_caller]
    pub fn add_with(&self, options: Options, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        let after = options.after;
        self.push(Task::with(event, Location::caller(), options), after);
    }

    /// Adds an event with a name for messages.
    #[track_caller]
    pub fn add_named(
        &self,
        name: impl Into<Cow<'static, str>>,
        event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static,
    ) {
        self.add_with(Options::new().name(name), event);
    }

    /// Adds an event that starts after a while.
    #[track_caller]
    pub fn add_after(&self, delay: Duration, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        self.add_with(Options::new().after(delay), event);
    }

    /// Adds a handler of one's own.
    #[track_caller]
    pub fn add_handler(&self, options: Options, handler: impl Handler + 'static) {
        let after = options.after;
        self.push(Task::with(handler, Location::caller(), options), after);
    }

    pub(crate) fn push(&self, task: Task, after: Option<Duration>) {
        if Additions::inside() {
            Additions::push_to(self, task, after);
        } else {
            self.shared.push(task, after);
        }
    }

    /// Runs all pending events and those that they add, until none is left. The calling thread is one of the workers.
    ///
    /// # Errors
    /// As [`Config::on_error`] says when an event fails or panics; if the run is [stopped](Self::stop) or reaches its time
    /// limit; if all events that are left wait for a change that nobody is left to make. Nothing is half-done in any case.
    ///
    /// # Panics
    /// Within an event, and if the queue is being run already.
    ///
    /// # Atomicity
    /// Each event is one transaction. Its effects are released after it has committed, as [`effects`](crate::effects) states.
    pub fn run(&self) -> Result<Report, RunError> {
        self.run_as(self.config())
    }

    fn run_as(&self, config: Config) -> Result<Report, RunError> {
        assert!(
            !Additions::inside() && !optimist_stm::runtime::in_transaction(),
            "a queue cannot be run within an event"
        );
        run::run(&self.shared, config)
    }

    /// As [`run`](Self::run), on the calling thread alone, whatever the configuration says.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_on_one_thread(&self) -> Result<Report, RunError> {
        self.run_as(Config { threads: 1, ..self.config() })
    }

    /// Stops the run in progress, if there is one: no new event is started, those in flight finish, the others stay pending.
    pub fn stop(&self) {
        if let Some(control) = &*self.shared.current.lock() {
            control.stop(run::STOP_CANCELLED);
            self.shared.sleep.close();
        }
    }

    /// Lets the run in progress end as soon as no event is left that could start: it waits neither for [holds](Hold) nor for timers
    /// that are not yet due, accepts no more connections, and closes those there are as they fall idle.
    pub fn drain(&self) {
        if let Some(control) = &*self.shared.current.lock() {
            control.drain();
            if let Some(reactor) = self.shared.reactor.get() {
                reactor.drain();
            }
            self.shared.sleep.notify();
        }
    }

    /// While the returned value lives, a run of the queue waits for further events when none is left.
    pub fn hold(&self) -> Hold {
        Hold::new(self.clone())
    }

    /// How many events are pending: waiting to be started, for their time, or for a change. While the queue runs this is an estimate
    /// and does not count what workers have in their own queues.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.pending()
    }

    /// Drops all pending events.
    pub fn clear(&self) {
        self.shared.clear();
    }
}

impl fmt::Debug for TransactionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionQueue").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Adds an event from outside the workers.
    pub(crate) fn push(&self, mut task: Task, mut after: Option<Duration>) {
        if self.traced.load(Ordering::Relaxed) {
            if task.origin == 0 {
                task.origin = Descent::next().unwrap_or_else(|| self.next_outside()).0;
            }
            if self.hurries.load(Ordering::Relaxed) {
                after = None;
            }
        }
        match after {
            None => self.inbox.push(task),
            Some(delay) => {
                if !self.timers.add(delay, task) {
                    return;
                }
            }
        }
        self.sleep.notify();
    }

    /// The origin of the next event from outside. Relaxed: the order is that of the calls on one thread.
    fn next_outside(&self) -> Origin {
        Origin::outside(self.outside.fetch_add(1, Ordering::Relaxed))
    }

    /// Puts an event aside until its watch fires.
    pub(crate) fn block(self: &Arc<Self>, task: Task, watch: Watch) {
        let waiting = Arc::new(Waiting { label: task.label(), task: Mutex::new(Some(task)), watch: OnceLock::new() });
        let watch = waiting.watch.get_or_init(|| watch);
        let id = {
            let mut blocked = self.blocked.lock();
            let id = blocked.next;
            blocked.next += 1;
            blocked.waiting.insert(id, waiting.clone());
            id
        };
        // Weak, because the watch is reached from the queue.
        let queue: Weak<Shared> = Arc::downgrade(self);
        watch.on_change(move || {
            if let Some(queue) = queue.upgrade() {
                queue.unblock(id);
            }
        });
    }

    fn unblock(&self, id: u64) {
        let waiting = self.blocked.lock().waiting.remove(&id);
        if let Some(task) = waiting.and_then(|waiting| waiting.task.lock().take()) {
            self.push(task, None);
        }
    }

    /// The events that wait for a change, oldest first.
    pub(crate) fn blocked(&self) -> Vec<Waiter> {
        let blocked = self.blocked.lock();
        let mut all: Vec<_> = blocked.waiting.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        let failure = |waiting: &Waiting| waiting.task.lock().as_mut().and_then(|task| task.handler.waits());
        all.into_iter().map(|(_, waiting)| Waiter { label: waiting.label.clone(), failure: failure(waiting) }).collect()
    }

    pub(crate) fn pending(&self) -> usize {
        let (ready, timers, blocked) = self.pending_parts();
        ready + timers + blocked
    }

    /// How many wait to be started, for their time, and for a change.
    pub(crate) fn pending_parts(&self) -> (usize, usize, usize) {
        (self.inbox.len(), self.timers.len(), self.blocked.lock().waiting.len())
    }

    pub(crate) fn clear(&self) {
        self.take_inbox();
        self.timers.clear();
        let blocked = std::mem::take(&mut self.blocked.lock().waiting);
        drop(blocked);
    }

    fn take_inbox(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        loop {
            match self.inbox.steal() {
                Steal::Success(task) => tasks.push(task),
                Steal::Retry => {}
                Steal::Empty => return tasks,
            }
        }
    }

    /// Puts events back in front of those in the inbox.
    pub(crate) fn put_back(&self, tasks: Vec<Task>) {
        if !tasks.is_empty() {
            let later = self.take_inbox();
            tasks.into_iter().chain(later).for_each(|task| self.inbox.push(task));
        }
    }

    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn release_hold(&self) {
        // Release pairs with the acquire in the run's end: what was added under the hold is seen by whoever sees that it is gone.
        if self.holds.fetch_sub(1, Ordering::Release) == 1 {
            self.sleep.notify();
        }
    }
}

thread_local! {
    /// The line and the number of children so far of the event whose effects this thread releases, where origins matter.
    static DESCENT: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    /// The queue whose event this thread executes, or null.
    static EXECUTING: Cell<*const Shared> = const { Cell::new(ptr::null()) };
    static ADDITIONS: RefCell<Vec<Addition>> = const { RefCell::new(Vec::new()) };
}

/// Makes what is added meanwhile descend from the event of a line of the recording: by the event itself, and by its commit hooks.
pub(crate) struct Descent;

impl Descent {
    pub(crate) fn begin(serial: u64) -> Self {
        DESCENT.set(Some((serial, 0)));
        Descent
    }

    /// The origin of the next one.
    pub(crate) fn next() -> Option<Origin> {
        let (serial, children) = DESCENT.get()?;
        DESCENT.set(Some((serial, children + 1)));
        Some(Origin::child(serial, children))
    }
}

impl Drop for Descent {
    fn drop(&mut self) {
        DESCENT.set(None);
    }
}

/// What the event that this thread executes has added so far. Kept with the thread, so that `add` without the event's handle is caught too.
pub(crate) struct Additions;

pub(crate) struct Addition {
    pub(crate) task: Task,
    pub(crate) after: Option<Duration>,
    pub(crate) target: Target,
}

/// Where an addition goes.
pub(crate) enum Target {
    /// To the queue of the event that adds.
    Own,
    /// To another queue.
    Other(TransactionQueue),
    /// To a child queue.
    Child(ChildQueue),
    /// To the parent of a child queue, once that is empty.
    Emptied(ChildQueue),
}

impl Addition {
    /// Delivers what an event of the queue `own` has added.
    pub(crate) fn deliver(self, own: &Shared) {
        let Addition { task, after, target } = self;
        match target {
            Target::Own => own.push(task, after),
            Target::Other(queue) => queue.shared.push(task, after),
            Target::Child(child) => child.admit(task, after),
            Target::Emptied(child) => child.await_empty(task),
        }
    }
}

impl Additions {
    #[inline(always)]
    pub(crate) fn inside() -> bool {
        !EXECUTING.get().is_null()
    }

    #[inline(always)]
    pub(crate) fn enter(queue: &Shared) {
        EXECUTING.set(ptr::from_ref(queue));
    }

    #[inline(always)]
    pub(crate) fn leave() {
        EXECUTING.set(ptr::null());
    }

    /// Leaves the event for a while.
    pub(crate) fn suspend() -> *const Shared {
        EXECUTING.replace(ptr::null())
    }

    /// Goes back to the event.
    pub(crate) fn resume(executing: *const Shared) {
        EXECUTING.set(executing);
    }

    pub(crate) fn push(task: Task, after: Option<Duration>) {
        Additions::push_for(Target::Own, task, after);
    }

    pub(crate) fn push_for(target: Target, task: Task, after: Option<Duration>) {
        ADDITIONS.with_borrow_mut(|list| list.push(Addition { task, after, target }));
    }

    /// Gives what has been added to the event's own queue, from the `first` addition on, to a child queue.
    pub(crate) fn adopt(first: usize, child: &ChildQueue) {
        ADDITIONS.with_borrow_mut(|list| {
            for addition in &mut list[first..] {
                if matches!(addition.target, Target::Own) {
                    addition.target = Target::Child(child.clone());
                }
            }
        });
    }

    fn push_to(queue: &TransactionQueue, task: Task, after: Option<Duration>) {
        let own = ptr::eq(EXECUTING.get(), Arc::as_ptr(&queue.shared));
        Additions::push_for(if own { Target::Own } else { Target::Other(queue.clone()) }, task, after);
    }

    pub(crate) fn len() -> usize {
        ADDITIONS.with_borrow(Vec::len)
    }

    pub(crate) fn truncate(len: usize) {
        let dropped = ADDITIONS.with_borrow_mut(|list| list.split_off(len.min(list.len())));
        // Dropped outside the borrow: a handler's destructor may do anything.
        drop(dropped);
    }

    #[inline(always)]
    pub(crate) fn clear() {
        if Additions::len() != 0 {
            Additions::truncate(0);
        }
    }

    /// Hands over what was added, in order, and says how many that were.
    #[inline(always)]
    pub(crate) fn release(into: impl FnMut(Addition)) -> usize {
        ADDITIONS.with_borrow_mut(|list| {
            let count = list.len();
            if count != 0 {
                list.drain(..).for_each(into);
            }
            count
        })
    }
}
