//! The same programs in other languages, each a process that prints the nanoseconds for a unit and its result.

use std::path::PathBuf;
use std::process::Command;

/// Another language.
pub struct Rival {
    /// The column.
    pub name: &'static str,
    /// The command, and what comes before the program.
    command: &'static [&'static str],
    /// The ending of its programs.
    ending: &'static str,
}

/// All of them; C is compiled first.
const RIVALS: [Rival; 3] = [
    Rival { name: "C", command: &["cc", "-O3"], ending: "c" },
    Rival { name: "LuaJIT -joff", command: &["luajit", "-joff", "-l", "bench"], ending: "lua" },
    Rival { name: "Lua 5.4", command: &["lua5.4", "-l", "bench"], ending: "lua" },
];

/// Where the programs are.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/programs"))
}

/// Those that can be run here; says which cannot.
pub fn installed() -> Vec<Rival> {
    let runs = |rival: &Rival| {
        let version = if rival.ending == "c" { "--version" } else { "-v" };
        let found = Command::new(rival.command[0]).arg(version).output().is_ok();
        if !found {
            println!("{} is left out: there is no `{}` here", rival.name, rival.command[0]);
        }
        found
    };
    RIVALS.into_iter().filter(runs).collect()
}

impl Rival {
    /// How to run this program; none if it cannot be compiled.
    pub fn prepare(&self, program: &str) -> Option<impl FnMut() -> (f64, f64) + use<>> {
        let source = format!("{program}.{}", self.ending);
        let (name, mut command) = if self.ending == "c" {
            let binary = std::env::temp_dir().join(format!("optimist-compare-{}-{program}", std::process::id()));
            let mut compile = Command::new(self.command[0]);
            compile.args(&self.command[1..]).arg("-o").arg(&binary).args([&source, "-lm"]).current_dir(folder());
            let compiled = compile.status().is_ok_and(|status| status.success());
            if !compiled {
                println!("C is left out for {program}: it cannot be compiled");
                return None;
            }
            (self.name, Command::new(binary))
        } else {
            let mut command = Command::new(self.command[0]);
            command.args(&self.command[1..]).arg(&source).current_dir(folder());
            (self.name, command)
        };
        Some(move || {
            let output = command.output().expect("a command that was there before");
            let text = String::from_utf8_lossy(&output.stdout);
            let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            let [time, result] = numbers[..] else {
                panic!("{name} printed {text:?} and said {}", String::from_utf8_lossy(&output.stderr))
            };
            (time, result)
        })
    }
}
