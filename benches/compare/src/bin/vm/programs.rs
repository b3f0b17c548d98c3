//! The programs, and how they are run here.

use std::cell::RefCell;

use optimist_flowgraph::flowgraph::program::{FunctionId, VarId};
use optimist_flowgraph::value::Value;
use optimist_flowgraph::vm::{Collected, Interruption, Outcome, Vm, VmConfig, Worker};
use optimist_flowgraph::{Literal, Source, compile};
use optimist_stm::attempt::Mode;
use optimist_stm::protocol::{Protocol, Shipped};
use optimist_stm::run::Interrupt;
use optimist_stm::runtime::execute_with;

use crate::rivals::folder;

#[path = "../../measure.rs"]
#[allow(dead_code, reason = "shared with the other tables")]
mod measure;

/// A program.
pub struct Program {
    /// Its name, and that of its files.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many of them one run has.
    units: f64,
    /// Its text, from the folder of the programs.
    file: &'static str,
    /// What is added to it.
    more: &'static str,
    /// Of a core program, where it starts and with which variables.
    core: Option<(&'static str, &'static [(&'static str, i64)])>,
    /// The most nanoseconds for a unit that are good enough, and the largest ratio to LuaJIT's interpreter.
    pub goal: Option<(f64, f64)>,
}

/// What stands for itself in a row of the table.
const PLAIN: Program = Program { name: "", unit: "", units: 1.0, file: "", more: "", core: None, goal: None };

/// All of them.
pub static PROGRAMS: [Program; 9] = [
    Program {
        name: "power",
        unit: "multiplication",
        units: 1e7,
        file: "../../../examples/power.flow",
        core: Some(("power", &[("x", 1), ("y", 10_000_000)])),
        goal: Some((3.2, 0.76)),
        ..PLAIN
    },
    Program {
        name: "square",
        unit: "iteration",
        units: 3e6,
        file: "square.flow",
        core: Some(("square", &[("a", 3_000_000), ("r2", 0)])),
        ..PLAIN
    },
    Program {
        name: "bytecode",
        unit: "loop of 8 opcodes",
        units: 3e5,
        file: "../../../examples/bytecode.flow",
        core: Some(("square", &[("a", 300_000)])),
        goal: Some((100.0, 0.93)),
        ..PLAIN
    },
    Program { name: "collatz", unit: "step", units: 2_864_133.0, file: "collatz.flow", ..PLAIN },
    Program {
        name: "laplace100",
        unit: "point",
        units: 200.0 * 98.0 * 98.0,
        file: "laplace100.flow",
        goal: Some((18.0, 1.1)),
        ..PLAIN
    },
    Program {
        name: "laplace1000",
        unit: "point",
        units: 2.0 * 998.0 * 998.0,
        file: "laplace1000.flow",
        goal: Some((18.0, 1.1)),
        ..PLAIN
    },
    Program { name: "nbody", unit: "step", units: 20_000.0, file: "nbody.flow", ..PLAIN },
    Program {
        name: "richards",
        unit: "packet",
        units: 20.0 * 2322.0,
        file: "../../../examples/richards.flow",
        more: "fn bench() {
            for i in 0..20 { s = simulate() }
            return s.queued * 10000 + s.held
        }",
        ..PLAIN
    },
    Program {
        name: "deltablue",
        unit: "run",
        units: 5.0,
        file: "../../../examples/deltablue.flow",
        more: "fn bench() {
            for i in 0..5 { result = chain(100) * 10000000 + projection(100) }
            return result
        }",
        ..PLAIN
    },
];

/// A program ready to run.
pub struct Prepared {
    program: &'static Program,
    vm: Vm,
    worker: RefCell<Worker>,
    function: Option<FunctionId>,
}

impl Prepared {
    /// Compiles it.
    pub fn new(program: &'static Program) -> Prepared {
        let text = std::fs::read_to_string(folder().join(program.file)).expect("the program");
        let source = Source::new(program.name, text + "\n" + program.more);
        let compiled = compile(&source).unwrap_or_else(|errors| {
            panic!("{}", errors.iter().map(|error| error.render(&source, false)).collect::<String>())
        });
        let vm = Vm::new(compiled, VmConfig::default()).expect("a small program");
        let mut worker = vm.worker();
        vm.initialise(&mut worker, &mut Collected::default()).expect("no failure");
        let function = vm.function("bench").or_else(|| vm.function("main"));
        Prepared { program, vm, worker: RefCell::new(worker), function }
    }

    /// Runs it three times as one event, begun and ended under the protocol `Q`, with the barriers of `P`: the least CPU
    /// time for a unit in nanoseconds, and the result.
    pub fn run<Q: Shipped, P: Protocol>(&self) -> (f64, f64) {
        let mut worker = self.worker.borrow_mut();
        // What the three runs go on from is made by an event of its own, so that its objects are no longer the event's that is measured.
        if let Some(prepare) = self.vm.function("prepare") {
            self.vm.run_event(&mut worker, prepare, &[], &mut Collected::default()).expect("no failure");
        }
        let (mut least, mut result) = (f64::INFINITY, 0.0);
        for _ in 0..3 {
            let start = measure::thread_time();
            result = match self.program.core {
                Some((label, given)) => self.core(&mut worker, label, given),
                None => self.call::<Q, P>(&mut worker),
            };
            least = least.min((measure::thread_time() - start) as f64 / self.program.units);
        }
        (least, result)
    }

    /// A core program touches nothing that has barriers.
    fn core(&self, worker: &mut Worker, label: &str, given: &[(&str, i64)]) -> f64 {
        let function = self.vm.program().core().expect("a core program");
        let start = function.block(label).expect("the start");
        let environment: Vec<(VarId, Literal)> = given
            .iter()
            .map(|(name, value)| (function.variable(name).expect("a variable"), Literal::int(*value)))
            .collect();
        let mut context = Collected::default();
        self.vm.run_core(worker, start, &environment, &mut context).expect("no failure");
        context.output.trim().parse().expect("a number")
    }

    fn call<Q: Shipped, P: Protocol>(&self, worker: &mut Worker) -> f64 {
        let function = self.function.expect("a function to run");
        let done: Result<f64, Interruption> = execute_with::<Q, _, _>(Mode::Update, |tx| {
            worker.begin();
            match self.vm.call::<P>(tx, worker, function, &[], &mut Collected::default()) {
                Ok(Outcome::Returned(value)) => Ok(number(value)),
                Ok(Outcome::Stopped) => Ok(0.0),
                Err(interruption) => Err(Interrupt::Error(interruption)),
            }
        });
        worker.end(true);
        done.expect("no failure and nobody to conflict with")
    }
}

fn number(value: Value) -> f64 {
    value.as_int().map(|int| int as f64).or_else(|| value.as_immediate_float()).expect("a small number")
}
