//! The handle that an event's body gets: its transaction, and the effects that wait for the commit.

#![expect(unsafe_code, reason = "passes reads on to the transaction's barrier")]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use optimist_stm::attempt::{Attempt, Mode, Place};
use optimist_stm::{Abort, Interrupt, Read, Tx};

use crate::batch::Done;
use crate::effects::{Appended, Effects, Mark, Output, OutputFull, Participant};
use crate::hotspot::HotSpot;
use crate::queue::{Additions, Shared};
use crate::record::{Entry, Locked, Origin};
use crate::task::{Handler, Label, Options, Task};

/// The error of an event: any error at all, boxed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What an event's body returns. `?` works in it on aborts and on every error.
pub type EventResult<T = ()> = Result<T, Interrupt<Failure>>;

/// What a worker keeps for the event that it executes, reused from event to event.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) effects: Effects,
    pub(crate) on_commit: Vec<Hook>,
    pub(crate) on_abort: Vec<Hook>,
    /// Who takes part in the commit.
    pub(crate) participants: Vec<Box<dyn Participant>>,
    /// How many of them have been asked to prepare.
    prepared: usize,
    /// What is known about the abort that the body has just returned.
    pub(crate) lost: Option<HotSpot>,
    /// Run the same event again after it has committed.
    pub(crate) again: bool,
    /// How many attempts there have been, this one included.
    pub(crate) attempts: u32,
    pub(crate) now: Option<SystemTime>,
    random: Option<u64>,
    /// The number of the event, once somebody has asked.
    pub(crate) number: Option<u64>,
    /// The recorded time, in a replay.
    recorded_now: Option<SystemTime>,
    /// The line of the recording at which the event has failed.
    pub(crate) failed_line: u64,
    /// The recording, locked from the end of the body until the effects are released.
    pub(crate) recording: Option<Locked>,
    numbers: Numbers,
    seed: u64,
    worker: usize,
    /// What hooks panicked with, to be reported once the event is over.
    pub(crate) panics: Vec<Box<dyn std::any::Any + Send>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("worker", &self.worker)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// What is to be called when an event has committed or an attempt has not.
pub(crate) struct Hook(pub(crate) Box<dyn FnOnce() + Send>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// A worker's store of event numbers, refilled by the block so that workers seldom meet.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    next: u64,
    end: u64,
    source: Arc<std::sync::atomic::AtomicU64>,
}

impl Numbers {
    const BLOCK: u64 = 256;

    fn take(&mut self) -> u64 {
        if self.next == self.end {
            // Relaxed: only uniqueness matters.
            self.next = self.source.fetch_add(Self::BLOCK, std::sync::atomic::Ordering::Relaxed);
            self.end = self.next + Self::BLOCK;
        }
        self.next += 1;
        self.next - 1
    }
}

impl Context {
    pub(crate) fn new(worker: usize, seed: u64, numbers: Arc<std::sync::atomic::AtomicU64>) -> Self {
        let numbers = Numbers { next: 0, end: 0, source: numbers };
        Context { worker, seed, numbers, ..Context::default() }
    }

    /// Prepares for an event, whose number may be known.
    pub(crate) fn begin_event(&mut self, number: Option<u64>, lost: u32) {
        self.number = number;
        self.attempts = lost;
        self.recorded_now = None;
    }

    /// What a recording says about the event.
    pub(crate) fn entry(&self, origin: u64) -> Entry {
        Entry { origin: Origin(origin), now: self.now, number: self.number }
    }

    /// Takes time and number from a recording.
    #[cold]
    pub(crate) fn replay(&mut self, entry: &Entry) {
        self.recorded_now = entry.now;
        self.number = self.number.or(entry.number);
    }

    /// Prepares for an event that follows others in the same attempt.
    #[inline]
    pub(crate) fn begin_part(&mut self, number: Option<u64>, lost: u32) {
        self.number = number;
        self.attempts = lost + 1;
        self.again = false;
        self.now = None;
        self.random = None;
        self.effects.cut();
    }

    /// The first phase of the commit, for who has enlisted since the last call. Says whether anybody has prepared.
    #[inline]
    pub(crate) fn prepare(&mut self) -> Result<bool, Failure> {
        while self.prepared < self.participants.len() {
            self.prepared += 1;
            self.participants[self.prepared - 1].prepare()?;
        }
        Ok(self.prepared > 0)
    }

    /// The second phase of the commit.
    #[inline]
    pub(crate) fn commit_participants(&mut self) {
        if !self.participants.is_empty() {
            self.prepared = 0;
            for participant in std::mem::take(&mut self.participants) {
                self.catching(|| participant.commit());
            }
        }
    }

