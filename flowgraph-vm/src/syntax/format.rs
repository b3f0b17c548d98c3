//! The formatter: the syntax tree as tidy text, comments included.
//!
//! One statement to a line, four blanks to a level, labels one level further out, an empty line between blocks and between functions, and
//! elsewhere where there was one. A comment stays behind the statement (or brace) it stood behind; any other gets a line of its
//! own before the statement that it preceded or interrupted. Long lines are broken after commas and operators. What somebody wrote on
//! one line with at most one statement between its braces, as in `if x < 0 { return }`, stays on one line while it fits.
//!
//! Formatting what was formatted changes nothing, and a formatted program is the same program; tests check both on
//! random programs.

use crate::diagnostic::Diagnostic;
use crate::flowgraph::op::{Notation, Op};
use crate::flowgraph::program::ProgramKind;
use crate::source::{Source, Span};
use crate::syntax::ast::{Body, Expr, ExprKind, File, Function, Item, Name, Over, Stmt, StmtKind};
use crate::syntax::parser::parse;

/// How many columns a line may have before it is broken.
const WIDTH: usize = 120;

const INDENT: usize = 4;

/// The text, formatted.
///
/// # Errors
///
/// The mistakes of a text that does not parse; such a text is left alone.
pub fn format(source: &Source) -> Result<String, Vec<Diagnostic>> {
    let (file, diagnostics) = parse(source.text());
    if diagnostics.is_empty() { Ok(Formatter::new(source, &file).file()) } else { Err(diagnostics) }
}

struct Formatter<'a> {
    source: &'a Source,
    file: &'a File,
    /// How many comments have been written.
    comments: usize,
    out: String,
    level: usize,
    /// Where in the source the last thing written ends.
    written: u32,
    /// Whether nothing has been written yet in this body or file, so that no empty line may come.
    fresh: bool,
    /// Whether an empty line must come before the next thing.
    gap: bool,
}

/// A line under construction: pieces between which it may be broken.
#[derive(Clone, Default)]
struct Line {
    pieces: Vec<String>,
}

impl Line {
    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(piece) => piece.push_str(text),
            None => self.pieces.push(text.to_owned()),
        }
    }

    /// A blank at which the line may be broken.
    fn soft(&mut self) {
        self.pieces.push(String::new());
    }
}

impl<'a> Formatter<'a> {
    fn new(source: &'a Source, file: &'a File) -> Self {
        Self { source, file, comments: 0, out: String::new(), level: 0, written: 0, fresh: true, gap: false }
    }

    fn file(mut self) -> String {
        match self.file.kind {
            ProgramKind::Core => self.core(),
            ProgramKind::Functions => self.items(),
        }
        let end = self.source.text().len() as u32;
        self.comments_before(end + 1);
        self.out
    }

    // Lines.

    fn between(&self, from: u32, to: u32) -> &str {
        self.source.slice(Span { start: from.min(to), end: to })
    }

    /// An empty line, if one must come or if there was one in the source before `start`.
    fn space_before(&mut self, start: u32) {
        let lines: Vec<&str> = self.between(self.written, start).split('\n').collect();
        // The first and the last are parts of the lines on which something stands.
        let empty_line = lines.len() > 2 && lines[1..lines.len() - 1].iter().any(|line| line.trim().is_empty());
        if !self.fresh && (self.gap || empty_line) {
            self.out.push('\n');
        }
        self.fresh = false;
        self.gap = false;
    }

    /// The comments that start before a place, each on a line of its own.
    fn comments_before(&mut self, place: u32) {
        while let Some(comment) = self.file.comments.get(self.comments).filter(|comment| comment.span.start < place) {
            self.space_before(comment.span.start);
            let text = self.source.slice(comment.span).to_owned();
            self.start_line();
            self.out.push_str(&text);
            self.out.push('\n');
            self.written = comment.span.end;
            self.comments += 1;
        }
    }

