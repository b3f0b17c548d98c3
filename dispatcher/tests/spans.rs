//! Spans and events for subscribers of `tracing`. Runs with the feature of that name.
#![cfg(feature = "tracing")]

use std::fmt::{Debug, Write};
use std::sync::Arc;

use optimist_dispatcher::{Abort, Config, OnError, TVar, TransactionQueue};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down spans as `name{fields}` with their events after them.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("optimist_dispatcher")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(span.metadata().name().to_owned());
        span.record(&mut fields);
        let mut lines = self.0.lock();
        lines.push(fields.0);
        Id::from_u64(lines.len() as u64)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields("  ".to_owned());
        event.record(&mut fields);
        self.0.lock().push(fields.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn events_are_spans_with_their_outcome_and_aborts() {
    let listener = Listener::default();
    let lines = listener.0.clone();
    tracing::subscriber::with_default(listener, || {
        let queue = TransactionQueue::new(Config { threads: 1, on_error: OnError::Collect, ..Config::default() });
        let cell = TVar::new(0);
        queue.add_named("twice", move |ev| {
            cell.set(ev, 1)?;
            if ev.attempts() == 1 { Err(Abort::Chaos.into()) } else { Ok(()) }
        });
        queue.add_named("fails", |ev| ev.fail("no"));
        queue.run().unwrap();
    });
    let lines = lines.lock();
    let of = |name: &str| {
        let first = lines.iter().position(|line| line.contains(name)).expect(name);
        assert!(lines[first].starts_with("event ") && lines[first].contains("tests/spans.rs:"), "{lines:?}");
        lines[first + 1..].iter().take_while(|line| line.starts_with(' ')).cloned().collect::<Vec<_>>()
    };
    let twice = of("name=\"twice\"");
    assert!(twice.len() == 2 && twice[0].contains("aborted") && twice[0].contains("reason="), "{twice:?}");
    assert!(twice[1].contains("committed") && twice[1].contains("attempts=2"), "{twice:?}");
    let fails = of("name=\"fails\"");
    assert!(fails.len() == 1 && fails[0].contains("failed") && fails[0].contains("attempts=1"), "{fails:?}");
}
