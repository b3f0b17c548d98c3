//! Programs whose events come from connections, files and standard input, run by the command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A program in a file of its own, and an address that was free just now in place of `ADDRESS`.
struct Server {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    address: String,
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("optimist-sources-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    path
}

fn command(name: &str, program: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optimist"));
    command.arg("run").arg(file(name, program)).stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts a program that prints a line once it listens.
    fn start(name: &str, program: &str) -> Server {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let address = free.to_string();
        let program = program.replace("127.0.0.1:7000", &address);
        assert!(program.contains(&address), "the program names the address that is replaced");
        let mut child = command(name, &program).spawn().expect("the command starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("it prints");
        assert!(ready.starts_with("ready"), "{ready}");
        Server { child, stdout, address }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Client { reader: BufReader::new(stream.try_clone().expect("a handle")), stream }
    }

    /// Tells it to end, and returns the rest of what it printed.
    fn stop(mut self) -> String {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it ends");
        assert!(self.child.wait().expect("it ends").success());
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a test that has failed; one that has ended is no longer there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("it reads");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("it answers");
        line
    }
}

fn run_with(name: &str, program: &str, input: &str) -> Output {
    let mut child = command(name, program).stdin(Stdio::piped()).spawn().expect("the command starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

#[test]
fn guests_of_a_chat_hear_each_other_in_one_order() {
    let server = Server::start("chat.flow", include_str!("../examples/chat.flow"));
    let mut ann = server.client();
    assert_eq!(ann.hear(), "welcome, guest1\n");
    let mut bob = server.client();
    assert_eq!((bob.hear().as_str(), ann.hear().as_str()), ("welcome, guest2\n", "guest2 has come\n"));
    let mut eve = server.client();
    assert_eq!(eve.hear(), "welcome, guest3\n");
    assert_eq!((ann.hear(), bob.hear()), ("guest3 has come\n".to_owned(), "guest3 has come\n".to_owned()));

    // A line in pieces, two lines in one, and an empty one.
    ann.say("hel");
    ann.say("lo\r\n\nagain\n");
    assert_eq!((bob.hear().as_str(), bob.hear().as_str()), ("guest1: hello\n", "guest1: again\n"));
    for round in 0..50 {
        ann.say(&format!("a{round}\n"));
        bob.say(&format!("b{round}\n"));
    }
    // Each of the two is in order, and eve hears both.
    let heard: Vec<String> = (0..102).map(|_| eve.hear()).skip(2).collect();
    for (guest, letter) in [(1, 'a'), (2, 'b')] {
        let own: Vec<&String> = heard.iter().filter(|line| line.starts_with(&format!("guest{guest}"))).collect();
        let expected: Vec<String> = (0..50).map(|round| format!("guest{guest}: {letter}{round}\n")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
    // What is behind the farewell in the same piece is not heard any more.
    eve.say("/names\n/quit\nnot heard\n");
    assert_eq!((eve.hear().as_str(), eve.hear().as_str()), ("guest1 guest2 guest3\n", "goodbye\n"));
    assert_eq!(eve.hear(), "", "the connection is closed");
    let last: Vec<String> = (0..51).map(|_| ann.hear()).collect();
    assert_eq!(last[50], "guest3 has left\n");
    drop(bob);
    assert_eq!(ann.hear(), "guest2 has left\n");
    assert_eq!(server.stop(), "lines said: 102\n");
}

#[test]
fn an_event_waits_until_something_can_be_received() {
    let server = Server::start(
        "pieces.flow",
        r#"
shared served = 0

fn main() {
    for each client in connections("127.0.0.1:7000") add serve(client, b"")
    print("ready")
}

fn serve(client, so_far) {
    part = receive(client)
    if part == none {
        when readable(client) add serve(client, so_far)
    } else if contains(so_far + part, b"\n\n") {
        served += 1
        send(client, str("got ", len(so_far + part), " bytes\n"))
        close(client)
    } else if len(part) > 0 {
        add serve(client, so_far + part)
    } else {
        print("gone after", len(so_far))
    }
}

fn finish() {
    print("served", served)
}
"#,
    );
    let mut client = server.client();
    client.say("GET /");
    std::thread::sleep(Duration::from_millis(30));
    client.say("\n");
    std::thread::sleep(Duration::from_millis(30));
    client.say("\n");
    assert_eq!((client.hear().as_str(), client.hear().as_str()), ("got 7 bytes\n", ""));
    let mut rude = server.client();
    rude.say("GET");
    drop(rude);
    let mut next = server.client();
    next.say("\n\n");
    assert_eq!(next.hear(), "got 2 bytes\n");
    let rest = server.stop();
    assert!(rest == "gone after 3\nserved 2\n", "{rest}");
}

#[test]
fn what_waits_for_input_with_retry_is_woken_by_it() {
    let server = Server::start(
        "retry.flow",
        r#"
fn main() {
    for each client in connections("127.0.0.1:7000") add echo(client)
    print("ready")
}

fn echo(client) {
    part = receive(client)
    if part == none { retry }
    if len(part) > 0 {
        send(client, part)
        add echo(client)
    }
}
"#,
    );
    let mut client = server.client();
    for round in 0..20 {
        client.say(&format!("{round}\n"));
        assert_eq!(client.hear(), format!("{round}\n"));
    }
    drop(client);
    assert_eq!(server.stop(), "");
}

#[test]
fn nothing_is_lost_of_those_who_leave_before_the_program_listens() {
    let server = Server::start(
        "late.flow",
        r#"
shared heard = map()

fn main() {
    for each client in connections("127.0.0.1:7000") add hello(client, 0)
    for each client in connections("127.0.0.1:0") add hello(client, 1)
    print("ready")
}

fn hello(client, delay) {
    add listen(client) after random(8)
}

fn listen(client) {
    heard[client] = []
    for each line in lines(client) add said(client, line)
    when closed(client) add gone(client)
}

fn said(client, line) {
    heard[client] = concat(heard[client], [line])
}

fn gone(client) {
    print(heard[client])
}
"#,
    );
    let mut waiting = Vec::new();
    for round in 0..30 {
        let mut client = server.client();
        client.say("one\ntw");
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(round / 3));
        }
        client.say("o\nthree");
        if round % 2 == 0 {
            waiting.push(client);
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    drop(waiting);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.stop(), "[\"one\", \"two\", \"three\"]\n".repeat(30));
}

const COUNT: &str = r#"
shared lines = 0
shared letters = 0

fn main() {
    for each line in lines("INPUT") add count(line, 1)
}

fn count(line, step) {
    lines += step
    letters += len(line)
}

fn finish() {
    print(lines, letters)
}
"#;

#[test]
fn lines_of_standard_input_and_of_files_are_events() {
    // The last line has no end.
    let text = format!("{}last", "a line\r\n".repeat(10_000));
    let output = run_with("stdin.flow", &COUNT.replace("INPUT", "-"), &text);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10001 60004\n", "{output:?}");
    let input = file("lines.txt", &text);
    let program = COUNT.replace("INPUT", input.to_str().expect("a path"));
    let output = command("file.flow", &program).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10001 60004\n", "{output:?}");
    let output = run_with("empty.flow", &COUNT.replace("INPUT", "-"), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 0\n", "{output:?}");
}

#[test]
fn what_cannot_be_had_is_a_failure_where_it_is_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let program = |body: &str| format!("fn main() {{\n    {body}\n}}\n\nfn f(x) {{\n    raise x\n}}\n");
    for (name, body, said) in [
        ("taken.flow", format!("for each c in connections(\"{address}\") add f(c)"), format!("error: `{address}`: ")),
        (
            "file2.flow",
            "for each l in lines(\"no such file\") add f(l)".to_owned(),
            "error: `no such file`: ".to_owned(),
        ),
        ("kind.flow", "for each l in lines(3) add f(l)".to_owned(), "error: lines needs a connection or".to_owned()),
    ] {
        let output = command(name, &program(&body)).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with(&said) && error.contains(":2:5\n"), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
    // A failure in an event of a source is told like any other, and what came before it stands.
    let output = run_with("raise.flow", &program("for each l in lines(\"-\") add f(l)"), "one\ntwo\n");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("error: one\n") && error.contains(":6:5\n"), "{error}");
    assert_eq!(output.status.code(), Some(1));
}
