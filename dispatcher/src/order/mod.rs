//! Orders: in which sequence pending events are started. One file each behind one contract.
//!
//! What is pending between runs, and what is added from outside, lies in the queue's *inbox*, first in, first out. A schedule exists for the
//! length of a run. The contract:
//!
//! 1. `next` gives a worker an event, or nothing if there is none *that may start now*.
//! 2. `add` takes an event that a committed event added.
//! 3. `done` is called once for each event that `next` gave out, when it is over. If it makes others startable, it says so.
//! 4. `drain` gives back what has not been started, oldest first; it is to go in front of what is in the inbox.

mod fifo;
mod free;
mod keyed;
mod ordered;
mod priority;
mod replay;

use std::sync::Arc;

use crossbeam_deque::{Injector, Steal, Stealer, Worker};

use crate::record::{Entry, Origin};
use crate::task::Task;

pub(crate) use ordered::{Standing, Turn};

/// In which order a queue's events run.
///
/// Whatever the order, the outcome equals that of some sequence of the events, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// Any. Workers have queues of their own and steal from each other; the fastest.
    #[default]
    Free,
    /// Events start in the order in which they were added (those that an event adds, when it commits). They may commit in another one.
    Fifo,
    /// Events with the same [key](crate::Options::key) run one after the other, in the order in which they were added, so they never
    /// conflict. Events without a key run at any time.
    Keyed,
    /// The event with the highest [priority](crate::Options::priority) starts first; among equals the one with the earliest
    /// [deadline](crate::Options::deadline), then the one added first.
    Priority,
    /// Results and output equal those of running the events one after the other in the order in which they were added (those that an event
    /// adds go to the end when it commits), on any number of threads. Events run ahead of their turn and commit when it comes; whichever
    /// has seen something that changed meanwhile runs again.
    Ordered,
}

impl Order {
    /// All orders with their names.
    pub const ALL: &'static [(Order, &'static str)] = &[
        (Order::Free, "free"),
        (Order::Fifo, "fifo"),
        (Order::Keyed, "keyed"),
        (Order::Priority, "priority"),
        (Order::Ordered, "ordered"),
    ];

    /// The name by which it is chosen.
    #[must_use]
    pub fn name(self) -> &'static str {
        Order::ALL.iter().find(|(order, _)| *order == self).map_or("", |(_, name)| name)
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(name: &str) -> Result<Self, UnknownOrder> {
        Order::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(order, _)| *order)
            .ok_or_else(|| UnknownOrder(name.to_owned()))
    }
}

/// No order has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOrder(String);

impl std::fmt::Display for UnknownOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = Order::ALL.iter().map(|(_, name)| *name).collect();
        write!(f, "there is no order `{}`; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownOrder {}

/// What a schedule keeps with each worker.
pub(crate) struct Local {
    pub(crate) index: usize,
    pub(crate) deque: Worker<Task>,
    ticks: u32,
    /// Whether the last event came from another worker.
    pub(crate) stole: bool,
    /// What a recording says about the event given out last.
    pub(crate) recorded: Option<Entry>,
    /// The line of that event in the recording.
    pub(crate) line: u64,
}

impl Local {
    pub(crate) fn new(index: usize) -> Self {
        Local { index, deque: Worker::new_fifo(), ticks: 0, stole: false, recorded: None, line: 0 }
    }
}

/// The schedule of a run.
pub(crate) enum Schedule {
    Free(free::Free),
    Fifo(fifo::Fifo),
    Keyed(keyed::Keyed),
    Priority(priority::Priority),
    Ordered(ordered::Ordered),
    Replay(replay::Replay),
}

macro_rules! each {
    ($schedule:expr, $order:ident => $call:expr) => {
        match $schedule {
            Schedule::Free($order) => $call,
            Schedule::Fifo($order) => $call,
            Schedule::Keyed($order) => $call,
            Schedule::Priority($order) => $call,
            Schedule::Ordered($order) => $call,
            Schedule::Replay($order) => $call,
        }
    };
}

impl Schedule {
    pub(crate) fn new(order: Order, stealers: Vec<Stealer<Task>>) -> Self {
        match order {
            Order::Free => Schedule::Free(free::Free::new(stealers)),
            Order::Fifo => Schedule::Fifo(fifo::Fifo),
            Order::Keyed => Schedule::Keyed(keyed::Keyed::default()),
            Order::Priority => Schedule::Priority(priority::Priority::default()),
            Order::Ordered => Schedule::Ordered(ordered::Ordered::default()),
        }
    }

    /// The schedule of a replay.
    pub(crate) fn replay(entries: Arc<[Entry]>) -> Self {
        Schedule::Replay(replay::Replay::new(entries))
    }

    /// The event that a replay has been waiting for in vain.
    pub(crate) fn missing(&self) -> Option<Origin> {
        match self {
            Schedule::Replay(replay) => replay.missing(),
            _ => None,
        }
    }

    /// Rule 1.
    #[inline]
    pub(crate) fn next(&self, inbox: &Injector<Task>, local: &mut Local) -> Option<Task> {
        each!(self, order => order.next(inbox, local))
    }

    /// Rule 2. Says whether there is now more than this worker will start next.
    #[inline]
    pub(crate) fn add(&self, inbox: &Injector<Task>, local: &Local, task: Task) -> bool {
        each!(self, order => order.add(inbox, local, task))
    }

    /// Rule 3.
    #[inline]
    pub(crate) fn done(&self, key: Option<u64>) -> bool {
        each!(self, order => order.done(key))
    }

    /// Whether `done` wants to know the key.
    pub(crate) fn has_keys(&self) -> bool {
        matches!(self, Schedule::Keyed(_))
    }

    /// Rule 4.
    pub(crate) fn drain(&self) -> Vec<Task> {
        each!(self, order => order.drain())
    }
}

/// Takes the first of the inbox.
fn take(inbox: &Injector<Task>) -> Option<Task> {
    loop {
        match inbox.steal() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}
