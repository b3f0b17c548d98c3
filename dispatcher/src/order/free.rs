//! `free`: a deque for each worker, work stealing, the inbox for what comes from outside.
//!
//! Deques are first in, first out: an event that adds itself again and again must not keep the others waiting. For the same reason a worker
//! looks at the inbox first once in a while. Nor must a worker with a short deque serve its events more often than another with a long one, or
//! one that the system has suspended keep its events from running: so once in a while a worker takes an event from a deque that is as long as its own.

use crossbeam_deque::{Injector, Steal, Stealer};

use super::Local;
use crate::task::Task;

/// How often the inbox comes before the worker's own deque. A prime, so that it does not beat with a program's own period.
const INBOX_FIRST: u32 = 61;

pub(crate) struct Free {
    stealers: Vec<Stealer<Task>>,
}

impl Free {
    pub(super) fn new(stealers: Vec<Stealer<Task>>) -> Self {
        Free { stealers }
    }

    #[inline]
    pub(super) fn next(&self, inbox: &Injector<Task>, local: &mut Local) -> Option<Task> {
        local.ticks = local.ticks.wrapping_add(1);
        local.stole = false;
        if local.ticks.is_multiple_of(INBOX_FIRST)
            && let Some(task) = self.look_elsewhere(inbox, local)
        {
            return Some(task);
        }
        local.deque.pop().or_else(|| self.find(inbox, local))
    }

    #[cold]
    fn look_elsewhere(&self, inbox: &Injector<Task>, local: &mut Local) -> Option<Task> {
        if let Steal::Success(task) = inbox.steal() {
            return Some(task);
        }
        let own = local.deque.len();
        let (index, longest) = self.stealers.iter().enumerate().max_by_key(|(_, other)| other.len())?;
        if index == local.index || longest.len() < own.max(1) {
            return None;
        }
        let stolen = longest.steal().success();
        local.stole = stolen.is_some();
        stolen
    }

    #[cold]
    fn find(&self, inbox: &Injector<Task>, local: &mut Local) -> Option<Task> {
        let others = self.stealers.len();
        // Begins with another worker each time, so that thieves spread.
        let first = local.ticks as usize;
        loop {
            let mut again = false;
            match inbox.steal_batch_and_pop(&local.deque) {
                Steal::Success(task) => return Some(task),
                Steal::Retry => again = true,
                Steal::Empty => {}
            }
            for offset in 0..others {
                let other = (first + offset) % others;
                if other == local.index {
                    continue;
                }
                match self.stealers[other].steal_batch_and_pop(&local.deque) {
                    Steal::Success(task) => {
                        local.stole = true;
                        return Some(task);
                    }
                    Steal::Retry => again = true,
                    Steal::Empty => {}
                }
            }
            if !again {
                return None;
            }
            std::hint::spin_loop();
        }
    }

    #[inline]
    pub(super) fn add(&self, _inbox: &Injector<Task>, local: &Local, task: Task) -> bool {
        // One event alone this worker will start itself, at once.
        let more = !local.deque.is_empty();
        local.deque.push(task);
        more
    }

    #[inline(always)]
    pub(super) fn done(&self, _key: Option<u64>) -> bool {
        false
    }

    pub(super) fn drain(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for stealer in &self.stealers {
            loop {
                match stealer.steal() {
                    Steal::Success(task) => tasks.push(task),
                    Steal::Retry => {}
                    Steal::Empty => break,
                }
            }
        }
        tasks
    }
}
