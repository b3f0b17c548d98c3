//! What collides and what does not, and where it is said to collide.

use std::sync::Arc;

use optimist_dispatcher::{Config, Kind, Report, TVar, TransactionQueue};
use optimist_stm::collections::TMap;

/// Without learning, and each event by itself, so that whatever can collide does.
fn queue() -> TransactionQueue {
    let protocol = Some(Kind::Eager);
    TransactionQueue::new(Config { threads: 4, collisions: 0, batch: 1, protocol, ..Config::default() })
}

fn conflicts(report: &Report) -> f64 {
    report.counters.conflicts() as f64 / report.counters.commits as f64
}

const EVENTS: u64 = 4_000;

#[test]
fn private_objects_cause_no_aborts() {
    let queue = queue();
    for n in 0..EVENTS {
        queue.add(move |ev| {
            let own = TVar::new(n);
            for _ in 0..10 {
                own.modify(ev, |n| n + 1)?;
                std::thread::yield_now();
            }
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert_eq!((report.counters.conflicts(), report.hot_spots.len()), (0, 0));
}

#[test]
fn keys_of_a_map_cause_next_to_no_aborts() {
    let queue = queue();
    let map: TMap<u64, u64> = TMap::new();
    for n in 0..EVENTS {
        let map = map.clone();
        queue.add(move |ev| {
            let count = map.get(ev, &n)?.unwrap_or(0);
            std::thread::yield_now();
            map.insert(ev, n, count + 1)?;
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert!(conflicts(&report) < 0.02, "{report}");
    assert_eq!(optimist_stm::read_only(|tx| map.len(tx)), EVENTS as usize);
}

#[test]
fn thread_locals_cause_no_aborts() {
    thread_local! {
        static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let queue = queue();
    for _ in 0..EVENTS {
        queue.add(|_| {
            COUNT.set(COUNT.get() + 1);
            std::thread::yield_now();
            Ok(())
        });
    }
    assert_eq!(queue.run().unwrap().counters.conflicts(), 0);
}

/// One object that all events add to: they collide, and the place that is named is the line that adds.
#[test]
fn one_object_collides_and_its_line_is_named() {
    let queue = queue();
    let (hot, cold) = (TVar::new(0_u64), Arc::new((0..64).map(TVar::new).collect::<Vec<_>>()));
    let mut line = 0;
    let mut added = 0;
    for n in 0..EVENTS / 4 {
        let (hot, cold) = (hot.clone(), cold.clone());
        added = line!() + 1;
        queue.add(move |ev| {
            cold[n as usize % 64].get(ev)?;
            hot.modify(ev, |x| {
                std::thread::sleep(std::time::Duration::from_micros(1));
                x + 1
            })?;
            Ok(())
        });
        line = added + 2;
    }
    let report = queue.run().unwrap();
    assert_eq!(hot.load(), EVENTS / 4);
    assert!(conflicts(&report) > 0.05, "{report}");
    let spot = report.hot_spots.iter().find(|spot| spot.place.is_some()).expect("a place");
    let place = spot.place.unwrap();
    assert_eq!((place.file(), place.line(), spot.event.line()), (file!(), line, added), "{report}");
    // No other line of this file is named.
    assert!(report.hot_spots.iter().filter_map(|spot| spot.place).all(|place| place.line() == line), "{report}");
    assert!(report.to_string().contains(&format!("{}:{line}:", file!())), "{report}");
}

/// A long event that holds the object is named as the one that others lose to.
#[test]
fn the_winner_is_named() {
    let queue = queue();
    let (a, b) = (TVar::new(0_u64), TVar::new(0_u64));
    let mut sites = [0; 2];
    for _ in 0..EVENTS / 8 {
        let (first, second) = (a.clone(), b.clone());
        sites[0] = line!() + 1;
        queue.add(move |ev| {
            first.modify(ev, |n| n + 1)?;
            std::thread::sleep(std::time::Duration::from_micros(1));
            second.modify(ev, |n| n + 1)?;
            Ok(())
        });
        let (first, second) = (b.clone(), a.clone());
        sites[1] = line!() + 1;
        queue.add(move |ev| {
            first.modify(ev, |n| n + 1)?;
            std::thread::sleep(std::time::Duration::from_micros(1));
            second.modify(ev, |n| n + 1)?;
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert_eq!((a.load(), b.load()), (EVENTS / 4, EVENTS / 4));
    let named: Vec<_> = report.hot_spots.iter().filter_map(|spot| spot.other).collect();
    assert!(!named.is_empty(), "{report}");
    assert!(named.iter().all(|other| other.file() == file!() && sites.contains(&other.line())), "{report}");
}

/// Adding from many threads, from events and from both at once makes nothing collide.
#[test]
fn the_queue_collides_with_nobody() {
    let queue = queue();
    let hold = Arc::new(queue.hold());
    let report = std::thread::scope(|scope| {
        for _ in 0..4 {
            let (queue, hold) = (&queue, hold.clone());
            scope.spawn(move || {
                for _ in 0..EVENTS {
                    queue.add(|ev| {
                        ev.add(|_| Ok(()));
                        Ok(())
                    });
                }
                drop(hold);
            });
        }
        drop(hold);
        queue.run().unwrap()
    });
    assert_eq!((report.counters.commits, report.counters.aborted()), (8 * EVENTS, 0), "{report}");
    assert_eq!(report.counters.attempts, 8 * EVENTS);
}
