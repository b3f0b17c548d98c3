//! Handlers written in the flowgraph language: EVAL, and libraries of functions.
//!
//! ```text
//! EVAL 'fn run(keys, args) { return call("GET", keys[0]) }' 1 key
//! FUNCTION LOAD '#!flow name=stock
//!     fn take(keys, args) {
//!         if int(call("GET", keys[0])) < int(args[0]) { raise "too few" }
//!         return call("DECRBY", keys[0], args[0])
//!     }'
//! FCALL take 1 apples 3
//! ```
//!
//! A script is a part of the event that runs it: what it does with `call(command, word, …)` becomes visible with the event, or not at
//! all. If it fails, all that it did is undone, and the client gets the error with its line. `catch` undoes what the guarded part did, log
//! and messages included. `retry` makes the client wait until something that the script has read changes. A script may take so many steps
//! and so much memory. What lasts belongs into keys, so a library has no shared variables; the log contains the commands that it ran.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use optimist::flowgraph::flowgraph::fault::RuntimeError;
use optimist::flowgraph::flowgraph::program::FunctionId;
use optimist::flowgraph::value::Value;
use optimist::flowgraph::vm::{
    Collected, HeapConfig, Host, HostCall, HostError, HostKind, Interruption, Limits, Outcome, Vm, VmConfig, Worker,
};
use optimist::flowgraph::{Literal, Source, compile_with};
use optimist::stm::protocol::Any;
use optimist::stm::{Interrupt, Tx};

use crate::call::{Call, Done, Effects, Fail, SYNTAX, WRONG_TYPE, error};
use crate::numbers::integer;
use crate::reply::Reply;
use crate::server::Server;
use crate::session::Client;
use crate::table::{Run, flags};
use crate::value::Bytes;

/// Backward jumps and calls that a script may make.
const STEPS: u64 = 5_000_000;
/// Calls within calls.
const DEPTH: usize = 200;
/// Bytes that a script may allocate.
const MEMORY: usize = 64 << 20;

/// A program ready to run.
pub(crate) struct Script {
    id: u64,
    vm: Vm,
    source: Arc<Source>,
}

/// A script whose functions have names of their own.
pub(crate) struct Library {
    name: String,
    text: Bytes,
    script: Arc<Script>,
}

/// The libraries by name. Replaced as a whole when one is loaded or deleted.
pub(crate) type Libraries = Arc<BTreeMap<String, Arc<Library>>>;

impl Script {
    /// # Errors
    /// The first mistake in the text, with its line.
    fn compile(name: &str, text: &str) -> Result<Script, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // The line that says which language it is stays as an empty one, so that the numbers of the others are right.
        let text = match text.strip_prefix("#!") {
            Some(rest) => &rest[rest.find('\n').unwrap_or(rest.len())..],
            None => text,
        };
        let source = Source::new(name, text);
        let hosts = vec![Host::new("call", None, HostKind::Transactional, call_command)];
        let signatures: Vec<_> = hosts.iter().map(Host::signature).collect();
        let program = compile_with(&source, &signatures).map_err(|diagnostics| {
            let first = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
            first.map_or_else(String::new, |first| described(&source, first.primary.span, &first.message))
        })?;
        if let Some(global) = program.globals.first() {
            return Err(format!("{name}: the shared variable `{}` would not last: use a key", global.name));
        }
        let limits = Limits { steps: STEPS, depth: DEPTH, memory: MEMORY, ..Limits::default() };
        let heap = HeapConfig { limit: 4 * MEMORY, nursery: 1 << 20, ..HeapConfig::default() };
        let vm = Vm::new(program, VmConfig { heap, limits, hosts, ..VmConfig::default() })
            .map_err(|error| error.to_string())?;
        // Relaxed: only uniqueness matters.
        Ok(Script { id: NEXT.fetch_add(1, Ordering::Relaxed), vm, source })
    }

    /// The function of this name, if it takes keys and arguments.
    fn function(&self, name: &str) -> Option<FunctionId> {
        let id = self.vm.function(name)?;
        let function = self.vm.program().functions.iter().find(|function| &*function.name == name)?;
        (function.parameters == 2).then_some(id)
    }

    /// The names of the functions that clients may call.
    fn functions(&self) -> Vec<String> {
        let all = self.vm.program().functions.iter();
        all.filter(|function| function.parameters == 2).map(|function| function.name.to_string()).collect()
    }

    fn describe(&self, failure: &RuntimeError) -> String {
        let text = described(&self.source, failure.span, &failure.fault.to_string());
        if failure.function.is_empty() { text } else { format!("{text} (in `{}`)", failure.function) }
    }
}

