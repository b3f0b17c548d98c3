//! Models of what stands around a commit: waking a waiter, freeing a value, the irrevocable token, a nested roll-back, privatisation, a
//! fixed order. Half of the real bugs of transactional memories lie here and not in the commit.
//!
//! Each is a small program under loom with a question of its own; all are generic over the protocol.
#![expect(unsafe_code, reason = "follows values whose lifetime is what is checked; loom watches the accesses")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::explore::{Exploration, Limits, Wrong, model, panic_text};
use super::heap::{Heap, Session, View};
use super::platform::{Loom, describe_model, enter_model_thread};
use crate::Abort;
use crate::attempt::Mode;
use crate::protocol::{Info, Protocol};
use crate::reclaim;
use crate::run::Interrupt;

/// A model of something around the commit.
pub struct Scenario<P: Protocol<Loom>> {
    /// Its name.
    pub name: &'static str,
    /// What must never be seen.
    pub question: &'static str,
    /// Whether it says anything about a protocol that promises this.
    pub applies: fn(Info) -> bool,
    /// One execution.
    run: fn() -> Result<(), Wrong>,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<P: Protocol<Loom>> std::fmt::Debug for Scenario<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<P: Protocol<Loom>> Scenario<P> {
    /// Explores it.
    #[must_use]
    pub fn explore(&self, limits: Limits) -> Exploration {
        model(self.name, limits, self.run)
    }
}

/// All scenarios that apply to a protocol.
#[must_use]
pub fn scenarios<P: Protocol<Loom>>() -> Vec<Scenario<P>> {
    let always: fn(Info) -> bool = |_| true;
    let all = [
        (
            "retry is woken",
            "a transaction waits for a change that has happened",
            always,
            retry::<P> as fn() -> Result<(), Wrong>,
        ),
        ("retry sleeps", "a waiter is woken although nothing has changed", always, no_wake::<P>),
        ("retry of two", "a waiter for two objects is not woken by the second", always, retry_second::<P>),
        ("reclamation", "a value is freed while a transaction may follow it", always, reclamation::<P>),
        (
            "reclamation, failing reader",
            "a value is freed while a transaction that fails may follow it",
            always,
            reclamation_failing::<P>,
        ),
        (
            "reclamation goes on",
            "a value is never freed because somebody always reads",
            always,
            reclamation_goes_on::<P>,
        ),
        (
            "reclamation of the undone",
            "a value born in an aborted transaction is seen or leaked",
            always,
            reclaim_born::<P>,
        ),
        ("irrevocable token", "two irrevocable transactions run at once", always, token::<P>),
        ("token alone", "what one holder of the token did is not seen by the next", always, token_alone::<P>),
        ("nested", "a nested roll-back leaves a trace, or undoes too much", always, nested::<P>),
        ("hooks", "a hook runs that should not, or does not run that should", always, hooks::<P>),
        ("two fields", "the fields of one object are torn", always, two_fields::<P>),
        ("one field of two", "fields of one object are seen from different moments", always, one_field_of_two::<P>),
        ("privatisation", "a private object changes", |info| info.privatisation_safe, privatisation::<P>),
        (
            "fixed order",
            "a transaction commits before its turn or misses an earlier one",
            |info| info.ordered,
            order::<P>,
        ),
        (
            "fixed order, reader",
            "a transaction that only reads misses an earlier one",
            |info| info.ordered,
            order_of_reader::<P>,
        ),
    ];
    let scenario =
        |(name, question, applies, run)| Scenario { name, question, applies, run, protocol: std::marker::PhantomData };
    all.into_iter().map(scenario).filter(|scenario| (scenario.applies)(P::INFO)).collect()
}

fn wrong(complaint: impl Into<String>) -> Wrong {
    Wrong { complaint: complaint.into(), picture: String::new() }
}

/// Runs two threads and hands back the first's session and their results. A panic in either is a complaint.
fn both<P: Protocol<Loom>, T: 'static, U: 'static>(
    heap: &Arc<Heap<Loom>>,
    first: impl FnOnce(&mut Session<Loom, P>) -> T + 'static,
    second: impl FnOnce(&mut Session<Loom, P>) -> U + 'static,
) -> Result<(Session<Loom, P>, T, U), Wrong> {
    describe_model(2, false);
    run_both(heap, first, second)
}

/// [`both`], where heavy fences are executed. Every light one is a full fence then, which hides what natively would not be ordered.
fn both_fenced<P: Protocol<Loom>, T: 'static, U: 'static>(
    heap: &Arc<Heap<Loom>>,
    first: impl FnOnce(&mut Session<Loom, P>) -> T + 'static,
    second: impl FnOnce(&mut Session<Loom, P>) -> U + 'static,
) -> Result<(Session<Loom, P>, T, U), Wrong> {
    describe_model(2, true);
    run_both(heap, first, second)
}

fn run_both<P: Protocol<Loom>, T: 'static, U: 'static>(
    heap: &Arc<Heap<Loom>>,
    first: impl FnOnce(&mut Session<Loom, P>) -> T + 'static,
    second: impl FnOnce(&mut Session<Loom, P>) -> U + 'static,
) -> Result<(Session<Loom, P>, T, U), Wrong> {
    let mut own = Session::<Loom, P>::new(heap);
    let mut other = Session::<Loom, P>::new(heap);
    let thread = loom::thread::spawn(move || {
        enter_model_thread(1);
        let result = catch_unwind(AssertUnwindSafe(|| second(&mut other)));
        (other, result)
    });
    let result = catch_unwind(AssertUnwindSafe(|| first(&mut own)));
    let (other, other_result) = thread.join().expect("panics are caught");
    match (result, other_result) {
        (Ok(a), Ok(b)) => Ok((own, a, b)),
        (Err(payload), _) | (_, Err(payload)) => {
            // The logs may be in any state, which the destructors would trip over.
            std::mem::forget((own, other));
            Err(wrong(format!("the protocol panicked: {}", panic_text(&*payload))))
        }
    }
}

type Session0<P> = Session<Loom, P>;
type Outcome<T> = Result<T, Interrupt<()>>;

fn write<P: Protocol<Loom>>(session: &mut Session0<P>, object: usize, value: u64) -> bool {
    session.attempt::<_, ()>(Mode::Update, |view| Ok(view.set(object, value)?)).is_ok()
}

fn retry<P: Protocol<Loom>>() -> Result<(), Wrong> {
    retry_on::<P>(&[0], 0)
}

fn retry_second<P: Protocol<Loom>>() -> Result<(), Wrong> {
    retry_on::<P>(&[0, 1], 1)
}

/// One waits until an object is no longer 0, the other sets it.
fn retry_on<P: Protocol<Loom>>(read: &'static [usize], written: usize) -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(2);
    let (mut session, outcome, committed) = both_fenced::<P, _, _>(
        &heap,
        move |session| -> Outcome<u64> {
            session.attempt(Mode::Update, |view| {
                let mut last = 0;
                for &object in read {
                    last = view.get(object)?;
                }
                if last == 0 { Err(Interrupt::Abort(Abort::Retry)) } else { Ok(last) }
            })
        },
        move |session| write(session, written, 7),
    )?;
    let watch = session.attempt_mut().blocked.take();
    let waits = matches!(outcome, Err(Interrupt::Abort(Abort::Retry)));
    match watch {
        Some(watch) if waits && committed && !watch.has_fired() => {
            Err(wrong("the waiter read 0 and waits, the value was set, and nobody has woken it"))
        }
        _ => Ok(()),
    }
}

/// An aborted write wakes nobody.
fn no_wake<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(1);
    let (mut session, _, ()) = both_fenced::<P, _, _>(
        &heap,
        |session| {
            session.attempt::<u64, ()>(Mode::Update, |view| match view.get(0)? {
                0 => Err(Interrupt::Abort(Abort::Retry)),
                value => Ok(value),
            })
        },
        |session| {
            let _ = session.attempt::<(), ()>(Mode::Update, |view| {
                view.set(0, 7)?;
                Err(Interrupt::Error(()))
            });
        },
    )?;
    match session.attempt_mut().blocked.take() {
        Some(watch) if watch.has_fired() => Err(wrong("the waiter was woken by a transaction that did not commit")),
        _ => Ok(()),
    }
}

