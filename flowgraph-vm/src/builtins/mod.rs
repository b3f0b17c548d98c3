//! What each operation does, for every kind of operand: the one place where the interpreter's fallback, and compiled code's, end up.

pub(crate) mod access;
pub(crate) mod array;
mod format;
mod lists;
mod map;
mod numbers;
pub(crate) mod order;
mod queue;
mod text;
mod work;

use std::time::Duration;

use access::{Access, Make, elements, kind_of};
use array::Sort;

use crate::barrier::{Attempt, Protocol};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{Assign, FunctionId, Immediate};
use crate::heap::{Kind, Object, Root};
use crate::interpreter::context::{Condition, EventSource, Input, QueuedCall};
use crate::interpreter::{Machine, Trap};
use crate::value::Value;

fn wrong(what: &'static str, wanted: &'static str, got: Value) -> Trap {
    Fault::WrongKind { what, wanted, got: kind_of(got) }.into()
}

/// The object of this kind, or what the operation says when it is none.
fn of_kind(what: Op, wanted: &'static str, kind: Kind, value: Value) -> Result<Object, Trap> {
    value.object_of(kind).ok_or_else(|| wrong(what.name(), wanted, value))
}

/// The place that an index names in something of this length.
fn place(index: Value, length: usize) -> Result<usize, Trap> {
    let int = index.integer().ok_or_else(|| Trap::from(Fault::NotAnIndex { kind: kind_of(index) }))?;
    let place = int.to_i64().and_then(|index| usize::try_from(index).ok()).filter(|place| *place < length);
    place.ok_or_else(|| Fault::IndexOutOfRange { index: int.to_string(), length }.into())
}

