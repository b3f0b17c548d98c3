//! The parser: recursive descent over statements, precedence climbing over expressions, and recovery at line ends.
//!
//! After a mistake the parser goes on at the next statement, so that one run reports several. Nesting is bounded, here and
//! in the height of expressions, so that nothing downstream can overflow the stack whatever it is given.
//!
//! A file is a program of functions if some line starts with a declaration (`fn`, `pure fn`, `shared`, `const`, `object`), else a core program of labelled
//! blocks. In a core program no word is reserved: what a statement is, is told by what follows its first word.

mod declarations;
mod expressions;
mod statements;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::program::ProgramKind;
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, File, Name};
use crate::syntax::token::{Token, TokenKind, shorten, tokenize};

/// How deeply brackets, prefix operators, blocks and literals may nest.
const MAX_NESTING: u32 = 100;

/// How high an expression may get, chains of infix operators included.
const MAX_HEIGHT: u32 = 400;

/// After so many mistakes the parser gives up: what is said of a file that is no program at all is of little use.
const MAX_ERRORS: usize = 20;

/// The words that cannot name anything in a program of functions.
const KEYWORDS: &[&str] = &[
    "fn", "if", "else", "while", "for", "break", "continue", "return", "raise", "try", "catch", "either", "and", "or",
    "not", "true", "false", "none", "goto",
];

/// A mistake was reported, and the parser has to find its place again.
struct Lost;

type Parsed<T> = Result<T, Lost>;

/// Parses a text. The tree holds what could be understood.
pub fn parse(text: &str) -> (File, Vec<Diagnostic>) {
    let tokens = tokenize(text);
    let mut parser = Parser::new(&tokens.tokens, tokens.diagnostics);
    let kind = if parser.declares() { ProgramKind::Functions } else { ProgramKind::Core };
    parser.core = kind == ProgramKind::Core;
    let mut file = File { kind, items: Vec::new(), body: Vec::new(), comments: tokens.comments };
    match kind {
        ProgramKind::Core => file.body = parser.core_program(),
        ProgramKind::Functions => file.items = parser.items(),
    }
    let mut diagnostics = parser.diagnostics;
    diagnostics.sort_by_key(|diagnostic| diagnostic.primary.span.start);
    diagnostics.truncate(MAX_ERRORS);
    (file, diagnostics)
}

/// Parses one literal that is all there is in the text.
///
/// # Errors
///
/// A sentence saying what is wrong.
pub fn parse_literal(text: &str) -> Result<Literal, String> {
    let tokens = tokenize(text);
    let mut parser = Parser::new(&tokens.tokens, tokens.diagnostics);
    let literal = parser.expression().ok().and_then(|expr| constant(&expr));
    parser.skip_newlines();
    let at_end = parser.peek() == &TokenKind::End;
    if let Some(diagnostic) = parser.diagnostics.first() {
        return Err(diagnostic.message.clone());
    }
    literal.filter(|_| at_end).ok_or_else(|| {
        format!(
            "`{}` is not a literal: expected a number, a 'symbol', a \"string\", b\"bytes\" or a [list] of literals",
            shorten(text)
        )
    })
}

