//! A worker: takes an event from the schedule, executes it as a transaction, releases its effects, and sleeps when there is nothing.
//!
//! Here is what it does next: an event, its connections, a look around, sleep. What becomes of an event is in `execute` and `ending`.

mod ending;
mod execute;

use std::panic::Location;
use std::time::{Duration, Instant};

use crate::batch::{Done, Kinds};
use crate::error::EventError;
use crate::event::Context;
use crate::hotspot::HotSpots;
use crate::order::{Local, Schedule};
use crate::reactor::{Poller, Runner};
use crate::report::{Latencies, Live};
use crate::run::{Run, STOP_TIME};
use crate::sleep::Wake;
use crate::task::{Label, Task};

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
        let label = Label { name: Some("poller".into()), site: Location::caller() };
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
}
