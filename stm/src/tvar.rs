//! `TVar<T>` and `atomically`: the typed face.
//!
//! A value of a primitive type lives in the variable's word; any other lives in an immutable box, and the word points to it. A
//! box that a commit replaces is freed when no transaction can follow the old pointer any more (see [`reclaim`](crate::reclaim)). The
//! variables themselves stand in dense blocks (`slab.rs`).
#![expect(unsafe_code, reason = "stores values in words: inline by bit copy, or as pointers to boxes")]

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::attempt::{DropWord, Place};
use crate::protocol::Protocol;
use crate::runtime;
use crate::slab::{self, Variable};
use crate::tx::{Read, Result, Tx, atomically, read_only};

/// A transactional variable.
///
/// Cloning it gives another handle to the same variable. It is read and written within a transaction, through [`Tx`].
///
/// ```
/// use optimist_stm::{TVar, atomically};
///
/// let account = TVar::new(100);
/// let balance = atomically(|tx| {
///     account.modify(tx, |balance| balance - 30)?;
///     account.get(tx)
/// });
/// assert_eq!(balance, 70);
/// ```
pub struct TVar<T: 'static> {
    variable: NonNull<Variable>,
    value: PhantomData<T>,
}

// SAFETY: a handle gives access to values of `T` from any thread that has it, by reference (`Sync`) and by dropping (`Send`).
unsafe impl<T: Send + Sync + 'static> Send for TVar<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static> Sync for TVar<T> {}

/// Whether a value of `T` lives in the word itself. Only primitive types, because the bits of others may be undefined (padding) or
/// meaningful as an address (so that a copy left in a log would be a second owner).
pub(crate) fn is_inline<T: 'static>() -> bool {
    let id = TypeId::of::<T>();
    macro_rules! one_of {
        ($($t:ty)+) => { $(id == TypeId::of::<$t>())||+ };
    }
    one_of!(() bool char u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64)
}

/// The word for a value, and how to free it if it is a box.
pub(crate) fn into_word<T: 'static>(value: T) -> (u64, Option<DropWord>) {
    if is_inline::<T>() {
        let mut word = 0_u64;
        // SAFETY: a primitive type is at most eight bytes, all defined, and needs no drop.
        unsafe { std::ptr::from_mut(&mut word).cast::<T>().write(value) };
        (word, None)
    } else {
        (Box::into_raw(Box::new(value)).expose_provenance() as u64, Some(drop_box::<T>))
    }
}

pub(crate) unsafe fn drop_box<T>(word: u64) {
    // SAFETY: the word came from `into_word` for this type and is freed once.
    drop(unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<T>(word as usize)) });
}

/// Calls `f` with the value in a word.
///
/// # Safety
/// The word came from `into_word::<T>` and its box, if it is one, has not been freed.
#[inline(always)]
pub(crate) unsafe fn with_word<T: 'static, R>(word: u64, f: impl FnOnce(&T) -> R) -> R {
    if is_inline::<T>() {
        // SAFETY: as in `into_word`; the word is a valid value of the primitive type.
        f(unsafe { &*std::ptr::from_ref(&word).cast::<T>() })
    } else {
        // SAFETY: by the caller's promise.
        f(unsafe { &*std::ptr::with_exposed_provenance::<T>(word as usize) })
    }
}