/// Values that loom watches: reading one that is freed, or while it is freed, is found.
struct Boxes([loom::cell::UnsafeCell<bool>; 4]);

// SAFETY: loom runs all threads of a model on one thread, and reports accesses that are not ordered.
unsafe impl Send for Boxes {}
// SAFETY: as above.
unsafe impl Sync for Boxes {}

thread_local! {
    static BOXES: RefCell<Option<Arc<Boxes>>> = const { RefCell::new(None) };
}

fn boxes() -> Arc<Boxes> {
    BOXES.with_borrow(|boxes| boxes.clone().expect("set by the model"))
}

unsafe fn free(word: u64) {
    // SAFETY: loom checks that nobody else accesses the cell.
    boxes().0[word as usize].with_mut(|live| unsafe {
        assert!(*live, "a value is freed twice");
        *live = false;
    });
}

fn follow(word: u64) {
    // SAFETY: loom checks that nobody writes the cell meanwhile.
    boxes().0[word as usize].with(|live| assert!(unsafe { *live }, "a transaction follows a value that is freed"));
}

fn is_live(word: u64) -> bool {
    // SAFETY: as above.
    boxes().0[word as usize].with(|live| unsafe { *live })
}

fn with_boxes(heap: &Heap<Loom>) {
    BOXES.set(Some(Arc::new(Boxes(std::array::from_fn(|_| loom::cell::UnsafeCell::new(true))))));
    heap.poke(0, 1);
}

