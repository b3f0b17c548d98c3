//! One `parking_lot` mutex around everything.

use parking_lot::Mutex;

use super::{Body, Side};

/// A vector in a mutex.
pub struct OneMutex(Mutex<Vec<u64>>);

impl Side for OneMutex {
    fn new(size: usize, value: u64) -> Self {
        OneMutex(Mutex::new(vec![value; size]))
    }

    fn name() -> String {
        "one mutex".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        let Ok(value) = body.run(&mut &mut *self.0.lock());
        value
    }
}
