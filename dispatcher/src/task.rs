//! A queued event: what to run, and what is known about it.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::event::{Event, EventResult, Failure};

/// What an event does. Closures are handlers; implement it for a type of your own where attempts and their end matter to you.
pub trait Handler: Send {
    /// One attempt of the event.
    ///
    /// # Errors
    /// An abort that a barrier reported, or the failure of the event.
    ///
    /// # Abort safety
    /// Called once for each attempt.
    fn run(&mut self, event: &mut Event<'_>) -> EventResult;

    /// Whether the event may share a transaction with others that run before and after it on the same thread. To its body nothing changes;
    /// but where several are in one transaction, each `run` may be followed by that of another event before [`ended`](Self::ended) or
    /// [`aborted`](Self::aborted) is called for both. Closures may; by default a handler may not.
    fn joins(&self) -> bool {
        false
    }

    /// An attempt has been aborted and rolled back; another one follows, or [`ended`](Self::ended).
    fn aborted(&mut self) {}

    /// The event has failed or panicked, and has been rolled back; [`ended`](Self::ended) follows.
    fn failed(&mut self) {}

    /// What the event waits for, having asked for another attempt once something has changed: the failure to be told if nobody is left to
    /// change it.
    fn waits(&mut self) -> Option<Failure> {
        None
    }

    /// The event is over for now: it has committed, or it has failed, waits for a change, or was withdrawn. Its effects have been
    /// released, and nobody waits for it any more.
    fn ended(&mut self, _committed: bool) {}
}

impl<F: FnMut(&mut Event<'_>) -> EventResult + Send> Handler for F {
    fn run(&mut self, event: &mut Event<'_>) -> EventResult {
        self(event)
    }

    fn joins(&self) -> bool {
        true
    }
}

/// How an event is to be run, beyond what it does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) key: Option<u64>,
    pub(crate) priority: i32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) after: Option<Duration>,
    pub(crate) irrevocable: bool,
    /// The event handles an error; if it fails too, the run stops.
    pub(crate) handles_error: bool,
}

impl Options {
    /// Nothing special.
    #[must_use]
    pub fn new() -> Self {
        Options::default()
    }

    /// A name for messages and statistics.
    #[must_use]
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The key of the event under [`Order::Keyed`](crate::Order::Keyed): events with equal keys run one after the other, in the
    /// order in which they were added.
    #[must_use]
    pub fn key(mut self, key: impl Hash) -> Self {
        // A fixed hash, so that runs can be repeated. Two keys with one hash only wait for each other.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.key = Some(hasher.finish());
        self
    }

    /// The priority under [`Order::Priority`](crate::Order::Priority): larger starts first. 0 by default.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// When the event should have started, under [`Order::Priority`](crate::Order::Priority): among equal priorities the earliest
    /// deadline starts first, and events without one start last.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Starts the event so long after it was added at the earliest, or, if another event adds it, after that has committed.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self
    }

    /// Runs the event irrevocably from the start: one such event at a time, never aborted, so that it may do what cannot be undone.
    #[must_use]
    pub fn irrevocable(mut self) -> Self {
        self.irrevocable = true;
        self
    }

    fn is_plain(&self) -> bool {
        self.name.is_none()
            && self.key.is_none()
            && self.priority == 0
            && self.deadline.is_none()
            && !self.irrevocable
            && !self.handles_error
    }
}

/// A queued event: one allocation, whose handle is two words, for a task is moved several times between being added and being run, and what
/// lies in queues is memory that another core has written.
pub(crate) struct Task(Box<Body<dyn Handler>>);

/// What a [`Task`] points to.
pub(crate) struct Body<H: ?Sized> {
    /// Where it was added.
    pub(crate) site: &'static Location<'static>,
    /// Options, if there are any: most events have none.
    pub(crate) options: Option<Box<Options>>,
    /// When it was added, if it is one of the sample whose latencies are measured.
    pub(crate) queued: Option<Stamp>,
    /// Its [origin](crate::record::Origin), if runs are recorded or replayed; else 0.
    pub(crate) origin: u64,
    /// Its [number](Event::number): its position in the order of the run, where that has one, else given once somebody asks.
    pub(crate) number: Option<u64>,
    /// How many attempts it has lost as one of a batch.
    pub(crate) lost: u32,
    /// Whether it may be one of a batch.
    pub(crate) joins: bool,
    /// What it does.
    pub(crate) handler: H,
}

impl Deref for Task {
    type Target = Body<dyn Handler>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Task {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Task {
    #[inline]
    pub(crate) fn new(handler: impl Handler + 'static, site: &'static Location<'static>) -> Self {
        Task::made(handler, site, None, sample())
    }

    pub(crate) fn with(handler: impl Handler + 'static, site: &'static Location<'static>, options: Options) -> Self {
        let options = if options.is_plain() { None } else { Some(Box::new(options)) };
        Task::made(handler, site, options, sample())
    }

    #[inline(always)]
    fn made(
        handler: impl Handler + 'static,
        site: &'static Location<'static>,
        options: Option<Box<Options>>,
        queued: Option<Stamp>,
    ) -> Self {
        let joins = options.is_none() && handler.joins();
        Task(Box::new(Body { site, options, queued, origin: 0, number: None, lost: 0, joins, handler }))
    }

    /// The same event as others see it, with another handler that is made from this task.
    pub(crate) fn wrapped<H: Handler + 'static>(mut self, wrap: impl FnOnce(Task) -> H) -> Self {
        let (site, options, queued, joins) = (self.site, self.options.take(), self.queued, self.joins);
        let mut outer = Task::made(wrap(self), site, options, queued);
        outer.joins &= joins;
        outer
    }

    pub(crate) fn label(&self) -> Label {
        Label { name: self.options.as_ref().and_then(|options| options.name.clone()), site: self.site }
    }

    pub(crate) fn is_irrevocable(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.irrevocable)
    }

    pub(crate) fn is_error_handler(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.handles_error)
    }

    pub(crate) fn key(&self) -> Option<u64> {
        self.options.as_ref().and_then(|options| options.key)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("site", &self.site).field("options", &self.options).finish_non_exhaustive()
    }
}

/// What an event is called in messages: its name, if it has one, and where it was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) site: &'static Location<'static>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "event `{name}` added at {}", self.site),
            None => write!(f, "event added at {}", self.site),
        }
    }
}

/// One event in so many is timed: reading the clock three times costs as much as a tiny event.
const SAMPLE: u32 = 64;

/// The time now, for one call in [`SAMPLE`] of each thread.
#[inline]
fn sample() -> Option<Stamp> {
    thread_local! {
        static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    let calls = CALLS.get();
    CALLS.set(calls.wrapping_add(1));
    if calls.is_multiple_of(SAMPLE) { Some(Stamp::now()) } else { None }
}

/// A time in half the room of an [`Instant`]: nanoseconds since the first one taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp(NonZero<u64>);

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Stamp {
    fn now() -> Self {
        let since = u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Stamp(NonZero::new(since).unwrap_or(NonZero::<u64>::MIN))
    }

    pub(crate) fn instant(self) -> Instant {
        *FIRST + Duration::from_nanos(self.0.get())
    }
}