/// A message with the place and the line that it is about.
fn described(source: &Source, span: optimist::flowgraph::Span, message: &str) -> String {
    format!("{}: {message}: {}", source.place(span), source.line_text(source.line(span)).trim())
}

/// What commands called by a running script need, and where their effects are collected meanwhile.
struct Stage {
    server: Arc<Server>,
    client: Arc<Client>,
    effects: Effects,
    db: usize,
    now: i64,
    read_only: bool,
    /// How long the effects were before the first call, and after each. A transactional variable says how many of the calls still
    /// count, since `catch` takes back what the guarded part did.
    marks: Vec<crate::call::Mark>,
}

thread_local! {
    /// The workers of this thread, by script.
    static WORKERS: RefCell<Vec<(u64, Worker)>> = const { RefCell::new(Vec::new()) };
    /// Whether one of them is in an event.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// The most workers that a thread keeps: scripts that are made up for one call each would otherwise fill the memory.
const WORKERS_KEPT: usize = 64;

/// Ends the scripts of this thread's event, which has committed or not.
#[inline]
pub(crate) fn end(committed: bool) {
    if ACTIVE.replace(false) {
        STAGE.with_borrow_mut(|stage| *stage = None);
        WORKERS.with_borrow_mut(|workers| {
            workers.iter_mut().filter(|(_, worker)| worker.is_in_event()).for_each(|(_, worker)| worker.end(committed));
            if workers.len() > WORKERS_KEPT {
                workers.drain(..WORKERS_KEPT / 2);
            }
        });
    }
}

/// Calls `f` with this thread's worker of the script, in an event.
fn with_worker<R>(script: &Script, f: impl FnOnce(&mut Worker) -> R) -> R {
    WORKERS.with_borrow_mut(|workers| {
        let index = workers.iter().position(|(owner, _)| *owner == script.id).unwrap_or_else(|| {
            workers.push((script.id, script.vm.worker()));
            workers.len() - 1
        });
        let worker = &mut workers[index].1;
        if !worker.is_in_event() {
            ACTIVE.set(true);
            worker.begin();
        }
        f(worker)
    })
}

/// How a script ended that did not come to its end.
enum Ended {
    Failed(String),
    Waits,
}

/// Runs a function with keys and arguments, and replies with what it returns.
fn run(call: &mut Call<'_, '_>, script: &Script, function: FunctionId, at: usize, read_only: bool) -> Done {
    let count = match integer(call.arg(at)) {
        Some(count @ 0..) => count as usize,
        Some(_) => return error("ERR Number of keys can't be negative"),
        None => return error(crate::call::NOT_INTEGER),
    };
    let words = &call.args[at + 1..];
    if count > words.len() {
        return error("ERR Number of keys can't be greater than number of args");
    }
    let (keys, arguments) = words.split_at(count);
    let list = |words: &[&[u8]]| Literal::List(words.iter().map(|word| literal(word)).collect());
    let (keys, arguments) = (list(keys), list(arguments));
    let before = call.effects.mark();
    let stage = Stage {
        server: call.server.clone(),
        client: call.client.clone(),
        effects: std::mem::take(call.effects),
        db: call.db,
        now: call.now,
        read_only,
        marks: vec![before],
    };
    let position = &call.client.position;
    position.set(call.tx, 0)?;
    STAGE.set(Some(stage));
    let mut context = Collected::default();
    (context.now, context.seed) = (call.now as f64, crate::random(usize::MAX) as u64);
    let outcome = call.tx.nested(|tx| {
        with_worker(script, |worker| {
            let arguments = [worker.value_of(&script.vm, &keys), worker.value_of(&script.vm, &arguments)];
            match script.vm.call::<Any>(tx.attempt(), worker, function, &arguments, &mut context) {
                Ok(Outcome::Returned(value)) => match script.vm.literal_of(value) {
                    Some(literal) => Ok(literal),
                    None => Err(Interrupt::Error(Ended::Failed(
                        "the script returns something that can change: return a list of what is in it".to_owned(),
                    ))),
                },
                Ok(Outcome::Stopped) => Ok(Literal::None),
                Err(Interruption::Abort(abort)) => Err(Interrupt::Abort(abort)),
                Err(Interruption::Retry(_)) => Err(Interrupt::Error(Ended::Waits)),
                Err(Interruption::Failed(failure)) => Err(Interrupt::Error(Ended::Failed(script.describe(&failure)))),
            }
        })
    });
    let stage = STAGE.take();
    let left = position.get(call.tx);
    if let Some(mut stage) = stage {
        if let Ok(left) = left {
            stage.rewind(left);
        }
        *call.effects = stage.effects;
    }
    // What its commands have logged is in the log; the script itself is not.
    call.own_log = true;
    let failed = |call: &mut Call<'_, '_>, fail| {
        call.effects.roll_back_to(&before);
        Err(fail)
    };
    match outcome? {
        Ok(_) if !context.output.is_empty() || !context.log.is_empty() || !context.queued.is_empty() => {
            error("ERR a script neither prints nor queues events: it returns a value")
        }
        Ok(literal) => {
            reply_with(call.reply, &literal);
            Ok(())
        }
        Err(Ended::Waits) => failed(call, Fail::Block),
        Err(Ended::Failed(text)) => failed(call, Fail::Error(format!("ERR {text}").into())),
    }
}

impl Stage {
    /// Forgets the effects of calls that have been taken back.
    fn rewind(&mut self, calls: u64) {
        let calls = usize::try_from(calls).unwrap_or(usize::MAX).min(self.marks.len() - 1);
        self.effects.roll_back_to(&self.marks[calls]);
        self.marks.truncate(calls + 1);
    }
}

/// `call(command, word, …)`: runs a command within the script's event and gives its reply.
fn call_command(host: &mut HostCall<'_>, words: &[Value]) -> Result<Value, HostError> {
    let mut texts: Vec<Vec<u8>> = Vec::with_capacity(words.len());
    for &word in words {
        texts.push(match host.as_text(word) {
            Some(text) => text.into_bytes(),
            None => host.show(word)?.into_bytes(),
        });
    }
    let words: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    if words.is_empty() {
        return Err("it needs a command".into());
    }
    let command = crate::table::find(&words).map_err(|text| HostError::Failed(text.into_owned()))?;
    let Run::Event(run) = command.run else { return Err("this command is not for scripts".into()) };
    if command.is(flags::NO_SCRIPT) {
        return Err("this command is not for scripts".into());
    }
    let Some(mut stage) = STAGE.take() else { return Err("there is no keyspace here".into()) };
    let result = perform(&mut stage, &mut Tx::new(host.attempt()), command, run, &words);
    STAGE.set(Some(stage));
    let reply = result?;
    let (value, _) = parse(host, &reply.bytes).ok_or("a reply that no script understands")?;
    Ok(value)
}

fn perform(
    stage: &mut Stage,
    tx: &mut Tx<'_>,
    command: &crate::table::Command,
    run: fn(&mut Call<'_, '_>) -> Done,
    words: &[&[u8]],
) -> Result<Reply, HostError> {
    if command.is(flags::WRITE) && stage.read_only {
        return Err("writing is not allowed here".into());
    }
    if let Some(text) = crate::session::refusal(&stage.server, command) {
        return Err(text.into());
    }
    let position = stage.client.position.get(tx)?;
    stage.rewind(position);
    let mut reply = Reply::default();
    let Stage { server, client, effects, db, now, .. } = stage;
    let mut call =
        Call { tx, args: words, reply: &mut reply, server, effects, client, db: *db, now: *now, own_log: false };
    match call.run(run) {
        Ok(()) => {}
        // A command that would wait finds nothing.
        Err(Fail::Block) => reply.null(),
        Err(Fail::Abort(abort)) => return Err(HostError::Abort(abort)),
        Err(Fail::Error(text)) => return Err(HostError::Failed(text.into_owned())),
        Err(Fail::WrongType) => return Err(HostError::Failed(WRONG_TYPE.to_owned())),
    }
    stage.marks.push(stage.effects.mark());
    stage.client.position.set(tx, position + 1)?;
    Ok(reply)
}

fn literal(word: &[u8]) -> Literal {
    match std::str::from_utf8(word) {
        Ok(text) => Literal::string(text),
        Err(_) => Literal::Bytes(word.into()),
    }
}

/// A reply as a value, and what follows it.
fn parse<'a>(host: &mut HostCall<'_>, reply: &'a [u8]) -> Option<(Value, &'a [u8])> {
    let end = reply.windows(2).position(|two| two == b"\r\n")?;
    let (line, rest) = (&reply[1..end], &reply[end + 2..]);
    let length = integer(line);
    Some(match (reply[0], length) {
        (b':', Some(number)) => (host.int(number), rest),
        (b'$' | b'*', Some(-1)) => (host.value(&Literal::None), rest),
        (b'$', Some(length)) => {
            let length = usize::try_from(length).ok()?;
            (host.value(&literal(rest.get(..length)?)), rest.get(length + 2..)?)
        }
        (b'*', Some(length)) => {
            let (mut items, mut rest) = (Vec::new(), rest);
            for _ in 0..length {
                let (item, after) = parse(host, rest)?;
                items.push(item);
                rest = after;
            }
            (host.list(&items), rest)
        }
        (b'+', _) => (host.value(&literal(line)), rest),
        _ => return None,
    })
}