impl<T: Send + Sync + 'static> TVar<T> {
    /// A variable that holds `value`.
    pub fn new(value: T) -> Self {
        let (word, _) = into_word(value);
        TVar { variable: slab::allocate(word), value: PhantomData }
    }

    #[inline(always)]
    fn variable(&self) -> &Variable {
        // SAFETY: the variable lives as long as a handle, and longer if a transaction may still have it in a log.
        unsafe { self.variable.as_ref() }
    }

    #[inline(always)]
    fn place(&self) -> Place {
        let variable = self.variable();
        Place::new(&variable.header, &variable.word)
    }

    /// The value, cloned.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    #[inline(always)]
    #[track_caller]
    pub fn get<R: Read>(&self, tx: &mut R) -> Result<T>
    where
        T: Clone,
    {
        self.with(tx, T::clone)
    }

    /// Calls `f` with the value, without cloning it.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    #[inline(always)]
    #[track_caller]
    pub fn with<R: Read, U>(&self, tx: &mut R, f: impl FnOnce(&T) -> U) -> Result<U> {
        // SAFETY: the variable is retired, not freed, when its last handle goes.
        let word = match unsafe { tx.read_word(self.place()) } {
            Ok(word) => word,
            Err(abort) => {
                tx.note_lost_at(Location::caller());
                return Err(abort);
            }
        };
        // SAFETY: the word is a committed or own value of this variable, and stays allocated while the transaction runs.
        Ok(unsafe { with_word(word, f) })
    }

    /// Sets the value.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    ///
    /// # Abort safety
    /// If the attempt aborts, `value` is dropped.
    #[inline(always)]
    #[track_caller]
    pub fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<()> {
        let (word, drop) = into_word(value);
        if let Some(drop) = drop {
            tx.attempt.note_born(word, drop);
        }
        // SAFETY: the variable is retired, not freed, when its last handle goes.
        let outcome = unsafe { P::write(tx.attempt, self.place(), word, drop) };
        if outcome.is_err() {
            tx.attempt.note_lost_at(Location::caller());
        }
        outcome
    }

    /// Replaces the value by `f` of it.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    #[inline(always)]
    #[track_caller]
    pub fn modify<P: Protocol>(&self, tx: &mut Tx<'_, P>, f: impl FnOnce(&T) -> T) -> Result<()> {
        let value = self.with(tx, f)?;
        self.set(tx, value)
    }

    /// Replaces the value and returns the one before.
    ///
    /// # Errors
    /// An [`Abort`], to be passed on with `?`.
    #[track_caller]
    pub fn replace<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<T>
    where
        T: Clone,
    {
        let old = self.get(tx)?;
        self.set(tx, value)?;
        Ok(old)
    }

    /// The value now, read in a transaction of its own.
    ///
    /// # Panics
    /// Within a transaction.
    pub fn load(&self) -> T
    where
        T: Clone,
    {
        read_only(|tx| self.get(tx))
    }

    /// Sets the value in a transaction of its own.
    ///
    /// # Panics
    /// Within a transaction.
    pub fn store(&self, value: T)
    where
        T: Clone,
    {
        atomically(|tx| self.set(tx, value.clone()));
    }
}

impl<T: 'static> TVar<T> {
    /// Whether both are handles to the same variable.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.variable == other.variable
    }
}

impl<T: 'static> Clone for TVar<T> {
    fn clone(&self) -> Self {
        slab::add_handle(self.variable);
        TVar { variable: self.variable, value: PhantomData }
    }
}

impl<T: 'static> Drop for TVar<T> {
    fn drop(&mut self) {
        if slab::drop_handle(self.variable) {
            let word = self.variable.as_ptr().expose_provenance() as u64;
            // SAFETY: no handle is left, so only running transactions can have the variable in their logs.
            unsafe { runtime::retire(word, drop_variable::<T>) };
        }
    }
}

unsafe fn drop_variable<T: 'static>(word: u64) {
    let variable = NonNull::new(std::ptr::with_exposed_provenance_mut::<Variable>(word as usize));
    let variable = variable.expect("the word came from a handle");
    if !is_inline::<T>() {
        // SAFETY: the word came from the last handle's drop, and no transaction that knew the variable is left, so its value has no
        // other owner. Relaxed: whoever frees the variable has synchronised with all that wrote it.
        unsafe { drop_box::<T>(variable.as_ref().word.load(Ordering::Relaxed)) };
    }
    // SAFETY: as above.
    unsafe { slab::free(variable) };
}

impl<T: 'static> fmt::Debug for TVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TVar").field("variable", &self.variable).finish()
    }
}

impl<T: Send + Sync + Default + 'static> Default for TVar<T> {
    fn default() -> Self {
        TVar::new(T::default())
    }
}
