//! Clients that wait for an element: who gets it.

use std::io::Write as _;
use std::time::Duration;

use super::{Client, Scratch, Server, frame, until};

/// Clients that wait, in the order in which they came.
struct Line<'a> {
    server: &'a Server,
    clients: Vec<Client>,
}

impl<'a> Line<'a> {
    fn new(server: &'a Server) -> Self {
        Line { server, clients: Vec::new() }
    }

    fn of(server: &'a Server, commands: &[&str]) -> Self {
        let mut line = Line::new(server);
        commands.iter().for_each(|command| line.join(command));
        line
    }

    /// Another client, which waits before this returns.
    fn join(&mut self, command: &str) {
        let mut client = self.server.connect();
        send(&mut client, command);
        self.clients.push(client);
        self.wait_for(self.clients.len());
    }

    /// Until so many wait.
    fn wait_for(&self, count: usize) {
        until("waiting", || self.server.info("blocked_clients") == count.to_string());
    }

    fn reply(&mut self, index: usize) -> String {
        self.clients[index].reply().expect("an answer")
    }

    /// What the first ones were served with, one after the other.
    fn replies(&mut self) -> Vec<String> {
        (0..self.clients.len()).map(|index| self.reply(index)).collect()
    }
}

fn send(client: &mut Client, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    client.stream.write_all(&frame(&words)).expect("the server reads");
}

/// Sends a command, the words being separated by blanks.
fn call(client: &mut Client, command: &str) -> String {
    send(client, command);
    client.reply().expect("an answer")
}

#[test]
fn first_come_first_served() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    for round in 0..5 {
        let mut line = Line::of(&server, &["BLPOP k 0"; 8]);
        // One by one, some together, and the last with one more than there are clients.
        for push in ["0", "1", "2 3", "4", "5 6", "7 8"] {
            call(&mut pusher, &format!("RPUSH k {push}"));
        }
        let expected: Vec<String> = (0..8).map(|n| format!("k {n}")).collect();
        assert_eq!(line.replies(), expected, "round {round}");
        assert_eq!(call(&mut pusher, "LPOP k"), "8");
    }
    assert_eq!(server.info("blocked_clients"), "0");
    // Of several values the clients get what is at their end when all of them are there.
    let mut line = Line::of(&server, &["BLPOP k 0", "BRPOP k 0"]);
    assert_eq!(call(&mut pusher, "LPUSH k a b c d"), "4");
    assert_eq!(line.replies(), ["k d", "k a"]);
    assert_eq!(call(&mut pusher, "LRANGE k 0 -1"), "c b");
}

#[test]
fn nobody_gets_an_element_before_those_who_wait() {
    let server = Server::start(&[]);
    let (mut pusher, mut late) = (server.connect(), server.connect());
    for round in 0..200 {
        let mut line = Line::new(&server);
        let mut waiting = server.connect();
        send(&mut waiting, "BLPOP k 0");
        while server.info("blocked_clients") != "1" {}
        line.clients.push(waiting);
        // Both requests are under way at the same time as the one who waits is told.
        pusher.stream.write_all(&[frame(&["RPUSH", "k", "x"]), frame(&["LPOP", "k"])].concat()).expect("it reads");
        let popped = call(&mut late, "LPOP k");
        assert_eq!((pusher.reply().expect("a length"), pusher.reply().expect("nothing")), ("1".into(), "nil".into()));
        assert_eq!((popped, line.reply(0)), ("nil".to_owned(), "k x".to_owned()), "round {round}");
    }
}

