//! Blocks and lines: the memory in which small objects live.
//!
//! A block is 32 KiB, aligned to its size, and holds 256 lines of 128 bytes. Its first lines are a header: one mark byte
//! per line, one mark bit per word (an object is marked by the bit of its first word), and the serial of the event that took the block when it was empty. A collection marks the lines that live objects touch;
//! the runs of unmarked lines between them are what mutators allocate in afterwards (Blackburn and McKinley, "Immix", 2008).

#![expect(unsafe_code, reason = "blocks are raw memory")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Bytes in a block.
pub(crate) const BLOCK: usize = 32 * 1024;
/// Bytes in a line.
pub(crate) const LINE: usize = 128;
const LINES: usize = BLOCK / LINE;
/// How many blocks are asked of the system at a time.
const CHUNK_BLOCKS: usize = 32;

#[repr(C, align(128))]
struct BlockHeader {
    line_marks: [AtomicU8; LINES],
    object_marks: [AtomicU64; BLOCK / 8 / 64],
    birth: AtomicU64,
}

/// The first line that can hold objects.
const FIRST_LINE: usize = size_of::<BlockHeader>() / LINE;

/// The address of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block(usize);

/// A stretch of free memory, from its first byte to past its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Run {
    pub(crate) fn size(self) -> usize {
        self.end - self.start
    }
}

impl Block {
    /// The block that holds the small object at this address.
    #[inline(always)]
    pub(crate) fn of(address: usize) -> Block {
        Block(address & !(BLOCK - 1))
    }

    #[inline(always)]
    fn header(self) -> &'static BlockHeader {
        // SAFETY: a `Block` is made from a chunk, which is never freed while the heap lives, or from the address of a small
        // object, which lies in one. Chunks begin with initialised headers.
        unsafe { &*(self.0 as *const BlockHeader) }
    }

    /// All of the block's memory.
    pub(crate) fn whole(self) -> Run {
        Run { start: self.0 + FIRST_LINE * LINE, end: self.0 + BLOCK }
    }

    /// The serial of the event that took this block empty; 0 when that is over.
    #[inline(always)]
    pub(crate) fn birth(self) -> u64 {
        self.header().birth.load(Relaxed)
    }

    pub(crate) fn set_birth(self, serial: u64) {
        self.header().birth.store(serial, Relaxed);
    }

    /// Marks the lines under an object.
    pub(crate) fn mark_lines(self, address: usize, size: usize) {
        let first = (address - self.0) / LINE;
        let last = (address + size - 1 - self.0) / LINE;
        for mark in &self.header().line_marks[first..=last] {
            mark.store(1, Relaxed);
        }
    }

    /// Marks an object; false when it was marked before.
    pub(crate) fn mark_object(self, address: usize) -> bool {
        let word = (address - self.0) / 8;
        let (marks, bit) = (&self.header().object_marks[word / 64], 1 << (word % 64));
        marks.load(Relaxed) & bit == 0 && marks.fetch_or(bit, Relaxed) & bit == 0
    }

    pub(crate) fn clear_marks(self) {
        for marks in &self.header().object_marks {
            marks.store(0, Relaxed);
        }
        for mark in &self.header().line_marks {
            mark.store(0, Relaxed);
        }
    }

    /// How many lines are marked.
    pub(crate) fn marked_lines(self) -> usize {
        self.header().line_marks[FIRST_LINE..].iter().map(|mark| mark.load(Relaxed) as usize).sum()
    }

    /// The first run of free lines at or after line `from`, and the line after it.
    pub(crate) fn next_run(self, from: usize) -> Option<(Run, usize)> {
        let marks = &self.header().line_marks;
        let from = from.max(FIRST_LINE);
        let first = (from..LINES).find(|line| marks[*line].load(Relaxed) == 0)?;
        let after = (first..LINES).find(|line| marks[*line].load(Relaxed) != 0).unwrap_or(LINES);
        Some((Run { start: self.0 + first * LINE, end: self.0 + after * LINE }, after))
    }
}

