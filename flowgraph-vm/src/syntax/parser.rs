//! The parser: recursive descent over statements, precedence climbing over expressions, and recovery at line ends.
//!
//! After a mistake the parser goes on at the next statement, so that one run reports several. Nesting is bounded, here and
//! in the height of expressions, so that nothing downstream can overflow the stack whatever it is given.
//!
//! A file is a program of functions if some line starts with a declaration (`fn`, `pure fn`, `shared`, `const`, `object`), else a core program of labelled
//! blocks. In a core program no word is reserved: what a statement is, is told by what follows its first word.

use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::op::Op;
use crate::flowgraph::program::ProgramKind;
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{Body, Expr, ExprKind, File, Function, Item, Name, Over, Stmt, StmtKind};
use crate::syntax::token::{Token, TokenKind, shorten, tokenize};

/// How deeply brackets, prefix operators, blocks and literals may nest.
const MAX_NESTING: u32 = 100;

/// How high an expression may get, chains of infix operators included.
const MAX_HEIGHT: u32 = 400;

/// After so many mistakes the parser gives up.
const MAX_ERRORS: usize = 20;

/// The words that cannot name anything in a program of functions.
const KEYWORDS: &[&str] = &[
    "fn", "if", "else", "while", "for", "break", "continue", "return", "raise", "try", "catch", "either", "and", "or",
    "not", "true", "false", "none", "goto",
];

/// The words that start a declaration.
const DECLARATIONS: &[&str] = &["fn", "pure", "shared", "const", "object"];

/// What other languages say, and what is said here.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("elif", "write `else if`"),
    ("elseif", "write `else if`"),
    ("elsif", "write `else if`"),
    ("unless", "write `if not …`"),
    ("until", "write `while not …`"),
    ("foreach", "write `for x in …`"),
    ("let", "a variable needs no declaration: `x = 1`"),
    ("var", "a variable needs no declaration: `x = 1`"),
    ("mut", "a variable needs no declaration: `x = 1`"),
    ("global", "a variable of all events is declared outside functions: `shared x = 1`"),
    ("local", "a variable needs no declaration: `x = 1`"),
    ("def", "a function is declared with `fn`"),
    ("func", "a function is declared with `fn`"),
    ("fun", "a function is declared with `fn`"),
    ("function", "a function is declared with `fn`"),
    ("class", "an object type is declared with `object`"),
    ("struct", "an object type is declared with `object`"),
    ("throw", "write `raise`"),
    ("except", "write `catch`"),
    ("rescue", "write `catch`"),
    (
        "finally",
        "what must happen either way goes behind the `try` statement; what the `try` part did is undone if it fails",
    ),
    ("spawn", "an event of its own is queued with `add f(x)`"),
    ("await", "`retry` waits until something that was read has changed"),
    ("print_and_stop", "it has brackets: `print_and_stop(x)`"),
    ("promote", "it has brackets: `promote(x)`"),
];

/// Advice about a word that means something elsewhere.
fn foreign_word(word: &str) -> Option<&'static str> {
    FOREIGN_WORDS.iter().find(|(foreign, _)| *foreign == word).map(|(_, advice)| *advice)
}

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
    core: bool,
    /// Open round and square brackets: within them line ends mean nothing.
    brackets: u32,
    nesting: u32,
    /// The token at which a missing closing brace was told last.
    unclosed_at: Option<usize>,
}

