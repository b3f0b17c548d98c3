//! The rivals, one file each: an array of numbers and a way to run a body on it atomically.

pub mod by_hand;
pub mod fast_stm;
pub mod lock;
pub mod optimist;
pub mod plain;
pub mod stm;
pub mod xstm;

/// How a body reaches the numbers.
pub trait Access {
    /// Why the attempt must end.
    type Abort;
    /// Number `at`.
    fn get(&mut self, at: usize) -> Result<u64, Self::Abort>;
    /// Sets number `at`.
    fn set(&mut self, at: usize, value: u64) -> Result<(), Self::Abort>;
}

/// What a transaction does.
pub trait Body {
    /// Does it.
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort>;
}

/// An array of numbers that can be shared between threads, with transactions on it.
pub trait Side: Send + Sync + 'static {
    /// `size` numbers, all `value`.
    fn new(size: usize, value: u64) -> Self
    where
        Self: Sized;

    /// What it is called.
    fn name() -> String
    where
        Self: Sized;

    /// Runs a transaction.
    fn update<B: Body>(&self, body: &B) -> u64
    where
        Self: Sized;

    /// Runs a transaction that only reads, in whatever way is best for that.
    fn read_only<B: Body>(&self, body: &B) -> u64
    where
        Self: Sized,
    {
        self.update(body)
    }
}
