//! Running a connection's event: on the worker that found the input, at once.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_utils::CachePadded;
use optimist_stm::atomics::Native;
use optimist_stm::attempt::{Attempt, Mode};
use optimist_stm::run::Body;
use optimist_stm::watch::Watch;
use optimist_stm::{Abort, Interrupt, Stop, runtime};

use super::outbox::Outbox;
use crate::effects::Output;
use crate::error::{EventError, message};
use crate::event::{Context, Event, EventResult, Failure};
use crate::queue::{Additions, Shared, TransactionQueue};
use crate::report::{Latencies, Live};
use crate::task::Label;

/// How an event ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// It has committed, and what it let out is released.
    Committed(T),
    /// It has failed and is rolled back.
    Failed(Failure),
    /// It has panicked with this message and is rolled back.
    Panicked(String),
    /// It waits for a change: the session should return [`Next::Blocked`](super::Next::Blocked).
    Blocked,
}

/// What a session runs its events with.
pub struct Io<'a> {
    pub(super) runner: &'a mut Runner,
    pub(super) outbox: Option<&'a Outbox>,
    /// What the last event waits for.
    pub(super) watch: &'a mut Option<Watch>,
    pub(super) timed_out: bool,
    /// Who sent the datagram.
    pub(super) sender: Option<SocketAddr>,
}

/// What a worker keeps for the events that it runs for connections.
pub(crate) struct Runner {
    context: Context,
    pub(super) shared: Arc<Shared>,
    index: usize,
    live: Arc<CachePadded<Live>>,
    stdout: Output,
    /// Outputs with something to flush.
    pub(super) unflushed: Vec<Output>,
    /// What has failed and is no session's to deal with.
    pub(crate) errors: Vec<EventError>,
    pub(crate) latencies: Latencies,
    /// Where the service was given to the queue whose connection is served.
    pub(super) site: &'static Location<'static>,
    events: u32,
}

/// One event in so many is timed.
const SAMPLE: u32 = 64;

impl Runner {
    #[track_caller]
    pub(crate) fn new(index: usize, shared: &Arc<Shared>, live: &Arc<CachePadded<Live>>, stdout: &Output) -> Self {
        Runner {
            context: Context::new(index, 0, shared.numbers.clone()),
            shared: shared.clone(),
            index,
            live: live.clone(),
            stdout: stdout.clone(),
            unflushed: Vec::new(),
            errors: Vec::new(),
            latencies: Latencies::default(),
            site: Location::caller(),
            events: 0,
        }
    }

    /// How many events it has run.
    pub(super) fn events(&self) -> u32 {
        self.events
    }

    /// A connection was handed over to another worker.
    pub(super) fn note_moved(&self) {
        self.live.moved.add(1);
    }

    /// What messages call an event of the connection that is served.
    pub(super) fn label(&self) -> Label {
        Label { name: Some("connection".into()), site: self.site }
    }

    /// Something has failed that is no event.
    #[cold]
    pub(super) fn failed(&mut self, what: String) {
        self.errors.push(EventError::source(self.label(), what));
    }

    /// Calls code of the user's that is not in an event.
    pub(super) fn catching<R>(&mut self, what: &str, call: impl FnOnce(&mut Self) -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| call(self))) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.failed(format!("{what} panicked: {}", message(&*payload)));
                None
            }
        }
    }

    #[inline]
    fn release(&mut self) {
        let (unflushed, mut failed) = (&mut self.unflushed, Vec::new());
        let label = Label { name: Some("connection".into()), site: self.site };
        let bytes = self.context.release(
            &self.stdout,
            &self.shared,
            |_| label.clone(),
            |output, appended| {
                if appended.to_flush {
                    unflushed.push(output.clone());
                }
                if let Some(failure) = appended.error {
                    failed.push((output.name(), failure.error));
                }
            },
        );
        self.live.output_bytes.add(bytes as u64);
        for (output, error) in failed {
            self.errors.push(EventError::output(self.label(), output, error));
        }
        let queue = &self.shared;
        let added = Additions::release(|addition| addition.deliver(queue));
        if added != 0 {
            self.live.added.add(added as u64);
        }
        self.context.on_abort.clear();
        self.context.commit_participants();
        if !self.context.on_commit.is_empty() {
            for hook in std::mem::take(&mut self.context.on_commit) {
                self.context.catching(hook.0);
            }
        }
        self.report_hooks();
    }

    #[inline]
    fn report_hooks(&mut self) {
        if !self.context.panics.is_empty() {
            for payload in std::mem::take(&mut self.context.panics) {
                self.errors.push(EventError::hook(self.label(), &*payload));
            }
        }
    }

    #[cold]
    fn fail(&mut self) {
        self.live.failures.add(1);
        self.context.abort();
        self.report_hooks();
    }
}

