//! Every kind of source: datagrams, pipes, standard input, Unix sockets, timers, signals, other threads.

mod serving;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use optimist_dispatcher::reactor::{Ended, Limits, Next, Signal, raise_descriptor_limit};
use optimist_dispatcher::{Config, OnError, TVar, TransactionQueue};
use serving::{Client, Functions, Running, first_line, service, until};

/// Answers with the same.
fn echo() -> Functions {
    service(|input, io| {
        let outbox = io.outbox().clone();
        io.event(|ev| ev.send(&outbox, input));
        Next::Took(input.len())
    })
}

fn queue(threads: usize) -> TransactionQueue {
    TransactionQueue::new(Config { threads, on_error: OnError::Collect, ..Config::default() })
}

#[test]
fn datagrams_are_events_one_by_one() {
    let open = TVar::new(false);
    let door = open.clone();
    let queue = queue(2);
    let server = queue.serve(
        Limits::default(),
        service(move |input, io| {
            let (outbox, sender) = (io.outbox().clone(), io.sender().expect("a datagram has one"));
            let ended = io.event(|ev| {
                if input == b"wait" && !door.get(ev)? {
                    return Ok(ev.retry()?);
                }
                if input == b"stream" {
                    return ev.send(&outbox, b"to nobody");
                }
                if input == b"much" {
                    return ev.send_to(&outbox, sender, &[0; 65_508]);
                }
                ev.send_to(&outbox, sender, format!("{}:", input.len()).as_bytes())?;
                ev.send_to(&outbox, sender, input)
            });
            match ended {
                Ended::Blocked => Next::Blocked(None),
                Ended::Failed(failure) => {
                    io.event(|ev| ev.send_to(&outbox, sender, failure.to_string().as_bytes()));
                    Next::Took(0)
                }
                _ => Next::Took(0),
            }
        }),
    );
    let address = server.bind_udp("127.0.0.1:0").unwrap();
    let other = server.bind_udp("[::1]:0").unwrap();
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    let client = |address: SocketAddr, own: &str| {
        let socket = UdpSocket::bind(own).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    };
    let receive = |socket: &UdpSocket| {
        let mut buffer = vec![0; 1 << 16];
        let length = socket.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    };
    for socket in [client(address, "127.0.0.1:0"), client(other, "[::1]:0")] {
        for text in ["", "a", "two words", &"x".repeat(60_000)] {
            socket.send(text.as_bytes()).unwrap();
            assert_eq!(receive(&socket), format!("{}:", text.len()).as_bytes());
            assert_eq!(receive(&socket), text.as_bytes());
        }
    }
    let (waiting, next) = (client(address, "127.0.0.1:0"), client(address, "127.0.0.1:0"));
    // The socket is one session: what comes after a datagram that waits, waits too, and keeps its sender.
    waiting.send(b"wait").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    next.send(b"after").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    open.store(true);
    assert_eq!((receive(&waiting), receive(&waiting)), (b"4:".to_vec(), b"wait".to_vec()));
    assert_eq!((receive(&next), receive(&next)), (b"5:".to_vec(), b"after".to_vec()));
    next.send(b"stream").unwrap();
    assert_eq!(receive(&next), b"a datagram needs an address: see `send_to`");
    next.send(b"much").unwrap();
    assert_eq!(receive(&next), b"65508 bytes do not fit into a datagram");
    queue.drain();
    let report = thread.join().unwrap().unwrap();
    assert_eq!((report.counters.failures, report.counters.waits), (2, 1), "{report}");
}

/// A child process is a connection: its standard output is what is received, and its standard input takes what is sent.
#[test]
fn pipes_are_connections_in_both_directions() {
    let queue = queue(2);
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (log, starts) = (heard.clone(), queue.clone());
    let server = queue.serve(
        Limits::default(),
        service(move |input, io| {
            let (log, input, outbox) = (log.clone(), input.to_vec(), io.outbox().clone());
            let length = input.len();
            io.event(|ev| {
                let (log, input, outbox) = (log.clone(), input.clone(), outbox.clone());
                ev.on_commit(move || {
                    let mut log = log.lock().unwrap();
                    log.extend_from_slice(&input);
                    if log.len() == 6 + (1 << 20) {
                        outbox.close();
                    }
                });
                Ok(())
            });
            Next::Took(length)
        })
        .connected(move |outbox| {
            let outbox = outbox.clone();
            starts.add(move |ev| {
                ev.send(&outbox, b"hello\n")?;
                ev.send(&outbox, &vec![b'.'; 1 << 20])
            });
        }),
    );
    let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (reader, writer) = (cat.stdout.take().unwrap(), cat.stdin.take().unwrap());
    server.attach_pipes(Some(reader.into()), Some(writer.into())).unwrap();
    // The run ends by itself when the last connection has.
    let report = queue.run().unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert!(cat.wait().unwrap().success());
    assert_eq!(heard.lock().unwrap()[..8], *b"hello\n..");

    // What comes through a pipe up to its end, and the end.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (tell, told) = mpsc::channel();
    let tell_end = tell.clone();
    let server = queue.serve(
        Limits::default(),
        service(move |input, _| {
            tell.send(Some(input.to_vec())).unwrap();
            Next::Took(input.len())
        })
        .closed(move |_, error| {
            assert!(error.is_none());
            tell_end.send(None).unwrap();
        }),
    );
    server.attach_pipes(Some(reader.into()), None).unwrap();
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    writer.write_all(b"one").unwrap();
    assert_eq!(told.recv().unwrap(), Some(b"one".to_vec()));
    writer.write_all(b"two").unwrap();
    drop(writer);
    assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (Some(b"two".to_vec()), None));
    thread.join().unwrap().unwrap();

    // Who only writes learns that nobody reads any more.
    let (reader, writer) = std::io::pipe().unwrap();
    server.attach_pipes(None, Some(writer.into())).unwrap();
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    until("the pipe is watched", || server.connections() == 1);
    drop(reader);
    thread.join().unwrap().unwrap();
}

