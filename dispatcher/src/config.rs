//! How a queue runs its events.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use optimist_stm::Kind;

use crate::effects::Output;
use crate::error::EventError;
use crate::event::{Event, EventResult};
use crate::order::Order;
use crate::record::Recording;
use crate::report::Counters;

/// How a queue runs its events.
///
/// ```
/// use optimist_dispatcher::{Config, OnError, Order, TransactionQueue};
///
/// let queue = TransactionQueue::new(Config { threads: 2, order: Order::Fifo, on_error: OnError::Collect, ..Config::default() });
/// # queue.run().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers run events, the thread that calls `run` included. By default one for each core.
    pub threads: usize,
    /// The protocol to be put in force during the run; if none is given, the one in force stays. But if that one writes in place, events could not
    /// run ahead of their turn under [`Order::Ordered`]; so a run in that order on several threads is under `tl2`, unless somebody holds a
    /// [lease](optimist_stm::lease).
    pub protocol: Option<Kind>,
    /// In which order events run.
    pub order: Order,
    /// What happens when an event fails.
    pub on_error: OnError,
    /// The seed of the events' random numbers.
    pub seed: u64,
    /// Where [`Event::print`] goes.
    pub stdout: Output,
    /// After so long the run stops taking new events, and returns an error.
    pub time_limit: Option<Duration>,
    /// Called at intervals while the run goes on, on a thread of its own.
    pub progress: Option<Progress>,
    /// From how many lost attempts for a hundred events on, events of one kind (added at one place in the source) run one after the other
    /// for a while; 0 never makes them. Applies to [`Order::Free`] and [`Order::Fifo`].
    pub collisions: u32,
    /// How many tiny events may be committed together by one transaction; 1 for each by itself. They are taken apart again when they are in the
    /// way of others. An event must wait for another by [`retry`](optimist_stm::Tx::retry) alone, never for a lock or a channel: the other may
    /// stand behind it in the batch. Applies to [`Order::Free`], [`Order::Fifo`] and, where events run ahead of their turn, [`Order::Ordered`].
    pub batch: u32,
    /// Records the runs of the queue, or replays them. To be set before the first event is added.
    pub recording: Option<Recording>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            protocol: None,
            order: Order::Free,
            on_error: OnError::Stop(Rest::Keep),
            seed: 0,
            stdout: Output::stdout(),
            time_limit: None,
            progress: None,
            collisions: 60,
            batch: 16,
            recording: None,
        }
    }
}

/// What happens when an event fails or panics. It has been rolled back in any case.
#[derive(Clone)]
pub enum OnError {
    /// No new event is started, those in flight finish, and the run returns the error.
    Stop(Rest),
    /// The run goes on; its report has the errors.
    Collect,
    /// An event is added that calls this function with the error. If that event fails too, the run stops.
    Handle(ErrorHandler),
}

/// A function that handles an error within an event of its own.
pub type ErrorHandler = Arc<dyn Fn(&EventError, &mut Event<'_>) -> EventResult + Send + Sync>;

impl OnError {
    /// Hands errors to `handler`, each in an event of its own.
    pub fn handle(handler: impl Fn(&EventError, &mut Event<'_>) -> EventResult + Send + Sync + 'static) -> Self {
        OnError::Handle(Arc::new(handler))
    }
}

impl fmt::Debug for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnError::Stop(rest) => f.debug_tuple("Stop").field(rest).finish(),
            OnError::Collect => f.write_str("Collect"),
            OnError::Handle(_) => f.write_str("Handle"),
        }
    }
}

/// What becomes of the events that are pending when a run stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They stay pending, for another run.
    Keep,
    /// They are dropped.
    Drop,
    /// They are run before the error is returned.
    Finish,
}

/// A progress callback and its interval.
#[derive(Clone)]
pub struct Progress {
    pub(crate) interval: Duration,
    pub(crate) callback: Arc<dyn Fn(&Counters) + Send + Sync>,
}

impl Progress {
    /// Calls `callback` with the counts so far, every `interval`, and once at the end.
    pub fn every(interval: Duration, callback: impl Fn(&Counters) + Send + Sync + 'static) -> Self {
        Progress { interval, callback: Arc::new(callback) }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("interval", &self.interval).finish_non_exhaustive()
    }
}
