//! Checks, hooks and locals, and what a panic anywhere leaves behind, under every protocol.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use optimist_stm::{
    Abort, Interrupt, Kind, TVar, Tx, TxLocal, atomically, irrevocably, lease, read_only, try_atomically,
};

/// Runs a test under each shipped protocol in turn.
fn under_each(test: impl Fn(Kind)) {
    for &kind in Kind::ALL {
        let lease = lease(kind);
        test(lease.kind());
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().unwrap_or("something else")
}

/// What the hooks of a test have written down.
#[derive(Clone, Default)]
struct Notes(Rc<std::cell::RefCell<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.0.borrow_mut().push(note.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

#[test]
fn a_check_sees_the_final_state_and_ends_the_transaction_with_its_error() {
    under_each(|kind| {
        let (a, b) = (TVar::new(5), TVar::new(String::from("five")));
        let agree = |tx: &mut Tx<'_>| {
            let (a, b) = (a.clone(), b.clone());
            tx.always(move |state| {
                let (number, name) = (a.get(state)?, b.get(state)?);
                let right = matches!((number, name.as_str()), (5, "five") | (6, "six"));
                if right { Ok(()) } else { Err(Interrupt::Error((number, name))) }
            });
        };
        let set = |tx: &mut Tx<'_>, number, name: &str| {
            agree(tx);
            a.set(tx, number)?;
            // Wrong for the moment, which is nobody's business.
            b.set(tx, name.into())
        };
        let run = |number, name| try_atomically::<(), (i32, String)>(|tx| Ok(set(tx, number, name)?));
        assert_eq!(run(6, "six"), Ok(()), "{kind}");
        assert_eq!(run(7, "six"), Err((7, "six".to_owned())), "{kind}");
        let state = || atomically(|tx| Ok((a.get(tx)?, b.get(tx)?)));
        assert_eq!(state(), (6, "six".to_owned()), "{kind}");
        // Where the transaction has no error, or one of another type, it is a panic.
        let payload = catch_unwind(AssertUnwindSafe(|| atomically(|tx| set(tx, 8, "x")))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&(8, "x".to_owned())), "{kind}");
        let other = catch_unwind(AssertUnwindSafe(|| try_atomically::<(), u8>(|tx| Ok(set(tx, 9, "y")?))));
        assert!(other.is_err(), "{kind}");
        // Forgotten with the part that registered it.
        let outcome = try_atomically::<_, (i32, String)>(|tx| {
            let part = tx.nested(|tx| {
                set(tx, 9, "nine")?;
                Err::<(), _>(Interrupt::Error("no"))
            })?;
            Ok(part)
        });
        assert_eq!(outcome, Ok(Err("no")), "{kind}");
        assert_eq!(state(), (6, "six".to_owned()), "{kind}");
    });
}

/// Two transactions each keep the sum positive as far as they can see; only if the check's reads are validated does one notice the other.
#[test]
fn what_a_check_reads_is_validated() {
    under_each(|kind| {
        for _ in 0..300 {
            let accounts = [TVar::new(1), TVar::new(1)];
            let barrier = std::sync::Barrier::new(2);
            thread::scope(|scope| {
                for this in 0..2 {
                    let (accounts, barrier) = (&accounts, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let _ = try_atomically::<(), ()>(|tx| {
                            accounts[this].modify(tx, |n| n - 2)?;
                            let both = accounts.clone();
                            tx.always(move |state| {
                                let sum = both[0].get(state)? + both[1].get(state)?;
                                if sum >= 0 { Ok(()) } else { Err(Interrupt::Error(())) }
                            });
                            Ok(())
                        });
                    });
                }
            });
            let sum = accounts[0].load() + accounts[1].load();
            assert_eq!(sum, 0, "{kind}: both checks held, the invariant does not");
        }
    });
}

