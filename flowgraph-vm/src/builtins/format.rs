//! Values as text.

use std::fmt::Write;

use super::access::{Access, elements};
use super::array;
use crate::barrier::Protocol;
use crate::flowgraph::fault::Fault;
use crate::heap::{Kind, Object};
use crate::interpreter::Trap;
use crate::literal::{write_bytes, write_float, write_quoted};
use crate::value::Value;
use crate::vm::Shared;

/// Mutable things nested deeper than this are written as `…`: they may contain themselves.
const MUTABLE_DEPTH: usize = 16;
/// The longest text that formatting makes.
const LONGEST: usize = 64 << 20;

/// What is still to be written.
enum Piece {
    Value(Value, usize),
    Text(&'static str),
    Name(std::sync::Arc<str>),
}

impl<P: Protocol> Access<'_, P> {
    /// The value in literal notation; strings as they are if `plain`.
    pub(crate) fn format(&mut self, shared: &Shared, value: Value, plain: bool, out: &mut String) -> Result<(), Trap> {
        if let (true, Some(text)) = (plain, value.text()) {
            out.push_str(text);
            return Ok(());
        }
        // The pieces still to be written, the next one last, so that deep nesting needs no recursion.
        let mut pieces = vec![Piece::Value(value, 0)];
        while let Some(piece) = pieces.pop() {
            if out.len() > LONGEST {
                return Err(Fault::TooLarge { what: "a text", limit: LONGEST }.into());
            }
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => out.push_str(&name),
                Piece::Value(value, depth) => match value.object() {
                    None => format_immediate(shared, value, out),
                    Some(object) => self.format_object(shared, object, depth, &mut pieces, out)?,
                },
            }
        }
        Ok(())
    }

    fn format_object(
        &mut self,
        shared: &Shared,
        object: Object,
        depth: usize,
        pieces: &mut Vec<Piece>,
        out: &mut String,
    ) -> Result<(), Trap> {
        let kind = object.meta().kind();
        // Writing to a string never fails.
        let _ = match kind {
            Kind::Float => write_float(out, f64::from_bits(object.raw(0))),
            Kind::Big => write!(out, "{}", object.value().integer().expect("a big integer is one")),
            Kind::Text => write_quoted(out, object.text(), '"'),
            Kind::Bytes => write_bytes(out, object.bytes()),
            _ => Ok(()),
        };
        if kind == Kind::List {
            row("[", elements(object).collect(), "]", depth, pieces);
            return Ok(());
        }
        let is_mutable = matches!(kind, Kind::Record | Kind::Array | Kind::Queue | Kind::Map | Kind::Struct);
        if is_mutable && depth >= MUTABLE_DEPTH {
            out.push('…');
            return Ok(());
        }
        let depth = depth + 1;
        match kind {
            Kind::Array => {
                let name = match array::Sort::of(object) {
                    array::Sort::Values => "array([",
                    array::Sort::Floats => "f64_array([",
                    array::Sort::Integers => "i64_array([",
                };
                let items = self.array_items(object)?;
                row(name, items, "])", depth, pieces);
            }
            Kind::Queue => {
                let items = self.queue_items(object)?;
                row("queue([", items, "])", depth, pieces);
            }
            Kind::Map => {
                let items = self.map_items(object, &|id| shared.symbols.name(id))?;
                pieces.push(Piece::Text("})"));
                for (i, (key, value)) in items.into_iter().enumerate().rev() {
                    pieces.push(Piece::Value(value, depth));
                    pieces.push(Piece::Text(": "));
                    pieces.push(Piece::Value(key, depth));
                    if i > 0 {
                        pieces.push(Piece::Text(", "));
                    }
                }
                pieces.push(Piece::Text("map({"));
            }
            Kind::Struct => {
                let shape = &shared.program.types[object.meta().shape() as usize];
                pieces.push(Piece::Text(")"));
                for (i, field) in shape.fields.iter().enumerate().rev() {
                    pieces.push(Piece::Value(self.read(object, i)?, depth));
                    pieces.push(Piece::Text("="));
                    pieces.push(Piece::Name(shared.program.names[*field].clone()));
                    if i > 0 {
                        pieces.push(Piece::Text(", "));
                    }
                }
                pieces.push(Piece::Text("("));
                pieces.push(Piece::Name(shape.name.clone()));
            }
            Kind::Record => {
                let header = object.get(0).object().expect("a record has a header");
                pieces.push(Piece::Text(")"));
                for i in (0..header.meta().fields()).rev() {
                    pieces.push(Piece::Value(object.get(1 + i), depth));
                    pieces.push(Piece::Text("="));
                    let name = header.get(i).as_symbol().expect("a header holds symbols");
                    pieces.push(Piece::Name(shared.symbols.name(name)));
                    if i > 0 {
                        pieces.push(Piece::Text(", "));
                    }
                }
                pieces.push(Piece::Text("record("));
            }
            _ => {}
        }
        Ok(())
    }
}

fn row(open: &'static str, items: Vec<Value>, close: &'static str, depth: usize, pieces: &mut Vec<Piece>) {
    pieces.push(Piece::Text(close));
    for (i, item) in items.into_iter().enumerate().rev() {
        pieces.push(Piece::Value(item, depth));
        if i > 0 {
            pieces.push(Piece::Text(", "));
        }
    }
    pieces.push(Piece::Text(open));
}

fn format_immediate(shared: &Shared, value: Value, out: &mut String) {
    // Writing to a string never fails.
    let _ = if let Some(int) = value.as_int() {
        write!(out, "{int}")
    } else if let Some(float) = value.as_immediate_float() {
        write_float(out, float)
    } else if let Some(symbol) = value.as_symbol() {
        write_quoted(out, &shared.symbols.name(symbol), '\'')
    } else if let Some(function) = value.as_function() {
        write!(out, "{}", shared.program.functions[function as usize].name)
    } else if let Some(connection) = value.as_connection() {
        write!(out, "connection({connection})")
    } else {
        write!(out, "none")
    };
}