#[test]
fn one_who_has_left_holds_nobody_up() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    let mut line = Line::of(&server, &["BLPOP k 0"]);
    // Its time may run out before anybody could have seen it wait.
    let mut impatient = server.connect();
    assert_eq!(call(&mut impatient, "BLPOP k 0.05"), "nil");
    line.clients.push(impatient);
    for waiting in 2..6 {
        let mut client = server.connect();
        send(&mut client, "BLPOP k 0");
        line.clients.push(client);
        line.wait_for(waiting);
    }
    drop(line.clients.remove(0));
    line.wait_for(4);
    // Told to give up, it is not served any more, not even by what comes right behind.
    let id = |server: &Server, index: usize| {
        let list = server.connect().call(&["CLIENT", "LIST"]);
        let blocked: Vec<&str> = list.lines().filter(|line| line.contains("flags=b")).collect();
        let word = blocked[index].split(' ').find_map(|word| word.strip_prefix("id="));
        word.expect("a number").to_owned()
    };
    let (first, second) = (id(&server, 0), id(&server, 1));
    let commands = [&["CLIENT", "UNBLOCK", &first][..], &["CLIENT", "KILL", "ID", &second], &["RPUSH", "k", "a"]];
    let bytes: Vec<u8> = commands.iter().flat_map(|words| frame(words)).collect();
    pusher.stream.write_all(&bytes).expect("the server reads");
    let replies: Vec<String> = (0..3).map(|_| pusher.reply().expect("an answer")).collect();
    assert_eq!(replies, ["1", "1", "1"]);
    assert_eq!(line.reply(1), "nil");
    assert!(line.clients[2].is_closed());
    assert_eq!(line.reply(3), "k a");
    line.wait_for(1);
    assert_eq!(call(&mut pusher, "RPUSH k b"), "1");
    assert_eq!(line.reply(4), "k b");
    // Nobody is left: what is pushed stays.
    assert_eq!(call(&mut pusher, "RPUSH k c"), "1");
    assert_eq!(call(&mut pusher, "LRANGE k 0 -1"), "c");
}

/// Clients that give up at the same time as elements arrive: each element is with one client, or left.
#[test]
fn times_that_run_out_take_no_element() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    for round in 0..20 {
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            send(client, &format!("BLPOP k other {}", 0.01 + 0.001 * index as f64));
        }
        std::thread::sleep(Duration::from_millis(8));
        for n in 0..8 {
            call(&mut pusher, &format!("RPUSH k {n}"));
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut elements: Vec<String> = clients.iter_mut().map(|client| client.reply().expect("an answer")).collect();
        elements.retain(|element| element != "nil");
        let left = call(&mut pusher, "LRANGE k 0 -1");
        elements.extend(left.split_whitespace().map(|element| format!("k {element}")));
        elements.sort();
        let expected: Vec<String> = (0..8).map(|n| format!("k {n}")).collect();
        assert_eq!(elements, expected, "round {round}");
        call(&mut pusher, "DEL k");
        // None of them is in a line any more.
        assert_eq!(call(&mut pusher, "RPUSH other x"), "1");
        assert_eq!(call(&mut pusher, "LPOP other"), "x");
    }
}

#[test]
fn one_who_waits_at_several_keys_is_served_once() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    let mut line = Line::of(&server, &["BLPOP a b a 0", "BLPOP b 0", "BRPOP c a 0"]);
    assert_eq!(call(&mut pusher, "RPUSH b 1"), "1");
    assert_eq!(line.reply(0), "b 1");
    line.wait_for(2);
    assert_eq!(call(&mut pusher, "RPUSH a 2"), "1");
    assert_eq!(line.reply(2), "a 2");
    assert_eq!(call(&mut pusher, "RPUSH b 3"), "1");
    assert_eq!(line.reply(1), "b 3");
    for key in ["a", "c"] {
        assert_eq!(call(&mut pusher, &format!("RPUSH {key} x")), "1");
        assert_eq!(call(&mut pusher, &format!("LLEN {key}")), "1", "at {key}");
    }
    // What comes back has lost its place.
    let mut line = Line::of(&server, &["BLPOP k 0", "BLPOP k 0"]);
    assert_eq!(call(&mut pusher, "RPUSH k 1"), "1");
    assert_eq!(line.reply(0), "k 1");
    send(&mut line.clients[0], "BLPOP k 0");
    line.wait_for(2);
    assert_eq!(call(&mut pusher, "RPUSH k 2 3"), "2");
    assert_eq!(line.replies(), ["k 3", "k 2"]);
}

