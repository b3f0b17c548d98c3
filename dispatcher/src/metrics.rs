//! What a queue has done and holds, at any moment: as numbers, and as text for Prometheus.

use std::fmt::{self, Write};
use std::time::Duration;

use optimist_stm::Abort;

use crate::histogram::Histogram;
use crate::queue::TransactionQueue;
use crate::report::{Counters, Latencies};

/// A snapshot of a queue: what all its runs have done so far, the one in progress included, and what is pending.
///
/// ```
/// use optimist_dispatcher::TransactionQueue;
///
/// let queue = TransactionQueue::default();
/// queue.add(|_| Ok(()));
/// queue.run()?;
/// queue.add(|_| Ok(()));
/// let metrics = queue.metrics();
/// assert_eq!((metrics.counters.commits, metrics.ready, metrics.is_running), (1, 1, false));
/// assert!(metrics.prometheus("shop").contains("optimist_commits_total{queue=\"shop\"} 1"));
/// # Ok::<(), optimist_dispatcher::RunError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Totals. While a run is in progress, counters of different workers are read one after the other.
    pub counters: Counters,
    /// Latencies of a sample of events. While a run is in progress they are some hundredths of a second old.
    pub latencies: Latencies,
    /// How many runs have begun.
    pub runs: u64,
    /// Whether a run is in progress.
    pub is_running: bool,
    /// How many workers that run has.
    pub workers: usize,
    /// Events that wait to be started, without those in workers' own queues.
    pub ready: usize,
    /// Events that wait for their time.
    pub timers: usize,
    /// Events that wait for a change.
    pub blocked: usize,
}

/// What finished runs have left.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    counters: Counters,
    latencies: Latencies,
    runs: u64,
}

impl Totals {
    pub(crate) fn merge(&mut self, counters: &Counters, latencies: &Latencies) {
        self.counters.merge(counters);
        self.latencies.merge(latencies);
        self.runs += 1;
    }
}

impl TransactionQueue {
    /// What the queue has done and holds. May be called at any time and from any thread.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let shared = self.shared();
        // Held while the totals are read: a run moves its figures there under this lock.
        let current = shared.current.lock();
        let mut metrics = {
            let totals = shared.totals.lock();
            Metrics {
                counters: totals.counters.clone(),
                latencies: totals.latencies.clone(),
                runs: totals.runs,
                ..Metrics::default()
            }
        };
        if let Some(control) = &*current {
            metrics.counters.merge(&control.counters());
            metrics.latencies.merge(&control.latencies.lock());
            metrics.runs += 1;
            metrics.is_running = true;
            metrics.workers = control.lives.len();
        }
        drop(current);
        (metrics.ready, metrics.timers, metrics.blocked) = shared.pending_parts();
        metrics
    }
}

impl Metrics {
    /// The metrics in Prometheus' text format (version 0.0.4), each labelled with the name of the queue.
    #[must_use]
    pub fn prometheus(&self, queue: &str) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, &queue.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        text
    }

    fn write(&self, out: &mut String, queue: &str) -> fmt::Result {
        for (name, value) in self.counters.fields() {
            let help = Counters::help(name);
            writeln!(out, "# HELP optimist_{name}_total {help}\n# TYPE optimist_{name}_total counter")?;
            writeln!(out, "optimist_{name}_total{{queue=\"{queue}\"}} {value}")?;
        }
        writeln!(out, "# HELP optimist_runs_total Runs begun.\n# TYPE optimist_runs_total counter")?;
        writeln!(out, "optimist_runs_total{{queue=\"{queue}\"}} {}", self.runs)?;
        writeln!(out, "# HELP optimist_aborts_total Attempts that ended without committing.")?;
        writeln!(out, "# TYPE optimist_aborts_total counter")?;
        for reason in Abort::ALL {
            let count = self.counters.aborts[*reason as usize];
            writeln!(out, "optimist_aborts_total{{queue=\"{queue}\",reason=\"{}\"}} {count}", reason.name())?;
        }
        writeln!(out, "# HELP optimist_pending_events Events that wait.\n# TYPE optimist_pending_events gauge")?;
        for (what, count) in [("ready", self.ready), ("timer", self.timers), ("blocked", self.blocked)] {
            writeln!(out, "optimist_pending_events{{queue=\"{queue}\",state=\"{what}\"}} {count}")?;
        }
        writeln!(out, "# HELP optimist_workers Workers of the run in progress.\n# TYPE optimist_workers gauge")?;
        writeln!(out, "optimist_workers{{queue=\"{queue}\"}} {}", self.workers)?;
        writeln!(out, "# HELP optimist_event_seconds Where the time of a sample of events went.")?;
        writeln!(out, "# TYPE optimist_event_seconds summary")?;
        for (phase, histogram) in self.latencies.phases() {
            summary(out, queue, phase, histogram)?;
        }
        Ok(())
    }
}

fn summary(out: &mut String, queue: &str, phase: &str, histogram: &Histogram) -> fmt::Result {
    for quantile in [0.5, 0.9, 0.99, 0.999] {
        let value = if histogram.count() == 0 { Duration::ZERO } else { histogram.percentile(quantile) };
        let labels = format!("queue=\"{queue}\",phase=\"{phase}\",quantile=\"{quantile}\"");
        writeln!(out, "optimist_event_seconds{{{labels}}} {}", value.as_secs_f64())?;
    }
    let labels = format!("queue=\"{queue}\",phase=\"{phase}\"");
    writeln!(out, "optimist_event_seconds_sum{{{labels}}} {}", histogram.total().as_secs_f64())?;
    writeln!(out, "optimist_event_seconds_count{{{labels}}} {}", histogram.count())
}
