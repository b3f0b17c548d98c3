//! A few objects on a heap of their own, and the barriers over them: what every part of the checker runs its transactions on.
#![expect(unsafe_code, reason = "calls the barriers; the heap outlives every transaction on it")]

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::abort::Abort;
use crate::atomics::{Atomics, Native, Word};
use crate::attempt::{Attempt, DropWord, Mode, Place, Savepoint};
use crate::domain::Domain;
use crate::header::FRESH;
use crate::protocol::Protocol;
use crate::run::{self, Interrupt};

/// Objects of one field each, in a domain of their own.
#[derive(Debug)]
pub struct Heap<A: Atomics = Native> {
    domain: Arc<Domain<A>>,
    objects: Box<[Object<A>]>,
}

/// A header and its fields. An object has a cache line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
struct Object<A: Atomics> {
    header: A::Word,
    fields: [A::Word; 2],
}

impl<A: Atomics> Heap<A> {
    /// A heap of `count` objects that hold 0.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        let object = |_| Object { header: A::Word::new(FRESH), fields: [A::Word::new(0), A::Word::new(0)] };
        Arc::new(Heap { domain: Arc::default(), objects: (0..count).map(object).collect() })
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain<A>> {
        &self.domain
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The header of an object, as it is now.
    #[must_use]
    pub fn header(&self, object: usize) -> u64 {
        self.objects[object].header.load(Ordering::Relaxed)
    }

    /// The first field of an object, without a barrier: for an object that no transaction can reach.
    #[must_use]
    pub fn peek(&self, object: usize) -> u64 {
        self.objects[object].fields[0].load(Ordering::Relaxed)
    }

    /// Sets the first field of an object, without a barrier: for an object that no transaction can reach.
    pub fn poke(&self, object: usize, value: u64) {
        // Release: a transaction that still can finds with the value the commit that has made the object private.
        self.objects[object].fields[0].store(value, Ordering::Release);
    }

    fn place(&self, object: usize, field: usize) -> Place<A> {
        let Object { header, fields } = &self.objects[object];
        Place::new(header, &fields[field])
    }
}

/// One thread's access to a heap: a descriptor, and transactions under `P`.
pub struct Session<A: Atomics, P: Protocol<A>> {
    // Dropped first: its logs point into the heap.
    tx: Attempt<A>,
    heap: Arc<Heap<A>>,
    protocol: PhantomData<fn() -> P>,
}

// SAFETY: between transactions a descriptor's logs are empty, so the pointers in it are those of allocations that it owns; within one
// it is borrowed by the thread that runs it.
unsafe impl<A: Atomics, P: Protocol<A>> Send for Session<A, P> {}

impl<A: Atomics, P: Protocol<A>> std::fmt::Debug for Session<A, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("tx", &self.tx).finish_non_exhaustive()
    }
}

impl<A: Atomics, P: Protocol<A>> Session<A, P> {
    /// A session on `heap`.
    #[must_use]
    pub fn new(heap: &Arc<Heap<A>>) -> Self {
        Session { tx: Attempt::new(&heap.domain), heap: heap.clone(), protocol: PhantomData }
    }

    /// The descriptor.
    pub fn attempt_mut(&mut self) -> &mut Attempt<A> {
        &mut self.tx
    }

    /// The heap.
    #[must_use]
    pub fn heap(&self) -> &Arc<Heap<A>> {
        &self.heap
    }