impl<'a> Parser<'a> {
    fn new(tokens: &'a [Token], diagnostics: Vec<Diagnostic>) -> Self {
        Self { tokens, at: 0, diagnostics, core: false, brackets: 0, nesting: 0, unclosed_at: None }
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

    /// The end of what was read last.
    fn last_end(&self) -> u32 {
        self.at.checked_sub(1).map_or(0, |last| self.tokens[last.min(self.tokens.len() - 1)].span.end)
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
        // A second complaint about the same place is seldom news.
        if self.diagnostics.iter().all(|d| d.primary.span.start != diagnostic.primary.span.start) {
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
        let diagnostic = Diagnostic::new(Code::Syntax, self.span(), format!("expected {what}, found {}", self.found()));
        self.report(diagnostic.label(format!("expected {what}")))
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

    // The top level.

    fn starts_line(&self, index: usize) -> bool {
        index == 0 || matches!(self.tokens[index - 1].kind, TokenKind::Newline | TokenKind::Punct(";" | "}"))
    }

    fn declaration_at(&self, index: usize) -> bool {
        let TokenKind::Word(word) = &self.tokens[index].kind else {
            return false;
        };
        let named = matches!(self.tokens.get(index + 1).map(|token| &token.kind), Some(TokenKind::Word(_)));
        named && DECLARATIONS.contains(&&**word) && self.starts_line(index)
    }

    fn declares(&self) -> bool {
        (0..self.tokens.len()).any(|index| self.declaration_at(index))
    }

    fn items(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            while matches!(self.peek(), TokenKind::Newline | TokenKind::Punct(";")) {
                self.step();
            }
            if self.peek() == &TokenKind::End {
                return items;
            }
            let before = self.at;
            match self.item() {
                Ok(item) => items.push(item),
                Err(Lost) => {
                    if self.at == before {
                        self.step();
                    }
                    while self.peek() != &TokenKind::End && !self.declaration_at(self.at) {
                        self.step();
                    }
                    self.brackets = 0;
                    self.nesting = 0;
                }
            }
        }
    }

    fn item(&mut self) -> Parsed<Item> {
        let start = self.span();
        let item = if self.is_word("fn") || self.is_word("pure") && self.word_at(1, "fn") {
            Item::Function(self.function()?)
        } else if self.is_word("shared") && self.any_word_at(1) {
            self.step();
            let name = self.name("the name of the shared variable")?;
            let value = if self.eat_punct("=") { Some(self.expression()?) } else { None };
            Item::Shared { name, value, span: self.from(start) }
        } else if self.is_word("const") && self.any_word_at(1) {
            self.step();
            let name = self.name("the name of the constant")?;
            self.expect_punct("=", "`=` and the constant's value")?;
            let value = self.expression()?;
            Item::Const { name, value, span: self.from(start) }
        } else if self.is_word("object") && self.any_word_at(1) {
            self.object()?
        } else {
            let message = format!("expected a declaration, found {}", self.found());
            let diagnostic = Diagnostic::new(Code::Syntax, start, message)
                .label("statements stand inside functions")
                .help("a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone");
            return Err(self.report(diagnostic));
        };
        self.end_of_statement()?;
        Ok(item)
    }

    fn object(&mut self) -> Parsed<Item> {
        let start = self.span();
        self.step();
        let name = self.name("the name of the object type")?;
        self.expect_punct("{", "`{` and the names of the fields")?;
        let mut fields = Vec::new();
        loop {
            while matches!(self.peek(), TokenKind::Newline | TokenKind::Punct("," | ";")) {
                self.step();
            }
            if self.eat_punct("}") {
                return Ok(Item::Object { name, fields, span: self.from(start) });
            }
            fields.push(self.name("the name of a field or `}`")?);
            if !matches!(self.peek(), TokenKind::Newline | TokenKind::Punct("," | ";" | "}")) {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn function(&mut self) -> Parsed<Function> {
        let start = self.span();
        let pure = self.eat_word("pure");
        self.step();
        let name = self.name("the name of the function")?;
        self.expect_punct("(", "`(` and the parameters")?;
        let parameters = self.separated(")", |parser| parser.name("the name of a parameter or `)`"))?;
        let head = self.from(start);
        let body = self.body()?;
        Ok(Function { name, parameters, body, pure, head, span: self.from(start) })
    }

    /// Things between commas up to a closing bracket; the opening one has been read.
    fn separated<T>(&mut self, close: &'static str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
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
                break Err(self.expected(&format!("`,` or `{close}`")));
            }
        };
        self.brackets -= 1;
        result
    }

    // Statements.

    fn core_program(&mut self) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        self.statements(&mut stmts, None);
        stmts
    }

    fn body(&mut self) -> Parsed<Body> {
        self.skip_newlines_before("{");
        let start = self.expect_punct("{", "`{`")?;
        let brackets = std::mem::take(&mut self.brackets);
        let result = self.nested(|parser| {
            let mut stmts = Vec::new();
            parser.statements(&mut stmts, Some(start));
            Ok(Body { stmts, span: parser.from(start) })
        });
        self.brackets = brackets;
        result
    }

    /// A brace may stand on a line of its own.
    fn skip_newlines_before(&mut self, punct: &str) {
        let before = self.at;
        self.skip_newlines();
        if !self.is_punct(punct) {
            self.at = before;
        }
    }

    /// Statements up to the closing brace (which is read) of the one at `open`, or up to the end of the file.
    fn statements(&mut self, stmts: &mut Vec<Stmt>, open: Option<Span>) {
        loop {
            while matches!(self.peek(), TokenKind::Newline | TokenKind::Punct(";")) {
                self.step();
            }
            let unclosed = self.peek() == &TokenKind::End
                || !self.core && self.declaration_at(self.at) && self.is_function_ahead();
            if unclosed {
                // Of several braces that are open here the innermost is told.
                if let Some(open) = open.filter(|_| self.unclosed_at != Some(self.at)) {
                    self.unclosed_at = Some(self.at);
                    let at = self.span();
                    let diagnostic = Diagnostic::new(Code::Syntax, open, "this `{` is not closed").label("opened here");
                    self.report(diagnostic.also(Span { end: at.start, ..at }, "expected `}` before this"));
                }
                return;
            }
            if self.is_punct("}") {
                if open.is_some() {
                    self.step();
                    return;
                }
                self.expected("a label or a statement");
                self.step();
                continue;
            }
            let before = self.at;
            let parsed = self.statement();
            let ended = parsed.and_then(|stmt| {
                let label = matches!(stmt.kind, StmtKind::Label(_));
                stmts.push(stmt);
                if label { Ok(()) } else { self.end_of_statement() }
            });
            if ended.is_err() {
                if self.at == before {
                    self.step();
                }
                self.recover();
            }
        }
    }

    fn is_function_ahead(&self) -> bool {
        self.is_word("fn") || self.is_word("pure") && self.word_at(1, "fn")
    }

    /// Skips the rest of a statement that was not understood, with the blocks that belong to it.
    fn recover(&mut self) {
        self.brackets = 0;
        let mut depth = 0;
        loop {
            match self.peek() {
                TokenKind::End => return,
                TokenKind::Newline | TokenKind::Punct(";") if depth == 0 => return,
                TokenKind::Punct("{") => depth += 1,
                TokenKind::Punct("}") if depth == 0 => return,
                TokenKind::Punct("}") => depth -= 1,
                TokenKind::Word(_) if depth > 0 && self.declaration_at(self.at) && self.is_function_ahead() => {
                    return;
                }
                _ => {}
            }
            self.step();
        }
    }

    fn end_of_statement(&mut self) -> Parsed<()> {
        match self.peek() {
            TokenKind::Newline | TokenKind::End | TokenKind::Punct(";" | "}") => Ok(()),
            _ if self.unclosed_at == Some(self.at) => Ok(()),
            TokenKind::Punct("=") => {
                let diagnostic = Diagnostic::new(Code::NotAssignable, self.span(), "this cannot be assigned to")
                    .label("the left side is not a variable, field or element")
                    .help("`==` compares");
                Err(self.report(diagnostic))
            }
            _ => Err(self.expected("the end of the statement")),
        }
    }

    fn statement(&mut self) -> Parsed<Stmt> {
        let start = self.span();
        let kind = self.statement_kind()?;
        Ok(Stmt { kind, span: self.from(start) })
    }

    fn statement_kind(&mut self) -> Parsed<StmtKind> {
        if let TokenKind::Word(word) = self.peek() {
            // What follows the first word tells a label or an assignment from a statement that starts with a keyword.
            if self.punct_at(1, ":") && (self.core || !KEYWORDS.contains(&&**word)) {
                let name = self.name("a label")?;
                self.step();
                return Ok(StmtKind::Label(name));
            }
            if !self.punct_at(1, "=") {
                if let Some(kind) = self.jump(word)? {
                    return Ok(kind);
                }
                if !self.core
                    && let Some(kind) = self.structured(word)?
                {
                    return Ok(kind);
                }
            }
        }
        self.simple()
    }

    /// The ends of blocks, which core programs and functions share.
    fn jump(&mut self, word: &str) -> Parsed<Option<StmtKind>> {
        let kind = match word {
            "goto" => {
                self.step();
                StmtKind::Goto(self.name("a label")?)
            }
            "if" if self.core => {
                self.step();
                let condition = self.operand()?;
                self.branch(condition)?
            }
            "print_and_stop" if self.punct_at(1, "(") => {
                self.step();
                StmtKind::PrintAndStop(self.one_argument()?)
            }
            "promote" if self.punct_at(1, "(") => {
                self.step();
                let value = self.one_argument()?;
                let then = if self.core || self.is_word("goto") {
                    self.expect_word("goto")?;
                    Some(self.name("a label")?)
                } else {
                    None
                };
                StmtKind::Promote { value, then }
            }
            _ => return Ok(None),
        };
        Ok(Some(kind))
    }

    fn one_argument(&mut self) -> Parsed<Expr> {
        self.step();
        let close = self.bracketed(")", Self::expression)?;
        Ok(close)
    }

    /// What stands before a closing bracket; the opening one has been read.
    fn bracketed<T>(&mut self, close: &'static str, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.brackets += 1;
        self.skip_newlines();
        let result = inner(self).and_then(|value| {
            self.skip_newlines();
            self.expect_punct(close, &format!("`{close}`")).map(|_| value)
        });
        self.brackets -= 1;
        result
    }

    /// `goto L1 else goto L2`, the condition having been read.
    fn branch(&mut self, condition: Expr) -> Parsed<StmtKind> {
        self.expect_word("goto")?;
        let then = self.name("a label")?;
        if !self.eat_continuation("else") {
            return Err(self.expected("`else goto` and a label"));
        }
        self.expect_word("goto")?;
        let other = self.name("a label")?;
        Ok(StmtKind::Branch { condition, then, other })
    }

    fn structured(&mut self, word: &str) -> Parsed<Option<StmtKind>> {
        let kind = match word {
            "if" => self.if_statement()?,
            "while" => {
                self.step();
                let condition = self.expression()?;
                StmtKind::While { condition, body: self.body()? }
            }
            "for" => self.for_statement()?,
            "else" | "catch" | "or" | "and" => {
                let (message, owner) = match word {
                    "else" => ("`else` does not belong to an `if`", "it follows the closing brace of one"),
                    "catch" => ("`catch` does not belong to a `try`", "it follows the closing brace of one"),
                    _ => ("a statement cannot start like this", "the operator has no left side"),
                };
                return Err(self.report(Diagnostic::new(Code::Syntax, self.span(), message).label(owner)));
            }
            "break" => {
                self.step();
                StmtKind::Break
            }
            "continue" => {
                self.step();
                StmtKind::Continue
            }
            "return" => {
                self.step();
                let ends = matches!(self.peek(), TokenKind::Newline | TokenKind::End | TokenKind::Punct(";" | "}"));
                StmtKind::Return(if ends { None } else { Some(self.expression()?) })
            }
            "raise" => {
                self.step();
                StmtKind::Raise(self.expression()?)
            }
            "try" => self.try_statement()?,
            "either" => self.either_statement()?,
            "retry" if self.ends_at(1) => {
                self.step();
                StmtKind::Retry
            }
            "leave" if self.word_at(1, "goto") => {
                self.step();
                self.step();
                StmtKind::Leave(self.name("a label")?)
            }
            "add" if self.any_word_at(1) => self.add_statement()?,
            _ => return Ok(None),
        };
        Ok(Some(kind))
    }

    fn ends_at(&self, ahead: usize) -> bool {
        matches!(self.peek_at(ahead), TokenKind::Newline | TokenKind::End | TokenKind::Punct(";" | "}"))
    }

    fn if_statement(&mut self) -> Parsed<StmtKind> {
        let mut arms = Vec::new();
        loop {
            self.expect_word("if")?;
            let condition = self.expression()?;
            if arms.is_empty() && self.is_word("goto") {
                return self.branch(condition);
            }
            arms.push((condition, self.body()?));
            if let TokenKind::Word(word) = self.peek()
                && matches!(&**word, "elif" | "elseif" | "elsif")
            {
                let message = format!("expected `else`, found `{word}`");
                return Err(self.report(Diagnostic::new(Code::Syntax, self.span(), message).help("write `else if`")));
            }
            if !self.eat_continuation("else") {
                return Ok(StmtKind::If { arms, otherwise: None });
            }
            if !self.is_word("if") {
                let otherwise = Some(self.body()?);
                return Ok(StmtKind::If { arms, otherwise });
            }
        }
    }

    fn for_statement(&mut self) -> Parsed<StmtKind> {
        self.step();
        let name = self.name("the name of a variable")?;
        self.expect_word("in")?;
        let first = self.expression()?;
        let over = if self.eat_punct("..") { Over::Range(first, self.expression()?) } else { Over::Each(first) };
        Ok(StmtKind::For { name, over, body: self.body()? })
    }

    fn try_statement(&mut self) -> Parsed<StmtKind> {
        self.step();
        if self.eat_word("goto") {
            let body = self.name("a label")?;
            self.expect_word("catch")?;
            let name = if self.is_word("goto") { None } else { Some(self.name("the name of a variable")?) };
            self.expect_word("goto")?;
            return Ok(StmtKind::Enter { failure: true, body, name, handler: self.name("a label")? });
        }
        let body = self.body()?;
        if !self.eat_continuation("catch") {
            return Err(self.expected("`catch`, a variable for the error, and what to do then"));
        }
        let name = if self.is_punct("{") { None } else { Some(self.name("the name of a variable for the error")?) };
        Ok(StmtKind::Try { body, name, handler: self.body()? })
    }

    fn either_statement(&mut self) -> Parsed<StmtKind> {
        self.step();
        if self.eat_word("goto") {
            let body = self.name("a label")?;
            self.expect_word("or")?;
            self.expect_word("goto")?;
            return Ok(StmtKind::Enter { failure: false, body, name: None, handler: self.name("a label")? });
        }
        let mut alternatives = vec![self.body()?];
        while self.eat_continuation("or") {
            alternatives.push(self.body()?);
        }
        if alternatives.len() < 2 {
            return Err(self.expected("`or` and another alternative"));
        }
        Ok(StmtKind::Either(alternatives))
    }

    fn add_statement(&mut self) -> Parsed<StmtKind> {
        self.step();
        let function = self.name("the name of a function")?;
        self.expect_punct("(", "`(` and the arguments")?;
        let args = self.separated(")", Self::expression)?;
        let after = if self.eat_word("after") { Some(self.expression()?) } else { None };
        Ok(StmtKind::Add { function, args, after })
    }

    /// An assignment or a call.
    fn simple(&mut self) -> Parsed<StmtKind> {
        if self.core {
            let name = self.name("a label or a statement")?;
            if !self.eat_punct("=") {
                return Err(self.core_statement_mistake(&name));
            }
            let place = Expr { kind: ExprKind::Name(name.text), span: name.span, height: 1 };
            return Ok(StmtKind::Assign { place, op: None, value: self.expression()? });
        }
        let place = self.expression()?;
        let op = match self.peek() {
            TokenKind::Punct("=") => None,
            TokenKind::Punct("+=") => Some(Op::Add),
            TokenKind::Punct("-=") => Some(Op::Sub),
            TokenKind::Punct("*=") => Some(Op::Mul),
            TokenKind::Punct("/=") => Some(Op::Div),
            TokenKind::Punct("//=") => Some(Op::FloorDiv),
            TokenKind::Punct("%=") => Some(Op::Modulo),
            _ => {
                if matches!(place.kind, ExprKind::Call(..)) {
                    return Ok(StmtKind::Expr(place));
                }
                return Err(self.not_a_statement(&place));
            }
        };
        if !matches!(place.kind, ExprKind::Name(_) | ExprKind::Index(..) | ExprKind::Field(..)) {
            let diagnostic = Diagnostic::new(Code::NotAssignable, place.span, "this cannot be assigned to")
                .label("not a variable, field or element");
            return Err(self.report(diagnostic));
        }
        self.step();
        Ok(StmtKind::Assign { place, op, value: self.expression()? })
    }

    fn core_statement_mistake(&mut self, name: &Name) -> Lost {
        let words = ["goto", "if", "print_and_stop", "promote"];
        if let Some(advice) = foreign_word(&name.text).filter(|_| !self.is_punct("(")) {
            let message = format!("expected `:` or `=`, found {}", self.found());
            return self.report(Diagnostic::new(Code::Syntax, self.span(), message).help(advice));
        }
        if self.is_punct("(") {
            let diagnostic =
                Diagnostic::new(Code::NotCore, name.span, "a program of labelled blocks cannot call functions");
            let diagnostic = diagnostic.suggest(&name.text, words);
            return self.report(diagnostic.help("put the code into `fn main() { … }` to call functions"));
        }
        if self.ends_at(0) {
            let message = format!("`{}` is not a statement", shorten(&name.text));
            let diagnostic = Diagnostic::new(Code::Syntax, name.span, message).label("a label ends with `:`");
            return self.report(diagnostic.suggest(&name.text, words));
        }
        let message = format!("expected `:` or `=`, found {}", self.found());
        let diagnostic = Diagnostic::new(Code::Syntax, self.span(), message)
            .label("expected `:` after a label or `=` after a variable");
        self.report(diagnostic.suggest(&name.text, words))
    }

    fn not_a_statement(&mut self, expr: &Expr) -> Lost {
        if let ExprKind::Name(name) = &expr.kind
            && !self.ends_at(0)
        {
            let message = format!("expected `=` or `(`, found {}", self.found());
            let mut diagnostic = Diagnostic::new(Code::Syntax, self.span(), message).label("not expected here");
            if let Some(advice) = foreign_word(name) {
                return self.report(diagnostic.help(advice));
            }
            if Op::called(name).is_some() {
                diagnostic = diagnostic.help(format!("a call has brackets: `{name}(…)`"));
                return self.report(diagnostic);
            }
            let words = KEYWORDS.iter().copied().chain(["add", "retry", "print_and_stop", "promote"]);
            return self.report(diagnostic.suggest(name, words));
        }
        if !self.ends_at(0) && !self.is_punct("=") {
            return self.expected("the end of the statement");
        }
        let diagnostic = Diagnostic::new(Code::Syntax, expr.span, "this value goes nowhere")
            .label("only a call can stand alone")
            .help("assign it to a variable, or give it back with `return`");
        self.report(diagnostic)
    }

    // Expressions.

    fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|parser| parser.infix(0))
    }