#[test]
fn hooks_run_once_after_the_outcome_and_outside_the_transaction() {
    under_each(|kind| {
        let notes = Notes::default();
        let variable = TVar::new(0);
        // The first attempt of three is aborted by hand, the second by the body's wish to run irrevocably.
        let attempts = Cell::new(0);
        atomically(|tx| {
            attempts.set(attempts.get() + 1);
            let attempt = attempts.get();
            variable.set(tx, attempt)?;
            let (committed, aborted, seen) = (notes.clone(), notes.clone(), variable.clone());
            let also_seen = variable.clone();
            tx.on_commit(move || committed.add(format!("committed {attempt}, {}", seen.load())));
            tx.on_abort(move || {
                // Outside of the transaction: it may run others, the irrevocable one too.
                let value: Result<i32, ()> = irrevocably(|tx| Ok(also_seen.get(tx)?));
                aborted.add(format!("aborted {attempt}, {}", value.unwrap()));
            });
            match attempt {
                1 => Err(Abort::Chaos),
                2 => Err(Abort::Irrevocable),
                _ => Ok(()),
            }
        });
        assert_eq!(notes.take(), ["aborted 1, 0", "aborted 2, 0", "committed 3, 3"], "{kind}");

        let outcome: Result<(), &str> = try_atomically(|tx| {
            let (committed, aborted) = (notes.clone(), notes.clone());
            tx.on_commit(move || committed.add("committed"));
            tx.on_abort(move || aborted.add("aborted"));
            Err(Interrupt::Error("no"))
        });
        assert_eq!((outcome, notes.take()), (Err("no"), vec!["aborted".to_owned()]), "{kind}");

        // A check that fails is an abort to the hooks as well, and runs before the commit's.
        let outcome = try_atomically(|tx| {
            let (committed, aborted) = (notes.clone(), notes.clone());
            tx.on_commit(move || committed.add("committed"));
            tx.on_abort(move || aborted.add("aborted"));
            tx.always(|_| Err(Interrupt::Error("check")));
            Ok(())
        });
        assert_eq!((outcome, notes.take()), (Err("check"), vec!["aborted".to_owned()]), "{kind}");

        let outcome = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                let (committed, aborted) = (notes.clone(), notes.clone());
                tx.on_commit(move || committed.add("committed"));
                tx.on_abort(move || {
                    aborted.add("aborted");
                    panic!("a hook's, while the body's goes on");
                });
                variable.set(tx, 7)?;
                if variable.get(tx)? == 7 {
                    panic!("the body's");
                }
                Ok(())
            });
        }));
        assert_eq!(message(&*outcome.unwrap_err()), "the body's", "{kind}");
        assert_eq!((notes.take(), variable.load()), (vec!["aborted".to_owned()], 3), "{kind}");
    });
}

#[test]
fn what_a_rolled_back_part_registered_is_forgotten_but_for_its_abort_hooks() {
    under_each(|kind| {
        static PART: TxLocal<Vec<u32>> = TxLocal::new(Vec::new);
        let notes = Notes::default();
        let note = |tx: &mut Tx<'_>, name: &'static str| {
            let (committed, aborted) = (notes.clone(), notes.clone());
            tx.on_commit(move || committed.add(format!("{name} committed")));
            tx.on_abort(move || aborted.add(format!("{name} aborted")));
            PART.with_mut(tx, |values| values.push(name.len() as u32));
        };
        let values = atomically(|tx| {
            note(tx, "1");
            tx.or_else(
                |tx| {
                    note(tx, "22");
                    tx.retry()
                },
                |tx| {
                    note(tx, "333");
                    Ok(())
                },
            )?;
            let _ = tx.nested(|tx| {
                note(tx, "4444");
                let _ = tx.nested(|tx| {
                    note(tx, "55555");
                    Ok::<_, Interrupt<()>>(())
                })?;
                Err::<(), _>(Interrupt::Error(()))
            })?;
            let _ = tx.nested(|tx| {
                note(tx, "666666");
                Ok::<_, Interrupt<()>>(())
            })?;
            Ok(PART.get(tx))
        });
        assert_eq!(values, [1, 3, 6], "{kind}");
        let expected =
            ["22 aborted", "4444 aborted", "55555 aborted", "1 committed", "333 committed", "666666 committed"];
        assert_eq!(notes.take(), expected, "{kind}");
    });
}

