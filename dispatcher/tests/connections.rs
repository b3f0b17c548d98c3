//! The contract of effects for connections, sentence by sentence, and what clients can do to a server.

mod serving;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use optimist_dispatcher::reactor::{Ended, Limits, Next, Outbox, OutboxFull, Unsent};
use optimist_dispatcher::{TVar, outln};
use serving::{Running, first_line, service, until};

/// Whatever becomes of an attempt, the next one gets the same bytes, also when more have arrived since.
#[test]
fn what_an_event_received_is_delivered_again_when_it_runs_again() {
    let (seen, contested) = (Arc::new(Mutex::new(Vec::new())), TVar::new(0_u64));
    let log = seen.clone();
    let mut running = Running::start(
        2,
        Limits::default(),
        service(move |input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let outbox = io.outbox().clone();
            let ended = io.event(|ev| {
                log.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
                let count = contested.get(ev)?;
                if ev.attempts() < 3 {
                    // Somebody else gets in between.
                    let other = contested.clone();
                    std::thread::spawn(move || other.store(count + 100)).join().unwrap();
                }
                contested.set(ev, count + 1)?;
                ev.send(&outbox, format!("{}\n", count + 1).as_bytes())
            });
            assert!(matches!(ended, Ended::Committed(())));
            Next::Took(line.len() + 1)
        }),
    );
    let mut client = running.connect();
    client.say("one\ntw");
    assert_eq!(client.line(), "201");
    client.say("o\n");
    assert_eq!(client.line(), "402");
    assert_eq!(running.stop().counters.conflicts(), 4);
    assert_eq!(*seen.lock().unwrap(), ["one", "one", "one", "two", "two", "two"]);
}

/// The client gets nothing before the commit, and what it sends meanwhile is for the next event.
#[test]
fn an_event_that_has_sent_receives_only_what_had_arrived_before() {
    let (inside, enters) = mpsc::sync_channel(0);
    let (leave, leaves) = mpsc::sync_channel(0);
    let leaves = Mutex::new(leaves);
    let inputs = Arc::new(Mutex::new(Vec::new()));
    let log = inputs.clone();
    let running = Running::start(
        1,
        Limits::default(),
        service(move |input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let outbox = io.outbox().clone();
            io.event(|ev| {
                ev.send(&outbox, b"question\n")?;
                if line == b"ask" {
                    inside.send(()).unwrap();
                    leaves.lock().unwrap().recv().unwrap();
                }
                log.lock().unwrap().push(String::from_utf8_lossy(input).into_owned());
                Ok(())
            });
            Next::Took(line.len() + 1)
        }),
    );
    let mut client = running.connect();
    client.say("ask\n");
    enters.recv().unwrap();
    client.say("answer\n");
    client.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let early = client.stream().read(&mut [0; 1]).unwrap_err();
    assert!(matches!(early.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{early}");
    client.stream().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    leave.send(()).unwrap();
    assert_eq!((client.line(), client.line()), ("question".to_owned(), "question".to_owned()));
    assert_eq!(*inputs.lock().unwrap(), ["ask\n", "answer\n"]);
}

/// A member list of two: one who reads slowly, and whoever sends. Senders wait for room, and collide with nobody.
#[test]
fn senders_wait_for_room_and_do_not_conflict() {
    const MESSAGE: usize = 64 << 10;
    const MESSAGES: usize = 400;
    let slow: Arc<OnceLock<Outbox>> = Arc::default();
    let to = slow.clone();
    let waited = Arc::new(AtomicUsize::new(0));
    let waits = waited.clone();
    let limits = Limits { high_water: 1 << 20, low_water: 64 << 10, hard: 4 << 20, ..Limits::default() };
    let mut running = Running::start(
        2,
        limits,
        service(move |input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let own = io.outbox().clone();
            if line == b"slow" {
                to.set(own).expect("one is slow");
                return Next::Took(line.len() + 1);
            }
            let to = to.get().expect("it was there first");
            let ended = io.event(|ev| {
                to.wait_for_room(ev)?;
                ev.send(to, &[b'x'; MESSAGE])?;
                ev.send(&own, b"sent\n")
            });
            match ended {
                Ended::Committed(()) => Next::Took(line.len() + 1),
                Ended::Blocked => {
                    waits.fetch_add(1, Ordering::Relaxed);
                    Next::Blocked(None)
                }
                Ended::Failed(failure) => panic!("the hard limit was reached: {failure}"),
                Ended::Panicked(message) => panic!("{message}"),
            }
        }),
    );
    let mut reader = running.connect();
    reader.say("slow\n");
    until("the reader is known", || slow.get().is_some());
    let mut senders: Vec<_> = (0..4).map(|_| running.connect()).collect();
    std::thread::scope(|scope| {
        for sender in &mut senders {
            scope.spawn(|| {
                for _ in 0..MESSAGES / 4 {
                    sender.say("send\n");
                    assert_eq!(sender.line(), "sent");
                }
            });
        }
        // They come to a halt, and go on when somebody reads.
        until("somebody waits", || waited.load(Ordering::Relaxed) > 0);
        let mut left = MESSAGE * MESSAGES;
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            let count = reader.stream().read(&mut buffer).unwrap();
            assert!(count > 0);
            left -= count;
        }
    });
    let report = running.stop();
    let conflicts = report.counters.conflicts();
    assert!(
        conflicts <= 2 * report.counters.waits,
        "{conflicts} conflicts, and those who wait meet only at the marks\n{report}"
    );
}

