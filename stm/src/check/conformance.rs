//! The conformance suite: what every protocol must prevent or provide, named by phenomenon, on real threads.
//!
//! It is generic over the protocol, so a protocol of one's own runs all of it. Each test has a heap of its own and a time after which it is
//! given up as stuck.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::explore::panic_text;
use super::heap::{Heap, Session};
use crate::Abort;
use crate::atomics::Native;
use crate::attempt::Mode;
use crate::header::Header;
use crate::protocol::{Info, Protocol};
use crate::run::{Interrupt, PATIENCE};

/// One phenomenon.
#[derive(Clone, Copy, Debug)]
pub struct Phenomenon {
    /// Its name in the literature.
    pub name: &'static str,
    /// What must hold.
    pub claim: &'static str,
    /// Whether it is asked of a protocol that promises this.
    pub applies: fn(Info) -> bool,
    test: fn(),
}

impl Phenomenon {
    /// Runs the test.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run(&self, limit: Duration) -> Result<(), String> {
        let test = self.test;
        let (report, outcome) = mpsc::channel();
        // Not joined if it is stuck: there is no way to end it.
        thread::spawn(move || {
            let outcome = catch_unwind(test);
            let _ = report.send(outcome.map_err(|payload| panic_text(&*payload)));
        });
        match outcome.recv_timeout(limit) {
            Ok(outcome) => outcome.map_err(|complaint| format!("{}: {complaint}", self.claim)),
            Err(_) => Err(format!("{}: stuck for {} s", self.claim, limit.as_secs())),
        }
    }
}