#[test]
fn transactions_and_scripts_serve_at_their_end() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    let transaction = |pusher: &mut Client, commands: &[&str]| {
        assert_eq!(call(pusher, "MULTI"), "OK");
        commands.iter().for_each(|command| assert_eq!(call(pusher, command), "QUEUED"));
        call(pusher, "EXEC")
    };
    // The key that got something first is the one that counts, not the one that is named first.
    let mut line = Line::of(&server, &["BLPOP a b 0", "BLPOP a b 0", "BLPOP a 0"]);
    assert_eq!(transaction(&mut pusher, &["RPUSH b 1", "RPUSH a 2", "RPUSH a 3", "LLEN a", "LLEN b"]), "1 1 2 2 1");
    assert_eq!(line.replies(), ["b 1", "a 2", "a 3"]);
    // What is there at the end counts.
    let mut line = Line::of(&server, &["BLPOP k 0", "BLPOP k 0"]);
    assert_eq!(transaction(&mut pusher, &["RPUSH k 1", "DEL k"]), "1 1");
    assert_eq!(transaction(&mut pusher, &["RPUSH k 1", "DEL k", "SET k 1", "DEL k"]), "1 1 OK 1");
    assert_eq!(transaction(&mut pusher, &["LPUSH k 1", "LPUSH k 2", "BLPOP k 0", "LPUSH k 3"]), "1 2 k 2 2");
    assert_eq!(line.replies(), ["k 3", "k 1"]);
    // A script, one whose part is taken back, and one that fails.
    let mut line = Line::of(&server, &["BLPOP k j 0", "BLPOP j 0"]);
    let mut eval = |script: &str| pusher.call(&["EVAL", script, "0"]);
    let failing = "fn run(keys, args) {\n    call(\"RPUSH\", \"k\", 1)\n    raise \"no\"\n}";
    assert!(eval(failing).starts_with("ERR"));
    let caught = "fn run(keys, args) {\n    try {\n        call(\"RPUSH\", \"k\", 1)\n        raise \"no\"\n    } catch e {\n        call(\"RPUSH\", \"j\", 2)\n    }\n    call(\"RPUSH\", \"k\", 3)\n    return list(call(\"LLEN\", \"j\"), call(\"LLEN\", \"k\"))\n}";
    assert_eq!(eval(caught), "1 1");
    assert_eq!(line.reply(0), "j 2");
    assert_eq!(call(&mut pusher, "RPUSH j 4"), "1");
    assert_eq!(line.reply(1), "j 4");
    assert_eq!(call(&mut pusher, "LRANGE k 0 -1"), "3");
}

#[test]
fn one_who_wants_another_type_is_passed_over() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    let mut line = Line::of(
        &server,
        &[
            "BZPOPMIN k 0",
            "BLPOP k 0",
            "BZPOPMAX k 0",
            "BRPOP k 0",
            "BZMPOP 0 1 k MAX COUNT 5",
            "BLMPOP 0 1 k LEFT COUNT 2",
        ],
    );
    assert_eq!(call(&mut pusher, "SET k text"), "OK");
    assert_eq!(call(&mut pusher, "SADD s member"), "1");
    assert_eq!(call(&mut pusher, "RENAME s k"), "OK");
    assert_eq!(call(&mut pusher, "DEL k"), "1");
    line.wait_for(6);
    assert_eq!(call(&mut pusher, "RPUSH k 1 2 3 4 5"), "5");
    assert_eq!((line.reply(1), line.reply(3), line.reply(5)), ("k 1".into(), "k 5".into(), "k 2 3".into()));
    assert_eq!(call(&mut pusher, "RPOP k"), "4");
    line.wait_for(3);
    assert_eq!(call(&mut pusher, "ZADD k 1 a 2 b 3 c 4 d"), "4");
    assert_eq!((line.reply(0), line.reply(2), line.reply(4)), ("k a 1".into(), "k d 4".into(), "k c 3 b 2".into()));
    assert_eq!(call(&mut pusher, "EXISTS k"), "0");
}

/// What moves an element for one client may serve the next one; a target of another type is an error for one and nothing to the others.
#[test]
fn moves_serve_those_behind_them() {
    let server = Server::start(&[]);
    let mut pusher = server.connect();
    let mut line =
        Line::of(&server, &["BLPOP c 0", "BLMOVE b c LEFT RIGHT 0", "BRPOPLPUSH a b 0", "BLMOVE a a LEFT RIGHT 0"]);
    assert_eq!(call(&mut pusher, "RPUSH a 1 2"), "2");
    assert_eq!(line.replies(), ["c 2", "2", "2", "1"]);
    assert_eq!(call(&mut pusher, "LRANGE a 0 -1"), "1");
    assert_eq!(call(&mut pusher, "DEL a"), "1");
    assert_eq!(call(&mut pusher, "SET text x"), "OK");
    let mut line =
        Line::of(&server, &["BLMOVE a text LEFT LEFT 0", "BLMOVE a b LEFT LEFT 0", "BLMOVE b a LEFT LEFT 0"]);
    assert_eq!(call(&mut pusher, "RPUSH a x"), "1");
    assert!(line.reply(0).starts_with("WRONGTYPE"));
    assert_eq!((line.reply(1), line.reply(2)), ("x".to_owned(), "x".to_owned()));
    assert_eq!(call(&mut pusher, "LRANGE a 0 -1"), "x");
}

