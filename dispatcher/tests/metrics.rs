//! Metrics at any moment, and their text for Prometheus.

use std::collections::HashSet;
use std::sync::mpsc;
use std::time::Duration;

use optimist_dispatcher::{Config, OnError, TVar, TransactionQueue};

fn queue() -> TransactionQueue {
    TransactionQueue::new(Config { threads: 2, on_error: OnError::Collect, ..Config::default() })
}

#[test]
fn all_runs_are_counted_and_the_one_in_progress() {
    let queue = queue();
    for n in 0..100 {
        queue.add(move |ev| if n % 10 == 0 { ev.fail("now and then") } else { Ok(()) });
    }
    let first = queue.run().unwrap();
    let metrics = queue.metrics();
    assert_eq!(metrics.counters, first.counters);
    assert_eq!(
        (metrics.counters.commits, metrics.counters.failures, metrics.runs, metrics.is_running),
        (90, 10, 1, false)
    );

    // In the middle of a run: one event under way, one timer, one that waits for a change.
    let gate = TVar::new(false);
    let (started, is_started) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let closed = gate.clone();
    queue.add(move |ev| {
        let open = closed.get(ev)?;
        Ok(ev.check(open)?)
    });
    queue.add_after(Duration::from_secs(1_000), |_| Ok(()));
    for _ in 0..50 {
        queue.add(|_| Ok(()));
    }
    queue.add_with(optimist_dispatcher::Options::new().name("last"), move |_| {
        started.send(()).unwrap();
        is_released.recv().unwrap();
        Ok(())
    });
    let runner = {
        let queue = queue.clone();
        std::thread::spawn(move || queue.run())
    };
    is_started.recv().unwrap();
    // The other worker does the rest meanwhile.
    while queue.metrics().counters.commits < 140 || queue.metrics().blocked == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let metrics = queue.metrics();
    assert_eq!((metrics.runs, metrics.is_running, metrics.workers), (2, true, 2));
    assert_eq!((metrics.ready, metrics.timers, metrics.blocked), (0, 1, 1));
    release.send(()).unwrap();
    gate.store(true);
    queue.drain();
    let report = runner.join().unwrap().unwrap();
    let metrics = queue.metrics();
    assert_eq!(metrics.counters.commits, first.counters.commits + report.counters.commits);
    assert!(metrics.latencies.run.count() >= report.latencies.run.count() && !metrics.is_running);
}

#[test]
fn the_text_is_prometheus_text() {
    let queue = queue();
    let hot = TVar::new(0_u64);
    for _ in 0..500 {
        let hot = hot.clone();
        queue.add(move |ev| Ok(hot.modify(ev, |n| n + 1)?));
    }
    queue.run().unwrap();
    let text = queue.metrics().prometheus("a \"queue\"");
    let (mut helped, mut typed, mut seen) = (HashSet::new(), HashSet::new(), HashSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(typed.insert(name) && ["counter", "gauge", "summary"].contains(&kind), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').expect("labels");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert!(labels.starts_with("queue=\"a \\\"queue\\\"\"") && labels.ends_with('}'), "{line}");
            let family = name.trim_end_matches("_sum").trim_end_matches("_count");
            assert!(helped.contains(family) && typed.contains(family), "{line}");
            assert!(seen.insert(series), "{line} is there twice");
        }
    }
    assert!(text.contains("optimist_commits_total{queue=\"a \\\"queue\\\"\"} 500\n"), "{text}");
    assert!(seen.iter().any(|series| series.contains("phase=\"commit\",quantile=\"0.99\"")));
    assert!(seen.iter().filter(|series| series.starts_with("optimist_aborts_total")).count() >= 5);
}