    /// A comment on the same line of the source as the end of what was written last, before whatever comes next at `limit`.
    fn comment_behind(&mut self, end: u32, limit: u32) {
        self.written = end;
        if let Some(comment) = self.file.comments.get(self.comments)
            && (end..limit).contains(&comment.span.start)
            && !self.between(end, comment.span.start).contains('\n')
        {
            self.out.push_str("  ");
            self.out.push_str(self.source.slice(comment.span));
            self.written = comment.span.end;
            self.comments += 1;
        }
        self.out.push('\n');
    }

    fn start_line(&mut self) {
        let indent = self.level * INDENT;
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// Writes a line without its end, breaking it where it gets too long.
    fn line(&mut self, line: &Line) {
        self.start_line();
        let mut column = self.level * INDENT;
        for (index, piece) in line.pieces.iter().enumerate() {
            let width = piece.chars().count();
            if index > 0 {
                if column + 1 + width > WIDTH {
                    self.out.push('\n');
                    self.level += 1;
                    self.start_line();
                    column = self.level * INDENT;
                    self.level -= 1;
                } else {
                    self.out.push(' ');
                    column += 1;
                }
            }
            self.out.push_str(piece);
            column += width;
        }
    }

    // Core programs.

    fn core(&mut self) {
        let stmts = &self.file.body;
        for (index, stmt) in stmts.iter().enumerate() {
            let limit = stmts.get(index + 1).map_or(u32::MAX, |next| next.span.start);
            let label = matches!(stmt.kind, StmtKind::Label(_));
            self.gap |= label;
            self.level = usize::from(!label);
            self.simple_statement(stmt, limit);
        }
        self.level = 0;
    }

    // Declarations.

    fn items(&mut self) {
        let items = &self.file.items;
        for (index, item) in items.iter().enumerate() {
            let limit = items.get(index + 1).map_or(u32::MAX, |next| next.span().start);
            let span = item.span();
            let functions = |item: &Item| matches!(item, Item::Function(_));
            self.gap = functions(item) || index.checked_sub(1).is_some_and(|before| functions(&items[before]));
            if let Item::Function(function) = item {
                self.function(function, limit);
                continue;
            }
            self.comments_before(span.end);
            self.space_before(span.start);
            let mut line = Line::default();
            match item {
                Item::Shared { name, value, .. } => {
                    line.text(&format!("shared {}", name.text));
                    if let Some(value) = value {
                        line.text(" = ");
                        self.expr(value, &mut line);
                    }
                }
                Item::Const { name, value, .. } => {
                    line.text(&format!("const {} = ", name.text));
                    self.expr(value, &mut line);
                }
                Item::Object { name, fields, .. } => self.object(name, fields, &mut line),
                Item::Function(_) => unreachable!("handled above"),
            }
            self.line(&line);
            self.comment_behind(span.end, limit);
        }
    }

    fn object(&self, name: &Name, fields: &[Name], line: &mut Line) {
        line.text(&format!("object {} {{", name.text));
        for (index, field) in fields.iter().enumerate() {
            line.soft();
            line.text(&field.text);
            line.text(if index + 1 < fields.len() { "," } else { " " });
        }
        line.text("}");
    }

    fn function(&mut self, function: &Function, limit: u32) {
        self.comments_before(function.body.span.start);
        self.space_before(function.span.start);
        let mut line = Line::default();
        line.text(&format!("{}fn {}(", if function.pure { "pure " } else { "" }, function.name.text));
        for (index, parameter) in function.parameters.iter().enumerate() {
            if index > 0 {
                line.text(",");
                line.soft();
            }
            line.text(&parameter.text);
        }
        line.text(")");
        let mut whole = line.clone();
        if self.on_one_line(function.span) && self.short_body(&function.body, &mut whole).is_some() && self.fits(&whole)
        {
            self.line(&whole);
        } else {
            self.line(&line);
            self.body(&function.body);
        }
        self.comment_behind(function.span.end, limit);
    }

    // What stays on one line.

    fn on_one_line(&self, span: Span) -> bool {
        !self.source.slice(span).contains('\n')
    }

    fn fits(&self, line: &Line) -> bool {
        let width: usize = line.pieces.iter().map(|piece| piece.chars().count() + 1).sum();
        self.level * INDENT + width <= WIDTH + 1
    }

    /// A statement with bodies on one line, if it stood on one line, is short, and fits.
    fn short(&self, stmt: &Stmt) -> Option<Line> {
        if !self.on_one_line(stmt.span) {
            return None;
        }
        let mut line = Line::default();
        match &stmt.kind {
            StmtKind::While { condition, body } => {
                self.word("while ", condition, &mut line);
                self.short_body(body, &mut line)?;
            }
            StmtKind::If { arms, otherwise } => {
                for (index, (condition, body)) in arms.iter().enumerate() {
                    self.word(if index == 0 { "if " } else { " else if " }, condition, &mut line);
                    self.short_body(body, &mut line)?;
                }
                if let Some(body) = otherwise {
                    line.text(" else");
                    self.short_body(body, &mut line)?;
                }
            }
            StmtKind::For { name, value, over, body } => {
                self.for_header(name, value.as_ref(), over, &mut line);
                self.short_body(body, &mut line)?;
            }
            StmtKind::Try { body, name, handler } => {
                line.text("try");
                self.short_body(body, &mut line)?;
                line.text(" catch");
                if let Some(name) = name {
                    line.text(&format!(" {}", name.text));
                }
                self.short_body(handler, &mut line)?;
            }
            StmtKind::Either(alternatives) => {
                for (index, body) in alternatives.iter().enumerate() {
                    line.text(if index == 0 { "either" } else { " or" });
                    self.short_body(body, &mut line)?;
                }
            }
            _ => return None,
        }
        self.fits(&line).then_some(line)
    }

    /// A body of at most one statement, which has no body of its own.
    fn short_body(&self, body: &Body, line: &mut Line) -> Option<()> {
        match &body.stmts[..] {
            [] => line.text(" {}"),
            [only] if only.kind.is_simple() => {
                line.text(" { ");
                self.simple(&only.kind, line);
                line.text(" }");
            }
            _ => return None,
        }
        Some(())
    }

    fn for_header(&self, name: &Name, value: Option<&Name>, over: &Over, line: &mut Line) {
        let value = value.map(|value| format!(", {}", value.text)).unwrap_or_default();
        line.text(&format!("for {}{value} in ", name.text));
        match over {
            Over::Each(expr) => self.expr(expr, line),
            Over::Range(from, to) => {
                self.expr(from, line);
                line.text("..");
                self.expr(to, line);
            }
        }
    }

    // Statements.

    /// A body behind what has been written of its line, up to the closing brace.
    fn body(&mut self, body: &Body) {
        let inside = body.span.start + 1;
        let end = body.span.end.saturating_sub(1).max(inside);
        let comment = self.file.comments.get(self.comments).is_some_and(|comment| comment.span.start < end);
        if body.stmts.is_empty() && !comment {
            self.out.push_str(" {}");
            self.written = body.span.end;
            return;
        }
        self.out.push_str(" {");
        let first = body.stmts.first().map_or(end, |stmt| stmt.span.start);
        self.comment_behind(inside, first);
        self.level += 1;
        self.fresh = true;
        self.gap = false;
        for (index, stmt) in body.stmts.iter().enumerate() {
            let limit = body.stmts.get(index + 1).map_or(end, |next| next.span.start);
            self.stmt(stmt, limit);
        }
        self.comments_before(end);
        self.level -= 1;
        self.fresh = false;
        self.gap = false;
        self.start_line();
        self.out.push('}');
        self.written = body.span.end;
    }

    fn stmt(&mut self, stmt: &Stmt, limit: u32) {
        if let Some(line) = self.short(stmt) {
            self.comments_before(stmt.span.start);
            self.space_before(stmt.span.start);
            self.line(&line);
            return self.comment_behind(stmt.span.end, limit);
        }
        match &stmt.kind {
            StmtKind::While { condition, body } => {
                self.header(stmt, body, |formatter, line| {
                    line.text("while ");
                    formatter.expr(condition, line);
                });
                self.body(body);
            }
            StmtKind::If { arms, otherwise } => {
                for (index, (condition, body)) in arms.iter().enumerate() {
                    if index == 0 {
                        self.header(stmt, body, |formatter, line| {
                            line.text("if ");
                            formatter.expr(condition, line);
                        });
                    } else {
                        let mut line = Line::default();
                        line.text(" else if ");
                        self.expr(condition, &mut line);
                        self.continued(&line);
                    }
                    self.body(body);
                }
                if let Some(body) = otherwise {
                    self.out.push_str(" else");
                    self.body(body);
                }
            }
            StmtKind::For { name, value, over, body } => {
                self.header(stmt, body, |formatter, line| formatter.for_header(name, value.as_ref(), over, line));
                self.body(body);
            }
            StmtKind::Try { body, name, handler } => {
                self.header(stmt, body, |_, line| line.text("try"));
                self.body(body);
                self.out.push_str(" catch");
                if let Some(name) = name {
                    self.out.push(' ');
                    self.out.push_str(&name.text);
                }
                self.body(handler);
            }
            StmtKind::Either(alternatives) => {
                for (index, body) in alternatives.iter().enumerate() {
                    if index == 0 {
                        self.header(stmt, body, |_, line| line.text("either"));
                    } else {
                        self.out.push_str(" or");
                    }
                    self.body(body);
                }
            }
            StmtKind::Label(_) => {
                self.level -= 1;
                self.simple_statement(stmt, limit);
                self.level += 1;
                return;
            }
            _ => return self.simple_statement(stmt, limit),
        }
        self.comment_behind(stmt.span.end, limit);
    }

    /// The first line of a statement with a body, up to the brace.
    fn header(&mut self, stmt: &Stmt, body: &Body, write: impl FnOnce(&Self, &mut Line)) {
        self.comments_before(body.span.start);
        self.space_before(stmt.span.start);
        let mut line = Line::default();
        write(self, &mut line);
        self.line(&line);
    }

    /// More on a line that has been begun: written without indentation and never broken.
    fn continued(&mut self, line: &Line) {
        self.out.push_str(&line.pieces.join(" "));
    }

    fn simple_statement(&mut self, stmt: &Stmt, limit: u32) {
        self.comments_before(stmt.span.end);
        self.space_before(stmt.span.start);
        let mut line = Line::default();
        self.simple(&stmt.kind, &mut line);
        self.line(&line);
        self.comment_behind(stmt.span.end, limit);
    }

    fn simple(&self, kind: &StmtKind, line: &mut Line) {
        match kind {
            StmtKind::Label(name) => line.text(&format!("{}:", name.text)),
            StmtKind::Assign { place, op, value } => {
                self.expr(place, line);
                let symbol = match op.map(Op::notation) {
                    Some(Notation::Infix(symbol)) => symbol,
                    _ => "",
                };
                line.text(&format!(" {symbol}= "));
                self.expr(value, line);
            }
            StmtKind::Expr(expr) => self.expr(expr, line),
            StmtKind::Break => line.text("break"),
            StmtKind::Continue => line.text("continue"),
            StmtKind::Return(None) => line.text("return"),
            StmtKind::Return(Some(value)) => self.word("return ", value, line),
            StmtKind::Raise(value) => self.word("raise ", value, line),
            StmtKind::Retry => line.text("retry"),
            StmtKind::Add { function, args, after } => {
                line.text(&format!("add {}", function.text));
                self.list("(", args, ")", line);
                if let Some(after) = after {
                    self.word(" after ", after, line);
                }
            }
            StmtKind::Each { item, source, of, function, args } => {
                line.text(&format!("for each {} in {}", item.text, source.name()));
                self.list("(", std::slice::from_ref(of), ")", line);
                line.text(&format!(" add {}", function.text));
                self.list("(", args, ")", line);
            }
            StmtKind::When { condition, of, function, args } => {
                line.text(&format!("when {}", condition.name()));
                self.list("(", std::slice::from_ref(of), ")", line);
                line.text(&format!(" add {}", function.text));
                self.list("(", args, ")", line);
            }
            StmtKind::Goto(label) => line.text(&format!("goto {}", label.text)),
            StmtKind::Branch { condition, then, other } => {
                self.word("if ", condition, line);
                line.text(&format!(" goto {} else goto {}", then.text, other.text));
            }
            StmtKind::PrintAndStop(value) => self.list("print_and_stop(", std::slice::from_ref(value), ")", line),
            StmtKind::Promote { value, then } => {
                self.list("promote(", std::slice::from_ref(value), ")", line);
                if let Some(then) = then {
                    line.text(&format!(" goto {}", then.text));
                }
            }
            StmtKind::Enter { failure, body, name, handler } => {
                let (word, other) = if *failure { ("try", "catch") } else { ("either", "or") };
                line.text(&format!("{word} goto {} {other} ", body.text));
                if let Some(name) = name {
                    line.text(&format!("{} ", name.text));
                }
                line.text(&format!("goto {}", handler.text));
            }
            StmtKind::Leave(label) => line.text(&format!("leave goto {}", label.text)),
            StmtKind::While { .. }
            | StmtKind::If { .. }
            | StmtKind::For { .. }
            | StmtKind::Try { .. }
            | StmtKind::Either(_) => {
                unreachable!("statements with bodies are no simple ones")
            }
        }
    }

    fn word(&self, word: &str, value: &Expr, line: &mut Line) {
        line.text(word);
        self.expr(value, line);
    }

    // Expressions.

    fn list(&self, open: &str, items: &[Expr], close: &str, line: &mut Line) {
        line.text(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                line.text(",");
                line.soft();
            }
            self.expr(item, line);
        }
        line.text(close);
    }