/// Whatever puts a list where somebody waits, in whichever database.
#[test]
fn keys_come_about_in_many_ways() {
    let log = Scratch::new("waiting.aof");
    let server = Server::start(&["--aof", log.path()]);
    let mut pusher = server.connect();
    for (command, rest) in [
        ("RPUSH k x", "x"),
        ("RENAME from k", ""),
        ("COPY from k", "x"),
        ("SORT from BY nosort STORE k", "x"),
        ("LMOVE from k LEFT LEFT", ""),
        ("LINSERT k AFTER x y", ""),
    ] {
        call(&mut pusher, "RPUSH from x");
        let mut line = Line::of(&server, &["BLPOP k 0"]);
        let reply = call(&mut pusher, command);
        if command.starts_with("LINSERT") {
            assert_eq!(reply, "0");
            call(&mut pusher, "LMOVE from k LEFT LEFT");
        }
        assert_eq!(line.reply(0), "k x", "{command}");
        assert_eq!(call(&mut pusher, "LRANGE from 0 -1"), rest, "{command}");
        call(&mut pusher, "DEL from");
    }
    // Databases have lines of their own, under their numbers, whatever FLUSHALL makes of what is behind them.
    let mut line = Line::new(&server);
    for number in ["1", "2", "3"] {
        let mut client = server.connect();
        assert_eq!(client.call(&["SELECT", number]), "OK");
        send(&mut client, "BLPOP k 0");
        line.clients.push(client);
        line.wait_for(line.clients.len());
    }
    assert_eq!(call(&mut pusher, "RPUSH k mine"), "1");
    assert_eq!(call(&mut pusher, "MOVE k 1"), "1");
    assert_eq!(line.reply(0), "k mine");
    assert_eq!(call(&mut pusher, "FLUSHALL"), "OK");
    assert_eq!(call(&mut pusher, "RPUSH k swapped"), "1");
    assert_eq!(call(&mut pusher, "SWAPDB 0 2"), "OK");
    assert_eq!(line.reply(1), "k swapped");
    assert_eq!(call(&mut pusher, "SELECT 3"), "OK");
    assert_eq!(call(&mut pusher, "RPUSH k third"), "1");
    assert_eq!(line.reply(2), "k third");
    // What was handed over is not there after a replay either.
    drop(line);
    drop(server);
    let server = Server::start(&["--aof", log.path()]);
    let mut client = server.connect();
    for number in 0..4 {
        client.call(&["SELECT", &number.to_string()]);
        assert_eq!(client.call(&["DBSIZE"]), "0", "database {number}");
    }
}

/// What a client has sent behind the command that waits is done when that is done, and no reply is given to one who wants none.
#[test]
fn requests_behind_one_that_waits_are_served_after_it() {
    let server = Server::start(&[]);
    let (mut client, mut pusher) = (server.connect(), server.connect());
    for skip in [false, true] {
        let mut bytes = if skip { frame(&["CLIENT", "REPLY", "SKIP"]) } else { Vec::new() };
        for command in ["BLPOP k 0", "BLPOP k 0.01", "ECHO done"] {
            bytes.extend(frame(&command.split(' ').collect::<Vec<_>>()));
        }
        client.stream.write_all(&bytes).expect("the server reads");
        until("waiting", || server.info("blocked_clients") == "1");
        assert_eq!(call(&mut pusher, "RPUSH k x"), "1");
        if !skip {
            assert_eq!(client.reply().expect("an element"), "k x");
        }
        assert_eq!(client.reply().expect("nothing"), "nil");
        assert_eq!(client.reply().expect("an echo"), "done");
    }
    // An element at the time of the command is got at once, in the newer protocol too.
    client.call(&["HELLO", "3"]);
    send(&mut client, "BZPOPMIN z 0");
    until("waiting", || server.info("blocked_clients") == "1");
    assert_eq!(call(&mut pusher, "ZADD z 1.5 m"), "1");
    assert_eq!(client.reply().expect("an element"), "z m 1.5");
    assert_eq!(call(&mut client, "BLPOP k 0.01"), "nil");
}