/// Follows the value twice within a transaction, once at its end, which it may fail at.
fn follower<P: Protocol<Loom>>(mode: Mode, fails: bool) -> impl FnOnce(&mut Session0<P>) + 'static {
    move |session| {
        let _ = session.attempt::<(), ()>(mode, |view| {
            let word = view.get(0)?;
            follow(word);
            view.get(1)?;
            follow(word);
            if fails { Err(Interrupt::Error(())) } else { Ok(()) }
        });
    }
}

fn reclamation<P: Protocol<Loom>>() -> Result<(), Wrong> {
    reclamation_beside::<P>(false)
}

fn reclamation_failing<P: Protocol<Loom>>() -> Result<(), Wrong> {
    reclamation_beside::<P>(true)
}

/// One replaces a value and frees what it can, the other follows it.
fn reclamation_beside<P: Protocol<Loom>>(fails: bool) -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(2);
    with_boxes(&heap);
    let reader = follower::<P>(Mode::Update, fails);
    let (mut session, (), (tried, committed)) = both_fenced::<P, _, _>(&heap, reader, |session| {
        let mut tried = false;
        let body = |view: &mut View<'_, Loom, P>| {
            tried = true;
            Ok(view.set_owned(0, 2, free)?)
        };
        let committed = session.attempt::<_, ()>(Mode::Update, body).is_ok();
        reclaim::collect(session.attempt_mut());
        (tried, committed)
    })?;
    // Nobody runs any more: what was replaced is freed by the next collection, whoever retired it.
    let now = heap.peek(0);
    reclaim::collect(session.attempt_mut());
    reclaim::collect(session.attempt_mut());
    let (expected, live) = (if committed { 2 } else { 1 }, [is_live(1), is_live(2)]);
    if now == expected && live == [!committed, committed || !tried] {
        Ok(())
    } else {
        Err(wrong(format!("the value is {now} of {expected}; alive are {live:?}")))
    }
}

/// A value is replaced; after that whenever anything is freed somebody reads, each time another one, and nobody commits anything.
fn reclamation_goes_on<P: Protocol<Loom>>() -> Result<(), Wrong> {
    describe_model(2, true);
    let heap = Heap::<Loom>::new(2);
    with_boxes(&heap);
    let [mut writer, mut reader] = [(); 2].map(|()| Session::<Loom, P>::new(&heap));
    let replaced = writer.attempt::<_, ()>(Mode::Update, |view| Ok(view.set_owned(0, 2, free)?));
    for _ in 0..2 {
        let _ = reader.attempt::<(), ()>(Mode::Update, |view| {
            view.get(1)?;
            reclaim::collect(writer.attempt_mut());
            Ok(())
        });
    }
    match (replaced, is_live(1)) {
        (Ok(()), false) => Ok(()),
        (outcome, live) => Err(wrong(format!(
            "replacing it was {outcome:?}; the old value is {}alive",
            if live { "" } else { "not " }
        ))),
    }
}