#[test]
fn connections_made_elsewhere_are_served() {
    let queue = queue(2);
    let server = queue.serve(Limits::default(), echo());
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.attach_unix(theirs).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    server.attach_tcp(listener.accept().unwrap().0).unwrap();
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    client.say("over TCP\n");
    assert_eq!(client.line(), "over TCP");
    let mut ours = BufReader::new(ours);
    ours.get_mut().write_all(b"between ourselves\n").unwrap();
    let mut line = String::new();
    ours.read_line(&mut line).unwrap();
    assert_eq!(line, "between ourselves\n");
    drop((ours, client));
    thread.join().unwrap().unwrap();
}

/// While every worker sleeps in its poller, whatever adds an event wakes one, and a timer ends the sleep in time.
#[test]
fn threads_and_timers_wake_a_sleeping_poller() {
    let mut running = Running::start(2, Limits::default(), echo());
    let (sender, receiver) = mpsc::channel();
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(2));
        let sender = sender.clone();
        let added = Instant::now();
        running.queue().add(move |ev| {
            let sender = sender.clone();
            ev.on_commit(move || sender.send(Instant::now()).unwrap());
            Ok(())
        });
        fastest = fastest.min(receiver.recv_timeout(Duration::from_secs(20)).unwrap() - added);
    }
    assert!(fastest < Duration::from_millis(1), "the fastest wake-up took {fastest:?}");
    let set = Instant::now();
    let late = sender.clone();
    running.queue().add_after(Duration::from_millis(60), move |ev| {
        let late = late.clone();
        ev.on_commit(move || late.send(Instant::now()).unwrap());
        Ok(())
    });
    let fired = receiver.recv_timeout(Duration::from_secs(20)).unwrap() - set;
    assert!(fired >= Duration::from_millis(60), "{fired:?}");
    running.stop();
}

#[test]
fn a_signal_becomes_an_action() {
    let mut running = Running::start(2, Limits::default(), echo());
    let (sender, receiver) = mpsc::channel();
    let action = move |queue: &TransactionQueue| {
        let sender = sender.clone();
        queue.add(move |ev| {
            let sender = sender.clone();
            ev.on_commit(move || sender.send(()).unwrap());
            Ok(())
        });
    };
    running.queue().on_signal(Signal::User1, action).unwrap();
    for _ in 0..3 {
        kill("USR1", std::process::id());
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    running.stop();
}

fn kill(signal: &str, process: u32) {
    let killed = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// Runs a test of this file as a process of its own, where it finds that it is the child.
fn child(test: &str, stdin: Stdio) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env("OPTIMIST_CHILD", "1");
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn is_child() -> bool {
    std::env::var_os("OPTIMIST_CHILD").is_some()
}

/// The next line of a child that is meant for the test: those of the test harness are not.
fn told(output: &mut BufReader<ChildStdout>) -> String {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child says nothing any more");
        if let Some((_, text)) = line.split_once("told: ") {
            return text.trim_end().to_owned();
        }
    }
}

#[test]
fn standard_input_is_served_up_to_its_end() {
    if is_child() {
        let queue = queue(2);
        let server = queue.serve(
            Limits::default(),
            service(|input, io| {
                let Some(line) = first_line(input) else { return Next::Incomplete };
                let text = String::from_utf8_lossy(line).into_owned();
                io.event(|ev| {
                    ev.print(format_args!("told: {text}\n"));
                    Ok(())
                });
                Next::Took(line.len() + 1)
            })
            .closed(|io, error| {
                assert!(error.is_none(), "{error:?}");
                io.event(|ev| {
                    ev.print(format_args!("told: the end\n"));
                    Ok(())
                });
            }),
        );
        server.attach_stdin().unwrap();
        queue.run().unwrap();
        return;
    }
    let test = "standard_input_is_served_up_to_its_end";
    // A pipe, in which there is something now and then.
    let (mut process, mut output) = child(test, Stdio::piped());
    let mut stdin = process.stdin.take().unwrap();
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").unwrap();
        assert_eq!(told(&mut output), line);
    }
    write!(stdin, "three\nno end of a line").unwrap();
    drop(stdin);
    assert_eq!((told(&mut output), told(&mut output)), ("three".to_owned(), "the end".to_owned()));
    assert!(process.wait().unwrap().success());
    // A file, which no poller can watch, and nothing at all.
    let path = std::env::temp_dir().join(format!("optimist-stdin-{}", std::process::id()));
    let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}")).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    for (stdin, lines) in [(std::fs::File::open(&path).unwrap().into(), &lines[..]), (Stdio::null(), &[])] {
        let (mut process, mut output) = child(test, stdin);
        for line in lines {
            assert_eq!(told(&mut output), *line);
        }
        assert_eq!(told(&mut output), "the end");
        assert!(process.wait().unwrap().success());
    }
    std::fs::remove_file(&path).unwrap();
}

