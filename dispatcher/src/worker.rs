//! A worker: takes an event from the schedule, executes it as a transaction, releases its effects, and sleeps when there is nothing.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::{Duration, Instant};

use optimist_stm::attempt::Mode;
use optimist_stm::runtime;

use crate::batch::{Batch, Done, Kinds};
use crate::collisions::{Collisions, Held, Verdict};
use crate::effects::WriteError;
use crate::error::EventError;
use crate::event::Context;
use crate::execution::{Execution, Outcome};
use crate::hotspot::HotSpots;
use crate::order::{Local, Schedule, Standing};
use crate::queue::{Addition, Additions, Descent, Target};
use crate::reactor::{Poller, Runner};
use crate::record::Origin;
use crate::report::{Latencies, Live};
use crate::run::{Run, STOP_TIME};
use crate::sleep::Wake;
use crate::task::Task;
use crate::trace;

/// After so many events a worker looks at timers, the time limit and output that waits to be flushed.
const ROUND: u32 = 64;

/// A worker that is busy with events turns to its connections after so long.
const SLICE: Duration = Duration::from_micros(100);

/// Output of a busy run is written at the latest after so long.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) struct Worker<'r> {
    run: &'r Run,
    live: &'r Live,
    local: Local,
    context: Context,
    latencies: Latencies,
    rounds: u32,
    flushed: Instant,
    /// Its share of the connections, and what it runs their events with.
    poller: Option<Poller>,
    runner: Runner,
    /// When it last turned to them.
    served: Instant,
    /// What is known about kinds of events.
    kinds: Kinds,
    hot_spots: HotSpots,
    /// Whether events may be run in batches.
    batches: bool,
    /// The batch in execution.
    batch: Vec<Task>,
    done: Vec<Done>,
    /// Events of batches that were taken apart, to be run by themselves; the next one is the last.
    apart: Vec<Task>,
}

impl<'r> Worker<'r> {
    pub(crate) fn new(run: &'r Run, local: Local) -> Self {
        let live = &*run.control.lives[local.index];
        let runner = Runner::new(local.index, &run.shared, &run.control.lives[local.index], &run.config.stdout);
        let context = Context::new(local.index, run.config.seed, run.shared.numbers.clone());
        Worker {
            run,
            live,
            local,
            context,
            latencies: Latencies::default(),
            rounds: 0,
            flushed: Instant::now(),
            poller: None,
            runner,
            served: Instant::now(),
            kinds: Kinds::new(run.config.batch.max(1)),
            hot_spots: HotSpots::default(),
            batches: run.config.batch > 1
                && run.recorder.is_none()
                && match run.schedule {
                    Schedule::Free(_) | Schedule::Fifo(_) => true,
                    Schedule::Ordered(_) => run.speculates,
                    _ => false,
                },
            batch: Vec::new(),
            done: Vec::new(),
            apart: Vec::new(),
        }
    }

    pub(crate) fn work(mut self) {
        self.open_poller();
        while !self.run.control.is_stopping() {
            self.rounds += 1;
            if self.rounds >= ROUND {
                self.look_around();
            }
            match self.next() {
                Some(task) => {
                    self.execute_with_others(task);
                    if self.poller.is_some() && self.served.elapsed() > SLICE {
                        self.poll(Duration::ZERO);
                    }
                }
                None if self.poller.as_ref().is_some_and(Poller::has_work) => self.poll(Duration::ZERO),
                None => {
                    if !self.idle() {
                        break;
                    }
                }
            }
        }
        self.apart.drain(..).rev().for_each(|task| self.run.withdraw(task));
        if let Some(poller) = self.poller.take() {
            poller.end(&mut self.runner);
            self.report_connections();
        }
        self.hand_over_latencies();
        self.run.hot_spots.lock().merge(self.hot_spots);
    }

    fn hand_over_latencies(&mut self) {
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.merge(&std::mem::take(&mut self.runner.latencies));
        if latencies.queue.count() + latencies.run.count() > 0 {
            self.run.control.latencies.lock().merge(&latencies);
        }
    }

    /// Makes the worker's poller, once there is something to poll for.
    fn open_poller(&mut self) {
        if self.poller.is_none() && self.run.shared.reactor.get().is_some() {
            let control = &self.run.control;
            match Poller::new(&self.run.shared, &mut self.runner, || control.is_draining()) {
                Ok(poller) => self.poller = Some(poller),
                Err(error) => self.poller_failed(error),
            }
        }
    }

    /// Without a poller the worker would be deaf to its connections.
    #[cold]
    fn poller_failed(&mut self, error: std::io::Error) {
        let label = crate::task::Label { name: Some("poller".into()), site: Location::caller() };
        self.report(EventError::source(label, format!("the system has no poller: {error}")), true);
    }