/// Writes a value as a reply.
fn reply_with(reply: &mut Reply, value: &Literal) {
    match value {
        Literal::None => reply.null(),
        Literal::Int(number) => match number.to_i64() {
            Some(number) => reply.integer(number),
            None => reply.text(&value.to_string()),
        },
        Literal::Float(number) => reply.double(*number),
        Literal::Symbol(name) => reply.simple(name),
        Literal::Str(text) => reply.text(text),
        Literal::Bytes(bytes) => reply.bulk(bytes),
        Literal::List(items) => {
            reply.array(items.len());
            items.iter().for_each(|item| reply_with(reply, item));
        }
    }
}

/// The text of a script, which says that it is in this language or does not say in which it is.
fn flow_text(bytes: &[u8]) -> Done<&str> {
    let Ok(text) = std::str::from_utf8(bytes) else { return error("ERR a script is text in UTF-8") };
    match text.strip_prefix("#!").map(|rest| rest.split_whitespace().next().unwrap_or_default()) {
        None | Some("flow") => Ok(text),
        Some(engine) => error(format!("ERR Engine '{engine}' not found: scripts are written in flow")),
    }
}

/// The script of this text, compiled at its first use, and its name.
fn load(call: &mut Call<'_, '_>, text: &[u8]) -> Done<(String, Arc<Script>)> {
    let name = sha1_smol::Sha1::from(text).digest().to_string();
    if let Some(script) = call.server.scripts.get(call.tx, name.as_bytes())? {
        return Ok((name, script));
    }
    let script = Script::compile("script", flow_text(text)?).or_else(|text| error(format!("ERR {text}")))?;
    if script.function("run").is_none() {
        return error("ERR script: it has no function run(keys, args)");
    }
    let script = Arc::new(script);
    call.server.scripts.insert(call.tx, name.as_bytes().into(), script.clone())?;
    Ok((name, script))
}

