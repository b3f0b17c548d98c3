//! How many of the workers have connections.
//!
//! A server with as many workers as there are processors is at its best while it has the processors to itself. If its clients, or others,
//! need some of them too, its workers take turns: each wakes up for a few requests, waits for a processor, and sleeps again, and that costs
//! more than a worker that is never done. Nobody can tell from outside which number is best, so it is found out:
//!
//! 1. The load is looked at in *windows*: how many events connections had, for how long the workers ran, and for how long they
//!    were ready to run and *waited* for a processor, from the kernel's accounts.
//! 2. While workers wait, and all of them together run hardly longer than one fewer could, one fewer is tried; while those that there are never
//!    sleep, one more. At all other times nothing changes.
//! 3. A trial lasts two windows, of which the second one counts. If fewer workers served clearly more, or more workers no less, it stays
//!    like that; otherwise it is as before.
//! 4. After a trial that was in vain, the next one is put off for twice as long. When the load changes it is given time to become steady, and
//!    then the question is a new one.
//!
//! Workers without connections go on executing the queue's events.

use std::fs::File;
use std::iter::Sum;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the load is looked at.
pub(super) const WINDOW: Duration = Duration::from_millis(25);

/// Rule 4: how long at least and at most there is no trial.
const PATIENCE: [Duration; 2] = [Duration::from_millis(75), Duration::from_secs(4)];

/// Rule 2: so many workers that wait, on the average, are too many.
const WAITING: f64 = 0.1;

/// Rule 2: for this part of the time a worker runs, or wants to, that is never done.
const BUSY: f64 = 0.9;

/// Rule 2: what a worker can do beside, on the average, that need not wake up for each request.
const MORE: f64 = 1.25;

/// Rule 3: how many times as much fewer workers must serve, and more workers. In doubt there are more, for then a long event keeps fewer
/// connections waiting.
const GAIN: [f64; 2] = [1.08, 1.0];

/// Rule 4: a load that is so many times the last one is another one.
const OTHER: f64 = 1.4;

/// What a worker has done, for others to read.
#[derive(Debug)]
pub(super) struct Accounts {
    /// How many events of connections it has executed. It wraps around.
    events: AtomicU32,
    /// The kernel's account of the thread, where there is one: nanoseconds that it ran and that it waited.
    times: Option<File>,
}

impl Accounts {
    /// Those of this thread.
    pub(super) fn new() -> Self {
        Accounts { events: AtomicU32::new(0), times: File::open("/proc/thread-self/schedstat").ok() }
    }

    #[inline]
    pub(super) fn note(&self, events: u32) {
        // Relaxed: it is a measure, not a promise.
        self.events.store(events, Ordering::Relaxed);
    }

    /// Nothing if the kernel keeps no account.
    pub(super) fn read(&self) -> Option<Load> {
        let mut text = [0; 80];
        let length = self.times.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let mut times = text.split_whitespace().map(|word| word.parse::<u64>().ok().map(Duration::from_nanos));
        Some(Load { events: self.events.load(Ordering::Relaxed), ran: times.next()??, waited: times.next()?? })
    }
}

/// What workers have done since they began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    events: u32,
    ran: Duration,
    waited: Duration,
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Load>>(loads: I) -> Load {
        loads.fold(Load::default(), |sum, load| Load {
            events: sum.events.wrapping_add(load.events),
            ran: sum.ran + load.ran,
            waited: sum.waited + load.waited,
        })
    }
}

/// Rule 3.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Steady,
    /// Before, there were so many workers, and so many events a second.
    Settling(usize, f64),
    Trial(usize, f64),
}

/// Who decides.
#[derive(Debug)]
pub(super) struct Governor {
    /// How many workers have connections, if there are so many.
    active: usize,
    phase: Phase,
    looked: Option<(Instant, Load)>,
    /// Events a second, of late.
    usual: f64,
    patience: Duration,
    /// No trial before.
    next: Option<Instant>,
}

impl Default for Governor {
    fn default() -> Self {
        let phase = Phase::Steady;
        Governor { active: usize::MAX, phase, looked: None, usual: 0.0, patience: PATIENCE[0], next: None }
    }
}

impl Governor {
    /// How many of so many workers have connections.
    pub(super) fn active(&self, workers: usize) -> usize {
        self.active.min(workers)
    }

    /// Looks at what `workers` have done up to now. Says whether there are to be more or fewer of them with connections.
    pub(super) fn look(&mut self, now: Instant, workers: usize, load: Load) -> bool {
        let before = self.active(workers);
        let Some((looked, last)) = self.looked.replace((now, load)) else { return false };
        let time = now.saturating_duration_since(looked);
        let active = if time < 4 * WINDOW {
            let part = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / time.as_secs_f64();
            let rate = f64::from(load.events.wrapping_sub(last.events)) / time.as_secs_f64();
            self.decide(now, workers, rate, part(load.ran, last.ran), part(load.waited, last.waited))
        } else {
            // There was nothing to do in between, so nothing is known.
            match std::mem::replace(&mut self.phase, Phase::Steady) {
                Phase::Steady => before,
                Phase::Settling(from, _) | Phase::Trial(from, _) => from,
            }
        };
        self.active = if active >= workers { usize::MAX } else { active };
        active != before
    }