    /// Runs a transaction until it commits.
    ///
    /// # Errors
    /// The error of the body.
    ///
    /// # Panics
    /// If the body panics.
    ///
    /// # Atomicity
    /// As [`run::run`].
    ///
    /// # Abort safety
    /// The body runs once for each attempt.
    pub fn run<R, E>(
        &mut self,
        mode: Mode,
        mut body: impl FnMut(&mut View<'_, A, P>) -> Result<R, Interrupt<E>>,
    ) -> Result<R, E> {
        let heap = &*self.heap;
        run::run::<P, A, R, E>(&mut self.tx, mode, |tx| body(&mut View { tx, heap, protocol: PhantomData }))
    }

    /// Runs an update transaction that has no errors of its own until it commits.
    pub fn atomically<R>(&mut self, mut body: impl FnMut(&mut View<'_, A, P>) -> Result<R, Abort>) -> R {
        let outcome: Result<R, std::convert::Infallible> = self.run(Mode::Update, |view| Ok(body(view)?));
        match outcome {
            Ok(value) => value,
        }
    }

    /// Runs one attempt. An irrevocable one first takes the token, which here may be refused.
    ///
    /// # Errors
    /// What interrupted the attempt.
    pub fn attempt<R, E>(
        &mut self,
        mode: Mode,
        mut body: impl FnMut(&mut View<'_, A, P>) -> Result<R, Interrupt<E>>,
    ) -> Result<R, Interrupt<E>> {
        if mode == Mode::Irrevocable {
            self.tx.domain().take_token()?;
        }
        let heap = &*self.heap;
        let outcome = run::attempt::<P, A, R, E>(&mut self.tx, mode, &mut |tx| {
            body(&mut View { tx, heap, protocol: PhantomData })
        });
        if mode == Mode::Irrevocable {
            self.tx.domain().give_token();
        }
        outcome
    }

    /// Which logs are not empty between two attempts (rule 8 of the contract).
    #[must_use]
    pub fn leftovers(&self) -> Option<&'static str> {
        let tx = &self.tx;
        let logs = [
            ("read log", tx.reads.entries().is_empty()),
            ("value log", tx.values.is_empty()),
            ("lock log", tx.locks.is_empty()),
            ("undo log", tx.undo.is_empty()),
            ("write buffer", tx.buffer.is_empty()),
        ];
        logs.iter().find(|(_, empty)| !empty).map(|(log, _)| *log)
    }
}

/// A running attempt's access to the heap.
#[derive(Debug)]
pub struct View<'a, A: Atomics, P: Protocol<A>> {
    tx: &'a mut Attempt<A>,
    heap: &'a Heap<A>,
    protocol: PhantomData<fn() -> P>,
}

impl<A: Atomics, P: Protocol<A>> View<'_, A, P> {
    /// Reads an object's first field.
    ///
    /// # Errors
    /// An abort.
    pub fn get(&mut self, object: usize) -> Result<u64, Abort> {
        self.get_field(object, 0)
    }

    /// Reads a field.
    ///
    /// # Errors
    /// An abort.
    pub fn get_field(&mut self, object: usize, field: usize) -> Result<u64, Abort> {
        let place = self.heap.place(object, field);
        // SAFETY: the session keeps the heap alive.
        unsafe { if self.tx.mode == Mode::ReadOnly { P::read_only(self.tx, place) } else { P::read(self.tx, place) } }
    }

    /// Writes an object's first field.
    ///
    /// # Errors
    /// An abort.
    pub fn set(&mut self, object: usize, value: u64) -> Result<(), Abort> {
        self.set_field(object, 0, value)
    }

    /// Writes a field.
    ///
    /// # Errors
    /// An abort.
    pub fn set_field(&mut self, object: usize, field: usize, value: u64) -> Result<(), Abort> {
        assert!(self.tx.mode != Mode::ReadOnly, "a read-only transaction does not write");
        // SAFETY: the session keeps the heap alive.
        unsafe { P::write(self.tx, self.heap.place(object, field), value, None) }
    }

    /// Writes an object's first field with a value that `drop` frees once it is replaced and cannot be reached.
    ///
    /// # Errors
    /// An abort.
    pub fn set_owned(&mut self, object: usize, value: u64, drop: DropWord) -> Result<(), Abort> {
        self.tx.note_born(value, drop);
        // SAFETY: the session keeps the heap alive.
        unsafe { P::write(self.tx, self.heap.place(object, 0), value, Some(drop)) }
    }

    /// Gives the attempt a position in the order of commits.
    pub fn at_position(&mut self, position: u64) {
        self.tx.position = position;
    }

    /// Checks what was read so far.
    ///
    /// # Errors
    /// An abort.
    pub fn validate(&mut self) -> Result<(), Abort> {
        P::validate(self.tx)
    }

    /// The descriptor of the running attempt.
    pub(crate) fn descriptor(&mut self) -> &mut Attempt<A> {
        self.tx
    }

    /// A position to which the attempt can be rolled back.
    pub fn savepoint(&mut self) -> Savepoint {
        P::savepoint(self.tx)
    }

    /// Undoes what was written since `savepoint`.
    pub fn roll_back_to(&mut self, savepoint: Savepoint) {
        P::rollback_to(self.tx, savepoint);
    }

    /// Runs `body`; if it says no, undoes what it wrote.
    ///
    /// # Errors
    /// An abort.
    pub fn nested(&mut self, body: impl FnOnce(&mut Self) -> Result<bool, Abort>) -> Result<bool, Abort> {
        let savepoint = self.savepoint();
        let keep = body(self)?;
        if !keep {
            self.roll_back_to(savepoint);
        }
        Ok(keep)
    }
}
