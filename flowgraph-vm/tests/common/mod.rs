//! Plain ways to run events on several threads.
#![allow(dead_code, reason = "not every test uses all of them")]

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use optimist_flowgraph::barrier::{Abort, Attempt, Protocol};
use optimist_flowgraph::flowgraph::program::FunctionId;
use optimist_flowgraph::value::Value;
use optimist_flowgraph::vm::{Collected, Interruption, Root, Vm, VmConfig, Worker};
use optimist_flowgraph::{Source, compile};
use optimist_stm::Stop;
use optimist_stm::atomics::Native;
use optimist_stm::attempt::Mode;
use optimist_stm::protocol::Shipped;
use optimist_stm::run::{Body, Interrupt};
use optimist_stm::runtime::execute_body;
use parking_lot::{Condvar, Mutex};

/// A virtual machine for this program, its shared variables set.
pub(crate) fn machine(text: &str, config: VmConfig) -> Vm {
    let source = Source::new("test.flow", text);
    let program = compile(&source).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(|error| error.render(&source, false)).collect::<Vec<_>>().join("\n"))
    });
    let vm = Vm::new(program, config).expect("a small program");
    let mut worker = vm.worker();
    vm.initialise(&mut worker, &mut Collected::default()).unwrap_or_else(|error| panic!("{error}"));
    vm
}

/// A call as a transaction.
struct Event<'a, P> {
    vm: &'a Vm,
    worker: &'a mut Worker,
    function: FunctionId,
    arguments: &'a [Value],
    context: &'a mut Collected,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Body<Native, (), Interruption> for Event<'_, P> {
    fn attempt(&mut self, tx: &mut Attempt) -> Result<(), Interrupt<Interruption>> {
        *self.context = Collected::default();
        self.worker.begin();
        match self.vm.call::<P>(tx, self.worker, self.function, self.arguments, self.context) {
            Ok(_) => Ok(()),
            Err(Interruption::Abort(abort)) => Err(Interrupt::Abort(abort)),
            Err(other) => Err(Interrupt::Error(other)),
        }
    }

    fn aborted(&mut self, _reason: Abort) {
        if self.worker.is_in_event() {
            self.worker.end(false);
        }
    }
}

/// Runs a call as an event under the protocol `P`; the event is over when this returns.
pub(crate) fn event<P: Shipped>(
    vm: &Vm,
    worker: &mut Worker,
    function: FunctionId,
    arguments: &[Value],
    context: &mut Collected,
) -> Result<(), Interruption> {
    let _lease = optimist_stm::lease(P::KIND);
    let mut event = Event::<P> { vm, worker, function, arguments, context, protocol: PhantomData };
    let done = match execute_body(Mode::Update, &mut event) {
        Ok(()) => Ok(()),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Blocked(_)) => unreachable!("a retry is handed on as an error"),
    };
    worker.end(done.is_ok());
    done
}

/// Runs `function(0)` to `function(events - 1)` on so many threads, each an event.
pub(crate) fn run_events<P: Protocol + Shipped>(vm: &Vm, function: &str, events: usize, threads: usize) {
    let function = vm.function(function).expect("the function");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worker = vm.worker();
                let mut context = Collected::default();
                loop {
                    // Events are taken by the dozen, so that handing them out costs little.
                    let first = next.fetch_add(16, Relaxed);
                    if first >= events {
                        return;
                    }
                    for number in first..events.min(first + 16) {
                        let argument = Value::int(number as i64).expect("a small number");
                        let done = event::<P>(vm, &mut worker, function, &[argument], &mut context);
                        done.unwrap_or_else(|error| panic!("{error:?}"));
                    }
                }
            });
        }
    });
}

/// What a function without parameters prints.
pub(crate) fn printed(vm: &Vm, function: &str) -> String {
    let mut context = Collected::default();
    vm.run_event(&mut vm.worker(), vm.function(function).expect("the function"), &[], &mut context)
        .unwrap_or_else(|error| panic!("{error}"));
    context.output
}

/// Runs a whole program as a dispatcher would, without delays: `main`, all that is queued, and `finish`. What is printed at
/// commit, in the order of the commits.
pub(crate) fn run_program<P: Protocol + Shipped>(vm: &Vm, threads: usize) -> String {
    let state = Mutex::new(Pending { queue: VecDeque::new(), running: 0, output: String::new() });
    let changed = Condvar::new();
    let main = vm.function("main").expect("a main function");
    state.lock().queue.push_back((main, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worker = vm.worker();
                let mut pending = state.lock();
                loop {
                    let Some((function, arguments)) = pending.queue.pop_front() else {
                        if pending.running == 0 {
                            changed.notify_all();
                            return;
                        }
                        changed.wait_for(&mut pending, Duration::from_millis(1));
                        continue;
                    };
                    pending.running += 1;
                    drop(pending);
                    let mut context = Collected::default();
                    let values: Vec<Value> = arguments.iter().map(Root::value).collect();
                    let done = event::<P>(vm, &mut worker, function, &values, &mut context);
                    pending = state.lock();
                    pending.running -= 1;
                    match done {
                        Ok(()) => {
                            pending.output += &context.output;
                            pending
                                .queue
                                .extend(context.queued.into_iter().map(|call| (call.function, call.arguments)));
                        }
                        // Later again: somebody else has to change something first.
                        Err(Interruption::Retry(_)) => pending.queue.push_back((function, arguments)),
                        Err(Interruption::Failed(error)) => panic!("{error} in {}", error.function),
                        Err(Interruption::Abort(_)) => unreachable!("aborted attempts are run again"),
                    }
                    changed.notify_all();
                }
            });
        }
    });
    let mut output = state.into_inner().output;
    if vm.function("finish").is_some() {
        output += &printed(vm, "finish");
    }
    output
}

struct Pending {
    queue: VecDeque<(FunctionId, Vec<Root>)>,
    running: usize,
    output: String,
}