    /// An infix operator at the present place: how tightly it binds, and which it is.
    fn infix_operator(&self) -> Option<(u8, Infix)> {
        Some(match self.peek() {
            TokenKind::Word(word) if !self.core && **word == *"or" => (1, Infix::Or),
            TokenKind::Word(word) if !self.core && **word == *"and" => (2, Infix::And),
            TokenKind::Punct(punct) => {
                let op = Op::infix(punct)?;
                let power = match op {
                    Op::Add | Op::Sub => 5,
                    Op::Mul | Op::Div | Op::FloorDiv | Op::Modulo => 6,
                    _ => 4,
                };
                (power, Infix::Op(op))
            }
            _ => return None,
        })
    }

    /// An expression whose infix operators all bind more tightly than `least`.
    fn infix(&mut self, least: u8) -> Parsed<Expr> {
        let mut left = self.prefix(least)?;
        loop {
            let before = self.at;
            if self.brackets > 0 {
                self.skip_newlines();
            }
            let Some((power, operator)) = self.infix_operator().filter(|&(power, _)| power > least) else {
                self.at = before;
                return Ok(left);
            };
            // `either { a = b } or { … }`: the brace belongs to the statement.
            if matches!(operator, Infix::Or) && self.punct_at(1, "{") {
                self.at = before;
                return Ok(left);
            }
            let operator_span = self.span();
            self.step();
            self.skip_newlines();
            let right = self.nested(|parser| parser.infix(power))?;
            if power == 4 && self.infix_operator().is_some_and(|(power, _)| power == 4) {
                let diagnostic = Diagnostic::new(Code::Syntax, self.span(), "comparisons cannot be chained")
                    .also(operator_span, "the first comparison")
                    .help("join them: `a < b and b < c`");
                return Err(self.report(diagnostic));
            }
            let span = left.span.to(right.span);
            let height = left.height.max(right.height) + 1;
            let (left_box, right_box) = (Box::new(left), Box::new(right));
            let kind = match operator {
                Infix::Or => ExprKind::Or(left_box, right_box),
                Infix::And => ExprKind::And(left_box, right_box),
                Infix::Op(op) => ExprKind::Binary(op, left_box, right_box),
            };
            left = self.grown(kind, span, height)?;
        }
    }

