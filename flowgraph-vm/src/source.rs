//! A program's text, and places in it.
//!
//! Every later stage (parser, flowgraph, interpreter, compiled code) names places by [`Span`], a pair of byte offsets. Lines and
//! columns are worked out only when somebody wants to read them, from the table of line starts that [`Source`] keeps.

use std::sync::Arc;

/// A stretch of a source text, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The stretch from `start` up to but not including `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end.max(start) as u32 }
    }

    /// The smallest stretch that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The stretch as a range of byte offsets.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A place as people count: lines and columns from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

/// A program's text with its name (usually a path).
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    /// The byte offset at which each line starts; the first is always 0.
    lines: Vec<u32>,
}

impl Source {
    /// Takes the text of the program called `name`.
    ///
    /// # Panics
    ///
    /// If the text is 4 GiB or longer.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        assert!(u32::try_from(text.len()).is_ok(), "a source text is shorter than 4 GiB");
        let starts = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at as u32 + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Arc::new(Self { name: name.into(), text, lines })
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a stretch; empty if it does not lie on character boundaries of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or("")
    }

    /// The line and column of a byte offset; one past the end gives the end.
    pub fn position(&self, offset: u32) -> Position {
        let line = self.lines.partition_point(|&start| start <= offset) - 1;
        let start = self.lines[line] as usize;
        let end = (offset as usize).clamp(start, self.text.len());
        let column = self.text.get(start..end).map_or(1, |before| before.chars().count() + 1);
        Position { line: line + 1, column }
    }

    /// The line, from 1, on which a stretch starts.
    pub fn line(&self, span: Span) -> usize {
        self.position(span.start).line
    }

    /// `name:line:column` of the start of a stretch.
    pub fn place(&self, span: Span) -> String {
        let Position { line, column } = self.position(span.start);
        format!("{}:{line}:{column}", self.name)
    }

    /// The text of a line, counted from 1, without its line end; empty if there is no such line.
    pub fn line_text(&self, line: usize) -> &str {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return "";
        };
        let end = self.lines.get(line).map_or(self.text.len(), |&next| next as usize);
        self.text[start as usize..end].trim_end_matches(['\n', '\r'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("a.flow", "é = 1\nx = é\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(3), Position { line: 1, column: 3 });
        assert_eq!(source.place(Span::new(11, 13)), "a.flow:2:5");
        assert_eq!(source.slice(Span::new(11, 13)), "é");
        assert_eq!(source.line_text(2), "x = é");
        assert_eq!(source.line_text(9), "");
        assert_eq!(source.position(999).line, 3);
    }
}
