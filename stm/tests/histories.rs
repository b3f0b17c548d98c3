//! Random transactions on real threads, random schedules, and their histories.
//!
//! `OPTIMIST_HISTORIES` sets how many transactions run in all (ten million in CI), `OPTIMIST_SCHEDULES` how many schedules (a
//! million).

use std::time::Duration;

use optimist_stm::check::recorder::{record_and_check, slowdown};
use optimist_stm::check::schedules;
use optimist_stm::protocol::shipped;
use optimist_stm::{Kind, with_protocol};

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn recorded_histories_are_opaque_and_strictly_serializable() {
    let total = from_environment("OPTIMIST_HISTORIES", 10_000_000);
    for &kind in Kind::ALL {
        let share = total / Kind::ALL.len() as u64;
        let start = std::time::Instant::now();
        let hour = Duration::from_secs(3600);
        let (done, outcome) = with_protocol!(kind, P => record_and_check::<P>(hour, share, 1));
        println!("{kind}: {done} transactions in {:.1} s", start.elapsed().as_secs_f64());
        assert_eq!(outcome, Ok(()), "{kind}");
    }
}

#[test]
fn recording_does_not_take_much_longer_than_the_transactions() {
    let slowdown = slowdown::<shipped::Eager>(20_000);
    println!("recorded transactions take {slowdown:.2} times as long");
    // Two is what is aimed at; noise on a busy machine must not fail the test, a recorder gone wrong must.
    assert!(slowdown < 4.0, "{slowdown}");
}

#[test]
fn random_schedules_are_opaque_and_strictly_serializable() {
    let total = from_environment("OPTIMIST_SCHEDULES", 1_000_000);
    for &kind in Kind::ALL {
        let share = total / Kind::ALL.len() as u64;
        let start = std::time::Instant::now();
        let hour = Duration::from_secs(3600);
        let (done, outcome) = with_protocol!(kind, P => schedules::explore_some::<P>(hour, share));
        println!("{kind}: {done} schedules in {:.1} s", start.elapsed().as_secs_f64());
        assert_eq!(outcome, Ok(()), "{kind}");
    }
}
