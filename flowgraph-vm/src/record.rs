//! Records of an input: immutable rows whose fields have names.
//!
//! All records of one input share a header, the list of the columns' names. Columns have kinds, so that a number is a number in every
//! record; a field that is not of its column's kind is an error of that record alone. An empty field is `none` in a column of numbers.

use std::ops::Range;
use std::sync::Arc;

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
}

/// Records that have been read and not been made: their fields, checked and converted, in one piece of memory.
#[derive(Clone, Debug)]
pub struct Rows {
    header: Arc<RecordHeader>,
    fields: Vec<Field>,
    /// The fields that are text, and integers that do not fit a word.
    text: String,
}

/// A field of a row. Ranges are of the rows' text.
#[derive(Clone, Debug)]
enum Field {
    Missing,
    Integer(i64),
    Large(Range<u32>),
    Float(f64),
    Text(Range<u32>),
}

impl Rows {
    /// No rows, of records with this header.
    #[must_use]
    pub fn new(header: &Arc<RecordHeader>) -> Rows {
        Rows { header: header.clone(), fields: Vec::new(), text: String::new() }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Arc<RecordHeader> {
        &self.header
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len() / self.header.columns.len().max(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends a record, unless something is wrong with it.
    ///
    /// # Errors
    /// What is wrong with it.
    ///
    /// # Panics
    /// If there are four gigabytes of text.
    pub fn push<'a>(&mut self, fields: impl Iterator<Item = &'a str> + Clone) -> Result<(), RecordError> {
        let (wanted, got) = (self.header.columns.len(), fields.clone().count());
        if wanted != got {
            return Err(RecordError::Length { wanted, got });
        }
        let before = (self.fields.len(), self.text.len());
        for (index, field) in fields.enumerate() {
            match self.read(self.header.columns[index].1, field) {
                Some(field) => self.fields.push(field),
                None => {
                    self.fields.truncate(before.0);
                    self.text.truncate(before.1);
                    let (column, kind) = self.header.columns[index].clone();
                    return Err(RecordError::Field { column, kind, got: field.to_owned() });
                }
            }
        }
        Ok(())
    }

    /// A field of a column of this kind, unless it is of another.
    fn read(&mut self, kind: ColumnKind, field: &str) -> Option<Field> {
        if field.is_empty() && kind != ColumnKind::Text {
            return Some(Field::Missing);
        }
        match kind {
            ColumnKind::Integer => match field.parse() {
                Ok(small) => Some(Field::Integer(small)),
                Err(_) => field.parse::<Int>().ok().map(|_| Field::Large(self.keep(field))),
            },
            ColumnKind::Float => parse_float(field).map(Field::Float),
            ColumnKind::Text => Some(Field::Text(self.keep(field))),
        }
    }

    fn keep(&mut self, text: &str) -> Range<u32> {
        let end = |text: &str| u32::try_from(text.len()).expect("less than four gigabytes of text");
        let start = end(&self.text);
        self.text.push_str(text);
        start..end(&self.text)
    }

    fn kept(&self, range: &Range<u32>) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }

    /// Makes the record of a row. Within an event, so that the record goes when the event does.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn make(&self, worker: &mut Worker, row: usize) -> Value {
        let width = self.header.columns.len();
        let heap = &mut worker.mutator;
        let record = heap.allocate(Kind::Record, 0, 1 + width);
        record.init(0, self.header.names.value());
        for (index, field) in self.fields[row * width..(row + 1) * width].iter().enumerate() {
            let value = match field {
                Field::Missing => Value::NONE,
                Field::Integer(small) => heap.make_int(&Int::Small(*small)),
                Field::Large(digits) => self.kept(digits).parse::<Int>().map_or(Value::NONE, |int| heap.make_int(&int)),
                Field::Float(float) => heap.make_float(*float),
                Field::Text(text) => heap.make_text(self.kept(text)),
            };
            record.init(1 + index, value);
        }
        record.value()
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
