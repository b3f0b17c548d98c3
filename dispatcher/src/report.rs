//! What a run did: counters, latencies, work by worker.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use optimist_stm::{Abort, abort::REASONS};

use crate::error::EventError;
use crate::histogram::Histogram;
use crate::hotspot::{Executing, HotSpot};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// Totals of a run, or of one of its workers.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Attempts that ended without committing, by reason.
            pub aborts: [u64; REASONS],
        }

        impl Counters {
            /// The names and values of the counters, without the aborts.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }

            /// What a counter of this name counts.
            pub(crate) fn help(name: &str) -> &'static str {
                match name {
                    $(stringify!($name) => concat!($($doc),+).trim_ascii(),)+
                    _ => "",
                }
            }

            /// Adds the counts of another.
            pub fn merge(&mut self, other: &Counters) {
                $(self.$name += other.$name;)+
                self.aborts.iter_mut().zip(other.aborts).for_each(|(count, more)| *count += more);
            }
        }

        /// The counters of a worker while it works. Only it writes them, with plain stores; anyone may read.
        #[derive(Debug, Default)]
        pub(crate) struct Live {
            $(pub(crate) $name: Counter,)+
            pub(crate) aborts: [Counter; REASONS],
            /// What the worker is about.
            pub(crate) executing: Executing,
        }

        impl Live {
            pub(crate) fn read(&self) -> Counters {
                let mut aborts = [0; REASONS];
                aborts.iter_mut().zip(&self.aborts).for_each(|(count, live)| *count = live.get());
                Counters { $($name: self.$name.get(),)+ aborts }
            }
        }
    };
}

counters! {
    /// Events committed.
    commits;
    /// Attempts, committed or not.
    attempts;
    /// Events that failed or panicked.
    failures;
    /// Times an event was put aside because it waits for a change.
    waits;
    /// Events added by events.
    added;
    /// Events that ran irrevocably, by request or because they had lost too often.
    irrevocable;
    /// Events run one after the other because their kind kept colliding.
    serialised;
    /// Events committed together with others by one transaction.
    batched;
    /// Bytes of output released.
    output_bytes;
    /// Events taken from another worker.
    stolen;
    /// Connections handed over to another worker.
    moved;
    /// Times a worker fell asleep.
    sleeps;
    /// Nanoseconds slept.
    asleep_ns;
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, more: u64) {
        // Relaxed: there is one writer, and readers want no order.
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Attempts that ended without committing because of others, for whatever reason.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.aborts.iter().sum()
    }

    /// The aborts that occurred, with their reasons.
    pub fn aborts_by_reason(&self) -> impl Iterator<Item = (Abort, u64)> + '_ {
        Abort::ALL.iter().map(|reason| (*reason, self.aborts[*reason as usize])).filter(|(_, count)| *count > 0)
    }

    /// Attempts for each commit; 1 without any conflict.
    #[must_use]
    pub fn attempts_per_commit(&self) -> f64 {
        if self.commits == 0 { 0.0 } else { self.attempts as f64 / self.commits as f64 }
    }

    /// The share of attempts that lost to another event.
    #[must_use]
    pub fn conflict_rate(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.conflicts() as f64 / self.attempts as f64 }
    }

    /// Attempts that lost to another event: all aborts but those that the event itself asked for.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.aborts_by_reason()
            .filter(|(reason, _)| !matches!(reason, Abort::Retry | Abort::Irrevocable | Abort::Regime))
            .map(|(_, count)| count)
            .sum()
    }
}

/// Where the time of a sample of events went.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Latencies {
    /// From being added to starting.
    pub queue: Histogram,
    /// From starting to the end of the last attempt's body.
    pub run: Histogram,
    /// From there until the effects were released.
    pub commit: Histogram,
}

impl Latencies {
    /// The phases by name.
    #[must_use]
    pub fn phases(&self) -> [(&'static str, &Histogram); 3] {
        [("queue", &self.queue), ("run", &self.run), ("commit", &self.commit)]
    }

    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.queue.merge(&other.queue);
        self.run.merge(&other.run);
        self.commit.merge(&other.commit);
    }
}

/// What one worker did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Its counters.
    pub counters: Counters,
}

/// What a run did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Totals over all workers.
    pub counters: Counters,
    /// Work by worker.
    pub workers: Vec<WorkerReport>,
    /// Where the time of a sample of events went.
    pub latencies: Latencies,
    /// How long the run took.
    pub elapsed: Duration,
    /// The protocol that was in force at the end.
    pub protocol: optimist_stm::Kind,
    /// Events left pending.
    pub pending: usize,
    /// Where events collided, the most frequent first.
    pub hot_spots: Vec<HotSpot>,
    /// Errors collected, in the order in which they were met; at most [`Report::ERRORS`].
    pub errors: Vec<EventError>,
}

impl Report {
    /// How many errors a report keeps; the others are only counted, in [`Counters::failures`].
    pub const ERRORS: usize = 1000;

    /// Adds what a later run of the same queue did.
    pub fn merge(&mut self, later: Report) {
        self.counters.merge(&later.counters);
        for (index, worker) in later.workers.into_iter().enumerate() {
            match self.workers.get_mut(index) {
                Some(own) => own.counters.merge(&worker.counters),
                None => self.workers.push(worker),
            }
        }
        self.latencies.merge(&later.latencies);
        self.elapsed += later.elapsed;
        self.protocol = later.protocol;
        self.pending = later.pending;
        self.hot_spots.extend(later.hot_spots);
        self.hot_spots.sort_by_key(|spot| u64::MAX - spot.count);
        self.errors.extend(later.errors);
    }

    /// Commits per second.
    #[must_use]
    pub fn events_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds == 0.0 { 0.0 } else { self.counters.commits as f64 / seconds }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.counters;
        writeln!(f, "protocol             {}", self.protocol)?;
        writeln!(f, "threads              {}", self.workers.len())?;
        writeln!(f, "events               {}", counters.commits + counters.failures)?;
        writeln!(f, "commits              {}", counters.commits)?;
        writeln!(f, "aborts               {}", counters.aborted())?;
        for (reason, count) in counters.aborts_by_reason() {
            writeln!(f, "  {:<19}{count}", reason.name())?;
        }
        writeln!(f, "attempts per commit  {:.4}", counters.attempts_per_commit())?;
        writeln!(f, "conflict rate        {:.2} %", counters.conflict_rate() * 100.0)?;
        writeln!(f, "time                 {:.3} s", self.elapsed.as_secs_f64())?;
        writeln!(f, "events per second    {:.0}", self.events_per_second())?;
        for (name, count) in counters.fields() {
            if !matches!(name, "commits" | "attempts" | "asleep_ns") && count > 0 {
                writeln!(f, "{:<21}{count}", name.replace('_', " "))?;
            }
        }
        for spot in self.hot_spots.iter().take(5) {
            writeln!(f, "collision            {spot}")?;
        }
        for (name, histogram) in self.latencies.phases() {
            writeln!(
                f,
                "{name:<6} latency       p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
                histogram.percentile(0.5),
                histogram.percentile(0.9),
                histogram.percentile(0.99),
                histogram.max()
            )?;
        }
        for (index, worker) in self.workers.iter().enumerate() {
            let asleep = Duration::from_nanos(worker.counters.asleep_ns);
            writeln!(
                f,
                "worker {index:<14}{} commits, {} attempts, {} stolen, asleep {:.3} s",
                worker.counters.commits,
                worker.counters.attempts,
                worker.counters.stolen,
                asleep.as_secs_f64()
            )?;
        }
        Ok(())
    }
}