    fn decide(&mut self, now: Instant, workers: usize, rate: f64, running: f64, waiting: f64) -> usize {
        let active = self.active(workers);
        match self.phase {
            Phase::Settling(from, before) => {
                self.phase = Phase::Trial(from, before);
                active
            }
            Phase::Trial(from, before) => {
                self.phase = Phase::Steady;
                let better = rate >= before * GAIN[usize::from(active > from)];
                self.usual = if better { rate } else { before };
                self.patience = if better { PATIENCE[0] } else { (2 * self.patience).min(PATIENCE[1]) };
                self.next = Some(now + self.patience);
                if better { active } else { from }
            }
            Phase::Steady => {
                if rate > self.usual * OTHER || rate * OTHER < self.usual {
                    (self.usual, self.patience, self.next) = (rate, PATIENCE[0], Some(now + PATIENCE[0]));
                }
                self.usual = (3.0 * self.usual + rate) / 4.0;
                let (one, all) = (active as f64 - 1.0, active as f64);
                let other = match () {
                    () if self.next.is_some_and(|next| now < next) => active,
                    () if waiting > WAITING && running + waiting > BUSY && running < one * MORE => active - 1,
                    () if running + waiting > BUSY * all && active < workers => active + 1,
                    () => active,
                };
                if other != active {
                    self.phase = Phase::Settling(active, self.usual);
                }
                other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which so many active workers serve so many thousand events in a second, run and wait for parts of it.
    struct Machine<F: Fn(usize) -> (f64, f64, f64)> {
        governor: Governor,
        workers: usize,
        now: Instant,
        load: Load,
        serve: F,
    }

    impl<F: Fn(usize) -> (f64, f64, f64)> Machine<F> {
        fn new(workers: usize, serve: F) -> Self {
            Machine { governor: Governor::default(), workers, now: Instant::now(), load: Load::default(), serve }
        }

        /// Runs for a while, and says for which part of it each number of workers was active.
        fn run(&mut self, windows: u32) -> Vec<f64> {
            let mut parts = vec![0.0; self.workers + 1];
            for _ in 0..windows {
                let active = self.governor.active(self.workers);
                parts[active] += 1.0 / f64::from(windows);
                let (thousands, ran, waited) = (self.serve)(active);
                self.now += WINDOW;
                self.load.events = self.load.events.wrapping_add((thousands * 1e3 * WINDOW.as_secs_f64()) as u32);
                self.load.ran += WINDOW.mul_f64(ran);
                self.load.waited += WINDOW.mul_f64(waited);
                self.governor.look(self.now, self.workers, self.load);
            }
            parts
        }
    }

    #[test]
    fn one_worker_where_the_clients_need_the_other_processor() {
        let mut machine = Machine::new(2, |active| if active == 1 { (170.0, 1.0, 0.0) } else { (120.0, 1.2, 0.8) });
        machine.run(50);
        assert!(machine.run(1000)[1] > 0.95);
    }

    #[test]
    fn all_workers_where_they_have_the_processors() {
        let mut machine = Machine::new(4, |active| (100.0 * active as f64, active as f64, 0.0));
        assert!(machine.run(1000)[4] > 0.999);
    }

    #[test]
    fn all_workers_where_they_wait_and_serve_more_all_the_same() {
        let mut machine = Machine::new(2, |active| if active == 1 { (37.0, 1.0, 0.0) } else { (61.0, 1.5, 0.5) });
        machine.run(50);
        assert!(machine.run(1000)[2] > 0.95);
    }

    #[test]
    fn the_best_number_is_found_from_both_sides() {
        let rate = [0.0, 50.0, 90.0, 130.0, 110.0, 100.0, 90.0, 80.0, 70.0];
        let mut machine =
            Machine::new(8, |active| (rate[active], active.min(3) as f64, active.saturating_sub(3) as f64));
        machine.run(200);
        assert!(machine.run(1000)[3] > 0.9);
        machine.governor.active = 1;
        machine.run(100);
        assert!(machine.run(1000)[3] > 0.9);
    }

    #[test]
    fn nothing_changes_where_there_is_little_to_do() {
        let mut machine = Machine::new(2, |_| (1.0, 0.1, 0.3));
        assert!(machine.run(1000)[2] > 0.999);
    }

    #[test]
    fn another_load_is_another_question() {
        let heavy = std::cell::Cell::new(false);
        let mut machine = Machine::new(2, |active| match (heavy.get(), active) {
            (false, 1) => (170.0, 1.0, 0.0),
            (false, _) => (120.0, 1.2, 0.8),
            (true, 1) => (37.0, 1.0, 0.0),
            (true, _) => (61.0, 1.5, 0.5),
        });
        machine.run(1000);
        heavy.set(true);
        assert!(machine.run(50)[2] > 0.6);
        heavy.set(false);
        assert!(machine.run(50)[1] > 0.6);
    }
}