fn reclaim_born<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(2);
    with_boxes(&heap);
    let (_session, (), tried) = both_fenced::<P, _, _>(&heap, follower::<P>(Mode::ReadOnly, false), |session| {
        let mut tried = false;
        let _ = session.attempt::<(), ()>(Mode::Update, |view| {
            tried = true;
            view.set_owned(0, 2, free)?;
            view.set_owned(0, 3, free)?;
            Err(Interrupt::Error(()))
        });
        tried
    })?;
    let live = [is_live(1), is_live(2), is_live(3)];
    // The writes may not have been reached.
    let freed = !live[1] || (live[2] && !tried);
    if live[0] && freed && heap.peek(0) == 1 { Ok(()) } else { Err(wrong(format!("alive are {live:?}"))) }
}

/// What only the holder of the token may touch.
struct Private(loom::cell::UnsafeCell<u64>);

// SAFETY: as for `Boxes`.
unsafe impl Send for Private {}
// SAFETY: as for `Boxes`.
unsafe impl Sync for Private {}

fn token<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(1);
    let private = Arc::new(Private(loom::cell::UnsafeCell::new(0)));
    let body = |private: Arc<Private>| {
        move |session: &mut Session0<P>| {
            session.attempt::<_, ()>(Mode::Irrevocable, |view| {
                // SAFETY: the token excludes the other; loom checks it.
                private.0.with_mut(|count| unsafe { *count += 1 });
                let value = view.get(0)?;
                view.set(0, value + 1)?;
                Ok(())
            })
        }
    };
    let (_session, first, second) = both_fenced::<P, _, _>(&heap, body(private.clone()), body(private))?;
    for outcome in [&first, &second] {
        if let Err(Interrupt::Abort(abort)) = outcome
            && !matches!(abort, Abort::Busy | Abort::Locked)
        {
            return Err(wrong(format!("an irrevocable transaction aborted ({abort})")));
        }
    }
    let committed = u64::from(first.is_ok()) + u64::from(second.is_ok());
    if heap.peek(0) != committed {
        return Err(wrong(format!("{committed} irrevocable transactions have added one, the sum is {}", heap.peek(0))));
    }
    if committed == 0 { Err(wrong("each of two irrevocable transactions was refused")) } else { Ok(()) }
}

/// The token without a transaction under it, whose own synchronisation would hide the token's.
fn token_alone<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(1);
    let private = Arc::new(Private(loom::cell::UnsafeCell::new(0)));
    let body = |private: Arc<Private>| {
        move |session: &mut Session0<P>| {
            let domain = session.heap().domain().clone();
            if domain.take_token().is_ok() {
                // SAFETY: the token excludes the other; loom checks it.
                private.0.with_mut(|count| unsafe { *count += 1 });
                domain.give_token();
            }
        }
    };
    let (_session, (), ()) = both_fenced::<P, _, _>(&heap, body(private.clone()), body(private.clone()))?;
    // SAFETY: both have been joined.
    let count = private.0.with(|count| unsafe { *count });
    if count >= 1 { Ok(()) } else { Err(wrong("each of two was refused the token")) }
}

fn nested<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(2);
    let (_session, committed, seen) = both::<P, _, _>(
        &heap,
        |session| {
            let outcome = session.attempt::<_, ()>(Mode::Update, |view| {
                view.set(0, 1)?;
                view.nested(|view| {
                    view.set(0, 2)?;
                    view.set(1, 2)?;
                    Ok(false)
                })?;
                let seen = (view.get(0)?, view.get(1)?);
                view.nested(|view| {
                    view.set(0, 3)?;
                    Ok(true)
                })?;
                Ok((seen, view.get(0)?))
            });
            if let Ok(seen) = outcome {
                assert_eq!(seen, ((1, 0), 3), "the transaction does not see its own writes after a nested roll-back");
            }
            outcome.is_ok()
        },
        |session| session.attempt::<_, ()>(Mode::Update, |view| Ok((view.get(1)?, view.get(0)?))).ok(),
    )?;
    if let Some((y, x)) = seen
        && (y != 0 || (x != 0 && x != 3))
    {
        return Err(wrong(format!("another transaction saw x = {x}, y = {y}")));
    }
    let last = (heap.peek(0), heap.peek(1));
    if last == (if committed { 3 } else { 0 }, 0) { Ok(()) } else { Err(wrong(format!("afterwards it is {last:?}"))) }
}

