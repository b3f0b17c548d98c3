//! Servers: what clients see.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use optimist_dispatcher::reactor::{Connection, Limits, Service};
use optimist_dispatcher::{Config, Event, EventResult, OnError, Report, RunError, TVar, TransactionQueue};

/// Answers each line with the number of lines that all clients have sent, and the line itself.
#[derive(Default)]
struct Counting {
    count: TVar<u64>,
}

impl Service for Counting {
    fn received(&self, ev: &mut Event<'_>, connection: &Connection, bytes: &[u8]) -> EventResult<usize> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
        let count = self.count.get(ev)? + 1;
        self.count.set(ev, count)?;
        match &bytes[..end] {
            b"panic" => panic!("as the client wishes"),
            b"fail" => return ev.fail("as the client wishes"),
            b"big" => connection.send(ev, &vec![b'x'; 8 << 20])?,
            b"quit" => {
                connection.send(ev, b"bye\n")?;
                connection.close(ev);
            }
            line => {
                connection.send(ev, format!("{count} ").as_bytes())?;
                connection.send(ev, line)?;
                connection.send(ev, b"\n")?;
            }
        }
        Ok(end + 1)
    }
}

struct Server {
    queue: TransactionQueue,
    address: SocketAddr,
    thread: JoinHandle<Result<Report, RunError>>,
}

impl Server {
    fn start(threads: usize, limits: Limits) -> Self {
        let queue = TransactionQueue::new(Config { threads, on_error: OnError::Collect, ..Config::default() });
        let address = queue.listen("127.0.0.1:0", limits, Counting::default()).unwrap();
        let running = queue.clone();
        let thread = std::thread::spawn(move || running.run());
        Server { queue, address, thread }
    }

    fn connect(&self) -> (BufReader<TcpStream>, TcpStream) {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (BufReader::new(stream.try_clone().unwrap()), stream)
    }

