//! Statements, and finding the next one after a mistake.

use super::{KEYWORDS, Lost, Parsed, Parser};
use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::op::{Notation, Op};
use crate::source::Span;
use crate::syntax::ast::{Body, Expr, ExprKind, Name, Over, Stmt, StmtKind};
use crate::syntax::token::{TokenKind, shorten};

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
    ("switch", "write `if … { … } else if … { … }`"),
    ("case", "write `if … { … } else if … { … }`"),
    ("match", "write `if … { … } else if … { … }`"),
    ("loop", "write `while true { … }`"),
    ("do", "write `while … { … }`"),
    ("const", "constants are declared outside functions"),
    ("shared", "shared variables are declared outside functions"),
    ("object", "object types are declared outside functions"),
    ("import", "a program is one file; what there is to call needs no import"),
    ("include", "a program is one file; what there is to call needs no import"),
    ("use", "a program is one file; what there is to call needs no import"),
    ("from", "a program is one file; what there is to call needs no import"),
    ("atomic", "every event is a transaction already"),
    ("synchronized", "every event runs as if it were alone"),
    ("end", "a body ends with `}`"),
    ("pass", "a body may be empty: `{ }`"),
    ("async", "every function can be an event: `add f(x)`"),
    ("spawn", "an event of its own is queued with `add f(x)`"),
    ("await", "`retry` waits until something that was read has changed"),
    ("print_and_stop", "it has brackets: `print_and_stop(x)`"),
    ("promote", "it has brackets: `promote(x)`"),
];

/// Advice about a word that means something elsewhere.
fn foreign_word(word: &str) -> Option<&'static str> {
    FOREIGN_WORDS.iter().find(|(foreign, _)| *foreign == word).map(|(_, advice)| *advice)
}