impl Machine<'_> {
    /// Counts the steps of an operation that works on much.
    #[inline]
    pub(crate) fn count_work(&mut self, op: Op, args: &[Value]) {
        let steps = work::work(op, args);
        if steps > 0 {
            self.worker.mutator.burn(steps);
        }
    }

    fn heap_access<'b, P: Protocol>(&'b mut self, tx: &'b mut Attempt) -> Access<'b, P> {
        Access::new(tx, &mut self.worker.mutator)
    }

    /// Carries out an operation. Whatever it allocates need not be rooted: no safepoint lies within an operation.
    pub(crate) fn perform<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        assign: &Assign,
        args: &[Value],
    ) -> Result<Value, Trap> {
        let shared = self.shared;
        let symbols = |id: u32| shared.symbols.name(id);
        let op = assign.op;
        macro_rules! heap {
            () => {
                self.heap_access::<P>(tx)
            };
        }
        macro_rules! mutator {
            () => {
                &mut self.worker.mutator
            };
        }
        let value = match (op, args) {
            (Op::Same | Op::PromoteHint, [value]) => *value,
            (Op::Add | Op::Sub | Op::Mul | Op::FloorDiv | Op::Modulo | Op::Div, [a, b]) => {
                numbers::arithmetic(mutator!(), op, *a, *b)?
            }
            (Op::Neg, [value]) => numbers::negate(mutator!(), *value)?,
            (Op::Eq, [a, b]) => Value::truth(order::equal(*a, *b)),
            (Op::Ne, [a, b]) => Value::truth(!order::equal(*a, *b)),
            (Op::Ge | Op::Gt | Op::Le | Op::Lt, [a, b]) => Value::truth(order::compare(op, *a, *b)?),
            (Op::ReadList, [collection, index]) => self.index::<P>(tx, *collection, *index)?,

            (Op::Kind, [value]) => self.kind_symbol(*value),
            (Op::ToInt, [value]) => numbers::to_int(mutator!(), *value)?,
            (Op::ToFloat, [value]) => numbers::to_float(mutator!(), *value)?,
            (Op::ToStr, values) => {
                let text = self.text_of::<P>(tx, values, "")?;
                self.worker.mutator.make_text(&text)
            }
            (Op::Repr, [value]) => {
                let mut text = String::new();
                heap!().format(shared, *value, false, &mut text)?;
                self.worker.mutator.make_text(&text)
            }
            (Op::ToSymbol, [value]) => match (value.text(), value.as_symbol()) {
                (Some(text), _) => Value::symbol(shared.symbols.intern(text)),
                (None, Some(_)) => *value,
                _ => return Err(wrong("symbol", "a string", *value)),
            },
            (Op::ToBytes, [value]) => text::to_bytes(mutator!(), *value)?,
            (Op::Decode, [value]) => text::decode(mutator!(), *value)?,
            (Op::IsInt, [value]) => Value::truth(value.is_int() || value.object_of(Kind::Big).is_some()),
            (Op::IsFloat, [value]) => Value::truth(value.float_value().is_some()),
            (Op::IsStr, [value]) => Value::truth(value.text().is_some()),

            (Op::Abs, [value]) => numbers::abs(mutator!(), *value)?,
            (Op::Min | Op::Max, [collection]) => {
                let items = self.items::<P>(tx, op, *collection)?;
                if items.is_empty() {
                    let value = "an empty collection".to_owned();
                    return Err(Fault::OutOfBounds { what: op.name(), value, wanted: "one with elements" }.into());
                }
                return self.perform::<P>(tx, assign, &if let [only] = items[..] { vec![only, only] } else { items });
            }
            (Op::Min | Op::Max, [first, rest @ ..]) => {
                let closer = if op == Op::Min { Op::Lt } else { Op::Gt };
                let mut best = *first;
                for value in rest {
                    if order::compare(closer, *value, best)? {
                        best = *value;
                    }
                }
                best
            }
            (Op::Pow, [a, b]) => numbers::pow(mutator!(), *a, *b)?,
            (Op::Sqrt | Op::Exp | Op::Ln | Op::Sin | Op::Cos | Op::Tan | Op::Asin | Op::Acos | Op::Atan, [value]) => {
                numbers::function(mutator!(), op, *value)?
            }
            (Op::Isqrt, [value]) => numbers::isqrt(mutator!(), *value)?,
            (Op::Atan2, [y, x]) => numbers::atan2(mutator!(), *y, *x)?,
            (Op::Floor | Op::Ceil | Op::Round, [value]) => numbers::to_whole(mutator!(), op, *value)?,
            (Op::BitAnd | Op::BitOr | Op::BitXor, [a, b]) => numbers::bits(mutator!(), op, *a, *b)?,
            (Op::ShiftLeft | Op::ShiftRight, [a, b]) => numbers::shift(mutator!(), op, *a, *b)?,

            (Op::List, items) => self.worker.mutator.make_list(items),
            (Op::Concat, [a, b]) => {
                let mut items = self.items::<P>(tx, op, *a)?;
                let more = self.items::<P>(tx, op, *b)?;
                self.worker.mutator.check_size(8 * (items.len() + more.len()))?;
                items.extend(more);
                self.worker.mutator.make_list(&items)
            }
            (Op::Len, [value]) => self.length::<P>(tx, *value)?,
            (Op::Slice, [value, from, rest @ ..]) => lists::slice(mutator!(), *value, *from, rest.first().copied())?,
            (Op::Contains, [value, part]) => self.contains::<P>(tx, *value, *part)?,
            (Op::Find, [value, part]) => lists::find(*value, *part)?,
            (Op::Sort, [value]) => {
                let mut items = self.items::<P>(tx, op, *value)?;
                lists::sort(&mut items, &symbols)?;
                self.worker.mutator.make_list(&items)
            }
            (Op::Reverse, [value]) => match (value.text(), value.byte_string()) {
                (Some(text), _) => self.worker.mutator.make_text(&text.chars().rev().collect::<String>()),
                (_, Some(bytes)) => self.worker.mutator.make_bytes(&bytes.iter().rev().copied().collect::<Vec<u8>>()),
                _ => {
                    let mut items = self.items::<P>(tx, op, *value)?;
                    items.reverse();
                    self.worker.mutator.make_list(&items)
                }
            },
            (Op::Sum, [value]) => {
                let mut sum = Value::ZERO;
                for item in self.items::<P>(tx, op, *value)? {
                    sum = numbers::arithmetic(mutator!(), Op::Add, sum, item)?;
                }
                sum
            }
            (Op::Split, [value, rest @ ..]) => text::split(mutator!(), *value, rest.first().copied())?,
            (Op::Join, [list, between]) => {
                let items = self.items::<P>(tx, op, *list)?;
                if let Some(between) = between.byte_string() {
                    return text::join_bytes(mutator!(), &items, between);
                }
                let between = text::string(op, *between)?;
                let joined = self.text_of::<P>(tx, &items, between)?;
                self.worker.mutator.make_text(&joined)
            }
            (Op::Upper | Op::Lower | Op::Trim, [value]) => text::convert(mutator!(), op, *value)?,
            (Op::Repeat, [value, times]) => text::repeat(mutator!(), *value, *times)?,
            (Op::Replace, [value, old, new]) => text::replace(mutator!(), *value, *old, *new)?,
            (Op::StartsWith | Op::EndsWith, [value, part]) => text::has_end(op, *value, *part)?,
            (Op::PadLeft | Op::PadRight, [value, width]) => {
                let content = self.text_of::<P>(tx, &[*value], "")?;
                text::pad(mutator!(), op, &content, *width)?
            }
            (Op::Fixed, [value, digits]) => {
                let digits = numbers::size("a number of digits", *digits, 1000)?;
                let text = numbers::fixed(*value, digits)?;
                self.worker.mutator.make_text(&text)
            }
            (Op::Ord, [value]) => text::code(*value)?,
            (Op::Chr, [value]) => text::character(mutator!(), *value)?,

            (Op::Construct, fields) => {
                let Immediate::Type(shape) = assign.immediate else { unreachable!("the lowering gives a type") };
                let object = self.worker.mutator.allocate(Kind::Struct, shape.0 as u16, fields.len());
                fields.iter().enumerate().for_each(|(i, field)| object.init(i, *field));
                object.value()
            }
            (Op::GetField, [object]) => self.get_field::<P>(tx, assign, *object)?,
            (Op::SetField, [object, value]) => {
                let (place, object) = self.struct_field(assign, *object)?;
                heap!().write(object, place, *value)?;
                Value::NONE
            }

            (Op::Array, args) => self.make_array::<P>(tx, Sort::Values, Value::NONE, args)?,
            (Op::FloatArray, args) => {
                self.make_array::<P>(tx, Sort::Floats, Value::float(0.0).unwrap_or(Value::ZERO), args)?
            }
            (Op::IntArray, args) => self.make_array::<P>(tx, Sort::Integers, Value::ZERO, args)?,
            (Op::Map, []) => heap!().new_map().value(),
            (Op::Queue, []) => heap!().new_queue(),
            (Op::SetIndex, [collection, key, value]) => {
                self.set_index::<P>(tx, *collection, *key, *value)?;
                Value::NONE
            }
            (Op::Get, [map, key, rest @ ..]) => {
                let map = of_kind(op, "a map", Kind::Map, *map)?;
                let found = heap!().map_get(map, *key)?;
                found.unwrap_or(rest.first().copied().unwrap_or(Value::NONE))
            }
            (Op::Has, [map, key]) => {
                let map = of_kind(op, "a map", Kind::Map, *map)?;
                Value::truth(heap!().map_has(map, *key)?)
            }
            (Op::Remove, [map, key]) => {
                let map = of_kind(op, "a map", Kind::Map, *map)?;
                heap!().map_remove(map, *key)?.unwrap_or(Value::NONE)
            }
            (Op::Keys, [map]) => {
                let map = of_kind(op, "a map", Kind::Map, *map)?;
                let keys: Vec<Value> = heap!().map_items(map, &symbols)?.into_iter().map(|(key, _)| key).collect();
                self.worker.mutator.make_list(&keys)
            }
            (Op::Values, [map]) => {
                let map = of_kind(op, "a map", Kind::Map, *map)?;
                let values: Vec<Value> =
                    heap!().map_items(map, &symbols)?.into_iter().map(|(_, value)| value).collect();
                self.worker.mutator.make_list(&values)
            }
            (Op::Items, [value]) => match value.object_of(Kind::Map) {
                Some(map) => heap!().map_items_list(map, &symbols)?,
                None => {
                    let items = self.items::<P>(tx, op, *value)?;
                    self.worker.mutator.make_list(&items)
                }
            },
            (Op::Iterate, [value]) => {
                let object = value.object();
                match object.map(|object| object.meta().kind()) {
                    Some(Kind::List | Kind::Array) => *value,
                    _ => {
                        let items = self.iterated::<P>(tx, *value)?;
                        self.worker.mutator.make_list(&items)
                    }
                }
            }
            (Op::Push, [queue, value]) => {
                let queue = of_kind(op, "a queue", Kind::Queue, *queue)?;
                heap!().queue_push(queue, *value)?;
                Value::NONE
            }
            (Op::Pop, [queue]) => {
                let queue = of_kind(op, "a queue", Kind::Queue, *queue)?;
                heap!().queue_pop(queue)?.unwrap_or(Value::NONE)
            }
            (Op::Peek, [queue]) => {
                let queue = of_kind(op, "a queue", Kind::Queue, *queue)?;
                heap!().queue_peek(queue)?.unwrap_or(Value::NONE)
            }
            (Op::Clear, [collection]) => {
                match collection.object().map(|object| (object.meta().kind(), object)) {
                    Some((Kind::Map, map)) => heap!().map_clear(map)?,
                    Some((Kind::Queue, queue)) => heap!().queue_clear(queue)?,
                    _ => return Err(wrong("clear", "a map or a queue", *collection)),
                }
                Value::NONE
            }
            (Op::Freeze, [value]) => {
                self.freeze::<P>(tx, *value)?;
                *value
            }

            (Op::GetGlobal, []) => heap!().read(shared.globals[global(assign)], 0)?,
            (Op::SetGlobal, [value]) => {
                heap!().write(shared.globals[global(assign)], 0, *value)?;
                Value::NONE
            }

            (Op::CallHost, args) => self.call_host::<P>(tx, assign, args)?,
            (Op::AddEvent, args) => self.add_event(assign, None, args)?,
            (Op::AddAfter, [delay, args @ ..]) => {
                let delay = numbers::milliseconds(*delay)?;
                self.add_event(assign, Some(delay), args)?
            }
            (Op::Connections | Op::Lines | Op::Chunks, [of, args @ ..]) => {
                let Immediate::Each(function, place) = assign.immediate else { unreachable!("the lowering gives one") };
                let source = event_source(op, *of)?;
                let call = self.queued(assign, function, None, args);
                self.context.each(tx, source, call, place as usize)?;
                Value::NONE
            }
            (Op::Readable | Op::Closed, [of, args @ ..]) => {
                let Immediate::Function(function) = assign.immediate else { unreachable!("the lowering gives one") };
                let connection = connection_of(op, *of)?;
                let condition = if op == Op::Readable { Condition::Readable } else { Condition::Closed };
                let call = self.queued(assign, function, None, args);
                self.context.when(tx, condition, connection, call)?;
                Value::NONE
            }

            (Op::Now, []) => {
                let now = self.context.now();
                self.worker.mutator.make_float(now)
            }
            (Op::Random, []) => {
                let bits = self.context.random();
                self.worker.mutator.make_float((bits >> 11) as f64 / (1_u64 << 53) as f64)
            }
            (Op::Random, [bound]) => {
                let bound = numbers::size("the bound of a random integer", *bound, i64::MAX as usize)?;
                if bound == 0 {
                    return Err(Fault::OutOfBounds {
                        what: "the bound of a random integer",
                        value: "0".to_owned(),
                        wanted: "1 or more",
                    }
                    .into());
                }
                let wide = self.context.random() as u128 * bound as u128;
                self.worker.mutator.make_i64((wide >> 64) as i64)
            }
            (Op::EventNumber, []) => {
                let number = self.context.event_number();
                self.worker.mutator.make_i64(number as i64)
            }

            (Op::Print | Op::Log, values) => {
                let line = self.text_of::<P>(tx, values, " ")?;
                self.count_output(line.len() + 1)?;
                if op == Op::Print {
                    self.context.print(&line)?
                } else {
                    self.context.log(&line)?
                }
                Value::NONE
            }
            (Op::WriteFile, [name, content]) => {
                let name = text::string(op, *name)?;
                let bytes = text::content(op, *content)?;
                self.count_output(bytes.len())?;
                self.context.write_file(name, bytes)?;
                Value::NONE
            }
            (Op::Send, [connection, content]) => {
                let connection = connection_of(op, *connection)?;
                let bytes = text::content(op, *content)?;
                self.count_output(bytes.len())?;
                self.context.send(tx, connection, bytes)?;
                Value::NONE
            }
            (Op::Receive, [connection]) => match self.context.receive(tx, connection_of(op, *connection)?)? {
                Some(bytes) => {
                    self.worker.mutator.check_size(bytes.len())?;
                    self.worker.mutator.make_bytes(&bytes)
                }
                None => Value::NONE,
            },
            (Op::Close, [connection]) => {
                self.context.close(connection_of(op, *connection)?)?;
                Value::NONE
            }
            (Op::Peer, [connection]) => {
                let peer = self.context.peer(connection_of(op, *connection)?)?;
                self.worker.mutator.make_text(&peer)
            }

            (Op::Assert, [condition, rest @ ..]) => {
                if !condition.is_true() {
                    let message = match rest {
                        [] => "the assertion does not hold".to_owned(),
                        rest => self.text_of::<P>(tx, rest, " ")?,
                    };
                    return Err(Fault::Assertion { message }.into());
                }
                Value::NONE
            }
            (op, args) => unreachable!("`{}` with {} operands passed the verifier", op.name(), args.len()),
        };
        Ok(value)
    }

    /// The values as text, strings as they are.
    fn text_of<P: Protocol>(&mut self, tx: &mut Attempt, values: &[Value], between: &str) -> Result<String, Trap> {
        let shared = self.shared;
        let mut text = String::new();
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                text.push_str(between);
            }
            self.heap_access::<P>(tx).format(shared, *value, true, &mut text)?;
        }
        Ok(text)
    }

    fn kind_symbol(&self, value: Value) -> Value {
        let name = match value.object().map(|object| object.meta()) {
            None if value.is_int() => "int",
            None if value.is_immediate_float() => "float",
            None if value.as_symbol().is_some() => "symbol",
            None if value.as_connection().is_some() => "connection",
            None => "none",
            Some(meta) => match meta.kind() {
                Kind::Text => "str",
                Kind::Struct => &self.shared.program.types[meta.shape() as usize].name,
                kind => kind.name(),
            },
        };
        Value::symbol(self.shared.symbols.intern(name))
    }

    /// `collection[index]`.
    fn index<P: Protocol>(&mut self, tx: &mut Attempt, collection: Value, index: Value) -> Result<Value, Trap> {
        let not_indexable = || Trap::from(Fault::NotIndexable { kind: kind_of(collection) });
        let object = collection.object().ok_or_else(not_indexable)?;
        match object.meta().kind() {
            Kind::List => Ok(object.get(place(index, object.meta().fields())?)),
            Kind::Array => {
                let place = place(index, array::length(object))?;
                self.heap_access::<P>(tx).array_get(object, place)
            }
            Kind::Map => match self.heap_access::<P>(tx).map_get(object, index)? {
                Some(value) => Ok(value),
                None => {
                    let (shared, mut key) = (self.shared, String::new());
                    self.heap_access::<P>(tx).format(shared, index, false, &mut key)?;
                    Err(Fault::KeyNotFound { key }.into())
                }
            },
            Kind::Text => text::character_at(&mut self.worker.mutator, object.text(), index),
            Kind::Bytes => {
                let bytes = object.bytes();
                Ok(Value::small(bytes[place(index, bytes.len())?] as i64))
            }
            Kind::Record => {
                let name = match (index.as_symbol(), index.text()) {
                    (Some(symbol), _) => symbol,
                    (None, Some(text)) => self.shared.symbols.intern(text),
                    _ => return Ok(object.get(1 + place(index, object.meta().fields() - 1)?)),
                };
                record_field(object, name).ok_or_else(|| self.no_record_field(&self.shared.symbols.name(name)))
            }
            _ => Err(not_indexable()),
        }
    }

    fn no_record_field(&self, field: &str) -> Trap {
        Fault::NoField { type_name: "record".into(), field: field.into() }.into()
    }

    fn set_index<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        collection: Value,
        key: Value,
        value: Value,
    ) -> Result<(), Trap> {
        match collection.object().map(|object| (object.meta().kind(), object)) {
            Some((Kind::Map, map)) => self.heap_access::<P>(tx).map_set(map, key, value),
            Some((Kind::Array, array)) => {
                let place = place(key, array::length(array))?;
                self.heap_access::<P>(tx).array_set(array, place, value)
            }
            Some((Kind::List | Kind::Text | Kind::Bytes | Kind::Record, _)) => {
                Err(wrong("an assignment to an element", "an array or a map", collection))
            }
            _ => Err(Fault::NotIndexable { kind: kind_of(collection) }.into()),
        }
    }

    fn field_name(&self, assign: &Assign) -> std::sync::Arc<str> {
        let Immediate::Field(name) = assign.immediate else { unreachable!("the lowering gives a field") };
        self.shared.program.names[name].clone()
    }

    /// The struct, and where its field is.
    fn struct_field(&self, assign: &Assign, value: Value) -> Result<(usize, Object), Trap> {
        let Immediate::Field(name) = assign.immediate else { unreachable!("the lowering gives a field") };
        let Some(object) = value.object_of(Kind::Struct) else {
            return Err(Fault::NotAnObject { kind: kind_of(value), field: self.field_name(assign) }.into());
        };
        match self.shared.field_place(object.meta().shape(), name) {
            Some(place) => Ok((place, object)),
            None => {
                let type_name = self.shared.program.types[object.meta().shape() as usize].name.clone();
                Err(Fault::NoField { type_name, field: self.field_name(assign) }.into())
            }
        }
    }

    fn get_field<P: Protocol>(&mut self, tx: &mut Attempt, assign: &Assign, value: Value) -> Result<Value, Trap> {
        if let (Some(record), Immediate::Field(name)) = (value.object_of(Kind::Record), assign.immediate) {
            let symbol = self.shared.name_symbols[name.index()];
            return record_field(record, symbol).ok_or_else(|| self.no_record_field(&self.field_name(assign)));
        }
        let (place, object) = self.struct_field(assign, value)?;
        self.heap_access::<P>(tx).read(object, place)
    }

    fn make_array<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        sort: Sort,
        zero: Value,
        args: &[Value],
    ) -> Result<Value, Trap> {
        match *args {
            [content] if content.integer().is_none() => {
                let op = match sort {
                    Sort::Values => Op::Array,
                    Sort::Floats => Op::FloatArray,
                    Sort::Integers => Op::IntArray,
                };
                let items = self.items::<P>(tx, op, content)?;
                self.heap_access::<P>(tx).array_of(sort, &items)
            }
            [length, ref rest @ ..] => {
                let length = numbers::size("an array", length, array::LONGEST)?;
                self.heap_access::<P>(tx).new_array(sort, length, rest.first().copied().unwrap_or(zero))
            }
            [] => unreachable!("the verifier counts operands"),
        }
    }

    /// The elements of a collection; of a map, lists of key and value in the order of the keys.
    fn items<P: Protocol>(&mut self, tx: &mut Attempt, op: Op, value: Value) -> Result<Vec<Value>, Trap> {
        let shared = self.shared;
        // A loop with two variables asks for the same as `items`.
        let what = if op == Op::Items { "going over pairs" } else { op.name() };
        let wrong = || wrong(what, "a list, array, map or queue", value);
        let Some(object) = value.object() else { return Err(wrong()) };
        match object.meta().kind() {
            Kind::List => Ok(elements(object).collect()),
            Kind::Array => self.heap_access::<P>(tx).array_items(object),
            Kind::Queue => self.heap_access::<P>(tx).queue_items(object),
            Kind::Map => {
                let list = self.heap_access::<P>(tx).map_items_list(object, &|id| shared.symbols.name(id))?;
                Ok(list.object().map(elements).into_iter().flatten().collect())
            }
            Kind::Text => Ok(text::characters(&mut self.worker.mutator, object.text())),
            Kind::Bytes => Ok(object.bytes().iter().map(|byte| Value::small(*byte as i64)).collect()),
            Kind::Record => Ok((1..object.meta().fields()).map(|i| object.get(i)).collect()),
            _ => Err(wrong()),
        }
    }

    /// What `for` goes over: the elements, but of a map the keys.
    fn iterated<P: Protocol>(&mut self, tx: &mut Attempt, value: Value) -> Result<Vec<Value>, Trap> {
        let shared = self.shared;
        match value.object_of(Kind::Map) {
            Some(map) => {
                let items = self.heap_access::<P>(tx).map_items(map, &|id| shared.symbols.name(id))?;
                Ok(items.into_iter().map(|(key, _)| key).collect())
            }
            None if value.object().is_some_and(|object| !object.meta().is(Kind::Struct)) => {
                self.items::<P>(tx, Op::Items, value)
            }
            None => Err(wrong("for", "a list, array, map, queue or string", value)),
        }
    }

    fn length<P: Protocol>(&mut self, tx: &mut Attempt, value: Value) -> Result<Value, Trap> {
        let Some(object) = value.object() else { return Err(wrong("len", "something with elements", value)) };
        let length = match object.meta().kind() {
            Kind::List => object.meta().fields(),
            Kind::Record => object.meta().fields() - 1,
            Kind::Text => object.text().chars().count(),
            Kind::Bytes => object.bytes().len(),
            Kind::Array => array::length(object),
            Kind::Map => self.heap_access::<P>(tx).map_len(object)?,
            Kind::Queue => self.heap_access::<P>(tx).queue_items(object)?.len(),
            _ => return Err(wrong("len", "something with elements", value)),
        };
        Ok(Value::small(length as i64))
    }

    fn contains<P: Protocol>(&mut self, tx: &mut Attempt, value: Value, part: Value) -> Result<Value, Trap> {
        match value.object().map(|object| (object.meta().kind(), object)) {
            Some((Kind::Map, map)) => Ok(Value::truth(self.heap_access::<P>(tx).map_has(map, part)?)),
            Some((Kind::Array | Kind::Queue, _)) => {
                let items = self.items::<P>(tx, Op::Items, value)?;
                Ok(Value::truth(items.into_iter().any(|item| order::equal(item, part))))
            }
            _ => Ok(Value::truth(lists::find(value, part)? != Value::small(-1))),
        }
    }

    /// Makes everything that can be reached from the value immutable.
    fn freeze<P: Protocol>(&mut self, tx: &mut Attempt, value: Value) -> Result<(), Trap> {
        let mut open = vec![value];
        let mut seen = rustc_hash::FxHashSet::default();
        while let Some(value) = open.pop() {
            let Some(object) = value.object() else { continue };
            let meta = object.meta();
            if meta.is_frozen() || !seen.insert(object.address()) {
                continue;
            }
            if meta.has_values() {
                for i in 0..meta.fields() {
                    let field =
                        if meta.has_header() { self.heap_access::<P>(tx).read(object, i)? } else { object.get(i) };
                    open.push(field);
                }
            }
            if meta.has_header() {
                self.heap_access::<P>(tx).freeze(object)?;
            }
        }
        Ok(())
    }

    fn add_event(&mut self, assign: &Assign, delay: Option<Duration>, args: &[Value]) -> Result<Value, Trap> {
        let Immediate::Function(function) = assign.immediate else { unreachable!("the lowering gives a function") };
        let call = self.queued(assign, function, delay, args);
        self.context.add(call)?;
        Ok(Value::NONE)
    }

    fn queued(&mut self, assign: &Assign, function: FunctionId, delay: Option<Duration>, args: &[Value]) -> QueuedCall {
        let arguments: Vec<Root> = args.iter().map(|value| self.worker.mutator.root(*value)).collect();
        QueuedCall { function, arguments, delay, span: assign.span }
    }
}