macro_rules! phenomena {
    ($($(#[if_($condition:expr)])? $name:ident = $text:literal, $claim:literal;)+) => {
        /// The phenomena that apply to a protocol.
        #[must_use]
        pub fn phenomena<P: Protocol<Native>>() -> Vec<Phenomenon> {
            let all = [$({
                #[allow(unused_mut, unused_assignments, reason = "set where the phenomenon has a condition")]
                let mut applies: fn(Info) -> bool = |_| true;
                $(applies = $condition;)?
                Phenomenon { name: $text, claim: $claim, applies, test: $name::<P> }
            }),+];
            all.into_iter().filter(|phenomenon| (phenomenon.applies)(P::INFO)).collect()
        }

        /// The names of all phenomena.
        pub const NAMES: &[&str] = &[$($text),+];
    };
}

phenomena! {
    alone = "sequential", "a transaction that runs alone commits at the first attempt and is seen by the next";
    lost_update = "lost update", "no increment is lost";
    dirty_read = "dirty read", "what an aborted transaction wrote is never seen";
    unrepeatable_read = "unrepeatable read", "reading twice gives the same";
    write_skew = "write skew", "two transactions that read what the other writes are not both unaware of the other";
    zombie_read = "zombie read", "no body sees a state that never was, whether it commits or not";
    #[if_(|info: Info| info.opaque)]
    zombie_loop = "zombie loop", "no body runs into a loop without end because of an inconsistent view";
    long_reader = "read-only snapshot", "a read-only transaction sees one state";
    token_ring = "token ring", "a token passed round by threads that wait for it arrives every time";
    retry_wakes = "retry wake-up", "whoever waits for a change is woken";
    nested_abort = "nested abort", "a nested roll-back undoes what the nested part wrote and nothing else";
    rollback = "rollback", "a failed body leaves no trace";
    panic_midway = "panic midway", "a panic in a body leaves no trace and no lock";
    irrevocable = "irrevocable", "an irrevocable body runs once, and others go on";
    starvation = "starvation", "a long transaction commits within a bounded number of attempts";
    own_writes = "own writes", "a transaction sees its own writes, each of many";
    versions = "versions", "versions never decrease and no lock is left";
    #[if_(|info: Info| info.privatisation_safe)]
    privatisation = "privatisation", "an object made private is touched by nobody";
    quiescence = "quiescence", "an object made private is touched by nobody once all who ran have ended";
    #[if_(|info: Info| info.readers_never_abort)]
    readers = "readers never abort", "a read-only transaction runs once";
    #[if_(|info: Info| info.ordered)]
    order = "fixed order", "transactions with positions commit in their order";
}

/// How often a racing pair repeats what it does.
const ROUNDS: u64 = if cfg!(debug_assertions) { 4_000 } else { 20_000 };

fn sessions<P: Protocol<Native>>(heap: &Arc<Heap>, count: usize) -> Vec<Session<Native, P>> {
    (0..count).map(|_| Session::new(heap)).collect()
}

/// Runs one closure per session, all at once.
fn race<P: Protocol<Native>>(sessions: Vec<Session<Native, P>>, body: impl Fn(usize, &mut Session<Native, P>) + Sync) {
    let body = &body;
    let ready = &std::sync::Barrier::new(sessions.len());
    thread::scope(|scope| {
        for (index, mut session) in sessions.into_iter().enumerate() {
            scope.spawn(move || {
                ready.wait();
                body(index, &mut session);
                assert_eq!(session.leftovers(), None, "a log is not empty after the last transaction");
            });
        }
    });
}

fn read_all<P: Protocol<Native>>(heap: &Arc<Heap>) -> Vec<u64> {
    let count = heap.len();
    Session::<Native, P>::new(heap).atomically(|tx| (0..count).map(|object| tx.get(object)).collect())
}

fn alone<P: Protocol<Native>>() {
    let heap = Heap::new(4);
    let mut session = Session::<Native, P>::new(&heap);
    for round in 1..=100 {
        for mode in [Mode::Update, Mode::Irrevocable] {
            let mut attempts = 0;
            let outcome: Result<(), ()> = session.run(mode, |tx| {
                attempts += 1;
                for object in 0..4 {
                    let value = tx.get(object)?;
                    tx.set(object, value + 1)?;
                }
                Ok(())
            });
            assert_eq!((outcome, attempts), (Ok(()), 1));
            assert_eq!(session.leftovers(), None);
        }
        let mut attempts = 0;
        let seen: Result<Vec<u64>, ()> = session.run(Mode::ReadOnly, |tx| {
            attempts += 1;
            Ok((0..4).map(|object| tx.get(object)).collect::<Result<_, _>>()?)
        });
        assert_eq!(seen, Ok(vec![2 * round; 4]));
        // A deferred clock is moved by the first reader of a new version.
        assert!(attempts <= 2, "{attempts} attempts");
    }
}

fn lost_update<P: Protocol<Native>>() {
    let heap = Heap::new(1);
    race(sessions::<P>(&heap, 4), |_, session| {
        for _ in 0..ROUNDS {
            session.atomically(|tx| {
                let value = tx.get(0)?;
                tx.set(0, value + 1)
            });
        }
    });
    assert_eq!(read_all::<P>(&heap), [4 * ROUNDS]);
}

fn dirty_read<P: Protocol<Native>>() {
    let heap = Heap::new(2);
    race(sessions::<P>(&heap, 3), |index, session| {
        for round in 0..ROUNDS {
            if index == 0 {
                let failed: Result<(), u64> = session.run(Mode::Update, |tx| {
                    tx.set(0, 1)?;
                    tx.set(1, 1)?;
                    Err(Interrupt::Error(round))
                });
                assert_eq!(failed, Err(round));
            } else {
                let mode = if index == 1 { Mode::Update } else { Mode::ReadOnly };
                let seen: Result<_, ()> = session.run(mode, |tx| Ok((tx.get(0)?, tx.get(1)?)));
                assert_eq!(seen, Ok((0, 0)));
            }
        }
    });
}

fn unrepeatable_read<P: Protocol<Native>>() {
    let heap = Heap::new(1);
    race(sessions::<P>(&heap, 3), |index, session| {
        for _ in 0..ROUNDS {
            session.atomically(|tx| {
                let first = tx.get(0)?;
                if index == 0 {
                    tx.set(0, first + 1)?;
                    assert_eq!(tx.get(0)?, first + 1);
                } else {
                    thread::yield_now();
                    assert_eq!(tx.get(0)?, first);
                }
                Ok(())
            });
        }
    });
}

fn write_skew<P: Protocol<Native>>() {
    // Each takes one from its own account as long as the sum allows it.
    let heap = Heap::new(2);
    for round in 0..200 {
        Session::<Native, P>::new(&heap).atomically(|tx| {
            tx.set(0, 50)?;
            tx.set(1, 50)
        });
        race(sessions::<P>(&heap, 2), |index, session| {
            for _ in 0..60 {
                session.atomically(|tx| {
                    let sum = tx.get(0)? + tx.get(1)?;
                    let own = tx.get(index)?;
                    if sum > 50 && own > 0 { tx.set(index, own - 1) } else { Ok(()) }
                });
            }
        });
        assert_eq!(read_all::<P>(&heap).iter().sum::<u64>(), 50, "round {round}");
    }
}

/// Two objects that are always equal in every state that ever was.
fn equal_pair<P: Protocol<Native>>(look: impl Fn(u64, u64) + Sync) {
    let heap = Heap::new(2);
    let done = AtomicBool::new(false);
    race(sessions::<P>(&heap, 3), |index, session| {
        if index == 0 {
            for round in 1..=ROUNDS {
                let _: Result<(), ()> = session.run(Mode::Update, |tx| {
                    tx.set(0, round)?;
                    tx.set(1, round)?;
                    if round % 3 == 0 { Err(Interrupt::Error(())) } else { Ok(()) }
                });
            }
            done.store(true, Ordering::Relaxed);
        }
        while index > 0 && !done.load(Ordering::Relaxed) {
            session.atomically(|tx| {
                let (a, b) = if index == 1 { (0, 1) } else { (1, 0) };
                let (x, y) = (tx.get(a)?, tx.get(b)?);
                look(x, y);
                Ok(())
            });
        }
    });
}

fn zombie_read<P: Protocol<Native>>() {
    if P::INFO.opaque {
        equal_pair::<P>(|x, y| assert_eq!(x, y));
    } else {
        // What commits must be consistent all the same; `long_reader` checks that.
        equal_pair::<P>(|_, _| ());
    }
}

fn zombie_loop<P: Protocol<Native>>() {
    equal_pair::<P>(|x, y| {
        let mut n = x;
        while n != y {
            n = n.wrapping_add(1);
            assert_ne!(n, x, "came round without meeting");
        }
    });
}

fn long_reader<P: Protocol<Native>>() {
    const OBJECTS: usize = 32;
    let heap = Heap::new(OBJECTS);
    let done = AtomicBool::new(false);
    race(sessions::<P>(&heap, 3), |index, session| {
        if index == 0 {
            for round in 0..ROUNDS {
                let (a, b) = ((round * 7) as usize % OBJECTS, (round * 11 + 1) as usize % OBJECTS);
                session.atomically(|tx| {
                    let value = tx.get(a)?;
                    tx.set(a, value.wrapping_add(1))?;
                    let value = tx.get(b)?;
                    tx.set(b, value.wrapping_sub(1))
                });
            }
            done.store(true, Ordering::Relaxed);
        }
        while index > 0 && !done.load(Ordering::Relaxed) {
            let mode = if index == 1 { Mode::ReadOnly } else { Mode::Update };
            let sum: Result<u64, ()> = session.run(mode, |tx| {
                let mut sum = 0_u64;
                for object in 0..OBJECTS {
                    sum = sum.wrapping_add(tx.get(object)?);
                }
                Ok(sum)
            });
            assert_eq!(sum, Ok(0));
        }
    });
}

fn token_ring<P: Protocol<Native>>() {
    const THREADS: usize = 4;
    let laps = ROUNDS / 20;
    let heap = Heap::new(1);
    race(sessions::<P>(&heap, THREADS), |index, session| {
        for _ in 0..laps {
            let outcome: Result<(), ()> = session.run(Mode::Update, |tx| {
                let token = tx.get(0)?;
                if token as usize % THREADS != index {
                    return Err(Interrupt::Abort(Abort::Retry));
                }
                tx.set(0, token + 1)?;
                Ok(())
            });
            assert_eq!(outcome, Ok(()));
        }
    });
    assert_eq!(read_all::<P>(&heap), [laps * THREADS as u64]);
}

fn retry_wakes<P: Protocol<Native>>() {
    // One object is full or empty; both sides wait for the other.
    let heap = Heap::new(1);
    let rounds = ROUNDS / 10;
    let sum = AtomicU64::new(0);
    race(sessions::<P>(&heap, 2), |index, session| {
        for round in 1..=rounds {
            let taken: Result<u64, ()> = session.run(Mode::Update, |tx| {
                let item = tx.get(0)?;
                if (item == 0) == (index == 1) {
                    return Err(Interrupt::Abort(Abort::Retry));
                }
                tx.set(0, if index == 0 { round } else { 0 })?;
                Ok(item)
            });
            sum.fetch_add(taken.unwrap_or_default(), Ordering::Relaxed);
        }
    });
    assert_eq!(sum.into_inner(), rounds * (rounds + 1) / 2);
}

fn nested_abort<P: Protocol<Native>>() {
    let heap = Heap::new(4);
    race(sessions::<P>(&heap, 2), |_, session| {
        for _ in 0..ROUNDS / 2 {
            session.atomically(|tx| {
                let value = tx.get(0)?;
                tx.set(0, value + 1)?;
                tx.nested(|tx| {
                    tx.set(0, 999_999)?;
                    tx.set(1, 999_999)?;
                    tx.nested(|tx| {
                        tx.set(2, 999_999)?;
                        Ok(true)
                    })?;
                    Ok(false)
                })?;
                assert_eq!((tx.get(0)?, tx.get(1)?, tx.get(2)?), (value + 1, 0, 0));
                tx.nested(|tx| {
                    let value = tx.get(3)?;
                    tx.set(3, value + 1)?;
                    Ok(true)
                })?;
                assert_eq!(tx.get(3)?, value + 1);
                Ok(())
            });
        }
    });
    assert_eq!(read_all::<P>(&heap), [ROUNDS, 0, 0, ROUNDS]);
}

fn rollback<P: Protocol<Native>>() {
    let heap = Heap::new(8);
    let mut session = Session::<Native, P>::new(&heap);
    for writes in 0..8 {
        for mode in [Mode::Update, Mode::Irrevocable] {
            let failed: Result<(), &str> = session.run(mode, |tx| {
                for object in 0..writes {
                    tx.set_field(object, 0, 7)?;
                    tx.set_field(object, 1, 8)?;
                    tx.set_field(object, 0, 9)?;
                }
                Err(Interrupt::Error("no"))
            });
            assert_eq!(failed, Err("no"));
            assert_eq!(session.leftovers(), None);
            let fields = session.atomically(|tx| {
                (0..8)
                    .map(|object| Ok((tx.get_field(object, 0)?, tx.get_field(object, 1)?)))
                    .collect::<Result<Vec<_>, _>>()
            });
            assert_eq!(fields, [(0, 0); 8]);
        }
    }
}

fn panic_midway<P: Protocol<Native>>() {
    let heap = Heap::new(3);
    race(sessions::<P>(&heap, 3), |index, session| {
        for round in 0..ROUNDS / 10 {
            let panics = (round + index as u64).is_multiple_of(3);
            let irrevocable = round % 50 == 0;
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let mode = if irrevocable { Mode::Irrevocable } else { Mode::Update };
                let outcome: Result<(), ()> = session.run(mode, |tx| {
                    let value = tx.get(0)?;
                    tx.set(0, value + 1)?;
                    if panics {
                        std::panic::resume_unwind(Box::new("midway"));
                    }
                    let value = tx.get(1)?;
                    tx.set(1, value + 1)?;
                    Ok(())
                });
                assert_eq!(outcome, Ok(()));
            }));
            assert_eq!(outcome.is_err(), panics);
        }
    });
    let seen = read_all::<P>(&heap);
    assert_eq!(seen[0], seen[1]);
}