    /// Looks what has become ready and serves it.
    fn poll(&mut self, timeout: Duration) {
        if let Some(poller) = &mut self.poller {
            match poller.wait(Some(timeout)) {
                Ok(()) => self.serve(),
                Err(error) => self.poller_failed(error),
            }
        }
    }

    /// Serves the connections that are ready.
    fn serve(&mut self) {
        if let Some(poller) = &mut self.poller {
            poller.serve(&mut self.runner);
            self.served = Instant::now();
            poller.govern(self.served);
            if !self.runner.errors.is_empty() {
                self.report_connections();
            }
        }
    }

    #[cold]
    fn report_connections(&mut self) {
        for error in std::mem::take(&mut self.runner.errors) {
            self.report(error, false);
        }
    }

    #[inline]
    fn next(&mut self) -> Option<Task> {
        let task = self.run.schedule.next(&self.run.shared.inbox, &mut self.local)?;
        if self.local.stole {
            self.live.stolen.add(1);
        }
        Some(task)
    }

    /// What has to be done now and then.
    #[cold]
    fn look_around(&mut self) {
        self.rounds = 0;
        if !self.run.shared.timers.is_empty() {
            self.fire_timers();
        }
        let now = Instant::now();
        if self.run.deadline.is_some_and(|deadline| deadline <= now) {
            self.run.stop(STOP_TIME);
        }
        self.open_poller();
        if now - self.served > SLICE {
            self.poll(Duration::ZERO);
        }
        if now - self.flushed > FLUSH_INTERVAL {
            self.flushed = now;
            self.flush();
            self.hand_over_latencies();
        }
    }

    fn fire_timers(&mut self) {
        self.run.shared.timers.fire(|task| self.run.shared.push(task, None));
    }

    fn flush(&mut self) {
        let mut errors = Vec::new();
        self.run.flush(|error| errors.push(error));
        errors.into_iter().for_each(|error| self.report(error, false));
    }

    /// Nothing was found: sleeps until there may be something. False if the run is over.
    #[cold]
    fn idle(&mut self) -> bool {
        self.flush();
        let run = self.run;
        let sleep = &run.shared.sleep;
        let roused = sleep.roused();
        self.open_poller();
        sleep.announce();
        self.fire_timers();
        if let Some(task) = self.next() {
            sleep.withdraw();
            // Whoever put it there may have put more, and has seen a sleeper only once.
            sleep.notify();
            self.execute_with_others(task);
            return true;
        }
        let deadline = run.shared.timers.earliest().into_iter().chain(run.deadline).min();
        let slept = Instant::now();
        self.live.sleeps.add(1);
        let wake = match &mut self.poller {
            None => sleep.wait(run.workers(), roused, deadline, || run.is_finished()),
            Some(poller) => match sleep.begin_polling(poller.mailbox(), run.workers(), || run.is_finished()) {
                Some(wake) => wake,
                None => {
                    let deadline = deadline.into_iter().chain(poller.deadline()).min();
                    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(slept));
                    let polled = poller.wait(timeout);
                    let wake = sleep.end_polling(poller.mailbox());
                    if let Err(error) = polled {
                        self.poller_failed(error);
                    }
                    wake
                }
            },
        };
        let now = Instant::now();
        self.live.asleep_ns.add(u64::try_from((now - slept).as_nanos()).unwrap_or(u64::MAX));
        match wake {
            Wake::Finished => return false,
            Wake::Time => self.look_around(),
            Wake::Work => {
                self.serve();
                self.fire_timers();
                if let Some(task) = self.next() {
                    if !self.local.deque.is_empty() || !run.shared.inbox.is_empty() {
                        sleep.notify();
                    }
                    self.execute_with_others(task);
                }
            }
        }
        true
    }

    /// How many events may be in a batch with this one.
    #[inline]
    fn batch_of(&self, task: &Task) -> usize {
        // A timed event runs by itself, so that the time is its own.
        if task.joins && task.queued.is_none() { self.kinds.batch(task.site) as usize } else { 1 }
    }

    /// Executes an event, and others with it if they are tiny.
    #[inline]
    fn execute_with_others(&mut self, task: Task) {
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
    fn settle(&mut self, mut task: Task, outcome: Outcome) {
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
    fn end_committed(&mut self, mut task: Task, again: bool) {
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
                self.report(EventError::hook(crate::task::Label { name, site }, &*payload), last);
            }
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

    /// Releases the effects of events that have been committed together, or of one; `done` says which part is whose. Returns the
    /// [line](Self::line) in a recording.
    #[inline]
    fn release(&mut self, tasks: &[Task], done: &[Done]) -> u64 {
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
    fn fail(&mut self, task: &mut Task, error: impl FnOnce(crate::task::Label) -> EventError) {
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
    fn report(&mut self, error: EventError, last: bool) {
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
