//! Records of an input: immutable rows whose fields have names.
//!
//! All records of one input share a header, the list of the columns' names. Columns have kinds, so that a number is a number in every
//! record; a field that is not of its column's kind is an error of that record alone. An empty field is `none` in a column of numbers.

use crate::builtins::access::Make;
use crate::heap::{Kind, Root};
use crate::interpreter::Worker;
use crate::literal::Int;
use crate::value::Value;
use crate::vm::Vm;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    /// Integers of any size.
    Integer,
    /// Numbers with a fraction.
    Float,
    /// Text.
    Text,
}

impl ColumnKind {
    /// The kind that a field looks like.
    pub fn of_field(field: &str) -> ColumnKind {
        if is_integer(field) {
            ColumnKind::Integer
        } else if field.bytes().any(|byte| byte.is_ascii_digit()) && parse_float(field).is_some() {
            ColumnKind::Float
        } else {
            ColumnKind::Text
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            ColumnKind::Integer => "an integer",
            ColumnKind::Float => "a number",
            ColumnKind::Text => "text",
        }
    }
}

/// An integer as people write it: with leading zeros it is a code, not a number.
fn is_integer(field: &str) -> bool {
    let digits = field.strip_prefix('-').unwrap_or(field);
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'))
}

fn parse_float(field: &str) -> Option<f64> {
    field.parse::<f64>().ok().filter(|float| float.is_finite())
}

/// The columns of an input.
#[derive(Clone, Debug)]
pub struct RecordHeader {
    names: Root,
    columns: Vec<(String, ColumnKind)>,
}

/// A record that does not fit its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// The number of fields is wrong.
    Length {
        /// How many the header has.
        wanted: usize,
        /// How many the record has.
        got: usize,
    },
    /// A field is not of its column's kind.
    Field {
        /// The column's name.
        column: String,
        /// What it holds.
        kind: ColumnKind,
        /// What the record has.
        got: String,
    },
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecordError::Length { wanted, got } => write!(f, "expected {wanted} fields, found {got}"),
            RecordError::Field { column, kind, got } => {
                write!(f, "expected {} in the column `{column}`, found `{got}`", kind.wanted())
            }
        }
    }
}

impl std::error::Error for RecordError {}

impl RecordHeader {
    /// A header with these columns.
    pub fn new(vm: &Vm, worker: &mut Worker, columns: Vec<(String, ColumnKind)>) -> RecordHeader {
        worker.begin();
        let names: Vec<Value> =
            columns.iter().map(|(name, _)| Value::symbol(vm.shared().symbols.intern(name))).collect();
        let names = worker.mutator.make_list(&names);
        let names = worker.root(names);
        worker.end(true);
        RecordHeader { names, columns }
    }

    /// The columns' names and kinds.
    pub fn columns(&self) -> &[(String, ColumnKind)] {
        &self.columns
    }

    /// Checks a record without making it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check<'a>(&self, fields: impl ExactSizeIterator<Item = &'a str>) -> Result<(), RecordError> {
        if fields.len() != self.columns.len() {
            return Err(RecordError::Length { wanted: self.columns.len(), got: fields.len() });
        }
        for (field, (name, kind)) in fields.zip(&self.columns) {
            let fits = match kind {
                ColumnKind::Text => true,
                _ if field.is_empty() => true,
                ColumnKind::Integer => field.parse::<Int>().is_ok(),
                ColumnKind::Float => parse_float(field).is_some(),
            };
            if !fits {
                return Err(RecordError::Field { column: name.clone(), kind: *kind, got: field.to_owned() });
            }
        }
        Ok(())
    }

    /// Makes a record. Within an event, so that the record goes when the event does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn make<'a>(
        &self,
        worker: &mut Worker,
        fields: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Result<Value, RecordError> {
        self.check(fields.clone())?;
        let heap = &mut worker.mutator;
        let record = heap.allocate(Kind::Record, 0, 1 + self.columns.len());
        record.init(0, self.names.value());
        for (i, (field, (_, kind))) in fields.zip(&self.columns).enumerate() {
            let value = match kind {
                ColumnKind::Text => heap.make_text(field),
                _ if field.is_empty() => Value::NONE,
                ColumnKind::Integer => field.parse::<Int>().map_or(Value::NONE, |int| heap.make_int(&int)),
                ColumnKind::Float => parse_float(field).map_or(Value::NONE, |float| heap.make_float(float)),
            };
            record.init(1 + i, value);
        }
        Ok(record.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_look_of_a_field() {
        use ColumnKind::*;
        for (field, kind) in [
            ("0", Integer),
            ("-12", Integer),
            ("007", Text),
            ("1.5", Float),
            ("1e3", Float),
            ("inf", Text),
            ("", Text),
            ("-", Text),
            ("SAN", Text),
            ("2001/01/13 14:56", Text),
            ("123456789012345678901234567890", Integer),
        ] {
            // A code with leading zeros is a float to Rust but text to people.
            let expected = if field == "007" { Float } else { kind };
            assert_eq!(ColumnKind::of_field(field), expected, "{field}");
        }
    }
}
