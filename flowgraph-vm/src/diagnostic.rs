//! What is wrong with a program, for people and for tools.
//!
//! The library only collects [`Diagnostic`]s; who has a terminal (or an editor) at hand renders them, with [`Diagnostic::render`] or
//! [`Diagnostic::to_json`].

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::flowgraph::fault::{Fault, Frame, RuntimeError};
use crate::source::{Source, Span};

macro_rules! codes {
    ($( $variant:ident $name:literal $severity:ident $doc:literal; )*) => {
        /// What kind of mistake a diagnostic is about.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code {
            $( #[doc = $doc] $variant, )*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$( Self::$variant, )*];

            /// The name, as it stands in JSON.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// Whether a program with such a mistake can run.
            pub const fn severity(self) -> Severity {
                match self { $( Self::$variant => Severity::$severity, )* }
            }

            /// One line for the language reference.
            pub const fn doc(self) -> &'static str {
                match self { $( Self::$variant => $doc, )* }
            }
        }
    };
}

codes! {
    Syntax "syntax" Error "The text does not follow the grammar.";
    Literal "literal" Error "A number, symbol or string is not written right.";
    TooNested "too-nested" Error "Brackets, blocks or operators are nested too deeply.";
    Duplicate "duplicate" Error "Two things of one kind have the same name.";
    UnknownName "unknown-name" Error "A variable or constant that is nowhere set.";
    UnknownLabel "unknown-label" Error "A jump to a label that is not there.";
    UnknownFunction "unknown-function" Error "A call of something that is not there.";
    UnknownField "unknown-field" Error "A field that no object type has.";
    WrongArity "wrong-arity" Error "A call with the wrong number of arguments.";
    NotConstant "not-constant" Error "A value that is not known where a constant is needed.";
    NotAssignable "not-assignable" Error "An assignment to something that cannot be assigned.";
    Misplaced "misplaced" Error "A statement where it cannot stand.";
    NotCore "not-core" Error "Something that a program of labelled blocks cannot contain.";
    Unfinished "unfinished" Error "A block that does not say where to go on.";
    NotPure "not-pure" Error "A pure function that does something besides giving a result.";
    UnsetRead "unset-read" Error "A variable that is read before it is set, on whatever path.";
    Unreachable "unreachable" Warning "Something that can never be reached.";
    Unused "unused" Warning "A result that is computed and thrown away.";
    Runtime "runtime" Error "The program failed while running.";
}

/// Whether a diagnostic keeps the program from running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A stretch of source with a word about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// The word; may be empty.
    pub text: String,
}

/// One thing that is wrong with a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// What kind of mistake.
    pub code: Code,
    /// The mistake in one sentence.
    pub message: String,
    /// Where it is.
    pub primary: Label,
    /// Other places that explain it.
    pub secondary: Vec<Label>,
    /// What could be done about it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        let primary = Label { span, text: String::new() };
        Self { code, message: message.into(), primary, secondary: Vec::new(), help: Vec::new() }
    }

    /// With a word at the place itself.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.primary.text = text.into();
        self
    }

    /// With another place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// With "did you mean", if one of the names is close to what was written.
    #[must_use]
    pub fn suggest<'a>(self, written: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        match suggestion(written, names) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// Whether the program cannot run because of it.
    pub fn is_error(&self) -> bool {
        self.code.severity() == Severity::Error
    }

    /// The message as people read it: with file, line, column and the line itself. Ends with a line end.
    pub fn render(&self, source: &Source, colour: bool) -> String {
        let level = match self.code.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let text = source.text();
        let primary = AnnotationKind::Primary.span(clamp(text, self.primary.span)).label(or_none(&self.primary.text));
        let secondary = self
            .secondary
            .iter()
            .map(|label| AnnotationKind::Context.span(clamp(text, label.span)).label(or_none(&label.text)));
        let snippet = Snippet::source(text).path(source.name()).annotation(primary).annotations(secondary);
        let mut report: Vec<Group<'_>> = vec![level.primary_title(self.message.as_str()).element(snippet)];
        report.extend(self.help.iter().map(|help| Group::with_title(Level::HELP.secondary_title(help.as_str()))));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&report) + "\n"
    }

    /// The same for tools: an object with `severity`, `code`, `message`, `file`, `spans` (the first is the primary one) and `help`.
    pub fn to_json(&self, source: &Source) -> Value {
        let span = |label: &Label| {
            let (start, end) = (source.position(label.span.start), source.position(label.span.end));
            json!({
                "start": label.span.start, "end": label.span.end,
                "line": start.line, "column": start.column, "end_line": end.line, "end_column": end.column,
                "label": label.text,
            })
        };
        let spans: Vec<Value> = std::iter::once(&self.primary).chain(&self.secondary).map(span).collect();
        let severity = if self.is_error() { "error" } else { "warning" };
        json!({
            "severity": severity, "code": self.code.name(), "message": self.message,
            "file": source.name(), "spans": spans, "help": self.help,
        })
    }
}

