//! `fifo`: the inbox is the order.

use crossbeam_deque::Injector;

use super::{Local, take};
use crate::task::Task;

pub(crate) struct Fifo;

impl Fifo {
    #[inline]
    pub(super) fn next(&self, inbox: &Injector<Task>, _local: &mut Local) -> Option<Task> {
        take(inbox)
    }

    #[inline]
    pub(super) fn add(&self, inbox: &Injector<Task>, _local: &Local, task: Task) -> bool {
        let more = !inbox.is_empty();
        inbox.push(task);
        more
    }

    pub(super) fn done(&self, _key: Option<u64>) -> bool {
        false
    }

    pub(super) fn drain(&self) -> Vec<Task> {
        Vec::new()
    }
}