#[test]
fn a_local_starts_anew_in_each_attempt_and_follows_savepoints_back() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    static LOCAL: TxLocal<usize> = TxLocal::new(|| 10 * STARTED.fetch_add(1, Ordering::Relaxed));
    static OTHER: TxLocal<String> = TxLocal::new(String::new);
    let mut seen = Vec::new();
    atomically(|tx| {
        seen.push(LOCAL.get(tx));
        LOCAL.set(tx, 1);
        let _ = tx.nested(|tx| {
            assert_eq!(LOCAL.get(tx), 1);
            LOCAL.set(tx, 2);
            LOCAL.with_mut(tx, |n| *n += 1);
            OTHER.set(tx, "x".into());
            let _ = tx.nested(|tx| {
                LOCAL.with_mut(tx, |n| *n += 100);
                Ok::<_, Interrupt<()>>(())
            })?;
            assert_eq!(LOCAL.get(tx), 103);
            Err::<(), _>(Interrupt::Error(()))
        })?;
        assert_eq!((LOCAL.get(tx), OTHER.get(tx)), (1, String::new()));
        if seen.len() < 3 { Err(Abort::Chaos) } else { Ok(()) }
    });
    assert_eq!(seen, [0, 10, 20]);
    // In place as long as no savepoint asks for the value before.
    static LIST: TxLocal<Vec<u8>> = TxLocal::new(|| Vec::with_capacity(64));
    atomically(|tx| {
        let first = LIST.with_mut(tx, |list| list.as_ptr());
        assert_eq!(LIST.with_mut(tx, |list| list.as_ptr()), first, "copied without need");
        Ok(())
    });
}

#[test]
fn a_panic_in_a_hook_lets_the_others_run_and_changes_no_outcome() {
    under_each(|kind| {
        let notes = Notes::default();
        let variable = TVar::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                variable.set(tx, 1)?;
                tx.on_commit(|| panic!("first"));
                let note = notes.clone();
                tx.on_commit(move || note.add("ran"));
                tx.on_commit(|| panic!("second"));
                Ok(())
            });
        }));
        assert_eq!(message(&*outcome.unwrap_err()), "first", "{kind}");
        assert_eq!((notes.take(), variable.load()), (vec!["ran".to_owned()], 1), "{kind}: it has committed");

        let attempts = Cell::new(0);
        for irrevocable in [false, true] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let body = |tx: &mut Tx<'_>| {
                    attempts.set(attempts.get() + 1);
                    variable.set(tx, 2)?;
                    tx.on_abort(|| panic!("first"));
                    let note = notes.clone();
                    tx.on_abort(move || note.add("ran"));
                    Err::<(), Interrupt<()>>(Abort::Retry.into())
                };
                if irrevocable { irrevocably(body) } else { try_atomically(body) }
            }));
            assert_eq!(message(&*outcome.unwrap_err()), "first", "{kind}");
            assert_eq!((notes.take(), variable.load()), (vec!["ran".to_owned()], 1), "{kind}");
        }
        assert_eq!(attempts.get(), 2, "{kind}: not attempted again");
        // The token was given back, and no watch is left.
        assert_eq!(irrevocably::<_, ()>(|tx| Ok(variable.get(tx)?)), Ok(1), "{kind}");
        variable.store(3);
    });
}

/// A value that panics on request.
struct Touchy {
    on_clone: &'static AtomicBool,
    on_drop: &'static AtomicBool,
}

static CLONE: AtomicBool = AtomicBool::new(false);
static DROP: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicUsize = AtomicUsize::new(0);
static MADE: AtomicUsize = AtomicUsize::new(0);

impl Touchy {
    fn new() -> Self {
        MADE.fetch_add(1, Ordering::Relaxed);
        Touchy { on_clone: &CLONE, on_drop: &DROP }
    }
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        assert!(!self.on_clone.load(Ordering::Relaxed), "cannot be cloned");
        Touchy::new()
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        assert!(!self.on_drop.load(Ordering::Relaxed), "cannot be dropped");
    }
}

