//! The contract of effects, sentence by sentence, for everything but sockets. Exactly once and commit order are in `events.rs`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use optimist_dispatcher::effects::Memory;
use optimist_dispatcher::{
    Abort, Config, Failure, Kind, OnError, Order, Output, Participant, TVar, TransactionQueue, outln,
};
use parking_lot::Mutex;

fn queue(threads: usize) -> (TransactionQueue, Memory) {
    let (stdout, printed) = Output::memory("printed");
    let on_error = OnError::Collect;
    (TransactionQueue::new(Config { threads, stdout, on_error, ..Config::default() }), printed)
}

/// A disk that takes so many bytes and no more, until it is emptied.
#[derive(Clone, Default)]
struct Disk {
    room: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Disk {
    fn text(&self) -> String {
        String::from_utf8(self.written.lock().clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.room.load(Ordering::Relaxed).min(bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room.fetch_sub(room, Ordering::Relaxed);
        self.written.lock().extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The disk fills up in the middle of one event's bytes: an event is queued with the error, which names that event and no other.
#[test]
fn a_failed_flush_queues_an_event_with_the_commit_it_belonged_to() {
    for buffered in [true, false] {
        let disk = Disk::default();
        disk.room.store(33, Ordering::Relaxed);
        let log = if buffered { Output::new("log", disk.clone()) } else { Output::unbuffered("log", disk.clone()) };
        let (queue, printed) = queue(1);
        let on_error = OnError::handle(|error, ev| {
            outln!(ev, "{error}");
            Ok(())
        });
        queue.configure(Config { on_error, order: Order::Fifo, ..queue.config() });
        for n in 0..8 {
            let log = log.clone();
            queue.add_named(format!("number {n}"), move |ev| {
                ev.write(&log, b"1234567890");
                Ok(())
            });
        }
        queue.run().unwrap();
        let text = printed.text();
        assert!(text.starts_with("event `number 3` added at") && text.contains("log could not be written"), "{text}");
        assert_eq!((text.lines().count(), log.buffered()), (1, 47));
        // What could not be written is kept, and written in its place.
        disk.room.store(1_000, Ordering::Relaxed);
        log.flush().unwrap();
        assert_eq!(disk.text(), "1234567890".repeat(8));
    }
}

/// The same for tiny events that were committed together.
#[test]
fn a_batch_does_not_hide_whose_bytes_failed() {
    let disk = Disk::default();
    disk.room.store(3_000 * 4 + 2, Ordering::Relaxed);
    let log = Output::new("log", disk.clone());
    let (queue, _) = queue(1);
    queue.configure(Config { order: Order::Fifo, ..queue.config() });
    let mut sites = [0; 2];
    for n in 0..6_000 {
        let log = log.clone();
        let event = move |ev: &mut optimist_dispatcher::Event<'_>| {
            ev.write(&log, b"four");
            Ok(())
        };
        if n == 3_000 {
            sites[0] = line!() + 1;
            queue.add(event);
        } else {
            queue.add(event);
        }
    }
    let report = queue.run().unwrap();
    assert_eq!(report.errors.len(), 1);
    assert_eq!(report.errors[0].location().line(), sites[0], "{}", report.errors[0]);
}

#[test]
fn over_the_hard_limit_a_write_fails_within_the_event() {
    let disk = Disk::default();
    let log = Output::unbuffered("the log", disk.clone()).with_hard_limit(100);
    let (queue, printed) = queue(1);
    queue.configure(Config { order: Order::Fifo, ..queue.config() });
    let count = TVar::new(0);
    for n in 0..20 {
        let (log, count) = (log.clone(), count.clone());
        queue.add(move |ev| {
            count.modify(ev, |n| n + 1)?;
            ev.try_write(&log, &[b'x'; 30])?;
            outln!(ev, "{n}");
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    // Three fit; the others failed, and left no trace.
    assert_eq!((report.counters.commits, report.counters.failures, count.load(), log.buffered()), (3, 17, 3, 90));
    assert_eq!(printed.text(), "0\n1\n2\n");
    let full = report.errors.iter().filter(|error| !error.is_after_commit()).collect::<Vec<_>>();
    assert_eq!(full.len(), 17);
    let message = full[0].to_string();
    assert!(message.ends_with("the log takes nothing more: 90 bytes are waiting to be written"), "{message}");
    assert!(full[0].failure().unwrap().downcast_ref::<optimist_dispatcher::OutputFull>().is_some());
}

/// Water marks are no transactional memory: senders to one destination do not collide.
#[test]
fn senders_do_not_collide() {
    let (queue, printed) = queue(4);
    queue.configure(Config { collisions: 0, batch: 1, protocol: Some(Kind::Eager), ..queue.config() });
    let (log, logged) = Output::memory("log");
    for n in 0..5_000 {
        let log = log.clone();
        queue.add(move |ev| {
            ev.try_write(&log, b"x")?;
            std::thread::yield_now();
            outln!(ev, "{n}");
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert_eq!((report.counters.conflicts(), logged.text().len()), (0, 5_000));
    assert_eq!(printed.text().lines().count(), 5_000);
}

#[test]
fn what_follows_a_write_waits_for_it() {
    let disk = Disk::default();
    disk.room.store(25, Ordering::Relaxed);
    let log = Output::unbuffered("log", disk.clone());
    let (queue, printed) = queue(2);
    queue.configure(Config { order: Order::Fifo, ..queue.config() });
    for n in 0..4 {
        let (log, disk) = (log.clone(), disk.clone());
        queue.add(move |ev| {
            let disk = disk.clone();
            ev.write_then(&log, format!("number {n}\n").as_bytes(), move |ev| {
                assert!(disk.text().contains(&format!("number {n}\n")));
                outln!(ev, "{n} is written");
                Ok(())
            });
            if n == 1 && ev.attempts() == 1 { Err(Abort::Chaos.into()) } else { Ok(()) }
        });
    }
    let failing = log.clone();
    queue.add(move |ev| {
        ev.write_then(&failing, b"never", |_| panic!("must not start"));
        ev.fail("fails")
    });
    queue.run().unwrap();
    let lines = |memory: &Memory| {
        let mut lines: Vec<String> = memory.text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // Two fit; the others wait for room.
    assert_eq!(lines(&printed).len(), 2, "{}", printed.text());
    disk.room.store(1_000, Ordering::Relaxed);
    log.flush().unwrap();
    queue.run().unwrap();
    assert_eq!(lines(&printed), ["0 is written", "1 is written", "2 is written", "3 is written"]);
    // Nobody reads any more: it never comes, and the run ends.
    disk.broken.store(true, Ordering::Relaxed);
    let broken = log.clone();
    queue.add(move |ev| {
        ev.write_then(&broken, b"lost", |_| panic!("must not start"));
        Ok(())
    });
    let report = queue.run().unwrap();
    assert!(report.errors.iter().any(optimist_dispatcher::EventError::is_broken_pipe) && report.counters.failures == 0);
    assert_eq!(queue.run().unwrap().counters.commits, 0);
}

/// A participant that writes down what it is asked.
struct Ledger {
    name: String,
    votes: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Participant for Ledger {
    fn prepare(&mut self) -> Result<(), Failure> {
        self.log.lock().push(format!("prepare {}", self.name));
        if self.votes { Ok(()) } else { Err(format!("{} votes no", self.name).into()) }
    }

    fn commit(self: Box<Self>) {
        self.log.lock().push(format!("commit {}", self.name));
    }

    fn rollback(self: Box<Self>) {
        self.log.lock().push(format!("rollback {}", self.name));
    }
}

#[test]
fn participants_prepare_and_learn_the_outcome() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let written = log.clone();
    let ledgers = Arc::new(move |name: &str, votes| Ledger { name: name.to_owned(), votes, log: written.clone() });
    let (queue, printed) = queue(1);
    let cell = TVar::new(0);
    let run = |event: &dyn Fn(&TransactionQueue)| {
        log.lock().clear();
        event(&queue);
        let report = queue.run().unwrap();
        (std::mem::take(&mut *log.lock()).join(", "), report.errors.first().map(ToString::to_string))
    };
    // All agree; the first attempt is thrown away.
    let (make, inner) = (ledgers.clone(), cell.clone());
    let (seen, error) = run(&|queue| {
        let (make, cell) = (make.clone(), inner.clone());
        queue.add(move |ev| {
            cell.set(ev, 1)?;
            let attempt = ev.attempts();
            ev.enlist(make(&format!("a{attempt}"), true));
            ev.enlist(make(&format!("b{attempt}"), true));
            outln!(ev, "agreed");
            if attempt == 1 { Err(Abort::Chaos.into()) } else { Ok(()) }
        });
    });
    assert_eq!(seen, "rollback a1, rollback b1, prepare a2, prepare b2, commit a2, commit b2");
    assert_eq!((error, cell.load(), printed.text().as_str()), (None, 1, "agreed\n"));

    // One votes no: all are rolled back, and the event with them.
    let (make, inner) = (ledgers.clone(), cell.clone());
    let (seen, error) = run(&|queue| {
        let (make, cell) = (make.clone(), inner.clone());
        queue.add(move |ev| {
            cell.set(ev, 2)?;
            ev.enlist(make("a", true));
            ev.enlist(make("b", false));
            ev.enlist(make("c", true));
            outln!(ev, "not seen");
            Ok(())
        });
    });
    assert_eq!(seen, "prepare a, prepare b, rollback a, rollback b, rollback c");
    assert!(error.unwrap().contains("b votes no"));
    assert_eq!((cell.load(), printed.text().as_str()), (1, "agreed\n"));

    // One that a nested part enlisted goes with it.
    let make = ledgers.clone();
    let (seen, _) = run(&|queue| {
        let make = make.clone();
        queue.add(move |ev| {
            ev.enlist(make("outer", true));
            let _ = ev.nested(|ev| {
                ev.enlist(make("inner", true));
                ev.fail::<()>("inner")
            })?;
            Ok(())
        });
    });
    assert_eq!(seen, "rollback inner, prepare outer, commit outer");
}

/// Events that collide, each with a participant: whatever is prepared is committed or rolled back, once.
#[test]
fn participants_under_contention() {
    struct Account {
        amount: i64,
        balance: Arc<Mutex<(i64, i64)>>,
    }
    impl Participant for Account {
        fn prepare(&mut self) -> Result<(), Failure> {
            self.balance.lock().1 += self.amount;
            Ok(())
        }
        fn commit(self: Box<Self>) {
            let mut balance = self.balance.lock();
            balance.0 += self.amount;
            balance.1 -= self.amount;
        }
        fn rollback(self: Box<Self>) {
            // Never prepared here: the body does not end without preparing.
            self.balance.lock().1 -= self.amount;
        }
    }
    for protocol in [Kind::Eager, Kind::Tl2] {
        let (queue, _) = queue(4);
        queue.configure(Config { collisions: 0, protocol: Some(protocol), ..queue.config() });
        let (cells, balance) = (Arc::new([TVar::new(0_i64), TVar::new(0)]), Arc::new(Mutex::new((0, 0))));
        for n in 0..2_000 {
            let (cells, balance) = (cells.clone(), balance.clone());
            queue.add(move |ev| {
                let value = cells[n % 2].get(ev)?;
                std::thread::yield_now();
                cells[n % 2].set(ev, value + n as i64)?;
                let other = cells[1 - n % 2].get(ev)?;
                ev.check(other >= 0)?;
                ev.enlist(Account { amount: n as i64, balance: balance.clone() });
                Ok(())
            });
        }
        queue.run().unwrap();
        let total: i64 = cells.iter().map(TVar::load).sum();
        assert_eq!((total, *balance.lock()), (1_999_000, (1_999_000, 0)), "{protocol}");
    }
}