    /// The second phase for those from the one at `first` on, if the commit does not happen.
    pub(crate) fn roll_back_participants(&mut self, first: usize) {
        if self.participants.len() > first {
            self.prepared = self.prepared.min(first);
            for participant in self.participants.split_off(first) {
                self.catching(|| participant.rollback());
            }
        }
    }

    /// What the event that has just ended leaves behind.
    #[inline]
    pub(crate) fn done(&self) -> Done {
        Done { hooks: self.on_commit.len(), bytes: self.effects.len(), again: self.again }
    }

    /// Prepares for a new attempt: nothing is left of the one before.
    #[inline]
    pub(crate) fn begin_attempt(&mut self) {
        self.attempts += 1;
        self.effects.clear();
        self.on_commit.clear();
        self.again = false;
        self.now = None;
        self.random = None;
        Additions::clear();
    }

    /// Lets go of everything that the attempt held, and calls its abort hooks.
    pub(crate) fn abort(&mut self) {
        self.effects.abandon();
        self.recording = None;
        self.on_commit.clear();
        Additions::clear();
        self.roll_back_participants(0);
        self.call_abort_hooks(0);
    }

    /// Calls the abort hooks from the one at `first` on.
    pub(crate) fn call_abort_hooks(&mut self, first: usize) {
        if self.on_abort.len() > first {
            // Outside of the event: what a hook adds is added.
            let executing = Additions::suspend();
            for hook in self.on_abort.split_off(first) {
                self.catching(hook.0);
            }
            Additions::resume(executing);
        }
    }

    /// Calls code of the user's that must not unwind into the transaction loop.
    #[inline]
    pub(crate) fn catching(&mut self, call: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
            self.panics.push(payload);
        }
    }

    /// Appends what the event has sent and written to its destinations, and says how many bytes that were. See [`Effects::release`].
    #[inline]
    pub(crate) fn release(
        &mut self,
        stdout: &Output,
        queue: &Arc<Shared>,
        whose: impl Fn(usize) -> Label,
        report: impl FnMut(&Output, Appended),
    ) -> usize {
        let sent = if self.effects.sends.is_empty() { 0 } else { self.effects.sends.release() };
        sent + self.effects.release(stdout, queue, whose, report)
    }

    pub(crate) fn mark(&self) -> EffectMark {
        EffectMark {
            output: self.effects.mark(),
            additions: Additions::len(),
            on_commit: self.on_commit.len(),
            participants: self.participants.len(),
            again: self.again,
        }
    }

    pub(crate) fn roll_back_to(&mut self, mark: &EffectMark) {
        self.effects.roll_back_to(mark.output);
        Additions::truncate(mark.additions);
        self.on_commit.truncate(mark.on_commit);
        self.roll_back_participants(mark.participants);
        self.again = mark.again;
    }

    /// See [`Event::now`].
    pub(crate) fn now(&mut self) -> SystemTime {
        *self.now.get_or_insert_with(|| self.recorded_now.unwrap_or_else(SystemTime::now))
    }

    /// See [`Event::random`].
    pub(crate) fn random(&mut self) -> u64 {
        let state = match self.random {
            Some(state) => state,
            None => self.seed ^ mix(self.number()),
        }
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random = Some(state);
        mix(state)
    }

    /// See [`Event::number`].
    pub(crate) fn number(&mut self) -> u64 {
        match self.number {
            Some(number) => number,
            None => *self.number.insert(self.numbers.take()),
        }
    }
}

/// An event that is being executed: a transaction ([`Tx`], to which it dereferences) and the effects that its commit will release.
#[derive(Debug)]
pub struct Event<'a> {
    tx: Tx<'a>,
    context: &'a mut Context,
    name: Option<&'a str>,
}

// SAFETY: words come from the transaction's barrier.
unsafe impl Read for Event<'_> {
    #[inline(always)]
    unsafe fn read_word(&mut self, place: Place) -> optimist_stm::Result<u64> {
        // SAFETY: by the caller's promise.
        unsafe { self.tx.read_word(place) }
    }

    #[cold]
    fn note_lost_at(&mut self, place: &'static Location<'static>) {
        self.tx.note_lost_at(place);
    }
}

impl<'a> Deref for Event<'a> {
    type Target = Tx<'a>;

    #[inline(always)]
    fn deref(&self) -> &Tx<'a> {
        &self.tx
    }
}

impl DerefMut for Event<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

