//! An event in execution: its attempts, as the transaction loop sees them, and how they end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use optimist_stm::attempt::Attempt;
use optimist_stm::protocol::{Any as AnyProtocol, Protocol};
use optimist_stm::run::Body;
use optimist_stm::watch::Watch;
use optimist_stm::{Abort, Interrupt, Stop};
use parking_lot::Mutex;

use crate::event::{Context, Event, EventResult, Failure};
use crate::hotspot::HotSpots;
use crate::order::Standing;
use crate::record::Sink;
use crate::report::Live;
use crate::run::Run;
use crate::task::{Handler, Task};

/// How the execution of an event ended.
pub(crate) enum Outcome {
    Committed,
    Failed(Failure),
    Panicked(Box<dyn Any + Send>),
    Blocked(Watch),
    /// The run stops and the event has not had its turn.
    Withdrawn,
}

impl Outcome {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Outcome::Committed => "committed",
            Outcome::Failed(_) => "failed",
            Outcome::Panicked(_) => "panicked",
            Outcome::Blocked(_) => "blocked",
            Outcome::Withdrawn => "withdrawn",
        }
    }

    #[inline(always)]
    pub(crate) fn of(result: std::thread::Result<Result<(), Stop<Ending>>>) -> Outcome {
        match result {
            Ok(Ok(())) => Outcome::Committed,
            Ok(Err(Stop::Error(Ending::Withdrawn))) => Outcome::Withdrawn,
            Ok(Err(Stop::Error(Ending::Failed(failure)))) => Outcome::Failed(failure),
            Ok(Err(Stop::Blocked(watch))) => Outcome::Blocked(watch),
            Err(payload) => Outcome::Panicked(payload),
        }
    }
}

/// Why a body ended otherwise than by its end or an abort.
pub(crate) enum Ending {
    Failed(Failure),
    Withdrawn,
}

/// The event in execution, as the transaction loop sees it.
pub(crate) struct Execution<'a> {
    pub(crate) run: &'a Run,
    pub(crate) live: &'a Live,
    pub(crate) hot_spots: &'a mut HotSpots,
    pub(crate) context: &'a mut Context,
    pub(crate) task: &'a mut Task,
    pub(crate) standing: Standing,
    /// When the last body ended, if that is measured.
    pub(crate) body_ended: Option<Instant>,
}

impl Body<optimist_stm::atomics::Native, (), Ending> for Execution<'_> {
    #[inline]
    fn attempt(&mut self, tx: &mut Attempt) -> Result<(), Interrupt<Ending>> {
        self.standing.begin(tx)?;
        self.live.attempts.add(1);
        self.live.executing.set(tx, self.task.site);
        self.context.begin_attempt();
        let crate::task::Body { handler, options, queued, origin, site, .. } = &mut **self.task;
        let name = options.as_ref().and_then(|options| options.name.as_deref());
        let result = match &self.run.recorder {
            Some(recorder) if self.standing.in_turn => recorded(recorder, tx, self.context, name, handler, *origin)?,
            _ => handler.run(&mut Event::new(tx, self.context, name)),
        };
        match result {
            Ok(()) => {}
            Err(Interrupt::Abort(abort)) => {
                self.context.lost = Some(self.run.lost(tx, site, abort));
                return Err(Interrupt::Abort(abort));
            }
            Err(Interrupt::Error(failure)) => return Err(Interrupt::Error(Ending::Failed(failure))),
        }
        if queued.is_some() {
            self.body_ended = Some(Instant::now());
        }
        self.standing.arrive(&self.run.control.turn, tx)?;
        tx.encumbered |= self.context.prepare().map_err(|failure| Interrupt::Error(Ending::Failed(failure)))?;
        if self.context.effects.lock(&self.run.config.stdout) {
            tx.encumbered = true;
        }
        if let Some(recorder) = &self.run.recorder {
            self.context.recording = Some(recorder.lock_arc());
            tx.encumbered = true;
        }
        Ok(())
    }

    fn aborted(&mut self, reason: Abort) {
        self.live.aborts[reason as usize].add(1);
        self.hot_spots.note_abort(self.context.lost.take(), self.task.site, reason);
        self.context.abort();
        let task = &mut *self.task;
        self.context.catching(|| task.handler.aborted());
        self.standing.lose(&self.run.control.turn, reason);
    }
}

/// Runs an attempt whose failure, if it fails or panics, is to stand in the recording at a place where a replay fails too: it is appended while
/// nobody can commit and what it has read still holds.
#[cold]
fn recorded(
    recorder: &Arc<Mutex<Sink>>,
    tx: &mut Attempt,
    context: &mut Context,
    name: Option<&str>,
    handler: &mut dyn Handler,
    origin: u64,
) -> Result<EventResult, Abort> {
    let outcome = catch_unwind(AssertUnwindSafe(|| handler.run(&mut Event::new(tx, context, name))));
    if matches!(outcome, Err(_) | Ok(Err(Interrupt::Error(_)))) {
        let mut recording = recorder.lock();
        <AnyProtocol as Protocol>::validate(tx)?;
        context.failed_line = recording.append(context.entry(origin));
    }
    match outcome {
        Ok(result) => Ok(result),
        Err(payload) => resume_unwind(payload),
    }
}