#[test]
fn a_panic_in_clone_or_drop_leaves_the_runtime_sound() {
    under_each(|kind| {
        let (value, number) = (TVar::new(Touchy::new()), TVar::new(0));
        CLONE.store(true, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                number.set(tx, 1)?;
                value.get(tx).map(drop)
            });
        }));
        CLONE.store(false, Ordering::Relaxed);
        assert!(outcome.is_err(), "{kind}");
        assert_eq!(number.load(), 0, "{kind}");

        // Values of an attempt that fails, of a part that is rolled back, and those that commits have replaced, all in destructors that panic.
        DROP.store(true, Ordering::Relaxed);
        let failed: Result<(), &str> = try_atomically(|tx| {
            value.set(tx, Touchy::new())?;
            let _ = tx.nested(|tx| {
                value.set(tx, Touchy::new())?;
                value.set(tx, Touchy::new())?;
                Err::<(), _>(Interrupt::Error(()))
            })?;
            value.set(tx, Touchy::new())?;
            Err(Interrupt::Error("no"))
        });
        assert_eq!(failed, Err("no"), "{kind}");
        for n in 0..1000 {
            atomically(|tx| {
                number.set(tx, n)?;
                value.set(tx, Touchy::new())
            });
        }
        assert_eq!(number.load(), 999, "{kind}");
        // A body that panics while destructors do.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                value.set(tx, Touchy::new())?;
                if number.get(tx)? == 999 {
                    panic!("the body's");
                }
                Ok(())
            });
        }));
        assert_eq!(message(&*outcome.unwrap_err()), "the body's", "{kind}");
        static HELD: TxLocal<Option<Touchy>> = TxLocal::new(|| None);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                HELD.set(tx, Some(Touchy::new()));
                number.set(tx, 5)
            });
        }));
        assert!(outcome.is_err(), "{kind}: a local's destructor is the body's business");
        assert_eq!(number.load(), 5, "{kind}");
        DROP.store(false, Ordering::Relaxed);
    });
    // Nothing was left out because of the panics: all but what waits for the next collection is dropped.
    let deadline = Instant::now() + Duration::from_secs(10);
    let other = TVar::new(String::new());
    while DROPPED.load(Ordering::Relaxed) != MADE.load(Ordering::Relaxed) && Instant::now() < deadline {
        other.store(String::from("x"));
    }
    assert_eq!(DROPPED.load(Ordering::Relaxed), MADE.load(Ordering::Relaxed));
}

/// The destructor of a reclaimed value may run transactions.
#[test]
fn a_destructor_may_run_a_transaction() {
    static ENDED: Mutex<Option<TVar<u32>>> = Mutex::new(None);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            let ended = ENDED.lock().unwrap().clone().expect("set before");
            atomically(|tx| ended.modify(tx, |n| n + 1));
        }
    }
    let ended = TVar::new(0);
    *ENDED.lock().unwrap() = Some(ended.clone());
    under_each(|kind| {
        let before = ended.load();
        let variable = TVar::new(Counts);
        let deadline = Instant::now() + Duration::from_secs(10);
        while ended.load() < before + 100 && Instant::now() < deadline {
            atomically(|tx| variable.set(tx, Counts));
        }
        assert!(ended.load() >= before + 100, "{kind}");
        let failed = try_atomically(|tx| {
            variable.set(tx, Counts)?;
            Err::<(), _>(Interrupt::Error(()))
        });
        assert_eq!(failed, Err(()));
    });
    // Whatever is still to be freed must find the variable.
}

#[test]
fn after_a_panic_anywhere_every_variable_is_free() {
    under_each(|kind| {
        let variables: Vec<TVar<u64>> = (0..4).map(TVar::new).collect();
        for place in 0..6 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let body = |tx: &mut Tx<'_>| {
                    for variable in &variables {
                        variable.modify(tx, |n| n + 100)?;
                    }
                    match place {
                        0 => panic!("in the body"),
                        1 => tx.or_else(|tx| tx.retry::<()>(), |_| panic!("in an alternative"))?,
                        2 => {
                            let _ = tx.nested::<(), ()>(|_| panic!("in a nested part"))?;
                        }
                        3 => tx.always::<()>(|_| panic!("in a check")),
                        4 => variables[0].modify(tx, |_| panic!("in a function"))?,
                        _ => {
                            static BROKEN: TxLocal<u8> = TxLocal::new(|| panic!("in an initial value"));
                            BROKEN.get(tx);
                        }
                    }
                    Ok::<(), Interrupt<()>>(())
                };
                if place % 2 == 0 { try_atomically(body) } else { irrevocably(body) }
            }));
            assert!(outcome.is_err());
            // From another thread, which would have to wait for a lock.
            let sum = thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let sum = read_only(|tx| variables.iter().try_fold(0, |sum, variable| Ok(sum + variable.get(tx)?)));
                    atomically(|tx| variables.iter().try_for_each(|variable| variable.modify(tx, |n| *n)));
                    assert_eq!(irrevocably::<_, ()>(|_| Ok(())), Ok(()));
                    sum
                });
                other.join().unwrap()
            });
            assert_eq!(sum, 6, "{kind}, place {place}");
        }
    });
}
