//! Every example prints what its head says (the lines after `#>`), on one thread and on several, under every protocol.

mod common;

use common::{machine, run_program};
use optimist_flowgraph::vm::VmConfig;
use optimist_stm::protocol::Kind;
use optimist_stm::with_protocol;

#[test]
fn examples_print_what_they_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut tried = 0;
    let mut wrong = String::new();
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the examples").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "flow")) {
        let text = std::fs::read_to_string(path).expect("a file");
        let expected: String =
            text.lines().filter_map(|line| line.strip_prefix("#> ")).map(|line| format!("{line}\n")).collect();
        if expected.is_empty() || !text.contains("fn main()") {
            continue;
        }
        tried += 1;
        for kind in Kind::ALL {
            let threads: &[usize] = if *kind == Kind::Eager { &[1, 2, 4] } else { &[2] };
            if cfg!(debug_assertions) && *kind != Kind::Eager {
                continue;
            }
            for threads in threads {
                let vm = machine(&text, VmConfig::default());
                let printed = with_protocol!(kind, P => run_program::<P>(&vm, *threads));
                if printed != expected {
                    wrong += &format!(
                        "{} under {kind} on {threads} threads printed\n{printed}instead of\n{expected}\n",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(tried >= 9, "only {tried} examples were found");
}
