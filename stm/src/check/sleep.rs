//! Sleep sets (Godefroid, "Partial-order methods for the verification of concurrent systems", 1996) on top of loom.
//!
//! Loom's partial-order reduction decides which orders are worth trying, but not whether an order has been tried already: two accesses
//! that do not touch each other are swapped over and over on the way to a swap that matters. Of the executions of two transactions of two
//! accesses, fifty-nine in sixty say nothing that an earlier one has not said (measured, 2026-11-25, `eager`). So the executions are
//! watched from outside:
//!
//! 1. Every access of a model is [noted](note). Loom searches depth first, so two executions in a row have a common beginning, and where they
//!    part a choice has been explored to its end: of the thread that goes on, or of the store that a load returns.
//! 2. The thread that was tried first at such a place *sleeps* in what is tried next. It wakes when another thread does something that its
//!    next access depends on.
//! 3. If a sleeping thread is made to go on, this execution differs from an earlier one in the order of independent accesses only, and is
//!    *cut*: it explores nothing more, its accesses go to [shadows](is_cut) without a choice, and its outcome is ignored.
//!
//! Two accesses depend on each other if they are to one word and not both loads. Fences depend on each other. A thread that yields wakes all.
//! With a bound on preemptions the order cut could be the one that needs fewer of them, so then nothing sleeps.

use std::cell::RefCell;

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Load,
    /// A store, a read-modify-write, whether it succeeds or not, or a fence.
    Write,
    /// The thread lets others go first.
    Yield,
}

/// The next access of a thread. A thread's next access follows from what it has done, whoever goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step {
    thread: usize,
    object: u64,
    access: Access,
}

impl Step {
    fn depends_on(self, other: Step) -> bool {
        let loads = self.access == Access::Load && other.access == Access::Load;
        let yields = self.access == Access::Yield || other.access == Access::Yield;
        yields || (self.object == other.object && !loads)
    }
}

/// One access of the execution, and what has been explored in its place.
#[derive(Debug)]
struct Node {
    step: Step,
    /// Which store was found.
    found: u64,
    /// The stores found before, with everything that followed.
    found_before: Vec<u64>,
    /// What was explored in place of this access, with everything that followed.
    done: Vec<Step>,
    /// What was explored further up and has met nothing that it depends on since.
    asleep: Vec<Step>,
}

#[derive(Debug, Default)]
struct Search {
    /// Whether anything sleeps.
    on: bool,
    nodes: Vec<Node>,
    /// How many accesses there were in this execution.
    at: usize,
    /// Whether the execution has done what the one before did, so far.
    same: bool,
    cut: bool,
}

thread_local! {
    static SEARCH: RefCell<Search> = RefCell::default();
}

/// Before the first execution of a model.
pub(super) fn start(on: bool) {
    SEARCH.set(Search { on, ..Search::default() });
}

/// Before each execution.
pub(super) fn begin() {
    SEARCH.with_borrow_mut(|search| {
        search.nodes.truncate(search.at);
        (search.at, search.same, search.cut) = (0, true, false);
    });
}

/// Whether this execution repeats an earlier one.
pub(super) fn is_cut() -> bool {
    SEARCH.with_borrow(|search| search.cut)
}

/// Notes an access that has just been done, and the store that it has found.
pub(super) fn note(thread: usize, object: u64, access: Access, found: u64) {
    let cut = SEARCH
        .with_borrow_mut(|search| search.on && !search.cut && search.note(Step { thread, object, access }, found));
    if cut {
        loom::skip_branch();
    }
}

impl Search {
    /// Notes an access and says whether it is the point at which the execution is cut.
    fn note(&mut self, step: Step, found: u64) -> bool {
        let at = self.at;
        self.at += 1;
        if self.same && at < self.nodes.len() {
            let node = &mut self.nodes[at];
            if (node.step, node.found) == (step, found) {
                return false;
            }
            if node.step.thread == step.thread {
                assert_eq!(node.step, step, "a model does the same if nothing else has happened");
                node.found_before.push(node.found);
            } else {
                node.done.push(node.step);
                node.found_before.clear();
            }
            (node.step, node.found) = (step, found);
            self.nodes.truncate(at + 1);
        } else {
            let asleep = match self.nodes.last() {
                Some(last) => {
                    let other = |other: &&Step| other.thread != last.step.thread && !other.depends_on(last.step);
                    last.asleep.iter().chain(&last.done).filter(other).copied().collect()
                }
                None => Vec::new(),
            };
            self.nodes.push(Node { step, found, found_before: Vec::new(), done: Vec::new(), asleep });
        }
        self.same = false;
        let node = &self.nodes[at];
        let is_known = |other: &Step| other.thread == step.thread;
        self.cut =
            node.asleep.iter().any(is_known) || node.done.iter().any(is_known) || node.found_before.contains(&found);
        self.cut
    }
}
