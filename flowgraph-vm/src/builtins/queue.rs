//! Queues: a chain of segments, with the two ends apart.
//!
//! ```text
//!   queue (immutable):  head end, tail end
//!   an end (a cell):    segment, index of the next slot
//!   a segment:          next segment, 16 slots, each a value or still empty
//! ```
//!
//! Who pushes reads and writes the tail end and the last segment; who pops, the head end and the first segment. The two meet only
//! when the queue is nearly empty and the first segment is the last.

use super::access::Access;
use crate::barrier::Protocol;
use crate::heap::{Kind, Object};
use crate::interpreter::Trap;
use crate::value::Value;

const SLOTS: usize = 16;

/// Fields of the queue.
const HEAD: usize = 0;
const TAIL: usize = 1;
/// Fields of an end.
const SEGMENT: usize = 0;
const INDEX: usize = 1;
/// Fields of a segment.
const NEXT: usize = 0;
const FIRST: usize = 1;

/// What a slot holds that was not pushed to. No program has this value.
const EMPTY: Value = Value::UNDEFINED;

impl<P: Protocol> Access<'_, P> {
    fn new_segment(&mut self) -> Object {
        let segment = self.heap.allocate(Kind::Segment, 0, FIRST + SLOTS);
        segment.init(NEXT, Value::NONE);
        (0..SLOTS).for_each(|i| segment.init(FIRST + i, EMPTY));
        segment
    }

    fn new_end(&mut self, segment: Object) -> Object {
        let end = self.heap.allocate(Kind::Cell, 0, 2);
        end.init(SEGMENT, segment.value());
        end.init(INDEX, Value::ZERO);
        end
    }

    pub(crate) fn new_queue(&mut self) -> Value {
        let segment = self.new_segment();
        let (head, tail) = (self.new_end(segment), self.new_end(segment));
        let queue = self.heap.allocate(Kind::Queue, 0, 2);
        queue.init(HEAD, head.value());
        queue.init(TAIL, tail.value());
        queue.value()
    }

    fn end(&mut self, end: Value) -> Result<(Object, Object, usize), Trap> {
        let end = end.object().expect("the ends are cells");
        let segment = self.read(end, SEGMENT)?.object().expect("an end has a segment");
        let index = self.read(end, INDEX)?.int_unchecked() as usize;
        Ok((end, segment, index))
    }

    pub(crate) fn queue_push(&mut self, queue: Object, value: Value) -> Result<(), Trap> {
        let (tail, mut segment, mut index) = self.end(queue.get(TAIL))?;
        if index == SLOTS {
            let next = self.new_segment();
            self.write(segment, NEXT, next.value())?;
            self.write(tail, SEGMENT, next.value())?;
            (segment, index) = (next, 0);
        }
        self.write(segment, FIRST + index, value)?;
        self.write(tail, INDEX, Value::small(index as i64 + 1))
    }

    /// The first segment that has the first value, and where; `None` when the queue is empty.
    fn first(&mut self, queue: Object) -> Result<Option<(Object, Object, usize, Value)>, Trap> {
        let (head, mut segment, mut index) = self.end(queue.get(HEAD))?;
        if index == SLOTS {
            match self.read(segment, NEXT)?.object() {
                Some(next) => (segment, index) = (next, 0),
                None => return Ok(None),
            }
        }
        let value = self.read(segment, FIRST + index)?;
        Ok((value != EMPTY).then_some((head, segment, index, value)))
    }

    pub(crate) fn queue_pop(&mut self, queue: Object) -> Result<Option<Value>, Trap> {
        let Some((head, segment, index, value)) = self.first(queue)? else { return Ok(None) };
        // The slot keeps nothing alive that is gone from the queue.
        self.write(segment, FIRST + index, Value::NONE)?;
        if index == 0 {
            self.write(head, SEGMENT, segment.value())?;
        }
        self.write(head, INDEX, Value::small(index as i64 + 1))?;
        Ok(Some(value))
    }

    pub(crate) fn queue_peek(&mut self, queue: Object) -> Result<Option<Value>, Trap> {
        Ok(self.first(queue)?.map(|(_, _, _, value)| value))
    }

    /// All waiting values, the first first.
    pub(crate) fn queue_items(&mut self, queue: Object) -> Result<Vec<Value>, Trap> {
        let (_, mut segment, mut index) = self.end(queue.get(HEAD))?;
        let mut items = Vec::new();
        loop {
            if index == SLOTS {
                match self.read(segment, NEXT)?.object() {
                    Some(next) => (segment, index) = (next, 0),
                    None => return Ok(items),
                }
            }
            let value = self.read(segment, FIRST + index)?;
            if value == EMPTY {
                return Ok(items);
            }
            items.push(value);
            index += 1;
        }
    }

    pub(crate) fn queue_clear(&mut self, queue: Object) -> Result<(), Trap> {
        let (_, segment, index) = self.end(queue.get(TAIL))?;
        let head = queue.get(HEAD).object().expect("the ends are cells");
        self.write(head, SEGMENT, segment.value())?;
        self.write(head, INDEX, Value::small(index as i64))
    }
}