fn run_script(call: &mut Call<'_, '_>, script: &Script, read_only: bool) -> Done {
    match script.function("run") {
        Some(function) => run(call, script, function, 2, read_only),
        None => error("ERR script: it has no function run(keys, args)"),
    }
}

pub(crate) fn eval(call: &mut Call<'_, '_>) -> Done {
    let (_, script) = load(call, call.args[1])?;
    run_script(call, &script, call.is(0, "EVAL_RO"))
}

pub(crate) fn evalsha(call: &mut Call<'_, '_>) -> Done {
    let name = call.arg(1).to_ascii_lowercase();
    match call.server.scripts.get(call.tx, &*name)? {
        Some(script) => run_script(call, &script, call.is(0, "EVALSHA_RO")),
        None => error("NOSCRIPT No matching script. Please use EVAL."),
    }
}

pub(crate) fn script(call: &mut Call<'_, '_>) -> Done {
    if call.is(1, "LOAD") && call.args.len() == 3 {
        let (name, _) = load(call, call.args[2])?;
        call.reply.text(&name);
    } else if call.is(1, "EXISTS") && call.args.len() > 2 {
        call.reply.array(call.args.len() - 2);
        for name in &call.args[2..] {
            let there = call.server.scripts.contains_key(call.tx, &*name.to_ascii_lowercase())?;
            call.reply.integer(i64::from(there));
        }
    } else if call.is(1, "FLUSH") {
        call.server.scripts.clear(call.tx)?;
        call.reply.ok();
    } else {
        return error(SYNTAX);
    }
    Ok(())
}