struct Execution<'a, F> {
    runner: &'a mut Runner,
    body: F,
    /// When the last body ended, if that is measured.
    body_ended: Option<Instant>,
}

impl<T, F: FnMut(&mut Event<'_>) -> EventResult<T>> Body<Native, T, Failure> for Execution<'_, F> {
    #[inline]
    fn attempt(&mut self, tx: &mut Attempt) -> Result<T, Interrupt<Failure>> {
        self.runner.live.attempts.add(1);
        self.runner.context.begin_attempt();
        let value = (self.body)(&mut Event::new(tx, &mut self.runner.context, None))?;
        if self.body_ended.is_some() {
            self.body_ended = Some(Instant::now());
        }
        tx.encumbered |= self.runner.context.prepare().map_err(Interrupt::Error)?;
        if self.runner.context.effects.lock(&self.runner.stdout) {
            tx.encumbered = true;
        }
        Ok(value)
    }

    fn aborted(&mut self, reason: Abort) {
        self.runner.live.aborts[reason as usize].add(1);
        self.runner.context.abort();
    }
}

impl Io<'_> {
    /// Runs an event, on this thread and at once.
    ///
    /// # Abort safety
    /// `body` is called once for each attempt.
    #[inline]
    pub fn event<T>(&mut self, body: impl FnMut(&mut Event<'_>) -> EventResult<T>) -> Ended<T> {
        let runner = &mut *self.runner;
        runner.context.begin_event(None, 0);
        runner.events = runner.events.wrapping_add(1);
        let started = runner.events.is_multiple_of(SAMPLE).then(Instant::now);
        Additions::enter(&runner.shared);
        let mut execution = Execution { runner, body, body_ended: started };
        let result = catch_unwind(AssertUnwindSafe(|| runtime::execute_body(Mode::Update, &mut execution)));
        let Execution { runner, body_ended, .. } = execution;
        Additions::leave();
        match result {
            Ok(Ok(value)) => {
                runner.live.commits.add(1);
                runner.release();
                if let (Some(started), Some(ended)) = (started, body_ended) {
                    runner.latencies.run.record(ended.saturating_duration_since(started));
                    runner.latencies.commit.record(ended.elapsed());
                }
                Ended::Committed(value)
            }
            Ok(Err(Stop::Blocked(watch))) => {
                runner.live.waits.add(1);
                *self.watch = Some(watch);
                Ended::Blocked
            }
            Ok(Err(Stop::Error(failure))) => {
                runner.fail();
                Ended::Failed(failure)
            }
            Err(payload) => {
                runner.fail();
                Ended::Panicked(message(&*payload))
            }
        }
    }

    /// The connection's outbox.
    ///
    /// # Panics
    /// In [`Service::timer`](super::Service::timer), which belongs to no connection.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        self.outbox.expect("a timer has no connection")
    }

    /// Who sent the datagram that is the input.
    #[must_use]
    pub fn sender(&self) -> Option<SocketAddr> {
        self.sender
    }

    /// Whether the session is called because the time that its blocked event gave has come.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// The index of the worker.
    #[must_use]
    pub fn thread(&self) -> usize {
        self.runner.index
    }

    /// The queue whose run serves the connection.
    #[must_use]
    pub fn queue(&self) -> TransactionQueue {
        TransactionQueue::from_shared(self.runner.shared.clone())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }
}