thread_local! {
    // Loom runs all threads of a model on one.
    static HOOKS: Cell<[(bool, u32); 4]> = const { Cell::new([(false, 0); 4]) };
}

/// The hooks of the scenario: of the attempt and of a nested part that is rolled back.
const COMMIT: usize = 0;
const ABORT: usize = 1;
const UNDONE_COMMIT: usize = 2;
const UNDONE_ABORT: usize = 3;

/// Registers a hook that counts how often it runs.
fn register<P: Protocol<Loom>>(view: &mut View<'_, Loom, P>, which: usize) {
    let change = move |change: fn(&mut (bool, u32))| {
        let mut all = HOOKS.get();
        change(&mut all[which]);
        HOOKS.set(all);
    };
    change(|hook| hook.0 = true);
    let hook = Box::new(move || change(|hook| hook.1 += 1));
    let tx = view.descriptor();
    if [COMMIT, UNDONE_COMMIT].contains(&which) { tx.add_commit_hook(hook) } else { tx.add_abort_hook(hook) }
}

/// An attempt with hooks that fails, and one that may commit, beside a reader of what they write.
fn hooks<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(1);
    let (_session, wrong_ones, _) = both::<P, _, _>(
        &heap,
        |session| {
            let mut run = |fails: bool| {
                HOOKS.set([(false, 0); 4]);
                let outcome = session.attempt::<_, ()>(Mode::Update, |view| {
                    register(view, COMMIT);
                    register(view, ABORT);
                    let savepoint = view.savepoint();
                    register(view, UNDONE_COMMIT);
                    register(view, UNDONE_ABORT);
                    view.set(0, 1)?;
                    view.roll_back_to(savepoint);
                    view.set(0, 2)?;
                    if fails { Err(Interrupt::Error(())) } else { Ok(()) }
                });
                let committed = outcome.is_ok();
                assert!(session.attempt_mut().run_hooks(committed).is_none(), "a hook panicked");
                let due = |which| match which {
                    COMMIT => committed,
                    ABORT => !committed,
                    UNDONE_COMMIT => false,
                    _ => true,
                };
                let all = HOOKS.get();
                (0..4).find(|&which| all[which].1 != u32::from(all[which].0 && due(which)))
            };
            run(true).or_else(|| run(false))
        },
        |session| session.attempt::<_, ()>(Mode::Update, |view| Ok(view.get(0)?)).ok(),
    )?;
    let names = ["commit hook", "abort hook", "commit hook of an undone part", "abort hook of an undone part"];
    wrong_ones.map_or(Ok(()), |which| Err(wrong(format!("the {} has not run as often as it should", names[which]))))
}

/// Two fields of one object, written together twice, once undone.
fn two_fields<P: Protocol<Loom>>() -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(1);
    let (mut session, seen, committed) = both::<P, _, _>(
        &heap,
        |session| {
            let get = |session: &mut Session0<P>, mode| {
                session.attempt::<_, ()>(mode, |view| Ok((view.get_field(0, 0)?, view.get_field(0, 1)?))).ok()
            };
            get(session, Mode::Update)
        },
        |session| {
            let mut set = |value, fails: bool| {
                session.attempt::<_, ()>(Mode::Update, |view| {
                    view.set_field(0, 0, value)?;
                    view.set_field(0, 1, value)?;
                    if fails { Err(Interrupt::Error(())) } else { Ok(()) }
                })
            };
            let _ = set(1, true);
            set(2, false).is_ok()
        },
    )?;
    if let Some(seen) = seen
        && seen != (0, 0)
        && seen != (2, 2)
    {
        return Err(wrong(format!("a transaction saw {seen:?}")));
    }
    let last = (0..4).find_map(|_| {
        session.attempt::<_, ()>(Mode::Update, |view| Ok((view.get_field(0, 0)?, view.get_field(0, 1)?))).ok()
    });
    let expected = if committed { 2 } else { 0 };
    if last == Some((expected, expected)) { Ok(()) } else { Err(wrong(format!("afterwards it is {last:?}"))) }
}

