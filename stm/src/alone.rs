//! Being alone: no locked instruction while only one thread can run transactions.
//!
//! A lock is taken and a clock advanced by a locked instruction, because another thread might do the same at the same time. While a domain has
//! one descriptor only, nobody can, and a load and a store do. The question is how the second descriptor's thread makes sure that the
//! first is not between the two; it is answered as for biased locks (Kawachiya, Koseki and Onodera, OOPSLA 2002), with the asymmetric
//! fence of `membarrier.rs`:
//!
//! 1. The slot of the only descriptor is *biased*. Its owner announces that it is *inside* a step, executes a light fence, makes sure that the
//!    slot is still biased, and makes the step: load, compare, store. Then it is no longer inside.
//! 2. Whoever takes a slot in a domain that has a biased one takes the bias away, executes a heavy fence, and waits until the owner is
//!    not inside, before it runs its first transaction. The owner either sees that the bias is gone, and uses locked instructions, or is seen
//!    inside. A step is a handful of instructions, so the wait is short, and a transaction under way just goes on.
//! 3. Whoever leaves behind a single descriptor gives that one the bias.
//!
//! What the steps write is what the locked instructions would have written: to everybody else a biased transaction is like any other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::atomics::{Atomics, Word};
use crate::domain::{Domain, Slot};

/// One slot's half of the arrangement.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Bias<W> {
    /// Not zero while the slot is biased. Written by others.
    biased: W,
    /// Not zero while the owner is inside a step.
    inside: W,
}

impl<W: Word> Bias<W> {
    pub(crate) fn new() -> Self {
        Bias { biased: W::new(0), inside: W::new(0) }
    }

    /// Rule 1. Nothing if the slot is not biased.
    #[inline(always)]
    pub(crate) fn enter<A: Atomics<Word = W>, R>(&self, step: impl FnOnce() -> R) -> Option<R> {
        // Relaxed: only a hint.
        if !A::BIASED || self.biased.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // Relaxed: the light fence pairs with the heavy one in `revoke`.
        self.inside.store(1, Ordering::Relaxed);
        A::light();
        // Acquire pairs with the release in `give`: what threads that have left did is visible to the step.
        let still = crate::mutant!(A, "bias-not-looked-at-again", self.biased.load(Ordering::Acquire) != 0, true);
        let result = if still { Some(step()) } else { None };
        // Release pairs with the acquire in `revoke`: the step's writes are visible to whoever takes the bias away. Equivalent: what steps
        // write, others write with locked instructions, which see the newest value anyway.
        self.inside.store(0, Ordering::Release);
        result
    }

    /// Rule 3.
    pub(crate) fn give(&self) {
        // Release pairs with the acquire in `enter`. Equivalent: whoever leaves has executed a light fence since its last unlock.
        self.biased.store(1, Ordering::Release);
    }

    /// The owner leaves.
    pub(crate) fn forget(&self) {
        // Relaxed: the next owner of the slot gets the bias from somebody else or not at all.
        self.biased.store(0, Ordering::Relaxed);
    }

    /// Rule 2.
    fn revoke<A: Atomics<Word = W>>(&self) {
        // Relaxed: the heavy fence publishes it.
        self.biased.store(0, Ordering::Relaxed);
        A::heavy();
        let mut rounds = 0_u32;
        // Acquire pairs with the release at the end of a step. Equivalent: as there.
        while crate::mutant!(A, "bias-step-not-awaited", self.inside.load(Ordering::Acquire) != 0, false) {
            rounds += 1;
            if !A::CAN_WAIT || rounds < 64 {
                A::spin();
            } else {
                // The owner was stopped in the middle of a step.
                std::thread::yield_now();
            }
        }
    }
}

impl<A: Atomics> Domain<A> {
    /// Takes a slot for a new descriptor.
    pub(crate) fn enter(&self) -> Arc<Slot<A>> {
        let (slot, biased) = self.take_slot();
        // Not under the lock of the slots. Several may do this at once; each is sure for itself.
        if let Some(other) = biased {
            other.bias.revoke::<A>();
            self.forget_bias(&other);
        }
        slot
    }
}

#[cfg(all(test, feature = "check"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::attempt::Mode;
    use crate::check::explore::quietly;
    use crate::check::heap::{Heap, Session};
    use crate::check::platform::{Change, Fault, Solitary, note_sites, plant};
    use crate::check::proof::argument;
    use crate::protocol::{Protocol, shipped};
    use crate::run::Interrupt;

    /// The form for nights: some faults show only with three preemptions, which takes minutes.
    fn is_long() -> bool {
        std::env::var("OPTIMIST_CHECK").is_ok_and(|depth| depth == "long")
    }

    /// Adds one to the first object, and says whether that has committed.
    fn increment<P: Protocol<Solitary>>(session: &mut Session<Solitary, P>) -> u64 {
        let outcome: Result<(), Interrupt<()>> = session.attempt(Mode::Update, |view| {
            let value = view.get(0)?;
            Ok(view.set(0, value + 1)?)
        });
        u64::from(outcome.is_ok())
    }

    /// A thread that is alone runs two transactions; meanwhile another one comes, runs one, and goes.
    fn visit<P: Protocol<Solitary>>() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(if is_long() { 3 } else { 2 });
        builder.max_branches = 5_000;
        builder.check(|| {
            let heap = Heap::<Solitary>::new(1);
            let mut host = Session::<Solitary, P>::new(&heap);
            let visitor = {
                let heap = heap.clone();
                loom::thread::spawn(move || increment(&mut Session::<Solitary, P>::new(&heap)))
            };
            let committed = increment(&mut host) + increment(&mut host) + visitor.join().expect("no panic");
            // Alone again.
            let committed = committed + increment(&mut host);
            assert_eq!(heap.peek(0), committed, "an increment was lost");
        });
    }

    fn survives<P: Protocol<Solitary>>(fault: Option<Fault>) -> bool {
        plant(fault, || quietly(|| catch_unwind(AssertUnwindSafe(visit::<P>)).is_ok()))
    }

    #[test]
    fn a_thread_that_comes_while_another_is_alone_loses_nothing() {
        visit::<shipped::Eager>();
        visit::<shipped::Norec>();
    }

    #[test]
    fn every_fault_of_the_arrangement_is_found() {
        let ((), sites) = note_sites(visit::<shipped::Eager>);
        let here: Vec<Fault> = sites.into_iter().filter(|fault| fault.file.ends_with("alone.rs")).collect();
        let mutants = here.iter().filter(|fault| matches!(fault.change, Change::Mutant(_))).count();
        let fences = here.iter().filter(|fault| matches!(fault.change, Change::NoFence(_))).count();
        assert_eq!((mutants, fences), (2, 2), "{here:?}");
        let tried = here.iter().filter(|fault| is_long() || !matches!(fault.change, Change::Weaker { .. }));
        let survivors: Vec<String> = tried
            .filter(|fault| argument(fault).is_none() && survives::<shipped::Eager>(Some(**fault)))
            .map(ToString::to_string)
            .collect();
        assert!(survivors.is_empty(), "{survivors:?}");
    }
}