impl<'a> Event<'a> {
    #[inline(always)]
    pub(crate) fn new(attempt: &'a mut Attempt, context: &'a mut Context, name: Option<&'a str>) -> Self {
        Event { tx: Tx::new(attempt), context, name }
    }

    /// What the event sends to connections, and its number.
    pub(crate) fn sends(&mut self) -> (&mut crate::reactor::Sends, u64) {
        let number = self.context.number();
        (&mut self.context.effects.sends, number)
    }

    /// The transaction alone.
    #[inline(always)]
    pub fn tx(&mut self) -> &mut Tx<'a> {
        &mut self.tx
    }

    /// Adds an event that starts only if this one commits, and after it.
    #[track_caller]
    pub fn add(&mut self, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        Additions::push(Task::new(event, Location::caller()), None);
    }

    /// Adds an event with options.
    #[track_caller]
    pub fn add_with(&mut self, options: Options, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        let after = options.after;
        Additions::push(Task::with(event, Location::caller(), options), after);
    }

    /// Adds a named event.
    #[track_caller]
    pub fn add_named(
        &mut self,
        name: impl Into<std::borrow::Cow<'static, str>>,
        event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static,
    ) {
        self.add_with(Options::new().name(name), event);
    }

    /// Adds an event that starts so long after this one has committed.
    #[track_caller]
    pub fn add_after(&mut self, delay: Duration, event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
        self.add_with(Options::new().after(delay), event);
    }

    /// Adds a handler of one's own.
    #[track_caller]
    pub fn add_handler(&mut self, options: Options, handler: impl Handler + 'static) {
        let after = options.after;
        Additions::push(Task::with(handler, Location::caller(), options), after);
    }

    /// Runs this same event again, as a new one, after it has committed. Allocates nothing, unlike [`add`](Self::add).
    pub fn again(&mut self) {
        self.context.again = true;
    }

    /// Whether it is to run again.
    pub(crate) fn runs_again(&self) -> bool {
        self.context.again
    }

    /// Prints text on standard output, or whatever the [configuration](crate::Config::stdout) puts in its place, when the event commits.
    /// See also [`outln!`](crate::outln).
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        self.context.effects.format(None, text);
    }

    /// Prints bytes on standard output when the event commits.
    pub fn print_bytes(&mut self, bytes: &[u8]) {
        self.context.effects.append(None, bytes);
    }

    /// Appends bytes to an output when the event commits.
    pub fn write(&mut self, output: &Output, bytes: &[u8]) {
        self.context.effects.append(Some(output), bytes);
    }

    /// Appends text to an output when the event commits.
    pub fn write_fmt_to(&mut self, output: &Output, text: fmt::Arguments<'_>) {
        self.context.effects.format(Some(output), text);
    }

    /// As [`write`](Self::write), unless so much of earlier events is waiting to be written that the destination's [hard
    /// limit](Output::with_hard_limit) would be exceeded.
    ///
    /// # Errors
    /// [`OutputFull`]; passed on with `?`, it makes the event fail.
    pub fn try_write(&mut self, output: &Output, bytes: &[u8]) -> Result<(), OutputFull> {
        output.check_room(self.context.effects.len() + bytes.len())?;
        self.write(output, bytes);
        Ok(())
    }

    /// As [`write`](Self::write); once the bytes have been written to the operating system, and everything before them, `then` is added. It is
    /// dropped if nobody reads the destination any more.
    #[track_caller]
    pub fn write_then(
        &mut self,
        output: &Output,
        bytes: &[u8],
        then: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static,
    ) {
        let task = Task::new(then, Location::caller());
        if bytes.is_empty() {
            return Additions::push(task, None);
        }
        self.write(output, bytes);
        self.context.effects.then(task);
    }

    /// Makes another system take part in the event's commit.
    pub fn enlist(&mut self, participant: impl Participant + 'static) {
        self.context.participants.push(Box::new(participant));
    }

    /// Fails: the event is rolled back and the failure reported with its name and source place. `return ev.fail("no such account")`.
    ///
    /// # Errors
    /// Always.
    pub fn fail<T>(&self, failure: impl Into<Failure>) -> EventResult<T> {
        Err(Interrupt::Error(failure.into()))
    }

    /// The time, the same throughout an attempt.
    pub fn now(&mut self) -> SystemTime {
        self.context.now()
    }

    /// 64 random bits. The sequence is fixed by the [seed](crate::Config::seed) and the event's [number](Self::number): every attempt
    /// sees the same one.
    pub fn random(&mut self) -> u64 {
        self.context.random()
    }

    /// The number of the event: its position in the orders that have one, else just unique within the queue.
    pub fn number(&mut self) -> u64 {
        self.context.number()
    }

    /// Which attempt this is, counted from 1.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.context.attempts
    }

    /// The index of the worker that executes the event.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.context.worker
    }

    /// The name of the event, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name
    }

    /// Calls `hook` once the event has committed and its effects have been released.
    pub fn on_commit(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.context.on_commit.push(Hook(Box::new(hook)));
    }

    /// Calls `hook` if this attempt does not commit, after it has been rolled back. Events that it adds to a queue are added at once.
    pub fn on_abort(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.context.on_abort.push(Hook(Box::new(hook)));
    }

    /// From here on the event cannot be aborted by others, so that it may do what cannot be undone. If it can still be aborted, this
    /// attempt ends and the next one is irrevocable from its start.
    ///
    /// # Errors
    /// [`Abort::Irrevocable`] the first time.
    pub fn irrevocable(&mut self) -> Result<(), Abort> {
        if self.is_irrevocable() { Ok(()) } else { Err(Abort::Irrevocable) }
    }

    /// Whether this attempt is irrevocable.
    pub fn is_irrevocable(&mut self) -> bool {
        self.tx.attempt().mode == Mode::Irrevocable
    }

    /// As [`Tx::or_else`]: if `first` retries, what it wrote and its effects are dropped and `second` runs.
    ///
    /// # Errors
    /// What the one that counted returned.
    pub fn or_else<T>(
        &mut self,
        first: impl FnOnce(&mut Event<'_>) -> EventResult<T>,
        second: impl FnOnce(&mut Event<'_>) -> EventResult<T>,
    ) -> EventResult<T> {
        let mark = self.mark();
        let (context, name) = (&mut *self.context, self.name);
        // The transaction's own `or_else` takes bodies whose only error is an abort, so any other outcome is carried around it.
        let mut outcome = None;
        self.tx.or_else(
            |tx| match first(&mut Event::new(tx.attempt(), context, name)) {
                Err(Interrupt::Abort(abort)) => Err(abort),
                other => {
                    outcome = Some(other);
                    Ok(())
                }
            },
            |_| Ok(()),
        )?;
        match outcome {
            Some(outcome) => outcome,
            None => {
                self.roll_back_to(&mark);
                second(self)
            }
        }
    }

    /// As [`Tx::nested`]: if `body` fails, what it wrote and its effects are dropped, and the failure is a value.
    ///
    /// # Errors
    /// An abort, which ends the whole attempt.
    pub fn nested<T>(
        &mut self,
        body: impl FnOnce(&mut Event<'_>) -> EventResult<T>,
    ) -> Result<Result<T, Failure>, Abort> {
        let mark = self.mark();
        let (context, name) = (&mut *self.context, self.name);
        let outcome = self.tx.nested(|tx| body(&mut Event::new(tx.attempt(), context, name)))?;
        if outcome.is_err() {
            self.roll_back_to(&mark);
        }
        Ok(outcome)
    }

    /// Where the effects stand, to roll them back to.
    pub fn mark(&self) -> EffectMark {
        self.context.mark()
    }

    /// Drops the effects since the mark: output, events added, commit hooks. Transactional memory is not touched; see
    /// [`nested`](Self::nested) for both.
    pub fn roll_back_to(&mut self, mark: &EffectMark) {
        self.context.roll_back_to(mark);
    }

    /// The transaction and the effects, apart.
    #[cfg(feature = "flowgraph")]
    pub(crate) fn split(&mut self) -> (&mut Attempt, &mut Context) {
        (self.tx.attempt(), self.context)
    }
}

/// A position in an event's effects.
#[derive(Clone, Copy, Debug)]
pub struct EffectMark {
    output: Mark,
    additions: usize,
    on_commit: usize,
    participants: usize,
    again: bool,
}

/// The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Prints a line from within an event; it appears when the event commits.
///
/// ```
/// use optimist_dispatcher::{TransactionQueue, outln};
///
/// let queue = TransactionQueue::default();
/// queue.add(|ev| {
///     outln!(ev, "six times seven is {}", 6 * 7);
///     Ok(())
/// });
/// queue.run()?;
/// # Ok::<(), optimist_dispatcher::RunError>(())
/// ```
#[macro_export]
macro_rules! outln {
    ($event:expr) => { $event.print(::core::format_args!("\n")) };
    // The arguments first, since they may use the event too.
    ($event:expr, $($text:tt)*) => {
        match ::core::format_args!($($text)*) {
            text => {
                let event = &mut *$event;
                event.print(text);
                event.print_bytes(b"\n");
            }
        }
    };
}