fn connection_of(op: Op, value: Value) -> Result<u32, Trap> {
    value.as_connection().ok_or_else(|| wrong(op.name(), "a connection", value))
}

/// The source that an operation of [`Notation::Each`](crate::flowgraph::op::Notation::Each) names.
fn event_source(op: Op, of: Value) -> Result<EventSource, Trap> {
    match (op, of.as_connection(), of.text()) {
        (Op::Connections, _, Some(address)) => Ok(EventSource::Connections(address.to_owned())),
        (Op::Connections, ..) => Err(wrong("connections", "an address such as \"127.0.0.1:7000\"", of)),
        (Op::Lines, Some(connection), _) => Ok(EventSource::Lines(Input::Connection(connection))),
        (Op::Lines, _, Some(name)) => Ok(EventSource::Lines(Input::File(name.to_owned()))),
        (_, Some(connection), _) => Ok(EventSource::Chunks(Input::Connection(connection))),
        (_, _, Some(name)) => Ok(EventSource::Chunks(Input::File(name.to_owned()))),
        _ => Err(wrong(op.name(), "a connection or the name of a file", of)),
    }
}

fn global(assign: &Assign) -> usize {
    let Immediate::Global(global) = assign.immediate else { unreachable!("the lowering gives a shared variable") };
    global.index()
}

/// The value of a record's field.
fn record_field(record: Object, name: u32) -> Option<Value> {
    record_place(record, name, 0).map(|place| record.get(1 + place))
}

/// The place of a record's field, which may be at `guess`.
pub(crate) fn record_place(record: Object, name: u32, guess: usize) -> Option<usize> {
    let (header, name) = (record.get(0).object()?, Value::symbol(name));
    let columns = header.meta().fields();
    if guess < columns && header.get(guess) == name {
        return Some(guess);
    }
    elements(header).position(|field| field == name)
}
