//! Programs of events from the command line: what goes wrong is said, and nothing is half-done.

use std::path::PathBuf;
use std::process::{Command, Output};

use expect_test::{Expect, expect};

/// A folder of its own for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("optimist-events-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.0.join(name), text).expect("a file");
        self
    }

    fn run(&self, words: &str) -> Output {
        let words = words.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_optimist"))
            .args(words)
            .current_dir(&self.0)
            .output()
            .expect("the command starts")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn check(output: &Output, status: i32, stdout: &str, stderr: &Expect) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    stderr.assert_eq(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status));
}

const SUM: &str = "\
shared total = map()

fn main() {
    total['sum'] = 0
}

fn record(r) {
    total['sum'] += r.amount
}

fn finish() {
    print(total['sum'])
}
";

#[test]
fn a_broken_record_is_named_and_the_others_are_unaffected() {
    let folder = Folder::new("broken");
    folder.file("sum.flow", SUM).file("data.csv", "name,amount\na,1\nb,2\nc,three\nd,4,4\ne,5\n\"f,6\n");
    let expected = expect![[r#"
        error: expected an integer in the column `amount`, found `three`
         --> data.csv:4: record 3 is left out: c,three
        error: expected 2 fields, found 3
         --> data.csv:5: record 4 is left out: d,4,4
        error: expected 2 fields, found 1
         --> data.csv:7: record 6 is left out: f,6
    "#]];
    check(&folder.run("run sum.flow --events data.csv --threads 2"), 1, "8\n", &expected);
}

#[test]
fn a_record_that_is_not_text_is_named() {
    let folder = Folder::new("utf8");
    folder.file("sum.flow", SUM).file("data.csv", b"name,amount\na,1\n\xff\xfe,2\nc,3\n");
    let expected = expect![[r#"
        error: a record is not valid UTF-8
         --> data.csv:3: record 2 is left out
    "#]];
    check(&folder.run("run sum.flow --events data.csv"), 1, "4\n", &expected);
}

#[test]
fn an_empty_or_missing_input_is_said() {
    let folder = Folder::new("empty");
    folder.file("sum.flow", SUM).file("data.csv", "").file("header.csv", "name,amount\n");
    let expected = expect![[r#"
        error: `data.csv` is empty: expected a first line with the columns' names
    "#]];
    check(&folder.run("run sum.flow --events data.csv"), 1, "", &expected);
    let expected = expect![[r#"
        error: cannot read `nowhere.csv`: there is no such file
    "#]];
    check(&folder.run("run sum.flow --events nowhere.csv"), 1, "", &expected);
    check(&folder.run("run sum.flow --events header.csv"), 0, "0\n", &expect![[""]]);
}

#[test]
fn a_failing_event_is_rolled_back_and_shown_with_its_place() {
    let folder = Folder::new("failing");
    let program = "\
shared accounts = map()

fn main() {
    accounts['a'] = 10
    accounts['b'] = 0
    print(\"before\")
    add transfer('a', 'b', 30)
}

fn transfer(from, to, amount) {
    accounts[to] += amount
    print(\"never seen\")
    withdraw(from, amount)
}

fn withdraw(from, amount) {
    if accounts[from] < amount {
        raise \"overdrawn\"
    }
    accounts[from] -= amount
}
";
    folder.file("bank.flow", program);
    let expected = expect![[r#"
        error: overdrawn
          --> bank.flow:18:9
           |
        13 |     withdraw(from, amount)
           |     ---------------------- called from `transfer`
        ...
        18 |         raise "overdrawn"
           |         ^^^^^^^^^^^^^^^^^ in function `withdraw`
    "#]];
    check(&folder.run("run bank.flow --threads 2"), 1, "before\n", &expected);
}

#[test]
fn those_who_wait_for_nobody_are_shown_where_they_wait() {
    let folder = Folder::new("waiting");
    let program = "shared ready = 0\n\nfn main() {\n    for i in 0..3 { add wait(i) }\n}\n\nfn wait(i) {\n    if ready == 0 { rest() }\n}\n\nfn rest() {\n    retry\n}\n";
    folder.file("waiting.flow", program);
    check(
        &folder.run("run waiting.flow --threads 2"),
        1,
        "",
        &expect![[r#"
        error: `retry` waits for another event to change something, but there is none that could
          --> waiting.flow:12:5
           |
         8 |     if ready == 0 { rest() }
           |                     ------ called from `wait`
        ...
        12 |     retry
           |     ^^^^^ in function `rest`
    "#]],
    );
}

#[test]
fn a_program_without_an_entry_is_said() {
    let folder = Folder::new("entry");
    folder.file("none.flow", "fn helper() { }\n").file("record.flow", "fn record(r) { }\n");
    folder.file("arity.flow", "fn main(x) { }\n").file("data.csv", "a\n1\n").file("main.flow", "fn main() { }\n");
    let expected = expect![[r#"
        error: none.flow: there is no `fn main()` to run
    "#]];
    check(&folder.run("run none.flow"), 1, "", &expected);
    let expected = expect![[r#"
        error: record.flow: there is no `fn main()` to run; give it records with `--events DATA.csv`
    "#]];
    check(&folder.run("run record.flow"), 1, "", &expected);
    let expected = expect![[r#"
        error: `main` must have 0 parameters, but has 1
         --> arity.flow:1:1
          |
        1 | fn main(x) { }
          | ^^^^^^^^^^
          |
        help: `main` is the first event and takes no arguments
    "#]];
    check(&folder.run("run arity.flow"), 1, "", &expected);
    let expected = expect![[r#"
        error: main.flow: there is no `fn record(r)` to take the records
    "#]];
    check(&folder.run("run main.flow --events data.csv"), 1, "", &expected);
}

#[test]
fn ten_million_small_events_need_little_memory() {
    let events = 10_000_000;
    let output = Command::new(env!("CARGO_BIN_EXE_optimist"))
        .args(["run", "tests/programs/chains.flow", "--threads", "2", "--stats=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{events}\n"), "{said}");
    let statistics: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(statistics["events"].as_u64() >= Some(events));
    assert!(statistics["heap"]["collections"].as_u64() >= Some(1));
    if let Some(peak) = statistics["peak_memory_bytes"].as_u64() {
        assert!(peak < 200_000_000, "{peak} bytes");
    }
}

#[test]
fn a_recorded_run_is_repeated_to_the_letter() {
    let folder = Folder::new("replay");
    folder.file(
        "dice.flow",
        "\
shared rolls = 0

fn main() {
    for i in 0..60 {
        add roll(i, 3)
    }
}

fn roll(who, again) {
    rolls += 1
    eyes = 1 + random(6)
    print(rolls, who, eyes, random(), now())
    if eyes == 6 and again > 0 { add roll(who, again - 1) after 2 }
}

fn finish() {
    print(rolls)
}
",
    );
    let recorded = folder.run("run dice.flow --threads 4 --record dice.rec");
    assert!(recorded.status.success(), "{recorded:?}");
    let text = String::from_utf8_lossy(&recorded.stdout).into_owned();
    assert!(text.lines().count() > 60, "{text}");
    for threads in [1, 4] {
        let repeated = folder.run(&format!("run dice.flow --threads {threads} --replay dice.rec"));
        assert!(repeated.status.success(), "{repeated:?}");
        assert_eq!(String::from_utf8_lossy(&repeated.stdout), text);
    }
    assert_ne!(String::from_utf8_lossy(&folder.run("run dice.flow").stdout), text, "chance and time go on");

    let missing = expect![[r#"
        error: cannot replay `nothing.rec`: there is no such file
    "#]];
    check(&folder.run("run dice.flow --replay nothing.rec"), 1, "", &missing);
    let wrong = expect![[r#"
        error: cannot replay `dice.flow`: line 1 is not one of a recording
    "#]];
    check(&folder.run("run dice.flow --replay dice.flow"), 1, "", &wrong);
    folder.file("listens.flow", "fn main() { for each l in lines(\"-\") add f(l) }\nfn f(l) { print(l) }\n");
    let sources = expect![[r#"
        error: `listens.flow` has sources of events, and what they give is not recorded
    "#]];
    check(&folder.run("run listens.flow --record l.rec"), 1, "", &sources);
    assert_eq!(folder.run("run dice.flow --record a --replay b").status.code(), Some(2));
}