/// Several blocks got from the system at once, given back when dropped.
pub(crate) struct BlockChunk(usize);

impl BlockChunk {
    /// Bytes in a chunk.
    pub(crate) const BYTES: usize = CHUNK_BLOCKS * BLOCK;

    const LAYOUT: Layout = match Layout::from_size_align(Self::BYTES, BLOCK) {
        Ok(layout) => layout,
        Err(_) => panic!("the layout of a chunk is valid"),
    };

    pub(crate) fn new() -> BlockChunk {
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(Self::LAYOUT) };
        if start.is_null() {
            handle_alloc_error(Self::LAYOUT);
        }
        let chunk = BlockChunk(start as usize);
        for block in chunk.blocks() {
            // SAFETY: the memory is ours, large enough and aligned; nothing refers to it yet.
            unsafe { (block.0 as *mut BlockHeader).write_bytes(0, 1) };
        }
        chunk
    }

    pub(crate) fn start(&self) -> usize {
        self.0
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let start = self.0;
        (0..CHUNK_BLOCKS).map(move |i| Block(start + i * BLOCK))
    }
}

impl Drop for BlockChunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout; the heap drops its chunks last.
        unsafe { dealloc(self.0 as *mut u8, Self::LAYOUT) };
    }
}

/// An object too big for a block, with memory of its own behind a mark word, freed when dropped.
pub(crate) struct LargeObject {
    mark: usize,
    size: usize,
}

impl LargeObject {
    /// Room before the object for its mark, which keeps the object aligned to 16.
    const PREFIX: usize = 16;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(Self::PREFIX + size, 16).expect("the size of an object is a valid layout")
    }

    pub(crate) fn new(size: usize) -> LargeObject {
        let layout = Self::layout(size);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        let object = LargeObject { mark: start as usize, size };
        object.mark_word().store(0, Relaxed);
        object
    }

    pub(crate) fn address(&self) -> usize {
        self.mark + Self::PREFIX
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn mark_word(&self) -> &AtomicU64 {
        // SAFETY: the memory is this value's until it is dropped.
        unsafe { &*(self.mark as *const AtomicU64) }
    }

    /// Takes the mark away; whether there was one.
    pub(crate) fn take_mark(&self) -> bool {
        self.mark_word().swap(0, Relaxed) != 0
    }

    /// Marks the large object at this address; false when it was marked before.
    pub(crate) fn mark_object(address: usize) -> bool {
        // SAFETY: the caller has a reachable large object, so its `LargeObject` has not been dropped.
        let mark = unsafe { &*((address - Self::PREFIX) as *const AtomicU64) };
        mark.load(Relaxed) == 0 && mark.swap(1, Relaxed) == 0
    }
}

impl Drop for LargeObject {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.mark as *mut u8, Self::layout(self.size)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_lie_between_marked_lines() {
        let chunk = BlockChunk::new();
        let block = chunk.blocks().nth(3).unwrap();
        let whole = block.whole();
        assert_eq!(block.next_run(0), Some((whole, LINES)));
        block.mark_lines(whole.start + 2 * LINE + 120, 16);
        assert_eq!(block.marked_lines(), 2);
        assert!(
            block.mark_object(whole.start) && !block.mark_object(whole.start) && block.mark_object(whole.start + 8)
        );
        let (first, next) = block.next_run(0).unwrap();
        assert_eq!(first, Run { start: whole.start, end: whole.start + 2 * LINE });
        let (second, end) = block.next_run(next).unwrap();
        assert_eq!(second, Run { start: whole.start + 4 * LINE, end: whole.end });
        assert_eq!((end, block.next_run(end)), (LINES, None));
        assert_eq!(Block::of(whole.end - 8), block);
        block.clear_marks();
        assert_eq!(block.marked_lines(), 0);
    }
}