fn irrevocable<P: Protocol<Native>>() {
    let heap = Heap::new(4);
    let others = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    race(sessions::<P>(&heap, 3), |index, session| {
        if index == 0 {
            let mut round = 0;
            // Until the others have had a turn; if they do not get one, that shows as being stuck.
            while round < 200 || others.load(Ordering::Relaxed) == 0 {
                round += 1;
                let mut runs = 0;
                let outcome: Result<(), ()> = session.run(Mode::Irrevocable, |tx| {
                    runs += 1;
                    let mut sum = 0_u64;
                    for object in 0..4 {
                        sum = sum.wrapping_add(tx.get(object)?);
                    }
                    assert_eq!(sum, 0);
                    let value = tx.get(3)?;
                    tx.set(3, value.wrapping_add(1))?;
                    let value = tx.get(2)?;
                    tx.set(2, value.wrapping_sub(1))?;
                    Ok(())
                });
                assert_eq!((outcome, runs), (Ok(()), 1), "an irrevocable body runs once");
            }
            done.store(true, Ordering::Relaxed);
        }
        let mut round = index;
        while index > 0 && !done.load(Ordering::Relaxed) {
            round += 1;
            let (a, b) = (round % 4, (round / 4) % 4);
            session.atomically(|tx| {
                let value = tx.get(a)?;
                tx.set(a, value.wrapping_add(1))?;
                let value = tx.get(b)?;
                tx.set(b, value.wrapping_sub(1))
            });
            others.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(others.into_inner() > 0);
}

fn starvation<P: Protocol<Native>>() {
    const OBJECTS: usize = 200;
    let heap = Heap::new(OBJECTS);
    let done = AtomicBool::new(false);
    race(sessions::<P>(&heap, 2), |index, session| {
        if index == 0 {
            for _ in 0..10 {
                let mut attempts = 0;
                session.atomically(|tx| {
                    attempts += 1;
                    let mut sum = 0_u64;
                    for object in 0..OBJECTS {
                        sum = sum.wrapping_add(tx.get(object)?);
                    }
                    tx.set(0, sum)
                });
                assert!(attempts <= PATIENCE + 1, "{attempts} attempts");
            }
            done.store(true, Ordering::Relaxed);
        }
        let mut round = 0;
        while index == 1 && !done.load(Ordering::Relaxed) {
            round += 1;
            session.atomically(|tx| {
                let value = tx.get(round * 7 % OBJECTS)?;
                tx.set(round * 7 % OBJECTS, value.wrapping_add(1))
            });
        }
    });
}

fn own_writes<P: Protocol<Native>>() {
    const OBJECTS: usize = 200;
    let heap = Heap::new(OBJECTS);
    let mut session = Session::<Native, P>::new(&heap);
    for round in 1..5 {
        session.atomically(|tx| {
            for object in 0..OBJECTS {
                for field in 0..2 {
                    tx.set_field(object, field, round * 1000 + object as u64 * 2 + field as u64)?;
                }
                tx.set(object, round)?;
            }
            for object in 0..OBJECTS {
                assert_eq!(tx.get(object)?, round);
                assert_eq!(tx.get_field(object, 1)?, round * 1000 + object as u64 * 2 + 1);
            }
            Ok(())
        });
        assert_eq!(session.leftovers(), None);
        assert!(
            session
                .atomically(|tx| (0..OBJECTS).map(|o| tx.get(o)).collect::<Result<Vec<_>, _>>())
                .iter()
                .all(|v| *v == round)
        );
    }
}

fn versions<P: Protocol<Native>>() {
    let heap = Heap::new(3);
    let mut before = [0; 3];
    for _ in 0..20 {
        race(sessions::<P>(&heap, 3), |index, session| {
            for round in 0..ROUNDS / 100 {
                let _: Result<(), ()> = session.run(Mode::Update, |tx| {
                    let value = tx.get(index)?;
                    tx.set((index + 1) % 3, value)?;
                    if round % 5 == 0 { Err(Interrupt::Error(())) } else { Ok(()) }
                });
            }
        });
        for (object, before) in before.iter_mut().enumerate() {
            let header = Header(heap.header(object));
            assert!(!header.is_locked(), "object {object} is left locked");
            assert!(header.0 >= *before, "a version has decreased");
            *before = header.0;
            assert!(header.0 <= heap.domain().clock.load(Ordering::Relaxed) + 1, "a version is ahead of the clock");
        }
    }
}

fn privatisation<P: Protocol<Native>>() {
    make_private::<P>(|_| ());
}

fn quiescence<P: Protocol<Native>>() {
    make_private::<P>(|heap| heap.domain().quiesce());
}

fn make_private<P: Protocol<Native>>(fence: impl Fn(&Heap) + Sync) {
    const FLAG: usize = 0;
    const OBJECT: usize = 1;
    let heap = Heap::new(2);
    for _ in 0..ROUNDS / 20 {
        Session::<Native, P>::new(&heap).atomically(|tx| {
            tx.set(FLAG, 0)?;
            tx.set(OBJECT, 1)
        });
        race(sessions::<P>(&heap, 2), |index, session| {
            if index == 0 {
                session.atomically(|tx| tx.set(FLAG, 1));
                let heap = session.heap().clone();
                fence(&heap);
                for n in 100..120 {
                    heap.poke(OBJECT, n);
                    std::hint::spin_loop();
                    assert_eq!(heap.peek(OBJECT), n, "a transaction wrote a private object");
                }
            } else {
                for _ in 0..10 {
                    session.atomically(|tx| {
                        if tx.get(FLAG)? == 0 {
                            let value = tx.get(OBJECT)?;
                            assert!(value < 100, "a transaction saw a private value");
                            tx.set(OBJECT, value + 1)?;
                        }
                        Ok(())
                    });
                }
            }
        });
    }
}

fn readers<P: Protocol<Native>>() {
    let heap = Heap::new(8);
    let done = AtomicBool::new(false);
    race(sessions::<P>(&heap, 2), |index, session| {
        if index == 0 {
            for _ in 0..ROUNDS / 4 {
                let mut attempts = 0;
                let seen: Result<Vec<u64>, ()> = session.run(Mode::ReadOnly, |tx| {
                    attempts += 1;
                    Ok((0..8).map(|object| tx.get(object)).collect::<Result<_, _>>()?)
                });
                assert_eq!(attempts, 1);
                let seen = seen.unwrap_or_default();
                assert!(seen.iter().all(|value| *value == seen[0]), "{seen:?}");
            }
            done.store(true, Ordering::Relaxed);
        }
        while index == 1 && !done.load(Ordering::Relaxed) {
            session.atomically(|tx| {
                for object in 0..8 {
                    let value = tx.get(object)?;
                    tx.set(object, value + 1)?;
                }
                Ok(())
            });
        }
    });
}

fn order<P: Protocol<Native>>() {
    const THREADS: u64 = 4;
    let heap = Heap::new(2);
    heap.domain().start_order();
    let count = ROUNDS / 10;
    race(sessions::<P>(&heap, THREADS as usize), |index, session| {
        for position in (index as u64..count).step_by(THREADS as usize) {
            session.atomically(|tx| {
                tx.at_position(position);
                let seen = tx.get(0)?;
                tx.set(0, position + 1)?;
                let wrong = tx.get(1)?;
                // The last attempt is the one that counts; it runs in its turn.
                tx.set(1, if seen == position { wrong } else { wrong + 1 })
            });
        }
    });
    assert_eq!(read_all::<P>(&heap), [count, 0]);
}
