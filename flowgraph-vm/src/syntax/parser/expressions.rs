//! Expressions, by precedence.

use std::sync::Arc;

use super::{MAX_HEIGHT, Parsed, Parser};
use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::op::Op;
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, Name};
use crate::syntax::token::TokenKind;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|parser| parser.infix(0))
    }

    /// An infix operator at the present place: how tightly it binds, and which it is.
    fn infix_operator(&self) -> Option<(u8, Infix)> {
        Some(match self.peek() {
            TokenKind::Word(word) if !self.core && **word == *"or" => (1, Infix::Or),
            TokenKind::Word(word) if !self.core && **word == *"and" => (2, Infix::And),
            TokenKind::Word(word) if !self.core && **word == *"in" => (4, Infix::In),
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
            self.foreign_operator(operator, operator_span)?;
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
                Infix::In => ExprKind::In(left_box, right_box),
                Infix::Op(op) => ExprKind::Binary(op, left_box, right_box),
            };
            left = self.grown(kind, span, height)?;
        }
    }

    /// `++`, `--`, `**`, `===`, `=<` and `<>`, which are written otherwise here.
    fn foreign_operator(&mut self, operator: Infix, first: Span) -> Parsed<()> {
        let adjoins = self.span().start == first.end;
        let help = match (operator, self.peek()) {
            (Infix::Op(Op::Add), TokenKind::Punct("+")) => "write `x += 1`",
            (Infix::Op(Op::Sub), TokenKind::Punct("-")) if adjoins && self.ends_at(1) => "write `x -= 1`",
            (Infix::Op(Op::Mul), TokenKind::Punct("*")) if adjoins => "write `pow(a, b)`",
            (Infix::Op(Op::Lt), TokenKind::Punct(">")) if adjoins => "write `a != b`",
            (Infix::Op(Op::Eq | Op::Ne), TokenKind::Punct("=")) if adjoins => "`==` and `!=` compare kind and value",
            _ => return Ok(()),
        };
        let diagnostic = self.expectation("a value").help(help);
        Err(self.report(diagnostic))
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
                if matches!(expr.kind, ExprKind::Literal(Literal::Int(_))) && !self.any_word_at(0) {
                    let diagnostic = self.expectation("digits after the point").help("write `5.0`");
                    return Err(self.report(diagnostic));
                }
                let field = self.name("the name of a field")?;
                let span = self.from(start);
                expr = self.grown(ExprKind::Field(Box::new(expr), field), span, height)?;
            } else if self.is_punct("(") {
                if let ExprKind::Field(object, method) = &expr.kind {
                    let (span, name) = (expr.span, method.text.clone());
                    let object = if let ExprKind::Name(object) = &object.kind { object } else { "…" };
                    let help = format!("functions stand before what they work on: `{name}({object}, …)`");
                    let diagnostic = Diagnostic::new(Code::Syntax, span, "there are no methods here").help(help);
                    return Err(self.report(diagnostic));
                }
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
    pub(super) fn operand(&mut self) -> Parsed<Expr> {
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
            unexpected => {
                let mut diagnostic = self.expectation("a value");
                let help = match unexpected {
                    TokenKind::Punct("{") if !self.core && (self.punct_at(2, ":") || self.value_must_follow()) => {
                        Some("a map is made with `map()` and filled with `m[key] = value`")
                    }
                    TokenKind::Punct("//") => Some("a comment starts with `#`"),
                    TokenKind::Punct(".") if matches!(self.peek_at(1), TokenKind::Int(_)) => Some("write `0.5`"),
                    TokenKind::Punct("<") if self.peek_back() == &TokenKind::Punct("=") => Some("write `<=`"),
                    _ => None,
                };
                if let Some(help) = help {
                    diagnostic = diagnostic.help(help);
                }
                return Err(self.report(diagnostic));
            }
        };
        self.step();
        Ok(Expr { kind: ExprKind::Literal(literal), span: start, height: 1 })
    }

    /// Whether what was read last can be followed by a value only, and not by a body.
    fn value_must_follow(&self) -> bool {
        match self.peek_back() {
            TokenKind::Punct(punct) => matches!(*punct, "=" | "(" | "[" | ","),
            TokenKind::Word(word) => **word == *"return",
            _ => false,
        }
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

#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    In,
    Op(Op),
}