/// SIGTERM: nothing is accepted any more, what has arrived is answered, and the process ends; at the latest when the time is over.
#[test]
fn termination_drains_and_has_a_deadline() {
    if is_child() {
        let queue = queue(2);
        let slow = service(|input, io| {
            let Some(line) = first_line(input) else { return Next::Incomplete };
            if line == b"forever" {
                io.queue().add(|ev| {
                    std::thread::sleep(Duration::from_millis(1));
                    ev.again();
                    Ok(())
                });
            }
            let outbox = io.outbox().clone();
            io.event(|ev| {
                std::thread::sleep(Duration::from_millis(200));
                ev.send(&outbox, b"done\n")
            });
            Next::Took(line.len() + 1)
        });
        let address = queue.serve(Limits::default(), slow).listen("127.0.0.1:0").unwrap();
        queue.drain_on_termination(Duration::from_millis(800)).unwrap();
        println!("told: {address}");
        match queue.run() {
            Ok(_) => println!("told: drained"),
            Err(error) if error.is_cancelled() => println!("told: cut off"),
            Err(error) => println!("told: {error}"),
        }
        return;
    }
    for (request, end) in [("once\n", "drained"), ("forever\n", "cut off")] {
        let (mut process, mut output) = child("termination_drains_and_has_a_deadline", Stdio::null());
        let address: SocketAddr = told(&mut output).parse().unwrap();
        let mut client = Client::new(TcpStream::connect(address).unwrap());
        client.say(request);
        std::thread::sleep(Duration::from_millis(100));
        kill("TERM", process.id());
        assert_eq!(client.line(), "done");
        assert_eq!(client.0.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert!(TcpStream::connect(address).is_err(), "it still accepts");
        assert_eq!(told(&mut output), end);
        assert!(process.wait().unwrap().success());
    }
}

/// Ten thousand connections that do nothing cost memory and nothing else; the one that does something is served as ever. The clients are
/// in a process of their own, for the sake of the limit on descriptors.
#[test]
fn ten_thousand_idle_connections_disturb_nobody() {
    if is_child() {
        let queue = queue(2);
        raise_descriptor_limit();
        let server = queue.serve(Limits { connections: 20_000, ..Limits::default() }, echo());
        println!("told: {}", server.listen("127.0.0.1:0").unwrap());
        queue.drain_on_termination(Duration::from_secs(20)).unwrap();
        queue.add_after(Duration::from_secs(60), |_| panic!("the test has forgotten its child"));
        let report = queue.run().unwrap();
        println!("told: {} {}", report.counters.commits, report.errors.len());
        return;
    }
    let count = usize::try_from(raise_descriptor_limit()).unwrap().saturating_sub(200).min(10_000);
    assert!(count >= 1000, "the system allows too few descriptors for this test to mean anything");
    let (mut process, mut output) = child("ten_thousand_idle_connections_disturb_nobody", Stdio::null());
    let address: SocketAddr = told(&mut output).parse().unwrap();
    let mut idle: Vec<TcpStream> = Vec::new();
    let mut client = Client::new(TcpStream::connect(address).unwrap());
    while idle.len() < count {
        // No more at once than may wait to be accepted.
        idle.extend((0..250).map(|_| TcpStream::connect(address).unwrap()));
        let mut last = Client::new(idle.pop().unwrap());
        last.say("hello\n");
        assert_eq!(last.line(), "hello");
        std::mem::swap(&mut client, &mut last);
        idle.push(last.0.into_inner());
    }
    let busy = |process: &Child| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = busy(&process);
    std::thread::sleep(Duration::from_millis(500));
    // In hundredths of a second.
    assert!(busy(&process) - before <= 1, "an idle server is busy");
    for _ in 0..100 {
        client.say("again\n");
        assert_eq!(client.line(), "again");
    }
    drop(idle);
    client.say("still here\n");
    assert_eq!(client.line(), "still here");
    kill("TERM", process.id());
    assert_eq!(client.0.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(told(&mut output), format!("{} 0", 101 + count.div_ceil(250)));
    assert!(process.wait().unwrap().success());
}