#[test]
fn over_the_hard_limit_sending_fails_inside_the_event() {
    let limits = Limits { hard: 1000, ..Limits::default() };
    let running = Running::start(
        1,
        limits,
        service(|input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let outbox = io.outbox().clone();
            let ended = io.event(|ev| {
                // Its own earlier sends count.
                ev.send(&outbox, &[b'.'; 600])?;
                // One part fails, and the event may go on without it.
                let failure = ev.nested(|ev| ev.send(&outbox, &[b'.'; 600]))?.expect_err("too much");
                let full = failure.downcast_ref::<OutboxFull>().expect("it says so");
                ev.send(&outbox, format!(" {} wait\n", full.0).as_bytes())
            });
            assert!(matches!(ended, Ended::Committed(())));
            Next::Took(line.len() + 1)
        }),
    );
    let mut client = running.connect();
    client.say("go\n");
    assert_eq!(client.line(), format!("{} 600 wait", ".".repeat(600)));
}

/// Whoever sends to a client that goes away without reading learns which of its events did not get through.
#[test]
fn a_failed_write_is_told_with_the_event_that_it_belonged_to() {
    type Sent = (u64, usize);
    let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
    let told: Arc<Mutex<Option<(u64, usize)>>> = Arc::default();
    let (log, tell) = (sent.clone(), told.clone());
    let mut running = Running::start(
        2,
        Limits { high_water: 64 << 20, ..Limits::default() },
        service(move |input, io| {
            let outbox = io.outbox().clone();
            let size = 100_000 + log.lock().unwrap().len();
            let ended = io.event(|ev| {
                ev.send(&outbox, &vec![0; size])?;
                Ok(ev.number())
            });
            let Ended::Committed(number) = ended else { panic!("{ended:?}") };
            log.lock().unwrap().push((number, size));
            Next::Took(1.min(input.len()))
        })
        .closed(move |io, error| {
            let unsent = error.and_then(|error| error.get_ref()?.downcast_ref::<Unsent>());
            let Some(unsent) = unsent else { return };
            let (event, bytes) = (unsent.event, unsent.bytes);
            // It is an event of its own.
            let tell = tell.clone();
            io.event(|ev| {
                outln!(ev, "event {event} did not get through");
                let tell = tell.clone();
                ev.on_commit(move || *tell.lock().unwrap() = Some((event, bytes)));
                Ok(())
            });
        }),
    );
    let mut client = running.connect();
    client.say(&"x".repeat(100));
    until("everything is sent", || sent.lock().unwrap().len() == 100);
    // Unread input makes the end a reset.
    let _ = client.stream().shutdown(Shutdown::Read);
    drop(client);
    until("the session is told", || told.lock().unwrap().is_some());
    running.stop();
    let (event, bytes) = told.lock().unwrap().unwrap();
    let sent = sent.lock().unwrap();
    let place = sent.iter().position(|(number, _)| *number == event).expect("it is one of them");
    let after: usize = sent[place + 1..].iter().map(|(_, size)| size).sum();
    assert!(bytes > after && bytes <= after + sent[place].1, "{bytes} bytes from event {place} on, {after} after it");
}

