//! Spans and events for the crate `tracing`, behind the feature of that name; without it nothing is compiled in.
//!
//! | what | level | fields |
//! | --- | --- | --- |
//! | span `event` | debug | `name`, `site`, `worker` |
//! | span `batch`, around the attempt that several events share | debug | `events`, `site` of the first, `worker` |
//! | event `committed`, `failed`, `panicked`, `blocked` in its span | debug | `attempts` |
//! | event `aborted` | debug | `reason`, and where they are known `place` and `other` |

#[cfg(feature = "tracing")]
mod enabled {
    use tracing::span::EnteredSpan;

    use crate::hotspot::HotSpot;
    use crate::task::Task;

    #[must_use = "the span ends when it is dropped"]
    pub(crate) struct Span(EnteredSpan);

    pub(crate) fn event(task: &Task, worker: usize) -> Span {
        let name = task.options.as_ref().and_then(|options| options.name.as_deref());
        Span(tracing::debug_span!("event", name, site = %task.site, worker).entered())
    }

    pub(crate) fn batch(tasks: &[Task], worker: usize) -> Span {
        Span(tracing::debug_span!("batch", events = tasks.len(), site = %tasks[0].site, worker).entered())
    }

    impl Span {
        pub(crate) fn end(self, outcome: &'static str, attempts: u32) {
            tracing::debug!(attempts, "{outcome}");
            drop(self.0);
        }
    }

    pub(crate) fn aborted(lost: &HotSpot) {
        let place = lost.place.map(tracing::field::display);
        let other = lost.other.map(tracing::field::display);
        tracing::debug!(reason = lost.reason.name(), place, other, "aborted");
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use crate::hotspot::HotSpot;
    use crate::task::Task;

    #[must_use]
    pub(crate) struct Span;

    #[inline(always)]
    pub(crate) fn event(_: &Task, _: usize) -> Span {
        Span
    }

    #[inline(always)]
    pub(crate) fn batch(_: &[Task], _: usize) -> Span {
        Span
    }

    impl Span {
        #[inline(always)]
        pub(crate) fn end(self, _: &'static str, _: u32) {}
    }

    #[inline(always)]
    pub(crate) fn aborted(_: &HotSpot) {}
}

#[cfg(not(feature = "tracing"))]
pub(crate) use disabled::{aborted, batch, event};
#[cfg(feature = "tracing")]
pub(crate) use enabled::{aborted, batch, event};
