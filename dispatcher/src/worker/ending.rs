//! What follows from how an event ended: its effects are released, its hooks called, its failure reported, and it goes, comes again or waits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Worker;
use crate::batch::Done;
use crate::effects::WriteError;
use crate::error::EventError;
use crate::execution::Outcome;
use crate::queue::{Addition, Additions, Descent, Target};
use crate::task::{Label, Task};

impl Worker<'_> {
    /// The line of an event in the recording that is made, to which it is appended, or replayed; 0 if there is none.
    #[inline]
    fn line(&mut self, task: &Task) -> u64 {
        if self.run.recorder.is_none() && !self.run.replays { 0 } else { self.record(task) }
    }

    #[cold]
    fn record(&mut self, task: &Task) -> u64 {
        if self.run.replays {
            return self.local.line;
        }
        let entry = self.context.entry(task.origin);
        match &mut self.context.recording {
            Some(recording) => recording.append(entry),
            None => std::mem::take(&mut self.context.failed_line),
        }
    }

    /// What follows from how an event ended, after its effects have been released.
    #[inline]
    pub(super) fn settle(&mut self, mut task: Task, outcome: Outcome) {
        match outcome {
            Outcome::Committed => return self.end_committed(task, self.context.again),
            Outcome::Failed(failure) => self.fail(&mut task, |label| EventError::failed(label, failure)),
            Outcome::Panicked(payload) => self.fail(&mut task, |label| EventError::panicked(label, &*payload)),
            Outcome::Blocked(watch) => {
                self.live.waits.add(1);
                let handler = &mut task.handler;
                self.context.catching(|| handler.ended(false));
                task.lost = 0;
                task.number = self.context.number;
                return self.run.shared.block(task, watch);
            }
            Outcome::Withdrawn => unreachable!("a withdrawn event does not end"),
        }
        self.end(task, false);
    }

    /// The end of an event that has committed.
    #[inline]
    pub(super) fn end_committed(&mut self, mut task: Task, again: bool) {
        if again {
            let handler = &mut task.handler;
            self.context.catching(|| handler.ended(true));
            task.queued = None;
            task.number = None;
            task.lost = 0;
            self.live.added.add(1);
            self.add(task);
        } else {
            self.end(task, true);
        }
    }

    /// The end of an event that is not to run any more.
    #[inline]
    fn end(&mut self, mut task: Task, committed: bool) {
        let site = task.site;
        let options = task.options.take();
        // The destructor of a handler is the user's code too.
        let ended = catch_unwind(AssertUnwindSafe(move || {
            task.handler.ended(committed);
            drop(task);
        }));
        if let Err(payload) = ended {
            self.context.panics.push(payload);
        }
        if !self.context.panics.is_empty() {
            for payload in std::mem::take(&mut self.context.panics) {
                let name = options.as_ref().and_then(|options| options.name.clone());
                let last = options.as_ref().is_some_and(|options| options.handles_error);
                self.report(EventError::hook(Label { name, site }, &*payload), last);
            }
        }
    }

    /// Releases the effects of events that have been committed together, or of one; `done` says which part is whose. Returns the
    /// [line](Self::line) in a recording.
    #[inline]
    pub(super) fn release(&mut self, tasks: &[Task], done: &[Done]) -> u64 {
        let run = self.run;
        let mut failed = Vec::new();
        let whose = |end| {
            let index = done.iter().position(|done| end <= done.bytes).unwrap_or(0);
            tasks[index].label()
        };
        let bytes = self.context.release(&run.config.stdout, &run.shared, whose, |output, appended| {
            if appended.to_flush {
                run.note_unflushed(output);
            }
            if let Some(WriteError { error, whose, .. }) = appended.error {
                failed.push((whose, output.name(), error));
            }
        });
        if bytes != 0 {
            self.live.output_bytes.add(bytes as u64);
        }
        for (whose, output, error) in failed {
            self.report(EventError::output(whose.unwrap_or_else(|| tasks[0].label()), output, error), false);
        }
        let line = self.line(&tasks[0]);
        let descent = (line != 0).then(|| Descent::begin(line));
        let mut more = false;
        let local = &self.local;
        let added = Additions::release(|addition| match addition {
            Addition { mut task, after: None, target: Target::Own } => {
                if line != 0 {
                    task.origin = Descent::next().map_or(0, |origin| origin.0);
                }
                more |= run.schedule.add(&run.shared.inbox, local, task);
            }
            other => other.deliver(&run.shared),
        });
        self.context.recording = None;
        if added != 0 {
            self.live.added.add(added as u64);
            if more {
                run.shared.sleep.notify();
            }
        }
        self.context.on_abort.clear();
        self.context.commit_participants();
        if !self.context.on_commit.is_empty() {
            self.call_commit_hooks(tasks, done);
        }
        drop(descent);
        self.report_hooks(&tasks[0]);
        line
    }

    fn call_commit_hooks(&mut self, tasks: &[Task], done: &[Done]) {
        let mut whose = 0;
        for (index, hook) in std::mem::take(&mut self.context.on_commit).into_iter().enumerate() {
            while done.get(whose).is_some_and(|done| done.hooks <= index) {
                whose += 1;
            }
            self.context.catching(hook.0);
            self.report_hooks(&tasks[whose]);
        }
    }

    fn add(&mut self, task: Task) {
        if self.run.schedule.add(&self.run.shared.inbox, &self.local, task) {
            self.run.shared.sleep.notify();
        }
    }

    #[cold]
    fn fail(&mut self, task: &mut Task, error: impl FnOnce(Label) -> EventError) {
        self.live.failures.add(1);
        let handler = &mut task.handler;
        self.context.catching(|| handler.failed());
        let line = self.line(task);
        self.report_of(error(task.label()), task.is_error_handler(), line);
    }

    /// Reports panics of hooks.
    #[inline]
    fn report_hooks(&mut self, task: &Task) {
        if !self.context.panics.is_empty() {
            for payload in std::mem::take(&mut self.context.panics) {
                self.report(EventError::hook(task.label(), &*payload), task.is_error_handler());
            }
        }
    }

    #[cold]
    pub(super) fn report(&mut self, error: EventError, last: bool) {
        self.report_of(error, last, 0);
    }

    /// Reports the error of the event on that line of the recording.
    fn report_of(&mut self, error: EventError, last: bool, line: u64) {
        if last {
            self.run.report_last(error);
        } else if let Some(task) = self.run.report(error, line) {
            self.add(task);
        }
    }
}