impl RuntimeError {
    /// The error as a diagnostic: the message names the block, secondary places are the calls that led there.
    pub fn to_diagnostic(&self, source: &Source) -> Diagnostic {
        let place = match (&*self.function, &*self.block) {
            ("", block) => format!("in block `{block}`"),
            (function, _) => format!("in function `{function}`"),
        };
        let mut diagnostic = Diagnostic::new(Code::Runtime, self.span, self.fault.to_string()).label(place);
        if let Some(help) = self.fault.help() {
            diagnostic = diagnostic.help(help);
        }
        // Recursion passes by the same place many times.
        let mut calls: Vec<(&Frame, usize)> = Vec::new();
        for frame in &self.trace {
            match calls.iter_mut().find(|(known, _)| *known == frame) {
                Some((_, times)) => *times += 1,
                None => calls.push((frame, 1)),
            }
        }
        for (frame, times) in calls {
            let often = match times {
                1 => String::new(),
                // Of very deep recursion only the innermost and the outermost calls are known.
                100.. => ", again and again".to_owned(),
                _ => format!(", {times} times"),
            };
            diagnostic = diagnostic.also(frame.span, format!("called from `{}`{often}", frame.function));
        }
        if let Fault::Unset { variable } = &self.fault {
            let line = source.line(self.span);
            diagnostic.message = match &*self.function {
                "" => format!(
                    "the variable `{variable}` is read in block `{}` (line {line}), but was never set",
                    self.block
                ),
                // What is set nowhere is told before the program runs.
                _ => format!("the variable `{variable}` is read here, but was not set on the way that led here"),
            };
        }
        diagnostic
    }
}

fn or_none(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A span cut to the text and to character boundaries; at the end of the text it points just behind the last line's text.
fn clamp(text: &str, span: Span) -> std::ops::Range<usize> {
    let fit =
        |offset: u32| (0..=(offset as usize).min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (start, end) = (fit(span.start), fit(span.end));
    if start >= text.len() {
        let last = text.trim_end().len();
        return last..last;
    }
    start..end
}

/// The name that is nearest to what was written, if it is near enough to be what was meant.
pub fn suggestion<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match written.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    names
        .into_iter()
        .filter(|name| *name != written && !name.starts_with('_'))
        .map(|name| (distance(written, name), name))
        // A name that shares nothing with what was written is no suggestion, however short both are.
        .filter(|&(distance, name)| distance <= allowed && distance < written.chars().count().max(name.chars().count()))
        .min()
        .map(|(_, name)| name)
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one to the other; letter case does not count.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn rendered_with_the_line() {
        let source = Source::new("a.flow", "start:\n    x = conut + 1\n    goto start\n");
        let diagnostic = Diagnostic::new(Code::UnknownName, Span::new(15, 20), "there is no variable `conut`")
            .label("read here")
            .also(Span::new(0, 5), "in this block")
            .suggest("conut", ["start", "count", "x"]);
        expect![[r#"
            error: there is no variable `conut`
             --> a.flow:2:9
              |
            1 | start:
              | ----- in this block
            2 |     x = conut + 1
              |         ^^^^^ read here
              |
            help: did you mean `count`?
        "#]]
        .assert_eq(&diagnostic.render(&source, false));
        expect![[r#"{"severity":"error","code":"unknown-name","message":"there is no variable `conut`","file":"a.flow","spans":[{"start":15,"end":20,"line":2,"column":9,"end_line":2,"end_column":14,"label":"read here"},{"start":0,"end":5,"line":1,"column":1,"end_line":1,"end_column":6,"label":"in this block"}],"help":["did you mean `count`?"]}"#]]
            .assert_eq(&diagnostic.to_json(&source).to_string());
    }

    #[test]
    fn places_outside_the_text_do_no_harm() {
        let source = Source::new("a.flow", "é");
        let diagnostic = Diagnostic::new(Code::Syntax, Span::new(1, 77), "odd").also(Span::new(9, 99), "beyond");
        assert!(diagnostic.render(&source, false).starts_with("error: odd\n"));
        let empty = Source::new("a.flow", "");
        assert!(diagnostic.render(&empty, true).contains("odd"));
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(suggestion("prnit", ["print", "point"]), Some("print"));
        assert_eq!(suggestion("Total", ["total", "totals"]), Some("total"));
        assert_eq!(suggestion("a", ["b", "c"]), None);
        assert_eq!(suggestion("balance", ["owner", "count"]), None);
    }
}
