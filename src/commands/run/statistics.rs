//! What `--stats` shows.

use optimist::dispatcher::flowgraph::Program;
use optimist::dispatcher::{Counters, Histogram, Report};
use optimist::stm::Abort;
use serde_json::{Map, Value, json};

/// A table for people.
pub(super) fn text(report: &Report, program: &Program) -> String {
    let heap = program.vm().heap().statistics();
    let pause = heap.longest_pause.as_secs_f64() * 1000.0;
    let total = heap.total_pause.as_secs_f64() * 1000.0;
    let mut text = format!(
        "{report}collections          {}, longest pause {pause:.2} ms, all pauses {total:.2} ms\n",
        heap.collections
    );
    if let Some(bytes) = peak_memory() {
        text += &format!("peak memory          {:.1} MB\n", bytes as f64 / 1e6);
    }
    text
}

/// The most memory that this process has had, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// One JSON object.
pub(super) fn json(report: &Report, program: &Program) -> Value {
    let counters = &report.counters;
    let heap = program.vm().heap().statistics();
    json!({
        "protocol": report.protocol.name(),
        "threads": report.workers.len(),
        "events": counters.commits + counters.failures,
        "seconds": report.elapsed.as_secs_f64(),
        "events_per_second": report.events_per_second(),
        "attempts_per_commit": counters.attempts_per_commit(),
        "conflict_rate": counters.conflict_rate(),
        "counters": named(counters),
        "latency_ns": {
            "queue": percentiles(&report.latencies.queue),
            "run": percentiles(&report.latencies.run),
            "commit": percentiles(&report.latencies.commit),
        },
        "workers": report.workers.iter().map(|worker| named(&worker.counters)).collect::<Vec<_>>(),
        "heap": { "collections": heap.collections, "longest_pause_ns": nanoseconds(heap.longest_pause),
            "total_pause_ns": nanoseconds(heap.total_pause), "put_off": heap.put_off, "live_bytes": heap.live_bytes },
        "peak_memory_bytes": peak_memory(),
    })
}

fn named(counters: &Counters) -> Value {
    let mut object: Map<String, Value> =
        counters.fields().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let aborts = Abort::ALL.iter().map(|reason| (reason.name().to_owned(), counters.aborts[*reason as usize].into()));
    object.insert("aborts".to_owned(), Value::Object(aborts.collect()));
    Value::Object(object)
}

fn percentiles(histogram: &Histogram) -> Value {
    json!({
        "samples": histogram.count(),
        "p50": nanoseconds(histogram.percentile(0.5)),
        "p90": nanoseconds(histogram.percentile(0.9)),
        "p99": nanoseconds(histogram.percentile(0.99)),
        "max": nanoseconds(histogram.max()),
    })
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