/// The event that follows a sending runs when the last byte is in the hands of the operating system, and not if it never was.
#[test]
fn what_follows_a_sending_waits_until_it_is_written() {
    let steps: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let log = steps.clone();
    let mut running = Running::start(
        1,
        Limits::default(),
        service(move |input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let (outbox, log) = (io.outbox().clone(), log.clone());
            let then = move |step: &'static str| {
                let log = log.clone();
                move |ev: &mut optimist_dispatcher::Event<'_>| {
                    let log = log.clone();
                    ev.on_commit(move || log.lock().unwrap().push(step));
                    Ok(())
                }
            };
            let ended = io.event(|ev| {
                ev.send_then(&outbox, b"small\n", then("small"))?;
                // What fails has sent nothing, and nothing follows it.
                let failed = ev.nested(|ev| {
                    ev.send_then(&outbox, b"never\n", then("never"))?;
                    ev.fail::<()>("as planned")
                })?;
                assert!(failed.is_err());
                let empty = ev.nested(|ev| ev.send_then(&outbox, b"", then("nothing")))?;
                assert!(empty.is_err());
                ev.send_then(&outbox, &vec![b'x'; 16 << 20], then("large"))?;
                ev.send(&outbox, b"\n")
            });
            assert!(matches!(ended, Ended::Committed(())), "{ended:?}");
            Next::Took(line.len() + 1)
        }),
    );
    let mut client = running.connect();
    client.say("go\n");
    assert_eq!(client.line(), "small");
    until("the small one is followed", || !steps.lock().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(*steps.lock().unwrap(), ["small"]);
    assert_eq!(client.line().len(), 16 << 20);
    until("the large one is followed", || steps.lock().unwrap().len() == 2);
    // Of a client that goes away without having read everything only the small one is.
    let mut other = running.connect();
    other.say("go\n");
    assert_eq!(other.line(), "small");
    drop(other);
    until("it has gone", || running.server.connections() == 1);
    running.stop();
    assert_eq!(*steps.lock().unwrap(), ["small", "large", "small"]);
}

/// Neither does it hold up others, nor the end of the run.
#[test]
fn a_client_that_never_reads_is_cut_off_when_the_run_drains() {
    let cut_off = Arc::new(AtomicBool::new(false));
    let tell = cut_off.clone();
    let limits = Limits { grace: Duration::from_millis(200), ..Limits::default() };
    let mut running = Running::start(
        2,
        limits,
        service(|input, io| {
            let outbox = io.outbox().clone();
            io.event(|ev| ev.send(&outbox, &vec![b'.'; 8 << 20]));
            Next::Took(input.len())
        })
        .closed(move |_, error| {
            if error.is_some_and(|error| {
                error.kind() == std::io::ErrorKind::TimedOut
                    && error.get_ref().is_some_and(|inner| inner.is::<Unsent>())
            }) {
                tell.store(true, Ordering::Relaxed);
            }
        }),
    );
    let mut never = running.connect();
    never.say("x");
    let mut reads = running.connect();
    reads.say("x");
    let mut buffer = vec![0; 8 << 20];
    reads.0.read_exact(&mut buffer).unwrap();
    let started = Instant::now();
    running.stop();
    assert!(started.elapsed() >= Duration::from_millis(190), "it was given no time");
    assert!(started.elapsed() < Duration::from_secs(10), "it was given too much time");
    assert!(cut_off.load(Ordering::Relaxed));
}

