//! What can go wrong with an event and with a run.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::Location;

use crate::event::Failure;
use crate::report::Report;
use crate::task::Label;

/// Why an event failed: its name, the place where it was added, and the cause.
#[derive(Debug)]
pub struct EventError {
    label: Label,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Failed(Failure),
    Panicked(String),
    Hook(String),
    Output { output: String, error: io::Error },
    Source(String),
}

impl EventError {
    pub(crate) fn failed(label: Label, failure: Failure) -> Self {
        EventError { label, cause: Cause::Failed(failure) }
    }

    pub(crate) fn panicked(label: Label, payload: &(dyn Any + Send)) -> Self {
        EventError { label, cause: Cause::Panicked(message(payload)) }
    }

    pub(crate) fn hook(label: Label, payload: &(dyn Any + Send)) -> Self {
        EventError { label, cause: Cause::Hook(message(payload)) }
    }

    pub(crate) fn output(label: Label, output: String, error: io::Error) -> Self {
        EventError { label, cause: Cause::Output { output, error } }
    }

    /// What failed is no event, but a source of events or the code that serves it.
    pub(crate) fn source(label: Label, what: String) -> Self {
        EventError { label, cause: Cause::Source(what) }
    }

    /// The event's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.label.name.as_deref()
    }

    /// Where the event was added.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.label.site
    }

    /// Whether the event panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panicked(_))
    }

    /// Whether the event has committed, and what failed was the release of its output or one of its commit hooks.
    #[must_use]
    pub fn is_after_commit(&self) -> bool {
        matches!(self.cause, Cause::Hook(_) | Cause::Output { .. })
    }

    /// Whether output could not be written because nobody reads it any more.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(&self.cause, Cause::Output { error, .. } if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The failure that the event's body returned.
    #[must_use]
    pub fn failure(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        match &self.cause {
            Cause::Failed(failure) => Some(failure.as_ref()),
            _ => None,
        }
    }

    /// The failure that the event's body returned, by value.
    ///
    /// # Errors
    /// The error itself if that was not what happened.
    pub fn into_failure(self) -> Result<Failure, EventError> {
        match self.cause {
            Cause::Failed(failure) => Ok(failure),
            cause => Err(EventError { label: self.label, cause }),
        }
    }
}

/// The message of a panic.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not a message".to_owned())
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Failed(failure) => write!(f, "{}: {failure}", self.label),
            Cause::Panicked(message) => write!(f, "{} panicked: {message}", self.label),
            Cause::Source(what) => write!(f, "{}: {what}", self.label),
            Cause::Hook(message) => write!(f, "{}: a hook panicked after the commit: {message}", self.label),
            Cause::Output { output, error } => {
                write!(f, "{}: {output} could not be written after the commit: {error}", self.label)
            }
        }
    }
}

impl std::error::Error for EventError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Failed(failure) => Some(failure.as_ref()),
            Cause::Output { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why a run ended before all events had run. Nothing is half-done: every event has committed or left no trace.
#[derive(Debug)]
pub struct RunError {
    pub(crate) kind: RunErrorKind,
    pub(crate) report: Box<Report>,
}

#[derive(Debug)]
pub(crate) enum RunErrorKind {
    /// The first error; any others that events in flight met are in the report.
    Event(Box<EventError>),
    Cancelled,
    TimeLimit,
    /// Events wait for a change that nobody is left to make.
    Stuck(Vec<Waiter>),
    /// The recording that is replayed has an event, called by its origin, that has not been added.
    Diverged(String),
}

/// An event that waits for a change.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) label: Label,
    /// What it says about it.
    pub(crate) failure: Option<Failure>,
}

impl RunError {
    /// The failure of the event because of which the run stopped.
    #[must_use]
    pub fn event(&self) -> Option<&EventError> {
        match &self.kind {
            RunErrorKind::Event(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the run was [stopped](crate::TransactionQueue::stop) from outside.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, RunErrorKind::Cancelled)
    }

    /// Whether the [time limit](crate::Config::time_limit) was reached.
    #[must_use]
    pub fn is_time_limit(&self) -> bool {
        matches!(self.kind, RunErrorKind::TimeLimit)
    }

    /// Whether all remaining events wait for a change that nobody is left to make.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.kind, RunErrorKind::Stuck(_))
    }

    /// What the events that wait for a change nobody is left to make say about it, the oldest event first: what their handlers'
    /// [`waits`](crate::Handler::waits) gave.
    pub fn waits(&self) -> impl Iterator<Item = &(dyn std::error::Error + Send + Sync + 'static)> {
        let waiters = if let RunErrorKind::Stuck(waiters) = &self.kind { &waiters[..] } else { &[] };
        waiters.iter().filter_map(|waiter| waiter.failure.as_deref())
    }

    /// Whether the events added were not those of the [recording](crate::Recording) that is replayed.
    #[must_use]
    pub fn is_diverged(&self) -> bool {
        matches!(self.kind, RunErrorKind::Diverged(_))
    }

    /// What the run did before it ended.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What the run did, by value, and the event's error if that is what stopped it.
    #[must_use]
    pub fn into_parts(self) -> (Report, Option<EventError>) {
        let error = match self.kind {
            RunErrorKind::Event(error) => Some(*error),
            _ => None,
        };
        (*self.report, error)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RunErrorKind::Event(error) => error.fmt(f),
            RunErrorKind::Cancelled => write!(f, "the run was stopped with {} events pending", self.report.pending),
            RunErrorKind::TimeLimit => {
                write!(f, "the run reached its time limit with {} events pending", self.report.pending)
            }
            RunErrorKind::Diverged(origin) => {
                write!(f, "the recording goes on with event {origin}, which has not been added")
            }
            RunErrorKind::Stuck(waiters) => {
                let (count, wait) = (waiters.len(), if waiters.len() == 1 { "event waits" } else { "events wait" });
                write!(f, "{count} {wait} for a change that nobody is left to make")?;
                let mut separator = ": ";
                for Waiter { label, .. } in waiters.iter().take(3) {
                    write!(f, "{separator}{label}")?;
                    separator = ", ";
                }
                if waiters.len() > 3 { write!(f, ", …") } else { Ok(()) }
            }
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            RunErrorKind::Event(error) => error.source(),
            _ => None,
        }
    }
}