/// Somebody who only reads sees two fields of an object, after another object. One of the fields is written in between, both by another thread.
fn one_field_of_two<P: Protocol<Loom>>() -> Result<(), Wrong> {
    fn set<P: Protocol<Loom>>(session: &mut Session0<P>, first: Option<u64>, second: u64) {
        let _ = session.attempt::<(), ()>(Mode::Update, |view| {
            first.map_or(Ok(()), |value| view.set_field(0, 0, value))?;
            view.set_field(0, 1, second)?;
            Ok(view.set(1, second)?)
        });
    }
    let heap = Heap::<Loom>::new(2);
    let mut between = Session::<Loom, P>::new(&heap);
    let (_session, seen, ()) = both::<P, _, _>(
        &heap,
        move |session| {
            let body = |view: &mut View<'_, Loom, P>| {
                let other = view.get(1)?;
                set(&mut between, None, 1);
                Ok((other, view.get_field(0, 0)?, view.get_field(0, 1)?))
            };
            session.attempt::<_, ()>(Mode::ReadOnly, body).ok()
        },
        |session| set(session, Some(2), 2),
    )?;
    match seen {
        None | Some((0, 0, 0) | (2, 2, 2)) => Ok(()),
        Some(seen) => Err(wrong(format!("a transaction saw {seen:?}"))),
    }
}

/// One makes an object private and then uses it without barriers, the other uses it only while it is shared.
fn privatisation<P: Protocol<Loom>>() -> Result<(), Wrong> {
    const FLAG: usize = 0;
    const OBJECT: usize = 1;
    let heap = Heap::<Loom>::new(2);
    let (_session, (), ()) = both::<P, _, _>(
        &heap,
        |session| {
            if write(session, FLAG, 1) {
                let heap = session.heap().clone();
                let before = heap.peek(OBJECT);
                heap.poke(OBJECT, 100 + before);
                assert_eq!(heap.peek(OBJECT), 100 + before, "a private object was written by a transaction");
            }
        },
        |session| {
            let _ = session.attempt::<(), ()>(Mode::Update, |view| {
                if view.get(FLAG)? == 0 {
                    let value = view.get(OBJECT)?;
                    assert!(value < 100, "a transaction saw a private value");
                    view.set(OBJECT, 50)?;
                }
                Ok(())
            });
        },
    )?;
    let (flag, value) = (heap.peek(FLAG), heap.peek(OBJECT));
    let legal: &[u64] = if flag == 1 { &[100, 150] } else { &[0, 50] };
    if legal.contains(&value) { Ok(()) } else { Err(wrong(format!("the private object holds {value}"))) }
}

fn order<P: Protocol<Loom>>() -> Result<(), Wrong> {
    order_beside::<P>(true)
}

fn order_of_reader<P: Protocol<Loom>>() -> Result<(), Wrong> {
    order_beside::<P>(false)
}

/// The first in the order writes, the second reads that, and writes something else or not.
fn order_beside<P: Protocol<Loom>>(writes: bool) -> Result<(), Wrong> {
    let heap = Heap::<Loom>::new(2);
    let (_session, first, second) = both::<P, _, _>(
        &heap,
        |session| {
            session
                .attempt::<_, ()>(Mode::Update, |view| {
                    view.at_position(0);
                    view.set(0, 1)?;
                    Ok(())
                })
                .is_ok()
        },
        move |session| {
            let mut run = || {
                session.attempt::<_, ()>(Mode::Update, |view| {
                    view.at_position(1);
                    let value = view.get(0)?;
                    if writes {
                        view.set(1, value + 10)?;
                    }
                    Ok(value)
                })
            };
            // If its turn has not come the first time, it may have the second time.
            run().or_else(|_| run()).ok()
        },
    )?;
    match second {
        Some(_) if !first => Err(wrong("the second has committed, the first has not")),
        Some(0) => Err(wrong("the second has not seen what the first wrote")),
        Some(value) if writes && heap.peek(1) != value + 10 => Err(wrong("the second's write is lost")),
        _ => Ok(()),
    }
}