/// The constant that an expression is written as, if it is nothing but a literal.
fn constant(expr: &Expr) -> Option<Literal> {
    match &expr.kind {
        ExprKind::Literal(literal) => Some(literal.clone()),
        ExprKind::List(items) => {
            items.iter().map(constant).collect::<Option<Vec<_>>>().map(|items| Literal::List(items.into()))
        }
        _ => None,
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    diagnostics: Vec<Diagnostic>,
    /// How many of them, at the beginning, are about what is no token.
    unreadable: usize,
    core: bool,
    /// Open round and square brackets: within them line ends mean nothing.
    brackets: u32,
    nesting: u32,
    /// The token at which a missing closing brace was told last.
    unclosed_at: Option<usize>,
}

impl<'a> Parser<'a> {
    fn new(tokens: &'a [Token], diagnostics: Vec<Diagnostic>) -> Self {
        let unreadable = diagnostics.len();
        Self { tokens, at: 0, diagnostics, unreadable, core: false, brackets: 0, nesting: 0, unclosed_at: None }
    }

    // Looking and stepping.

    fn token(&self) -> &'a Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &'a TokenKind {
        &self.token().kind
    }

    fn peek_at(&self, ahead: usize) -> &'a TokenKind {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].kind
    }

    fn span(&self) -> Span {
        self.token().span
    }

    /// What was read last.
    fn peek_back(&self) -> &'a TokenKind {
        self.at.checked_sub(1).map_or(&TokenKind::Newline, |last| &self.tokens[last].kind)
    }

    fn last_span(&self) -> Span {
        self.at.checked_sub(1).map_or(Span::default(), |last| self.tokens[last].span)
    }

    /// The end of what was read last.
    fn last_end(&self) -> u32 {
        self.last_span().end
    }

    fn from(&self, start: Span) -> Span {
        Span { start: start.start, end: self.last_end().max(start.end) }
    }

    fn step(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn skip_newlines(&mut self) {
        while self.peek() == &TokenKind::Newline {
            self.step();
        }
    }

    fn is_punct(&self, punct: &str) -> bool {
        matches!(self.peek(), TokenKind::Punct(p) if *p == punct)
    }

    fn punct_at(&self, ahead: usize, punct: &str) -> bool {
        matches!(self.peek_at(ahead), TokenKind::Punct(p) if *p == punct)
    }

    fn is_word(&self, word: &str) -> bool {
        self.word_at(0, word)
    }

    fn word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), TokenKind::Word(w) if **w == *word)
    }

    fn any_word_at(&self, ahead: usize) -> bool {
        matches!(self.peek_at(ahead), TokenKind::Word(_))
    }

    fn eat_punct(&mut self, punct: &str) -> bool {
        let found = self.is_punct(punct);
        if found {
            self.step();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.step();
        }
        found
    }

    /// Eats a word that continues a statement, which may stand on the next line.
    fn eat_continuation(&mut self, word: &str) -> bool {
        let before = self.at;
        self.skip_newlines();
        let found = self.eat_word(word);
        if !found {
            self.at = before;
        }
        found
    }

    // Mistakes.

    fn report(&mut self, diagnostic: Diagnostic) -> Lost {
        // A second complaint about the same place is seldom news, nor is one about what follows something that is no token.
        let place = diagnostic.primary.span.start;
        let before =
            self.tokens[..self.at.min(self.tokens.len())].iter().rfind(|token| token.kind != TokenKind::Newline);
        let before = before.map_or(0, |token| token.span.start);
        let unreadable =
            self.diagnostics[..self.unreadable].iter().any(|d| (before..=place).contains(&d.primary.span.start));
        if !unreadable && self.diagnostics.iter().all(|d| d.primary.span.start != place) {
            self.diagnostics.push(diagnostic);
        }
        if self.diagnostics.len() >= MAX_ERRORS {
            self.at = self.tokens.len() - 1;
        }
        Lost
    }

    fn found(&self) -> String {
        match self.peek() {
            TokenKind::Word(word) if !self.core && KEYWORDS.contains(&&**word) => {
                format!("the keyword `{word}`")
            }
            TokenKind::Word(word) => format!("`{}`", shorten(word)),
            TokenKind::Int(int) => format!("`{}`", shorten(&int.to_string())),
            TokenKind::Float(float) => format!("`{float:?}`"),
            TokenKind::Symbol(_) => "a symbol".to_owned(),
            TokenKind::Str(_) => "a string".to_owned(),
            TokenKind::Bytes(_) => "a byte string".to_owned(),
            TokenKind::Punct(punct) => format!("`{punct}`"),
            TokenKind::Newline => "the end of the line".to_owned(),
            TokenKind::End => "the end of the file".to_owned(),
        }
    }

    fn expected(&mut self, what: &str) -> Lost {
        let diagnostic = self.expectation(what);
        self.report(diagnostic)
    }

    fn expectation(&self, what: &str) -> Diagnostic {
        // A line end is pointed at where the line ends, not where the next one starts.
        let span = if self.peek() == &TokenKind::Newline {
            Span { end: self.span().start, ..self.span() }
        } else {
            self.span()
        };
        let message = format!("expected {what}, found {}", self.found());
        Diagnostic::new(Code::Syntax, span, message).label(format!("expected {what}"))
    }

    fn expect_punct(&mut self, punct: &str, what: &str) -> Parsed<Span> {
        let span = self.span();
        if self.eat_punct(punct) { Ok(span) } else { Err(self.expected(what)) }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// Bounds how deeply calls of the parser's own functions nest.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MAX_NESTING {
            let diagnostic =
                Diagnostic::new(Code::TooNested, self.span(), format!("nested more than {MAX_NESTING} deep"));
            return Err(self.report(diagnostic));
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        match self.peek() {
            TokenKind::Word(word) if self.core || !KEYWORDS.contains(&&**word) => {
                let name = Name { text: word.clone(), span: self.span() };
                self.step();
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn ends_at(&self, ahead: usize) -> bool {
        matches!(self.peek_at(ahead), TokenKind::Newline | TokenKind::End | TokenKind::Punct(";" | "}"))
    }

    /// Things between commas up to a closing bracket; the opening one has been read.
    fn separated<T>(&mut self, close: &'static str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let open = self.last_span();
        self.brackets += 1;
        let mut items = Vec::new();
        let result = loop {
            self.skip_newlines();
            if self.eat_punct(close) {
                break Ok(items);
            }
            match item(self) {
                Ok(item) => items.push(item),
                Err(lost) => break Err(lost),
            }
            self.skip_newlines();
            if !self.eat_punct(",") && !self.is_punct(close) {
                let mut diagnostic = self.not_closed(open, &format!("`,` or `{close}`"));
                if matches!(self.peek(), TokenKind::Str(_)) {
                    diagnostic = diagnostic.help("text with values in it is made with `str(\"a = \", a)`");
                }
                break Err(self.report(diagnostic));
            }
        };
        self.brackets -= 1;
        result
    }

    /// What stands before a closing bracket; the opening one has been read.
    fn bracketed<T>(&mut self, close: &'static str, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let open = self.last_span();
        self.brackets += 1;
        self.skip_newlines();
        let result = inner(self).and_then(|value| {
            self.skip_newlines();
            if self.eat_punct(close) {
                return Ok(value);
            }
            let diagnostic = self.not_closed(open, &format!("`{close}`"));
            Err(self.report(diagnostic))
        });
        self.brackets -= 1;
        result
    }

    /// The brackets opened at `open` go on with something that is not expected there.
    fn not_closed(&self, open: Span, expected: &str) -> Diagnostic {
        let diagnostic = self.expectation(expected);
        match self.peek() {
            TokenKind::Punct("}" | ")" | "]") | TokenKind::End => diagnostic.also(open, "opened here"),
            TokenKind::Punct("=") if self.punct_at(1, ">") => diagnostic.help("write `>=`"),
            TokenKind::Punct("=") if matches!(self.peek_back(), TokenKind::Word(_)) => {
                diagnostic.help("`==` compares; arguments are told by their order and have no names")
            }
            TokenKind::Punct("=") => diagnostic.help("`==` compares"),
            _ => diagnostic,
        }
    }
}
