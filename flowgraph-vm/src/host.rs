//! Functions of the embedding program that a program may call.

use std::sync::Arc;

use crate::barrier::{self, Abort, Attempt, Protocol};
use crate::builtins::access::{Access, Make};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::program::{Assign, HostFunction, Immediate};
use crate::heap::{Kind, Mutator, Object};
use crate::interpreter::{Machine, Trap};
use crate::literal::Literal;
use crate::value::Value;
use crate::vm::{Shared, make_literal};

/// What a host function may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostKind {
    /// Its result depends on its arguments alone and it changes nothing.
    Pure,
    /// It reads and writes through its [`HostCall`] and through the running transaction only, so that it can be undone and run again.
    Transactional,
    /// It does what cannot be undone. The event is made irrevocable before it is called.
    Irrevocable,
}

/// Why a host function gave no value.
#[derive(Debug)]
pub enum HostError {
    /// It failed; the message becomes the program's error.
    Failed(String),
    /// A transactional access ended the attempt. To be passed on with `?`.
    Abort(Abort),
    /// An access through the [`HostCall`] failed as the same operation in the program would.
    Fault(Fault),
}

impl From<Abort> for HostError {
    fn from(abort: Abort) -> Self {
        HostError::Abort(abort)
    }
}

impl From<String> for HostError {
    fn from(message: String) -> Self {
        HostError::Failed(message)
    }
}

impl From<&str> for HostError {
    fn from(message: &str) -> Self {
        HostError::Failed(message.to_owned())
    }
}

impl From<Trap> for HostError {
    fn from(trap: Trap) -> Self {
        match trap {
            Trap::Abort(abort) => HostError::Abort(abort),
            Trap::Fault(fault) => HostError::Fault(*fault),
            Trap::Retry => HostError::Abort(Abort::Retry),
            Trap::Raise(_) => HostError::Failed("a value was raised".to_owned()),
        }
    }
}

