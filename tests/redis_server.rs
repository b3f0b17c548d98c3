//! The Redis-speaking server under faults: clients that misbehave, a disk that is full, a process that is killed.
//!
//! Each test starts the server as a process of its own on a free port of the loopback interface. `waiting` has what is promised to clients that
//! wait for an element.

#[path = "redis_server/waiting.rs"]
mod waiting;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use optimist::dispatcher::reactor::raise_descriptor_limit;

/// The server, built once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut test = std::env::current_exe().expect("the test has a path");
        // target/PROFILE/deps/redis_server-HASH
        test.pop();
        test.pop();
        let program = test.join("examples").join("redis_server");
        let release = test.file_name().is_some_and(|name| name == "release");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "redis_server"]);
        if release {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the example does not build");
        program
    })
}

struct Server {
    process: Child,
    address: SocketAddr,
    entries: usize,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        Server::run(Command::new(program()), arguments)
    }

    /// With files of no more than so many blocks of 512 bytes: what comes on top cannot be written.
    fn start_with_little_room(blocks: u32, arguments: &[&str]) -> Server {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")).arg(program());
        Server::run(shell, arguments)
    }

    fn run(mut command: Command, arguments: &[&str]) -> Server {
        command.args(["--port", "0", "--threads", "2"]).args(arguments);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("the server says something");
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = words.get(2).and_then(|word| word.parse().ok());
        let entries = words.get(7).and_then(|word| word.parse().ok());
        let (Some(address), Some(entries)) = (address, entries) else { panic!("the server says `{line}`") };
        Server { process, address, entries }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
        Client { reader: BufReader::new(stream.try_clone().expect("a stream can be cloned")), stream }
    }

    fn info(&self, field: &str) -> String {
        let text = self.connect().call(&["INFO"]);
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no {field}")).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

fn frame(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

impl Client {
    fn call(&mut self, words: &[&str]) -> String {
        self.stream.write_all(&frame(words)).expect("the server reads");
        self.reply().expect("the server answers")
    }

    /// A reply as text: the elements of arrays separated by blanks.
    fn reply(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let rest = line[1..].trim_end();
        match line.as_bytes()[0] {
            b'$' if rest == "-1" => Ok("nil".to_owned()),
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
                self.reader.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            b'*' if rest == "-1" => Ok("nil".to_owned()),
            b'_' => Ok("nil".to_owned()),
            kind @ (b'*' | b'%' | b'~' | b'>') => {
                let length = rest.parse::<usize>().expect("a length") * if kind == b'%' { 2 } else { 1 };
                let parts: std::io::Result<Vec<String>> = (0..length).map(|_| self.reply()).collect();
                Ok(parts?.join(" "))
            }
            _ => Ok(rest.to_owned()),
        }
    }

    fn is_closed(&mut self) -> bool {
        self.reply()
            .is_err_and(|error| !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file of the test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Scratch(std::env::temp_dir().join(format!("optimist-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let server = Server::start(&[]);
    for cut in 1..30 {
        let mut client = server.connect();
        let bytes = frame(&["SET", "half", "a value"]);
        client.stream.write_all(&bytes[..cut]).expect("the server reads");
    }
    // One that waits, and one in the middle of a MULTI.
    let mut waiting = server.connect();
    waiting.stream.write_all(&frame(&["BLPOP", "list", "0"])).expect("the server reads");
    let mut queueing = server.connect();
    assert_eq!(queueing.call(&["MULTI"]), "OK");
    assert_eq!(queueing.call(&["SET", "half", "x"]), "QUEUED");
    until("blocking", || server.info("blocked_clients") == "1");
    drop((waiting, queueing));
    until("the end of all connections", || server.info("connected_clients") == "1");
    assert_eq!(server.info("blocked_clients"), "0");
    let mut client = server.connect();
    assert_eq!(client.call(&["EXISTS", "half"]), "0");
    // What is pushed now must not go to the one who has left.
    assert_eq!(client.call(&["RPUSH", "list", "a"]), "1");
    assert_eq!(client.call(&["LRANGE", "list", "0", "-1"]), "a");
}

#[test]
fn half_frames_and_declared_lengths_cost_only_their_connection() {
    let server = Server::start(&[]);
    let memory = || server.info("used_memory").parse::<u64>().expect("a number");
    let before = memory();
    let mut half: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut half {
        client.stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nonly this").expect("the server reads");
    }
    let mut broken = server.connect();
    broken.stream.write_all(b"*1\r\n$600000000\r\n").expect("the server reads");
    assert_eq!(broken.reply().expect("an error"), "ERR Protocol error: invalid bulk length");
    assert!(broken.is_closed());
    assert_eq!(server.connect().call(&["PING"]), "PONG");
    assert!(memory() < before + (64 << 20), "memory went from {before} to {}", memory());
    // The rest of a frame may come later, byte by byte.
    let mut slow = server.connect();
    for byte in frame(&["ECHO", "slowly"]) {
        slow.stream.write_all(&[byte]).expect("the server reads");
    }
    assert_eq!(slow.reply().expect("an answer"), "slowly");
}

#[test]
fn ten_thousand_idle_connections() {
    const ALL: usize = 10_000;
    // This process holds the other ends, and the server that it starts inherits the limit.
    raise_descriptor_limit();
    let server = Server::start(&["--maxclients", &ALL.to_string()]);
    let mut idle = Vec::new();
    while idle.len() < ALL - 1 {
        match TcpStream::connect(server.address) {
            Ok(stream) => idle.push(stream),
            // The test's own process may have no more descriptors; what there is is enough.
            Err(_) if idle.len() > 500 => break,
            Err(error) => panic!("{} connections, then {error}", idle.len()),
        }
    }
    let full = idle.len() == ALL - 1;
    let mut client = if full {
        server.connect()
    } else {
        idle.truncate(idle.len() - 10);
        server.connect()
    };
    for number in 0..100 {
        let text = number.to_string();
        assert_eq!(client.call(&["SET", "k", &text]), "OK");
        assert_eq!(client.call(&["GET", "k"]), text);
    }
    if full {
        let mut one_too_many = server.connect();
        assert_eq!(one_too_many.reply().expect("a refusal"), "ERR max number of clients reached");
        assert!(one_too_many.is_closed());
    }
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.id())).expect("a process");
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap_or("").split(' ').filter_map(|n| n.parse().ok()).collect();
        // After the state and ten more fields: user and system time.
        fields[10] + fields[11]
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used <= 5, "idle connections cost {used} hundredths of a second in one");
}

#[test]
fn a_reader_that_never_reads_is_not_served_on() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let big = "x".repeat(1 << 20);
    assert_eq!(client.call(&["SET", "big", &big]), "OK");
    let deaf = server.connect();
    deaf.stream.set_nonblocking(true).expect("possible");
    let bytes = frame(&["GET", "big"]).repeat(1000);
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(2);
    while sent < bytes.len() && Instant::now() < deadline {
        match (&deaf.stream).write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    // A thousand replies of a megabyte are asked for; a few of them are kept.
    std::thread::sleep(Duration::from_millis(300));
    let memory = server.info("used_memory").parse::<u64>().expect("a number");
    assert!(memory < 200 << 20, "{memory} bytes are kept for one who does not read");
    assert_eq!(client.call(&["INCR", "n"]), "1");
    // When it reads after all, it gets all of it, in order.
    deaf.stream.set_nonblocking(false).expect("possible");
    let mut deaf = deaf;
    for _ in 0..20 {
        assert_eq!(deaf.reply().expect("a reply").len(), big.len());
    }
}

#[test]
fn a_subscriber_that_never_reads_is_cut_off() {
    let server = Server::start(&[]);
    let mut deaf = server.connect();
    assert_eq!(deaf.call(&["SUBSCRIBE", "news"]), "subscribe news 1");
    let mut hearing = server.connect();
    assert_eq!(hearing.call(&["SUBSCRIBE", "news"]), "subscribe news 1");
    let mut publisher = server.connect();
    let big = "x".repeat(4 << 20);
    let mut receivers = String::new();
    for _ in 0..100 {
        receivers = publisher.call(&["PUBLISH", "news", &big]);
        assert!(hearing.reply().expect("the message").starts_with("message news xxx"));
        if receivers == "1" {
            break;
        }
    }
    assert_eq!(receivers, "1", "the one who does not read is still there");
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() {
    let server = Server::start(&["--aof", "/dev/full"]);
    let mut client = server.connect();
    // The first change is accepted before it is known that it cannot be logged.
    client.call(&["SET", "k", "v"]);
    until("the refusal", || client.call(&["SET", "k", "w"]).starts_with("MISCONF"));
    assert_eq!(client.call(&["GET", "k"]), "v");
    assert_eq!(server.info("aof_last_write_status"), "err");
}

/// What cannot be synchronised with a disk takes changes as long as nobody asks for that.
#[test]
fn a_log_that_is_to_be_on_the_disk_gets_there() {
    let server = Server::start(&["--aof", "/dev/null"]);
    let mut client = server.connect();
    let until_set = |client: &mut Client, start: &str| {
        until("another answer", || client.call(&["SET", "k", "v"]).starts_with(start));
        assert!(client.call(&["SET", "k", "v"]).starts_with(start));
    };
    until_set(&mut client, "OK");
    for (when, start) in [("always", "MISCONF"), ("everysec", "OK"), ("always", "MISCONF")] {
        assert_eq!(client.call(&["CONFIG", "SET", "appendfsync", when]), "OK");
        until_set(&mut client, start);
    }
}

/// A log that fills up in the middle of an entry: changes are refused, what is there is served on, and a server with room again finds
/// every change but those of the last moment, each once.
#[test]
fn a_log_without_room_keeps_what_it_has() {
    let log = Scratch::new("room.aof");
    let server = Server::start_with_little_room(40, &["--aof", log.path()]);
    let mut client = server.connect();
    let mut counted = 0;
    let refusal = loop {
        let reply = client.call(&["INCR", "n"]);
        match reply.parse::<u64>() {
            Ok(count) => counted = count,
            Err(_) => break reply,
        }
        assert!(counted < 100_000, "the log is never full");
    };
    assert!(refusal.starts_with("MISCONF"), "{refusal}");
    assert_eq!(client.call(&["GET", "n"]), counted.to_string());
    assert!(client.call(&["EVAL", "fn run(keys, args) { return call(\"INCR\", \"n\") }", "0"]).contains("MISCONF"));
    assert_eq!(server.connect().call(&["GET", "n"]), counted.to_string());
    drop(server);
    let length = std::fs::metadata(log.path()).expect("the log is there").len();
    assert_eq!(length, 40 * 512, "it is not full");
    let server = Server::start(&["--aof", log.path()]);
    let there: u64 = server.connect().call(&["GET", "n"]).parse().expect("a number");
    // Only what was told before the failure was known can be missing.
    assert!(there == counted || there + 1 == counted, "{there} of {counted} are there");
    assert_eq!(server.entries as u64, there);
    assert_eq!(server.connect().call(&["INCR", "n"]), (there + 1).to_string());
}

/// What arrives together may share events: the replies are those of one command after the other all the same.
#[test]
fn pipelined_commands_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let commands: &[(&[&str], &str)] = &[
        (&["SET", "k", "1"], "OK"),
        (&["INCR", "k"], "2"),
        (&["LPUSH", "k", "x"], "WRONGTYPE Operation against a key holding the wrong kind of value"),
        (&["MULTI"], "OK"),
        (&["INCR", "k"], "QUEUED"),
        (&["SELECT", "3"], "QUEUED"),
        (&["SET", "k", "of three"], "QUEUED"),
        (&["EXEC"], "3 OK OK"),
        (&["GET", "k"], "of three"),
        (&["SELECT", "0"], "OK"),
        (&["NOSUCH"], "ERR unknown command 'NOSUCH', with args beginning with: "),
        (&["GET", "k"], "3"),
        (&["MULTI"], "OK"),
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (&["EXEC"], "EXECABORT Transaction discarded because of previous errors."),
        (&["WATCH", "k"], "OK"),
        (&["INCR", "k"], "4"),
        (&["MULTI"], "OK"),
        (&["INCR", "k"], "QUEUED"),
        (&["EXEC"], "nil"),
        (&["GET", "k"], "4"),
        (&["DEBUG", "PANIC"], "ERR the command panicked and was rolled back: as DEBUG PANIC has asked for"),
        (&["BLPOP", "nothing", "0.01"], "nil"),
        (&["DBSIZE"], "1"),
    ];
    let bytes: Vec<u8> = commands.iter().flat_map(|(words, _)| frame(words)).collect();
    client.stream.write_all(&bytes).expect("the server reads");
    for (words, expected) in commands {
        assert_eq!(client.reply().expect("an answer").trim_end(), expected.trim_end(), "{words:?}");
    }
}

/// Connections that all count the same few keys, many commands at a time: events that conflict are taken apart and lose nothing.
#[test]
fn pipelines_on_the_same_keys_lose_nothing() {
    let server = Server::start(&[]);
    let address = server.address;
    let clients: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let stream = TcpStream::connect(address).expect("the server accepts");
                let mut client = Client { reader: BufReader::new(stream.try_clone().expect("possible")), stream };
                for round in 0..50 {
                    let mut bytes = Vec::new();
                    for n in 0..40 {
                        // In different orders, so that the events could wait for each other in a circle.
                        let key = if number % 2 == 0 { n % 4 } else { 3 - n % 4 };
                        bytes.extend(frame(&["INCR", &format!("k{key}")]));
                        bytes.extend(frame(&["RPUSH", "log", &format!("{number}-{round}-{n}")]));
                    }
                    client.stream.write_all(&bytes).expect("the server reads");
                    (0..80).for_each(|_| _ = client.reply().expect("an answer"));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    let mut client = server.connect();
    for key in 0..4 {
        assert_eq!(client.call(&["GET", &format!("k{key}")]), "2000");
    }
    let log = client.call(&["LRANGE", "log", "0", "-1"]);
    for number in 0..4 {
        let own: Vec<&str> = log.split(' ').filter(|entry| entry.starts_with(&format!("{number}-"))).collect();
        let expected: Vec<String> =
            (0..50).flat_map(|round| (0..40).map(move |n| format!("{number}-{round}-{n}"))).collect();
        assert!(own == expected, "the commands of client {number} are out of order");
    }
}

/// Commands whose events wait, look at other databases, or speak the newer protocol.
#[test]
fn waiting_watching_scanning() {
    let server = Server::start(&[]);
    let (mut one, mut other) = (server.connect(), server.connect());
    // A blocked pop wakes up when there is something, and gets it before anybody who comes later.
    one.stream.write_all(&frame(&["BLPOP", "a", "b", "0"])).expect("the server reads");
    until("blocking", || server.info("blocked_clients") == "1");
    assert_eq!(other.call(&["RPUSH", "b", "x", "y"]), "2");
    assert_eq!(one.reply().expect("an answer"), "b x");
    // A wrong type at the source is as good as nothing there; at the target it is an error.
    assert_eq!(other.call(&["SET", "target", "text"]), "OK");
    one.stream.write_all(&frame(&["BRPOPLPUSH", "source", "target", "0"])).expect("the server reads");
    until("blocking", || server.info("blocked_clients") == "1");
    assert_eq!(other.call(&["SET", "source", "text"]), "OK");
    assert_eq!(other.call(&["DEL", "source"]), "1");
    assert_eq!(server.info("blocked_clients"), "1");
    assert_eq!(other.call(&["RPUSH", "source", "x"]), "1");
    assert!(one.reply().expect("an answer").starts_with("WRONGTYPE"));
    assert_eq!(other.call(&["DEL", "source", "target"]), "2");
    // Somebody else's change between WATCH and EXEC.
    assert_eq!(one.call(&["WATCH", "b"]), "OK");
    assert_eq!(other.call(&["RPUSH", "b", "z"]), "2");
    assert_eq!(one.call(&["MULTI"]), "OK");
    assert_eq!(one.call(&["DEL", "b"]), "QUEUED");
    assert_eq!(one.call(&["EXEC"]), "nil");
    // A scan sees every key that is there all the time.
    for n in 0..1000 {
        other.call(&["SET", &format!("key{n}"), "v"]);
    }
    let (mut cursor, mut seen) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let step = one.call(&["SCAN", &cursor, "COUNT", "50"]);
        let mut words = step.split(' ');
        cursor = words.next().expect("a cursor").to_owned();
        seen.extend(words.filter(|word| word.starts_with("key")).map(str::to_owned));
        other.call(&["SET", &format!("other{}", seen.len()), "v"]);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
    assert_eq!(one.call(&["CONFIG", "GET", "databases"]), "databases 16");
    let hello = one.call(&["HELLO", "3"]);
    assert!(hello.contains("proto 3") && hello.contains("role master"), "{hello}");
    one.call(&["HSET", "h", "f", "v"]);
    one.stream.write_all(&frame(&["HGETALL", "h"])).expect("the server reads");
    let mut line = String::new();
    one.reader.read_line(&mut line).expect("an answer");
    assert_eq!(line, "%1\r\n", "a map in the newer protocol");
    assert_eq!((one.reply().expect("f"), one.reply().expect("v")), ("f".to_owned(), "v".to_owned()));
    for (value, encoding) in [("12", "int"), ("short", "embstr"), (&*"x".repeat(50), "raw")] {
        one.call(&["SET", "s", value]);
        assert_eq!(one.call(&["OBJECT", "ENCODING", "s"]), encoding);
    }
    assert_eq!(one.call(&["FLUSHALL"]), "OK");
    assert_eq!(other.call(&["DBSIZE"]), "0");
}

#[test]
fn scripts_are_parts_of_their_event() {
    let log = Scratch::new("scripts.aof");
    let server = Server::start(&["--aof", log.path()]);
    let mut client = server.connect();
    let mut eval = |script: &str| client.call(&["EVAL", script, "1", "k", "5"]);
    let text = "#!flow\nfn run(keys, args) {\n    call(\"SET\", keys[0], args[0])\n    return list(call(\"INCRBY\", keys[0], 2), call(\"GET\", \"none\"))\n}";
    assert_eq!(eval(text), "7 nil");
    // A failure shows its line, and takes back what the script has done.
    let failing = "fn run(keys, args) {\n    call(\"SET\", keys[0], 1)\n    return 1 + args[0]\n}";
    let error = eval(failing);
    assert!(error.starts_with("ERR script:3:") && error.ends_with("return 1 + args[0] (in `run`)"), "{error}");
    let wrong = eval("fn run(keys, args) {\n    call(\"SET\", keys[0], 1)\n    call(\"LPUSH\", keys[0], 1)\n}");
    assert!(wrong.starts_with("ERR script:3:") && wrong.contains("WRONGTYPE"), "{wrong}");
    let caught = "fn run(keys, args) {\n    try {\n        call(\"SET\", keys[0], 1)\n        raise \"no\"\n    } catch e {\n        call(\"INCR\", keys[0])\n    }\n    return call(\"GET\", keys[0])\n}";
    assert_eq!(eval(caught), "8");
    assert!(eval("fn run(keys args) {\n}").starts_with("ERR script:1:"));
    assert!(eval("fn other(keys, args) {\n}").contains("no function run"));
    assert!(eval("shared n = 0\nfn run(keys, args) { n = n + 1 }").contains("would not last"));
    assert!(eval("#!lua\nreturn 1").contains("Engine 'lua' not found"));
    assert!(eval("fn run(keys, args) { return call(\"EVAL\", \"\", 0) }").contains("not for scripts"));
    // Limits: the server serves on.
    assert!(eval("fn run(keys, args) { while true { x = 1 } }").contains("still running after"));
    let greedy = "fn run(keys, args) {\n    all = queue()\n    while true { push(all, array(1000)) }\n}";
    let error = eval(greedy);
    assert!(error.contains("bytes of memory allocated in one event"), "{error}");
    // Within MULTI, and by its digest.
    let digest = client.call(&["SCRIPT", "LOAD", "fn run(keys, args) { return call(\"APPEND\", keys[0], args[0]) }"]);
    for (words, expected) in [
        (&["MULTI"] as &[&str], "OK"),
        (&["EVALSHA", &digest, "1", "t", "ab"], "QUEUED"),
        (&["EVALSHA", &digest, "1", "t", "cd"], "QUEUED"),
        (&["EXEC"], "2 4"),
        (&["EVALSHA_RO", &digest, "1", "t", "cd"], ""),
        (&["GET", "t"], "abcd"),
    ] {
        let reply = client.call(words);
        assert!(
            if expected.is_empty() { reply.contains("not allowed") } else { reply == expected },
            "{words:?}: {reply}"
        );
    }
    // A library, one of whose functions waits.
    let library = "#!flow name=gate\nfn await(keys, args) {\n    if call(\"GET\", keys[0]) == none { retry }\n    return call(\"GETDEL\", keys[0])\n}";
    assert_eq!(client.call(&["FUNCTION", "LOAD", library]), "gate");
    assert!(client.call(&["FUNCTION", "LOAD", library]).contains("already exists"));
    let mut waiting = server.connect();
    waiting.stream.write_all(&frame(&["FCALL", "await", "1", "door"])).expect("the server reads");
    until("blocking", || server.info("blocked_clients") == "1");
    assert_eq!(client.call(&["SET", "door", "open"]), "OK");
    assert_eq!(waiting.reply().expect("an answer"), "open");
    // What scripts did, and the library, are in the log.
    drop(server);
    let server = Server::start(&["--aof", log.path()]);
    let mut client = server.connect();
    assert_eq!(client.call(&["MGET", "k", "t", "door"]), "8 abcd nil");
    client.call(&["SET", "door", "again"]);
    assert_eq!(client.call(&["FCALL", "await", "1", "door"]), "again");
}

/// The databases of a transaction's commands survive a replay.
#[test]
fn a_transaction_over_two_databases_is_replayed_as_it_was() {
    let log = Scratch::new("databases.aof");
    let server = Server::start(&["--aof", log.path()]);
    let mut client = server.connect();
    for words in [&["MULTI"] as &[&str], &["SET", "a", "0"], &["SELECT", "2"], &["SET", "b", "2"], &["EXEC"]] {
        client.call(words);
    }
    // Together with others that have not named the first database before.
    let commands: [&[&str]; 5] = [&["SET", "c", "2"], &["MULTI"], &["SELECT", "0"], &["SET", "d", "0"], &["EXEC"]];
    client.stream.write_all(&commands.iter().flat_map(|words| frame(words)).collect::<Vec<u8>>()).expect("it reads");
    let replies: Vec<String> = commands.iter().map(|_| client.reply().expect("an answer")).collect();
    assert_eq!(replies, ["OK", "OK", "QUEUED", "QUEUED", "OK OK"]);
    drop(server);
    let server = Server::start(&["--aof", log.path()]);
    let mut client = server.connect();
    assert_eq!(client.call(&["MGET", "a", "b", "c", "d"]), "0 nil nil 0");
    client.call(&["SELECT", "2"]);
    assert_eq!(client.call(&["MGET", "a", "b", "c", "d"]), "nil 2 2 nil");
}

#[test]
fn a_panic_rolls_its_command_back() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "k", "before"]), "OK");
    for command in [["MULTI", "", ""], ["SET", "k", "after"], ["DEBUG", "PANIC", ""]] {
        client.call(&command.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>());
    }
    assert!(client.call(&["EXEC"]).starts_with("ERR the command panicked and was rolled back"));
    assert_eq!(client.call(&["GET", "k"]), "before");
    assert_eq!(server.connect().call(&["GET", "k"]), "before");
}

/// Each of a few clients counts with INCR and appends the number to a list, in one MULTI. After a kill in the middle, nothing that was
/// acknowledged is missing, counter and list agree, and no number is there twice.
#[test]
fn killed_under_load_nothing_is_lost_or_doubled() {
    let log = Scratch::new("killed.aof");
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..3 {
        let mut server = Server::start(&["--aof", log.path()]);
        if round > 0 {
            assert!(server.entries > 0, "nothing was replayed");
        }
        let address = server.address;
        for (name, &least) in &acknowledged {
            check(&server, name, least);
        }
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let stream = TcpStream::connect(address).expect("the server accepts");
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("possible");
                let mut client = Client { reader: BufReader::new(stream.try_clone().expect("possible")), stream };
                std::thread::spawn(move || {
                    let (counter, list) = (format!("counter{number}"), format!("list{number}"));
                    let mut last = None;
                    loop {
                        let mut bytes = frame(&["MULTI"]);
                        bytes.extend(frame(&["INCR", &counter]));
                        bytes.extend(frame(&["INCRBY", "all", "1"]));
                        bytes.extend(frame(&["RPUSH", &list, "x"]));
                        bytes.extend(frame(&["EXEC"]));
                        let sent = client.stream.write_all(&bytes).is_ok();
                        let replies: Result<Vec<String>, _> = (0..5).map(|_| client.reply()).collect();
                        match replies {
                            Ok(replies) if sent => {
                                let first = replies[4].split(' ').next().and_then(|n| n.parse::<u64>().ok());
                                last = Some(first.expect("EXEC answers with numbers"));
                            }
                            _ => return (counter, last),
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(400));
        // On Unix this is SIGKILL.
        server.process.kill().expect("the server runs");
        for client in clients {
            let (name, last) = client.join().expect("a client ends");
            if let Some(last) = last {
                acknowledged.insert(name, last);
            }
        }
        assert!(!acknowledged.is_empty(), "no transaction was acknowledged");
    }
    let server = Server::start(&["--aof", log.path()]);
    for (name, &least) in &acknowledged {
        check(&server, name, least);
    }
    let mut client = server.connect();
    let sum: u64 = (0..4).map(|n| client.call(&["LLEN", &format!("list{n}")]).parse::<u64>().expect("a number")).sum();
    assert_eq!(client.call(&["GET", "all"]), sum.to_string());
}

fn check(server: &Server, counter: &str, least: u64) {
    let mut client = server.connect();
    let count = client.call(&["GET", counter]).parse::<u64>().expect("the counter is there");
    let length = client.call(&["LLEN", &counter.replace("counter", "list")]);
    assert_eq!(length, count.to_string(), "a transaction was replayed in part or twice");
    // At most the one in flight was written without being acknowledged.
    assert!(count == least || count == least + 1, "{counter} is {count}, acknowledged was {least}");
}

/// What a database is called does not depend on what lies behind the number, which FLUSHALL changes.
#[test]
fn messages_name_databases_by_their_numbers() {
    let server = Server::start(&[]);
    let (mut hearing, mut client) = (server.connect(), server.connect());
    assert_eq!(client.call(&["CONFIG", "SET", "notify-keyspace-events", "KEAn"]), "OK");
    assert_eq!(hearing.call(&["PSUBSCRIBE", "__key*__:*"]), "psubscribe __key*__:* 1");
    for flush in ["FLUSHALL", "FLUSHDB", "PING"] {
        assert_eq!(client.call(&["SELECT", "7"]), "OK");
        assert_eq!(client.call(&["SET", "k", "v"]), "OK");
        for (channel, message) in [("space", "k new"), ("event", "new k"), ("space", "k set"), ("event", "set k")] {
            let expected = format!("pmessage __key*__:* __key{channel}@7__:{message}");
            assert_eq!(hearing.reply().expect("a message"), expected, "before {flush}");
        }
        client.call(&[flush]);
    }
}

/// What has changed since the commands were queued counts: a transaction that may not run any more does not run in part.
#[test]
fn transactions_that_may_not_run_are_discarded() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    for (command, allowed) in [("SET", false), ("GET", true)] {
        assert_eq!(client.call(&["MULTI"]), "OK");
        let words = [command, "k", "v"];
        assert_eq!(client.call(&words[..if allowed { 2 } else { 3 }]), "QUEUED");
        assert_eq!(client.call(&["DEL", "k"]), "QUEUED");
        assert_eq!(other.call(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
        let reply = client.call(&["EXEC"]);
        assert_eq!(reply.starts_with("EXECABORT Transaction discarded because of: OOM"), !allowed, "{reply}");
        assert_eq!(other.call(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    }
    assert_eq!(client.call(&["EXEC"]), "ERR EXEC without MULTI");
}

#[test]
fn shut_down_it_ends() {
    let log = Scratch::new("shutdown.aof");
    let mut server = Server::start(&["--aof", log.path()]);
    let (mut client, mut other) = (server.connect(), server.connect());
    assert_eq!(client.call(&["SET", "k", "v"]), "OK");
    assert_eq!(client.call(&["SHUTDOWN", "SOON"]), "ERR syntax error");
    client.stream.write_all(&frame(&["SHUTDOWN", "NOSAVE"])).expect("the server reads");
    assert!(client.is_closed() && other.is_closed());
    until("the end of the process", || server.process.try_wait().expect("a child").is_some());
    assert!(server.process.wait().expect("a child").success());
    assert_eq!(Server::start(&["--aof", log.path()]).connect().call(&["GET", "k"]), "v");
}

#[test]
fn terminated_it_drains() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert_eq!(client.call(&["PING"]), "PONG");
    let kill = Command::new("kill").args(["-TERM", &server.process.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert!(client.is_closed());
    let mut server = server;
    until("the end of the process", || server.process.try_wait().expect("a child").is_some());
    assert!(server.process.wait().expect("a child").success());
}