    fn grown(&mut self, kind: ExprKind, span: Span, height: u32) -> Parsed<Expr> {
        if height > MAX_HEIGHT {
            let diagnostic = Diagnostic::new(
                Code::TooNested,
                span,
                format!("an expression of more than {MAX_HEIGHT} operations in a row"),
            )
            .help("put a part of it into a variable");
            return Err(self.report(diagnostic));
        }
        Ok(Expr { kind, span, height })
    }

    fn prefix(&mut self, least: u8) -> Parsed<Expr> {
        let start = self.span();
        if !self.core && self.is_word("not") && least <= 3 {
            self.step();
            let inner = self.nested(|parser| parser.infix(3))?;
            let (span, height) = (self.from(start), inner.height + 1);
            return self.grown(ExprKind::Not(Box::new(inner)), span, height);
        }
        if self.eat_punct("-") {
            let negative = match self.peek() {
                TokenKind::Int(int) => Some(Literal::Int(int.neg())),
                TokenKind::Float(float) => Some(Literal::Float(-float)),
                _ => None,
            };
            if let Some(literal) = negative {
                self.step();
                let number = Expr { kind: ExprKind::Literal(literal), span: self.from(start), height: 1 };
                return self.postfix_of(number);
            }
            let inner = self.nested(|parser| parser.prefix(6))?;
            let (span, height) = (self.from(start), inner.height + 1);
            return self.grown(ExprKind::Neg(Box::new(inner)), span, height);
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let expr = self.operand()?;
        self.postfix_of(expr)
    }

    fn postfix_of(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let start = expr.span;
        loop {
            let height = expr.height + 1;
            if self.eat_punct("[") {
                let index = self.bracketed("]", Self::expression)?;
                let height = height.max(index.height + 1);
                let span = self.from(start);
                expr = self.grown(ExprKind::Index(Box::new(expr), Box::new(index)), span, height)?;
            } else if self.is_punct(".") {
                self.step();
                let field = self.name("the name of a field")?;
                let span = self.from(start);
                expr = self.grown(ExprKind::Field(Box::new(expr), field), span, height)?;
            } else if self.is_punct("(") {
                let ExprKind::Name(name) = &expr.kind else {
                    let diagnostic = Diagnostic::new(Code::Syntax, expr.span, "this is not the name of a function")
                        .label("only a function can be called")
                        .help("functions are called by their names: `f(x)`");
                    return Err(self.report(diagnostic));
                };
                let name = Name { text: Arc::clone(name), span: expr.span };
                self.step();
                let args = self.separated(")", Self::expression)?;
                let height = args.iter().map(|arg| arg.height).max().unwrap_or(0) + 1;
                let span = self.from(start);
                expr = self.grown(ExprKind::Call(name, args), span, height)?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// A literal, a name or a bracketed expression.
    fn operand(&mut self) -> Parsed<Expr> {
        let start = self.span();
        let literal = match self.peek() {
            TokenKind::Int(int) => Literal::Int(int.clone()),
            TokenKind::Float(float) => Literal::Float(*float),
            TokenKind::Symbol(name) => Literal::Symbol(name.clone()),
            TokenKind::Str(text) => Literal::Str(text.clone()),
            TokenKind::Bytes(bytes) => Literal::Bytes(bytes.clone()),
            TokenKind::Word(word) if !self.core => match &**word {
                "true" => Literal::int(1),
                "false" => Literal::int(0),
                "none" => Literal::None,
                _ => return self.name_operand(),
            },
            TokenKind::Word(_) => return self.name_operand(),
            // `if` and the like take an operand where `-` has not been looked at yet.
            TokenKind::Punct("-") => return self.nested(|parser| parser.prefix(6)),
            TokenKind::Punct("[") => {
                self.step();
                let items = self.nested(|parser| parser.separated("]", Self::expression))?;
                let height = items.iter().map(|item| item.height).max().unwrap_or(0) + 1;
                return Ok(Expr { kind: ExprKind::List(items), span: self.from(start), height });
            }
            TokenKind::Punct("(") => {
                self.step();
                let inner = self.bracketed(")", Self::expression)?;
                let height = inner.height + 1;
                return Ok(Expr { kind: ExprKind::Paren(Box::new(inner)), span: self.from(start), height });
            }
            _ => return Err(self.expected("a value")),
        };
        self.step();
        Ok(Expr { kind: ExprKind::Literal(literal), span: start, height: 1 })
    }

    fn name_operand(&mut self) -> Parsed<Expr> {
        if !self.core && self.is_word("not") {
            let diagnostic = Diagnostic::new(Code::Syntax, self.span(), "`not` needs brackets here")
                .label("binds less tightly than the operator before it")
                .help("write `(not …)`");
            return Err(self.report(diagnostic));
        }
        let name = self.name("a value")?;
        Ok(Expr { kind: ExprKind::Name(name.text), span: name.span, height: 1 })
    }
}

enum Infix {
    Or,
    And,
    Op(Op),
}
