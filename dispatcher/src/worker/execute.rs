//! Executing an event that a worker has taken: by itself, in its kind's lane, or in a batch with others.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Instant;

use optimist_stm::attempt::Mode;
use optimist_stm::runtime;

use super::{ROUND, Worker};
use crate::batch::Batch;
use crate::collisions::{Collisions, Held, Verdict};
use crate::execution::{Execution, Outcome};
use crate::order::{Schedule, Standing};
use crate::queue::Additions;
use crate::record::Origin;
use crate::task::Task;
use crate::trace;

impl Worker<'_> {
    /// How many events may be in a batch with this one.
    #[inline]
    fn batch_of(&self, task: &Task) -> usize {
        // A timed event runs by itself, so that the time is its own.
        if task.joins && task.queued.is_none() { self.kinds.batch(task.site) as usize } else { 1 }
    }

    /// Executes an event, and others with it if they are tiny.
    #[inline]
    pub(super) fn execute_with_others(&mut self, task: Task) {
        let mut most = if self.batches { self.batch_of(&task) } else { 1 };
        if most > 1 && !self.run.collisions.as_ref().is_some_and(Collisions::any) {
            // Others may be about to take what is pending here.
            let free = matches!(self.run.schedule, Schedule::Free(_));
            let pending = if free { self.local.deque.len() } else { self.run.shared.inbox.len() };
            most = most.min(1 + pending.div_ceil(2));
            self.batch.push(task);
            let odd = self.gather(most);
            self.execute_batch();
            if let Some(task) = odd {
                // After the rest of the batch, if it was taken apart.
                self.apart.insert(0, task);
            }
        } else {
            self.execute(task);
        }
        while let Some(task) = self.apart.pop() {
            if self.run.control.is_stopping() {
                self.apart.push(task);
                return;
            }
            self.execute(task);
        }
    }

    /// Fills the batch up. Returns an event that was taken as well but must not be in it.
    #[inline]
    fn gather(&mut self, most: usize) -> Option<Task> {
        if let Schedule::Ordered(order) = &self.run.schedule {
            let mut batch = std::mem::take(&mut self.batch);
            let odd = order.more(&self.run.shared.inbox, &mut batch, most, |task| self.batch_of(task) > 1);
            self.batch = batch;
            return odd;
        }
        while self.batch.len() < most {
            let task = self.next()?;
            if self.batch_of(&task) <= 1 {
                return Some(task);
            }
            self.batch.push(task);
        }
        None
    }

    fn execute_batch(&mut self) {
        if self.batch.len() == 1
            && let Some(task) = self.batch.pop()
        {
            return self.execute(task);
        }
        let (run, live) = (self.run, self.live);
        let (mut tasks, mut done) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.done));
        self.rounds += tasks.len() as u32 - 1;
        let ordered = matches!(run.schedule, Schedule::Ordered(_));
        let span = trace::batch(&tasks, self.local.index);
        let mut batch = Batch::new(run, live, &mut self.hot_spots, &mut self.context, &mut tasks, &mut done, ordered);
        Additions::enter(&run.shared);
        let result = catch_unwind(AssertUnwindSafe(|| runtime::execute_body(Mode::Update, &mut batch)));
        Additions::leave();
        let (lost, started, in_turn) = (batch.apart, batch.started(), batch.standing.in_turn);
        live.attempts.add(started as u64);
        let outcome = Outcome::of(result);
        span.end(outcome.name(), self.context.attempts);
        let site = tasks[0].site;
        if matches!(outcome, Outcome::Committed) {
            for task in &tasks[..done.len()] {
                self.count(task.site, 0);
            }
            if lost {
                self.count(site, 1);
            }
            let over = done.len();
            self.release(&tasks[..over], &done);
            self.apart.extend(tasks.drain(over..).rev());
            let again = done.iter().map(|done| done.again);
            self.live.commits.add(over as u64);
            self.live.batched.add(if over > 1 { over as u64 } else { 0 });
            for (task, again) in tasks.drain(..).zip(again) {
                self.end_committed(task, again);
            }
            if ordered {
                run.control.turn.advance(over as u64);
            }
        } else {
            if !matches!(outcome, Outcome::Blocked(_)) {
                self.context.abort();
            }
            if in_turn {
                self.apart.extend(tasks.drain(1..).rev());
                if let Some(task) = tasks.pop() {
                    self.settle(task, outcome);
                }
                if ordered {
                    run.control.turn.advance(1);
                }
            } else {
                // What an event does ahead of its turn, other than reach its end, does not count; nor does anything once the run stops.
                for task in &mut tasks[..started] {
                    self.context.catching(|| task.handler.aborted());
                }
                self.apart.extend(tasks.drain(..).rev());
            }
        }
        (self.batch, self.done) = (tasks, done);
    }

    #[inline(always)]
    fn count(&mut self, site: &'static Location<'static>, lost: u32) {
        if let Some(share) = self.kinds.count(site, lost)
            && let Some(collisions) = &self.run.collisions
        {
            collisions.decide(site, share);
        }
    }

    /// Executes an event, in its lane if its kind has one.
    #[inline]
    fn execute(&mut self, task: Task) {
        match &self.run.collisions {
            None => self.execute_now(task),
            Some(collisions) if !collisions.any() => self.execute_counted(task),
            Some(collisions) => self.execute_judged(collisions, task),
        }
    }

    #[inline(always)]
    fn execute_counted(&mut self, task: Task) {
        let (site, attempts) = (task.site, self.live.attempts.get());
        self.execute_now(task);
        let attempts = self.live.attempts.get() - attempts;
        self.count(site, attempts.saturating_sub(1) as u32);
    }

    #[cold]
    fn execute_judged(&mut self, collisions: &Collisions, task: Task) {
        match collisions.judge(task) {
            Verdict::Left => {}
            Verdict::Alone(held, task) => self.execute_alone(collisions, held, task),
            Verdict::Free(task) => self.execute_counted(task),
        }
    }

    fn execute_alone(&mut self, collisions: &Collisions, held: Held, mut task: Task) {
        loop {
            self.live.serialised.add(1);
            self.execute_now(task);
            self.rounds += 1;
            if self.rounds >= ROUND {
                self.look_around();
            }
            let run = self.run;
            let next = collisions.next(held, run.control.is_stopping(), |task| run.shared.push(task, None));
            match next {
                Some(next) => task = next,
                None => return,
            }
        }
    }

    #[inline]
    fn execute_now(&mut self, mut task: Task) {
        let ordered = matches!(self.run.schedule, Schedule::Ordered(_));
        let key = if self.run.schedule.has_keys() { task.key() } else { None };
        let started = task.queued.map(|queued| (queued.instant(), Instant::now()));
        self.context.begin_event(task.number, task.lost);
        if let Some(entry) = self.local.recorded.take() {
            self.context.replay(&entry);
        }
        let span = trace::event(&task, self.local.index);
        let (outcome, body_ended) = self.attempt(&mut task, ordered);
        span.end(outcome.name(), self.context.attempts);
        if matches!(outcome, Outcome::Withdrawn) {
            let handler = &mut task.handler;
            self.context.catching(|| handler.ended(false));
            return self.run.withdraw(task);
        }
        if matches!(outcome, Outcome::Committed) {
            self.live.commits.add(1);
            let line = self.release(std::slice::from_ref(&task), &[]);
            if line != 0 && self.context.again {
                task.origin = Origin::again(line).0;
            }
            if let Some((queued, started)) = started {
                let body_ended = body_ended.unwrap_or(started);
                self.latencies.queue.record(started.saturating_duration_since(queued));
                self.latencies.run.record(body_ended.saturating_duration_since(started));
                self.latencies.commit.record(body_ended.elapsed());
                // Without the wait for a turn.
                let took = if ordered { body_ended.saturating_duration_since(started) } else { started.elapsed() };
                self.kinds.time(task.site, took);
            }
        }
        self.settle(task, outcome);
        if ordered {
            self.run.control.turn.advance(1);
        } else if key.is_some() && self.run.schedule.done(key) {
            self.run.shared.sleep.notify();
        }
    }

    /// Runs the attempts of an event.
    #[inline]
    fn attempt(&mut self, task: &mut Task, ordered: bool) -> (Outcome, Option<Instant>) {
        let irrevocable = task.is_irrevocable();
        let mode = if irrevocable { Mode::Irrevocable } else { Mode::Update };
        let standing = Standing::new(ordered, task);
        let mut execution = Execution {
            run: self.run,
            live: self.live,
            hot_spots: &mut self.hot_spots,
            context: &mut self.context,
            task,
            standing,
            body_ended: None,
        };
        let turn = &self.run.control.turn;
        if (irrevocable || !self.run.speculates) && !execution.standing.wait(turn) {
            return (Outcome::Withdrawn, None);
        }
        loop {
            Additions::enter(&self.run.shared);
            let result = catch_unwind(AssertUnwindSafe(|| runtime::execute_body(mode, &mut execution)));
            Additions::leave();
            let outcome = Outcome::of(result);
            if !matches!(outcome, Outcome::Committed | Outcome::Blocked(_)) {
                // A blocked attempt was aborted, and the abort has been dealt with.
                execution.context.abort();
            }
            if execution.standing.in_turn || matches!(outcome, Outcome::Committed | Outcome::Withdrawn) {
                return (outcome, execution.body_ended);
            }
            // What an event does ahead of its turn, other than reach its end, does not count.
            let handler = &mut execution.task.handler;
            execution.context.catching(|| handler.aborted());
            if !execution.standing.wait(turn) {
                return (Outcome::Withdrawn, None);
            }
        }
    }
}