    /// Ends the run, once it goes on.
    fn stop(self) -> Report {
        while !self.thread.is_finished() {
            self.queue.drain();
            std::thread::sleep(Duration::from_millis(2));
        }
        self.thread.join().unwrap().unwrap()
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn pipelined_messages_are_answered_in_order() {
    for threads in [1, 2, 4] {
        let server = Server::start(threads, Limits::default());
        let clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
        let numbers: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .into_iter()
                .map(|(mut reader, mut writer)| {
                    scope.spawn(move || {
                        let mut numbers = Vec::new();
                        for batch in 0..20 {
                            let text: String = (0..50).map(|n| format!("{batch}-{n}\n")).collect();
                            // In two halves, cut within a line.
                            let (first, second) = text.split_at(text.len() / 2 + 1);
                            writer.write_all(first.as_bytes()).unwrap();
                            writer.write_all(second.as_bytes()).unwrap();
                            for n in 0..50 {
                                let answer = line(&mut reader);
                                let (number, echo) = answer.split_once(' ').unwrap();
                                assert_eq!(echo, format!("{batch}-{n}\n"));
                                numbers.push(number.parse().unwrap());
                            }
                        }
                        numbers
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(numbers.iter().all(|numbers| numbers.is_sorted()));
        let mut all: Vec<u64> = numbers.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (1..=4000).collect::<Vec<_>>());
        let report = server.stop();
        assert_eq!(report.counters.failures, 0);
    }
}

#[test]
fn a_panic_or_failure_closes_its_connection_alone() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let server = Server::start(2, Limits::default());
    let (mut reader, mut writer) = server.connect();
    for word in ["panic\nnever\n", "fail\nnever\n"] {
        let (mut bad_reader, mut bad_writer) = server.connect();
        bad_writer.write_all(word.as_bytes()).unwrap();
        let mut rest = Vec::new();
        // Closed with unread input, so the client may see a reset.
        let _ = bad_reader.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    writer.write_all(b"hello\n").unwrap();
    // The failed events have counted nothing.
    assert_eq!(line(&mut reader), "1 hello\n");
    std::panic::set_hook(hook);
    let report = server.stop();
    assert_eq!((report.counters.failures, report.errors.len()), (2, 2));
}

#[test]
fn vanishing_clients_and_half_messages_harm_nobody() {
    let server = Server::start(2, Limits { message: 1000, ..Limits::default() });
    for _ in 0..50 {
        let (_, mut writer) = server.connect();
        writer.write_all(b"half a mess").unwrap();
    }
    let (mut reader, mut writer) = server.connect();
    writer.write_all(&[b'x'; 100_000]).unwrap();
    let _ = reader.read_to_end(&mut Vec::new());
    let (mut reader, mut writer) = server.connect();
    writer.write_all(b"one\nquit\nnever\n").unwrap();
    assert_eq!((line(&mut reader), line(&mut reader)), ("1 one\n".to_owned(), "bye\n".to_owned()));
    let (mut reader, mut writer) = server.connect();
    writer.write_all(b"two\n").unwrap();
    writer.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.ends_with(" two\n"), "{text}");
    assert_eq!(server.stop().counters.failures, 0);
}

#[test]
fn a_client_that_does_not_read_is_held_back() {
    let server = Server::start(2, Limits { high_water: 1 << 20, ..Limits::default() });
    let (mut slow, mut slow_writer) = server.connect();
    // 400 MB if they were all handled at once.
    for _ in 0..50 {
        slow_writer.write_all(b"big\n").unwrap();
    }
    let (mut reader, mut writer) = server.connect();
    for n in 0..100 {
        writer.write_all(format!("{n}\n").as_bytes()).unwrap();
        assert!(line(&mut reader).ends_with(&format!(" {n}\n")));
    }
    std::thread::sleep(Duration::from_millis(50));
    writer.write_all(b"count\n").unwrap();
    let count: u64 = line(&mut reader).split_once(' ').unwrap().0.parse().unwrap();
    assert!(count < 120, "{count} messages were handled although nothing was read");
    // When it reads, it gets everything.
    let mut left = 50 * (8 << 20);
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let read = slow.read(&mut buffer).unwrap();
        assert!(read > 0 && buffer[..read].iter().all(|byte| *byte == b'x'));
        left -= read;
    }
    assert_eq!(server.stop().counters.failures, 0);
}

#[test]
fn an_idle_server_sleeps_and_wakes_at_once() {
    let server = Server::start(2, Limits::default());
    let idle: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let (mut reader, mut writer) = server.connect();
    for n in 0..5 {
        std::thread::sleep(Duration::from_millis(60));
        writer.write_all(format!("{n}\n").as_bytes()).unwrap();
        assert!(line(&mut reader).ends_with(&format!("{n}\n")));
    }
    drop(idle);
    let report = server.stop();
    let asleep: u64 = report.workers.iter().map(|worker| worker.counters.asleep_ns).sum();
    assert!(asleep as f64 > 0.5 * 2.0 * report.elapsed.as_nanos() as f64, "{report}");
}

/// Takes something that others put, and waits for it if there is nothing.
#[derive(Default)]
struct Store {
    items: TVar<Vec<u64>>,
}

impl Service for Store {
    fn received(&self, ev: &mut Event<'_>, connection: &Connection, bytes: &[u8]) -> EventResult<usize> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
        let mut items = self.items.get(ev)?;
        if let Ok(item) = std::str::from_utf8(&bytes[..end])?.parse() {
            items.push(item);
            self.items.set(ev, items)?;
        } else if !connection.is_gone(ev)? {
            let Some(item) = items.pop() else { return Ok(ev.retry()?) };
            self.items.set(ev, items)?;
            connection.send(ev, format!("{item}\n").as_bytes())?;
        }
        Ok(end + 1)
    }
}

#[test]
fn clients_that_wait_block_no_thread_and_those_that_leave_take_nothing() {
    let queue = TransactionQueue::new(Config { threads: 2, ..Config::default() });
    let address = queue.listen("127.0.0.1:0", Limits::default(), Store::default()).unwrap();
    let running = queue.clone();
    let server = Server { queue, address, thread: std::thread::spawn(move || running.run()) };
    let mut waiting: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for (_, writer) in &mut waiting {
        writer.write_all(b"take\n").unwrap();
    }
    // The last one leaves while it waits.
    std::thread::sleep(Duration::from_millis(50));
    waiting.pop();
    std::thread::sleep(Duration::from_millis(50));
    let (mut reader, mut writer) = server.connect();
    for item in 0..10 {
        writer.write_all(format!("{item}\n").as_bytes()).unwrap();
    }
    let mut taken: Vec<u64> = waiting.iter_mut().map(|(reader, _)| line(reader).trim().parse().unwrap()).collect();
    writer.write_all(b"take\n").unwrap();
    taken.push(line(&mut reader).trim().parse().unwrap());
    taken.sort_unstable();
    assert_eq!(taken, (0..10).collect::<Vec<_>>());
    assert_eq!(server.stop().counters.failures, 0);
}
