//! Keeping a run alive while events may still come from outside.

use crate::queue::TransactionQueue;

/// While it lives, a run of the queue does not end for want of events: somebody may still add one. See [`TransactionQueue::hold`].
#[derive(Debug)]
#[must_use = "the run ends when the hold is dropped"]
pub struct Hold(TransactionQueue);

impl Hold {
    pub(crate) fn new(queue: TransactionQueue) -> Self {
        queue.shared().hold();
        Hold(queue)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.shared().release_hold();
    }
}