type Function = dyn Fn(&mut HostCall<'_>, &[Value]) -> Result<Value, HostError> + Send + Sync;

/// A function of the embedding program.
#[derive(Clone)]
pub struct Host {
    name: Arc<str>,
    arity: Option<usize>,
    kind: HostKind,
    function: Arc<Function>,
}

impl Host {
    /// A function with this name; `arity` is the number of its arguments, or `None` for any.
    pub fn new(
        name: &str,
        arity: Option<usize>,
        kind: HostKind,
        function: impl Fn(&mut HostCall<'_>, &[Value]) -> Result<Value, HostError> + Send + Sync + 'static,
    ) -> Host {
        Host { name: name.into(), arity, kind, function: Arc::new(function) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the compiler has to know of it; see [`compile_with`](crate::compile_with).
    pub fn signature(&self) -> HostFunction {
        HostFunction { name: self.name.clone(), arity: self.arity, pure: self.kind == HostKind::Pure }
    }
}

/// Transactional access to the heap, whatever the protocol.
trait HostHeap {
    fn attempt(&mut self) -> &mut Attempt;
    fn mutator(&mut self) -> &mut Mutator;
    fn read(&mut self, object: Object, index: usize) -> Result<Value, Trap>;
    fn write(&mut self, object: Object, index: usize, value: Value) -> Result<(), Trap>;
    fn map_get(&mut self, map: Object, key: Value) -> Result<Option<Value>, Trap>;
    fn map_set(&mut self, map: Object, key: Value, value: Value) -> Result<(), Trap>;
    fn format(&mut self, shared: &Shared, value: Value, out: &mut String) -> Result<(), Trap>;
}

impl<P: Protocol> HostHeap for Access<'_, P> {
    fn attempt(&mut self) -> &mut Attempt {
        self.tx
    }

    fn mutator(&mut self) -> &mut Mutator {
        self.heap
    }

    fn read(&mut self, object: Object, index: usize) -> Result<Value, Trap> {
        Access::read(self, object, index)
    }

    fn write(&mut self, object: Object, index: usize, value: Value) -> Result<(), Trap> {
        Access::write(self, object, index, value)
    }

    fn map_get(&mut self, map: Object, key: Value) -> Result<Option<Value>, Trap> {
        Access::map_get(self, map, key)
    }

    fn map_set(&mut self, map: Object, key: Value, value: Value) -> Result<(), Trap> {
        Access::map_set(self, map, key, value)
    }

    fn format(&mut self, shared: &Shared, value: Value, out: &mut String) -> Result<(), Trap> {
        Access::format(self, shared, value, true, out)
    }
}

/// A host function's view of the event that calls it.
///
/// Values that it makes or gets are good until it returns; what is stored in the heap or returned stays.
pub struct HostCall<'a> {
    shared: &'a Shared,
    heap: &'a mut dyn HostHeap,
}

impl HostCall<'_> {
    /// The running transaction's descriptor, to be given to the typed face of the transactions.
    pub fn attempt(&mut self) -> &mut Attempt {
        self.heap.attempt()
    }

    /// The value of a constant.
    pub fn value(&mut self, literal: &Literal) -> Value {
        make_literal(self.heap.mutator(), &self.shared.symbols, literal)
    }

    /// An integer.
    pub fn int(&mut self, int: i64) -> Value {
        self.heap.mutator().make_i64(int)
    }

    /// A float.
    pub fn float(&mut self, float: f64) -> Value {
        self.heap.mutator().make_float(float)
    }

    /// A string.
    pub fn text(&mut self, text: &str) -> Value {
        self.heap.mutator().make_text(text)
    }

    /// An immutable list.
    pub fn list(&mut self, items: &[Value]) -> Value {
        self.heap.mutator().make_list(items)
    }

    /// The integer, if the value is one that fits 64 bits.
    pub fn as_i64(&self, value: Value) -> Option<i64> {
        value.machine_integer()
    }

    /// The number as a float, if the value is one.
    pub fn as_f64(&self, value: Value) -> Option<f64> {
        value.to_f64()
    }

    /// The string, if the value is one.
    pub fn as_text(&self, value: Value) -> Option<String> {
        value.text().map(str::to_owned)
    }

    /// The value as `print` shows it.
    ///
    /// # Errors
    /// Those of reading mutable things.
    pub fn show(&mut self, value: Value) -> Result<String, HostError> {
        let mut text = String::new();
        self.heap.format(self.shared, value, &mut text)?;
        Ok(text)
    }

    fn field(&self, object: Value, field: &str) -> Result<(Object, usize), HostError> {
        let found = object.object_of(Kind::Struct).ok_or("this is not an object")?;
        let name = self.shared.program.names.find(field);
        let place = name.and_then(|name| self.shared.field_place(found.meta().shape(), name));
        Ok((found, place.ok_or_else(|| format!("the object has no field `{field}`"))?))
    }

    /// Reads a field of an object.
    ///
    /// # Errors
    /// When it has none of this name, or the attempt ends.
    pub fn get_field(&mut self, object: Value, field: &str) -> Result<Value, HostError> {
        let (object, place) = self.field(object, field)?;
        Ok(self.heap.read(object, place)?)
    }

    /// Sets a field of an object.
    ///
    /// # Errors
    /// When it has none of this name or is frozen, or the attempt ends.
    pub fn set_field(&mut self, object: Value, field: &str, value: Value) -> Result<(), HostError> {
        let (object, place) = self.field(object, field)?;
        Ok(self.heap.write(object, place, value)?)
    }

    /// The value of a key in a map.
    ///
    /// # Errors
    /// When the value is no map, or the attempt ends.
    pub fn map_get(&mut self, map: Value, key: Value) -> Result<Option<Value>, HostError> {
        let map = map.object_of(Kind::Map).ok_or("this is not a map")?;
        Ok(self.heap.map_get(map, key)?)
    }

    /// Sets the value of a key in a map.
    ///
    /// # Errors
    /// When the value is no map or is frozen, or the attempt ends.
    pub fn map_set(&mut self, map: Value, key: Value, value: Value) -> Result<(), HostError> {
        let map = map.object_of(Kind::Map).ok_or("this is not a map")?;
        Ok(self.heap.map_set(map, key, value)?)
    }

    /// The value of a shared variable.
    ///
    /// # Errors
    /// When there is none of this name, or the attempt ends.
    pub fn shared(&mut self, name: &str) -> Result<Value, HostError> {
        let globals = &self.shared.program.globals;
        let place = globals.iter().position(|global| &*global.name == name);
        let place = place.ok_or_else(|| format!("there is no shared variable `{name}`"))?;
        Ok(self.heap.read(self.shared.globals[place], 0)?)
    }
}

impl Machine<'_> {
    pub(crate) fn call_host<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        assign: &Assign,
        args: &[Value],
    ) -> Result<Value, Trap> {
        let Immediate::Host(number) = assign.immediate else { unreachable!("the lowering gives a host function") };
        let host = &self.shared.hosts[number.index()];
        if host.kind == HostKind::Irrevocable && !barrier::is_irrevocable(tx) {
            return Err(Trap::Abort(Abort::Irrevocable));
        }
        if host.kind == HostKind::Irrevocable {
            barrier::forbid_interrupt(tx);
        }
        let mut access = Access::<P>::new(tx, &mut self.worker.mutator);
        let mut call = HostCall { shared: self.shared, heap: &mut access };
        (host.function)(&mut call, args).map_err(|error| match error {
            HostError::Abort(Abort::Retry) => Trap::Retry,
            HostError::Abort(abort) => Trap::Abort(abort),
            HostError::Fault(fault) => fault.into(),
            HostError::Failed(message) => Fault::HostFunction { name: host.name.clone(), message }.into(),
        })
    }
}