impl Parser<'_> {
    pub(super) fn core_program(&mut self) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        self.statements(&mut stmts, None);
        stmts
    }

    pub(super) fn body(&mut self) -> Parsed<Body> {
        self.skip_newlines_before("{");
        let start = self.span();
        if !self.eat_punct("{") {
            let diagnostic = self.expectation("`{`");
            let help = if self.is_punct("=") { "`==` compares" } else { "a body stands between braces: `{ … }`" };
            return Err(self.report(diagnostic.help(help)));
        }
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
        let (mut depth, mut brackets) = (0, 0_u32);
        loop {
            match self.peek() {
                TokenKind::End => return,
                TokenKind::Newline if depth == 0 => return,
                TokenKind::Punct(";") if depth == 0 && brackets == 0 => return,
                TokenKind::Punct("(") => brackets += 1,
                TokenKind::Punct(")") => brackets = brackets.saturating_sub(1),
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

    pub(super) fn end_of_statement(&mut self) -> Parsed<()> {
        match self.peek() {
            TokenKind::Newline | TokenKind::End | TokenKind::Punct(";" | "}") => Ok(()),
            _ if self.unclosed_at == Some(self.at) => Ok(()),
            TokenKind::Punct("=") => {
                let diagnostic = Diagnostic::new(Code::NotAssignable, self.span(), "this cannot be assigned to")
                    .label("the left side is not a variable, field or element")
                    .help("`==` compares");
                Err(self.report(diagnostic))
            }
            _ => {
                let mut diagnostic = self.expectation("the end of the statement");
                let before = if let TokenKind::Word(word) = self.peek_back() { word } else { "" };
                if let (TokenKind::Word(name), "add" | "new") = (self.peek(), before) {
                    diagnostic = diagnostic.help(match before {
                        "add" => "`add` is a statement: an event gives nothing back to who adds it".to_owned(),
                        _ => format!("an object is made by calling its type: `{name}(…)`"),
                    });
                }
                Err(self.report(diagnostic))
            }
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
            "when" if self.any_word_at(1) => self.when_statement()?,
            _ => return Ok(None),
        };
        Ok(Some(kind))
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
        if self.is_word("each") && self.any_word_at(1) && !self.word_at(1, "in") {
            return self.each_statement();
        }
        if self.is_punct("(") {
            let diagnostic = self.expectation("the name of a variable");
            return Err(self.report(diagnostic.help("a loop over integers is written `for i in 0..10 { … }`")));
        }
        let name = self.name("the name of a variable")?;
        let value = if self.eat_punct(",") { Some(self.name("the name of a variable for the value")?) } else { None };
        if self.is_punct("=") {
            let diagnostic = self.expectation("`in`");
            return Err(self.report(diagnostic.help("a loop over integers is written `for i in 0..10 { … }`")));
        }
        self.expect_word("in")?;
        let first = self.expression()?;
        let over = if value.is_none() && self.eat_punct("..") {
            if self.is_punct("=") || self.is_punct(".") {
                let diagnostic = self.expectation("a value");
                return Err(
                    self.report(diagnostic.help("`a..b` goes from a to before b; write `a..b + 1` to include b"))
                );
            }
            Over::Range(first, self.expression()?)
        } else {
            Over::Each(first)
        };
        Ok(StmtKind::For { name, value, over, body: self.body()? })
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
        let (function, args) = self.added_call()?;
        let after = if self.eat_word("after") { Some(self.expression()?) } else { None };
        Ok(StmtKind::Add { function, args, after })
    }

    /// `add f(a)`.
    fn added_call(&mut self) -> Parsed<(Name, Vec<Expr>)> {
        self.expect_word("add")?;
        let function = self.name("the name of a function")?;
        if !self.is_punct("(") {
            let help = format!("an event is a call: `add {}(…)`", shorten(&function.text));
            let diagnostic = self.expectation("`(` and the arguments").help(help);
            return Err(self.report(diagnostic));
        }
        self.step();
        Ok((function, self.separated(")", Self::expression)?))
    }

    /// `each x in source(v) add f(a, x)`.
    fn each_statement(&mut self) -> Parsed<StmtKind> {
        self.step();
        let item = self.name("a name for what the source gives")?;
        self.expect_word("in")?;
        let (source, of) = self.source("a source of events", Op::source, Notation::Each)?;
        let (function, args) = self.added_call()?;
        Ok(StmtKind::Each { item, source, of, function, args })
    }

    fn when_statement(&mut self) -> Parsed<StmtKind> {
        self.step();
        let (condition, of) = self.source("a condition", Op::condition, Notation::When)?;
        let (function, args) = self.added_call()?;
        Ok(StmtKind::When { condition, of, function, args })
    }

    /// `name(v)`, where the name is that of an operation with this notation.
    fn source(&mut self, what: &str, find: fn(&str) -> Option<Op>, notation: Notation) -> Parsed<(Op, Expr)> {
        let name = self.name(what)?;
        let Some(op) = find(&name.text) else {
            let all = || Op::ALL.iter().filter(|op| op.notation() == notation).map(|op| op.name());
            let list: Vec<String> = all().map(|name| format!("`{name}(…)`")).collect();
            let message = format!("`{}` is not {what}", shorten(&name.text));
            let diagnostic = Diagnostic::new(Code::Syntax, name.span, message).suggest(&name.text, all());
            return Err(self.report(diagnostic.help(format!("expected one of {}", list.join(", ")))));
        };
        self.expect_punct("(", "`(`")?;
        Ok((op, self.bracketed(")", Self::expression)?))
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
        if let Some(advice) = foreign_word(&name.text).filter(|_| !self.is_punct("(") && !self.ends_at(0)) {
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
        if let ExprKind::Name(name) = &expr.kind
            && let Some(advice) = foreign_word(name)
        {
            let message = format!("`{name}` is not a statement");
            return self.report(Diagnostic::new(Code::Syntax, expr.span, message).help(advice));
        }
        let diagnostic = Diagnostic::new(Code::Syntax, expr.span, "this value goes nowhere")
            .label("only a call can stand alone")
            .help("assign it to a variable, or give it back with `return`");
        self.report(diagnostic)
    }
}