    fn infix(&self, left: &Expr, symbol: &str, right: &Expr, line: &mut Line) {
        self.expr(left, line);
        line.text(&format!(" {symbol}"));
        line.soft();
        self.expr(right, line);
    }

    fn expr(&self, expr: &Expr, line: &mut Line) {
        match &expr.kind {
            ExprKind::Literal(_) => {
                // As it is written: digits may be grouped, bytes may be in hexadecimal.
                let written = self.source.slice(expr.span);
                match written.strip_prefix('-') {
                    Some(digits) => line.text(&format!("-{}", digits.trim_start())),
                    None => line.text(written),
                }
            }
            ExprKind::List(items) => self.list("[", items, "]", line),
            ExprKind::Name(name) => line.text(name),
            ExprKind::Neg(inner) => {
                line.text("-");
                self.expr(inner, line);
            }
            ExprKind::Not(inner) => self.word("not ", inner, line),
            ExprKind::Binary(op, left, right) => {
                let Notation::Infix(symbol) = op.notation() else {
                    unreachable!("{op:?} is written between its operands")
                };
                self.infix(left, symbol, right, line);
            }
            ExprKind::In(left, right) => self.infix(left, "in", right, line),
            ExprKind::And(left, right) => self.infix(left, "and", right, line),
            ExprKind::Or(left, right) => self.infix(left, "or", right, line),
            ExprKind::Call(name, args) => {
                line.text(&name.text);
                self.list("(", args, ")", line);
            }
            ExprKind::Index(collection, index) => {
                self.expr(collection, line);
                self.list("[", std::slice::from_ref(index), "]", line);
            }
            ExprKind::Field(object, field) => {
                self.expr(object, line);
                line.text(&format!(".{}", field.text));
            }
            ExprKind::Paren(inner) => self.list("(", std::slice::from_ref(inner), ")", line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn formatted(text: &str, expected: Expect) {
        let once = format(&Source::new("a.flow", text)).expect("parses");
        expected.assert_eq(&once);
        let twice = format(&Source::new("a.flow", once.clone())).expect("parses again");
        assert_eq!(once, twice);
    }

    #[test]
    fn core_programs_keep_their_form() {
        formatted(
            "# head\n\nl:  c=i>=0 # test\n  # before if\n    if c goto b else goto l_done\nl_done: print_and_stop( i )  # done\n\n\n\n# about b\nb: #entry\n  l = ['a',\n # inside\n -  2, 0x1f]; promote(x) goto l\n# end",
            expect![[r#"
                # head

                l:
                    c = i >= 0  # test
                    # before if
                    if c goto b else goto l_done

                l_done:
                    print_and_stop(i)  # done

                # about b
                b:  #entry
                    # inside
                    l = ['a', -2, 0x1f]
                    promote(x) goto l
                # end
            "#]],
        );
    }

    #[test]
    fn functions() {
        formatted(
            "const N=1_000\n# p\nobject P{x,\ny}\nshared m=map()\nfn main(){ # start\nx=1;y=-x # one\n\n\nwhile x<10 and(y or not x){x+=1}\n# then\nif x{}else if y{return}else{# no\n}\nfor i in 0..N{a[i]=b.c}\n}\n\n\nfn f(a,b){\nloop:\ntry{add g(1)after 5}catch e{raise e.message}\n\neither{retry}or{goto loop} # last\n# end\n}",
            expect![[r#"
                const N = 1_000
                # p
                object P { x, y }
                shared m = map()

                fn main() {  # start
                    x = 1
                    y = -x  # one

                    while x < 10 and (y or not x) { x += 1 }
                    # then
                    if x {} else if y {
                        return
                    } else {  # no
                    }
                    for i in 0..N { a[i] = b.c }
                }

                fn f(a, b) {
                loop:
                    try { add g(1) after 5 } catch e { raise e.message }

                    either { retry } or { goto loop }  # last
                    # end
                }
            "#]],
        );
    }

    #[test]
    fn what_is_short_stays_on_one_line() {
        formatted(
            "fn f(x){return x}\nfn g(){}\nfn h(x){x=1;return x}\nfn m(){if x<1{return}else{x=2} # why\nfor i in 0..3{add f(i)}\nfor i in 0..3{if i{break}}\nwhile x{x-=1;y=2}\ntry{f(1)}catch e{raise e}\nif x{\nf(2)}\neither{retry}or{}\nif aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{print(bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb)}}",
            expect![[r#"
                fn f(x) { return x }

                fn g() {}

                fn h(x) {
                    x = 1
                    return x
                }

                fn m() {
                    if x < 1 { return } else { x = 2 }  # why
                    for i in 0..3 { add f(i) }
                    for i in 0..3 {
                        if i { break }
                    }
                    while x {
                        x -= 1
                        y = 2
                    }
                    try { f(1) } catch e { raise e }
                    if x {
                        f(2)
                    }
                    either { retry } or {}
                    if aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa {
                        print(bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb)
                    }
                }
            "#]],
        );
    }

    #[test]
    fn long_lines_are_broken() {
        formatted(
            "fn f() {\n print(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\", \"cccccccccccccccccccccccccccc\", 1 + 2 + 3 + 4 + 5)\n}",
            expect![[r#"
                fn f() {
                    print("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "cccccccccccccccccccccccccccc", 1 + 2 +
                        3 + 4 + 5)
                }
            "#]],
        );
    }

    #[test]
    fn broken_programs_are_left_alone() {
        assert_eq!(format(&Source::new("a.flow", "fn f( {")).expect_err("does not parse").len(), 1);
    }
}
