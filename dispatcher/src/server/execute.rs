//! Running an event on a poller's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use optimist_stm::atomics::Native;
use optimist_stm::attempt::{Attempt, Mode};
use optimist_stm::run::Body;
use optimist_stm::watch::Watch;
use optimist_stm::{Abort, Interrupt, Stop, runtime};

use super::outbox::Outbox;
use crate::TransactionQueue;
use crate::effects::Output;
use crate::event::{Context, Event, EventResult, Failure};
use crate::queue::{Addition, Additions};

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
}

/// What a thread keeps for the events that it runs.
pub(super) struct Runner {
    pub(super) context: Context,
    pub(super) queue: TransactionQueue,
    pub(super) index: usize,
    stdout: Output,
    /// Outputs with something to flush.
    pub(super) unflushed: Vec<Output>,
    /// What failed that belongs to no connection.
    pub(super) failures: Vec<String>,
}

impl Runner {
    pub(super) fn new(index: usize, queue: TransactionQueue) -> Self {
        let numbers = queue.shared().numbers.clone();
        let context = Context::new(index, 0, numbers);
        let stdout = queue.config().stdout;
        Runner { context, queue, index, stdout, unflushed: Vec::new(), failures: Vec::new() }
    }

    fn release(&mut self) {
        let (unflushed, failures) = (&mut self.unflushed, &mut self.failures);
        self.context.effects.release(&self.stdout, |output, _, appended| {
            if appended.to_flush {
                unflushed.push(output.clone());
            }
            if let Some(error) = appended.error {
                failures.push(format!("{}: {error}", output.name()));
            }
        });
        let queue = self.queue.shared();
        Additions::release(|Addition { task, after, queue: other }| {
            other.as_ref().map_or(queue, |other| other.shared()).push(task, after);
        });
        self.context.on_abort.clear();
        if !self.context.on_commit.is_empty() {
            for hook in std::mem::take(&mut self.context.on_commit) {
                self.context.catching(hook.0);
            }
        }
        self.report_hooks();
    }

    fn report_hooks(&mut self) {
        for payload in std::mem::take(&mut self.context.panics) {
            self.failures.push(format!("a hook panicked: {}", message(&*payload)));
        }
    }
}

struct Execution<'a, F> {
    runner: &'a mut Runner,
    body: F,
}

impl<T, F: FnMut(&mut Event<'_>) -> EventResult<T>> Body<Native, T, Failure> for Execution<'_, F> {
    #[inline]
    fn attempt(&mut self, tx: &mut Attempt) -> Result<T, Interrupt<Failure>> {
        self.runner.context.begin_attempt();
        let value = (self.body)(&mut Event::new(tx, &mut self.runner.context, None))?;
        self.runner.context.effects.lock(&self.runner.stdout);
        Ok(value)
    }

    fn aborted(&mut self, _reason: Abort) {
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
        self.runner.context.begin_event(None, 0);
        let shared = self.runner.queue.shared().clone();
        Additions::enter(&shared);
        let mut execution = Execution { runner: &mut *self.runner, body };
        let result = catch_unwind(AssertUnwindSafe(|| runtime::execute_body(Mode::Update, &mut execution)));
        Additions::leave();
        match result {
            Ok(Ok(value)) => {
                self.runner.release();
                Ended::Committed(value)
            }
            Ok(Err(Stop::Blocked(watch))) => {
                *self.watch = Some(watch);
                Ended::Blocked
            }
            Ok(Err(Stop::Error(failure))) => {
                self.runner.context.abort();
                self.runner.report_hooks();
                Ended::Failed(failure)
            }
            Err(payload) => {
                self.runner.context.abort();
                self.runner.report_hooks();
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

    /// Whether the session is called because the time that its blocked event gave has come.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// The index of the thread.
    #[must_use]
    pub fn thread(&self) -> usize {
        self.runner.index
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "something that is no text".to_owned()
    }
}