/// What a client sends before it is told that the server ends is served, and half a request is waited for as long as the grace.
#[test]
fn draining_serves_what_has_arrived_and_closes_what_is_idle() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let mut running = Running::start(
        2,
        Limits::default(),
        service(move |input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let outbox = io.outbox().clone();
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
            io.event(|ev| ev.send(&outbox, b"done\n"));
            Next::Took(line.len() + 1)
        }),
    );
    let mut clients: Vec<_> = (0..10).map(|_| running.connect()).collect();
    let mut idle = running.connect();
    for client in &mut clients {
        client.say("one\n");
        assert_eq!(client.line(), "done");
        client.say("two\nthree\n");
    }
    clients[0].say("fo");
    let queue = running.queue().clone();
    queue.drain();
    std::thread::sleep(Duration::from_millis(20));
    let _ = clients[0].stream().write_all(b"ur\n");
    for (index, client) in clients.iter_mut().enumerate() {
        let mut rest = String::new();
        client.0.read_to_string(&mut rest).expect("the end");
        assert_eq!(rest, "done\n".repeat(if index == 0 { 3 } else { 2 }));
    }
    assert_eq!(idle.0.read_to_end(&mut Vec::new()).expect("the end"), 0);
    running.stop();
    assert_eq!(served.load(Ordering::Relaxed), 31);
    assert!(std::net::TcpStream::connect(running.address).is_err(), "it still accepts");
}

/// A run that is stopped closes its connections; its listener serves the next run.
#[test]
fn connections_end_with_their_run_and_listeners_do_not() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let echo = service(|input, io| {
        let outbox = io.outbox().clone();
        io.event(|ev| ev.send(&outbox, input));
        Next::Took(input.len())
    })
    .closed(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut running = Running::start(2, Limits::default(), echo);
    for round in 1..=3 {
        let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
        for client in &mut clients {
            client.say("hello\n");
            assert_eq!(client.line(), "hello");
        }
        running.stop_and_go_on();
        for client in &mut clients {
            assert_eq!(client.0.read_to_end(&mut Vec::new()).expect("the end"), 0);
        }
        assert_eq!(closed.load(Ordering::Relaxed), 4 * round);
    }
}

/// Clients that keep more workers busy than there are processors: some workers hand their connections over, and the clients do not notice.
#[test]
fn connections_are_handed_over_and_nothing_is_lost() {
    const CLIENTS: usize = 24;
    if std::fs::metadata("/proc/thread-self/schedstat").is_err() {
        // Nobody knows who waits for a processor, so nobody hands over.
        return;
    }
    let workers = 2 * std::thread::available_parallelism().map_or(1, usize::from) + 2;
    let total = TVar::new(0_u64);
    let all = total.clone();
    let mut running = Running::start(
        workers,
        Limits::default(),
        service(move |input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            let outbox = io.outbox().clone();
            let ended = io.event(|ev| {
                if line.ends_with(b"0") {
                    let count = all.get(ev)?;
                    all.set(ev, count + 1)?;
                }
                ev.send(&outbox, line)?;
                ev.send(&outbox, b"\n")
            });
            assert!(matches!(ended, Ended::Committed(())));
            Next::Took(line.len() + 1)
        }),
    );
    let over = AtomicBool::new(false);
    let counted: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (mut client, over) = (running.connect(), &over);
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !over.load(Ordering::Relaxed) {
                        // In two pieces, so that some are handed over with half a line.
                        client.say(&format!("{number} {rounds}0\n{number} {rounds}"));
                        assert_eq!(client.line(), format!("{number} {rounds}0"));
                        client.say("1\n");
                        assert_eq!(client.line(), format!("{number} {rounds}1"));
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        while running.queue().metrics().counters.moved < 100 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no panic")).sum()
    });
    let report = running.stop();
    assert!(report.counters.moved > 0, "nobody has handed over");
    assert_eq!(total.load(), counted);
}