pub(crate) fn fcall(call: &mut Call<'_, '_>) -> Done {
    let name = String::from_utf8_lossy(call.args[1]).into_owned();
    let libraries = call.server.libraries.get(call.tx)?;
    let found = libraries.values().find_map(|library| Some((library, library.script.function(&name)?)));
    match found {
        Some((library, function)) => run(call, &library.script, function, 2, call.is(0, "FCALL_RO")),
        None => error("ERR Function not found"),
    }
}

/// Replaces the libraries, and logs the command that does it.
fn change(
    call: &mut Call<'_, '_>,
    mut libraries: Libraries,
    log: &[&[u8]],
    change: impl FnOnce(&mut BTreeMap<String, Arc<Library>>),
) -> Done {
    change(Arc::make_mut(&mut libraries));
    call.server.libraries.set(call.tx, libraries)?;
    call.effects.dirty += 1;
    call.log(log);
    Ok(())
}

/// FUNCTION LOAD, DELETE, LIST, FLUSH.
pub(crate) fn function(call: &mut Call<'_, '_>) -> Done {
    let libraries = call.server.libraries.get(call.tx)?;
    if call.is(1, "LOAD") && (call.args.len() == 3 || call.args.len() == 4 && call.is(2, "REPLACE")) {
        let bytes = call.args[call.args.len() - 1];
        let text = flow_text(bytes)?;
        let head = text.lines().next().filter(|line| line.starts_with("#!"));
        let Some(head) = head else {
            return error("ERR Missing library metadata: the text begins with #!flow name=…");
        };
        let Some(name) = head.split_whitespace().find_map(|word| word.strip_prefix("name=")) else {
            return error("ERR Library name was not given");
        };
        if libraries.contains_key(name) && call.args.len() == 3 {
            return error(format!("ERR Library '{name}' already exists"));
        }
        let script = Script::compile(name, text).or_else(|text| error(format!("ERR {text}")))?;
        let functions = script.functions();
        if functions.is_empty() {
            return error("ERR No functions registered: a function takes keys and args");
        }
        let others = libraries.values().filter(|library| library.name != name);
        for other in others {
            if let Some(taken) = functions.iter().find(|function| other.script.function(function).is_some()) {
                return error(format!("ERR Function {taken} already exists"));
            }
        }
        let library = Library { name: name.to_owned(), text: bytes.into(), script: Arc::new(script) };
        change(call, libraries, &[b"FUNCTION", b"LOAD", b"REPLACE", bytes], |all| {
            all.insert(name.to_owned(), Arc::new(library));
        })?;
        call.reply.text(name);
    } else if call.is(1, "DELETE") && call.args.len() == 3 {
        let name = String::from_utf8_lossy(call.args[2]).into_owned();
        if !libraries.contains_key(&name) {
            return error("ERR Library not found");
        }
        change(call, libraries, call.args, |all| _ = all.remove(&name))?;
        call.reply.ok();
    } else if call.is(1, "FLUSH") && call.args.len() <= 3 {
        change(call, libraries, call.args, BTreeMap::clear)?;
        call.reply.ok();
    } else if call.is(1, "LIST") && call.args.len() <= 3 {
        let with_code = call.is(2, "WITHCODE");
        call.reply.array(libraries.len());
        for library in libraries.values() {
            call.reply.map(3 + usize::from(with_code));
            call.reply.text("library_name");
            call.reply.text(&library.name);
            call.reply.text("engine");
            call.reply.text("FLOW");
            call.reply.text("functions");
            let functions = library.script.functions();
            call.reply.array(functions.len());
            for function in functions {
                call.reply.map(1);
                call.reply.text("name");
                call.reply.text(&function);
            }
            if with_code {
                call.reply.text("library_code");
                call.reply.bulk(&library.text);
            }
        }
    } else {
        return error(SYNTAX);
    }
    Ok(())
}
