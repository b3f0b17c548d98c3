//! The syntax tree: a program as it is written, with the place of everything.

use std::sync::Arc;

use crate::flowgraph::op::Op;
use crate::flowgraph::program::ProgramKind;
use crate::literal::Literal;
use crate::source::Span;
use crate::syntax::token::Comment;

/// A name and where it stands.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name.
    pub text: Arc<str>,
    /// Where it stands.
    pub span: Span,
}

/// A whole file.
#[derive(Clone, Debug)]
pub struct File {
    /// Labelled blocks or functions.
    pub kind: ProgramKind,
    /// The declarations of a program of functions.
    pub items: Vec<Item>,
    /// The statements, labels among them, of a core program.
    pub body: Vec<Stmt>,
    /// The comments.
    pub comments: Vec<Comment>,
}

/// A declaration at the top level.
#[derive(Clone, Debug)]
pub enum Item {
    /// `fn f(a, b) { … }` or `pure fn …`.
    Function(Function),
    /// `shared name = value`; without a value the variable starts as `none`.
    Shared {
        /// The variable.
        name: Name,
        /// Its first value.
        value: Option<Expr>,
        /// The whole declaration.
        span: Span,
    },
    /// `const name = value`.
    Const {
        /// The constant.
        name: Name,
        /// Its value.
        value: Expr,
        /// The whole declaration.
        span: Span,
    },
    /// `object Name { field, field }`.
    Object {
        /// The type.
        name: Name,
        /// Its fields.
        fields: Vec<Name>,
        /// The whole declaration.
        span: Span,
    },
}

impl Item {
    /// The whole declaration.
    pub fn span(&self) -> Span {
        match self {
            Self::Function(function) => function.span,
            Self::Shared { span, .. } | Self::Const { span, .. } | Self::Object { span, .. } => *span,
        }
    }
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: Name,
    /// Its parameters.
    pub parameters: Vec<Name>,
    /// What it does.
    pub body: Body,
    /// Whether it is declared `pure`.
    pub pure: bool,
    /// From `fn` (or `pure`) to the closing parenthesis of the parameters.
    pub head: Span,
    /// The whole declaration.
    pub span: Span,
}

/// Statements between braces.
#[derive(Clone, Debug)]
pub struct Body {
    /// The statements.
    pub stmts: Vec<Stmt>,
    /// From brace to brace.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// Which.
    pub kind: StmtKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of statement.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `label:`
    Label(Name),
    /// `place = value`, or with an operation `place += value`.
    Assign {
        /// What is assigned: a name, field or index.
        place: Expr,
        /// The operation of a compound assignment.
        op: Option<Op>,
        /// The value.
        value: Expr,
    },
    /// A call for its effect.
    Expr(Expr),
    /// `while c { … }`
    While {
        /// While this is not 0.
        condition: Expr,
        /// What is repeated.
        body: Body,
    },
    /// `if c { … } else if d { … } else { … }`
    If {
        /// Conditions with what belongs to them.
        arms: Vec<(Expr, Body)>,
        /// What else.
        otherwise: Option<Body>,
    },
    /// `for x in … { … }` or `for key, value in … { … }`
    For {
        /// The variable.
        name: Name,
        /// The variable for the value, if the first is for the key.
        value: Option<Name>,
        /// What it goes over.
        over: Over,
        /// What is repeated.
        body: Body,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return` with or without a value.
    Return(Option<Expr>),
    /// `raise v`
    Raise(Expr),
    /// `try { … } catch e { … }`
    Try {
        /// The guarded part.
        body: Body,
        /// The variable for the error.
        name: Option<Name>,
        /// What to do then.
        handler: Body,
    },
    /// `retry`
    Retry,
    /// `either { … } or { … }`
    Either(Vec<Body>),
    /// `add f(v)` or `add f(v) after d`
    Add {
        /// The function.
        function: Name,
        /// Its arguments.
        args: Vec<Expr>,
        /// The delay in milliseconds.
        after: Option<Expr>,
    },
    /// `for each x in source(v) add f(a, x)`
    Each {
        /// What each thing is called among the arguments.
        item: Name,
        /// The kind of source.
        source: Op,
        /// The source.
        of: Expr,
        /// The function.
        function: Name,
        /// Its arguments, the item among them.
        args: Vec<Expr>,
    },
    /// `when condition(v) add f(a)`
    When {
        /// The kind of condition.
        condition: Op,
        /// What it is about.
        of: Expr,
        /// The function.
        function: Name,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// `goto L`
    Goto(Name),
    /// `if v goto L1 else goto L2`
    Branch {
        /// What decides.
        condition: Expr,
        /// Where to go if it is not 0.
        then: Name,
        /// Where to go if it is.
        other: Name,
    },
    /// `print_and_stop(v)`
    PrintAndStop(Expr),
    /// `promote(v)` or `promote(v) goto L`
    Promote {
        /// What to specialise to.
        value: Expr,
        /// Where to go.
        then: Option<Name>,
    },
    /// `try goto L1 catch e goto L2`, `either goto L1 or goto L2`: the flat form of guarded regions.
    Enter {
        /// Whether this is `try`.
        failure: bool,
        /// The region's first block.
        body: Name,
        /// The variable for the error.
        name: Option<Name>,
        /// Where to go on when the guard strikes.
        handler: Name,
    },
    /// `leave goto L`: the flat form of a region's end.
    Leave(Name),
}

impl StmtKind {
    /// Whether it is a statement without a body and no label.
    pub fn is_simple(&self) -> bool {
        !matches!(
            self,
            Self::Label(_)
                | Self::While { .. }
                | Self::If { .. }
                | Self::For { .. }
                | Self::Try { .. }
                | Self::Either(_)
        )
    }
}

/// What a `for` goes over.
#[derive(Clone, Debug)]
pub enum Over {
    /// The elements of a collection.
    Each(Expr),
    /// The integers from the first to before the second.
    Range(Expr, Expr),
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Which.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
    /// How deeply it is nested, at least 1; bounded by the parser so that recursion over expressions is safe.
    pub height: u32,
}

/// The kinds of expression.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A number, symbol, string, byte string or `none`.
    Literal(Literal),
    /// A list; in a core program, and where a constant is needed, the items must be constants.
    List(Vec<Expr>),
    /// A name.
    Name(Arc<str>),
    /// `-a`
    Neg(Box<Expr>),
    /// `not a`
    Not(Box<Expr>),
    /// `a + b` and the like.
    Binary(Op, Box<Expr>, Box<Expr>),
    /// `a in b`
    In(Box<Expr>, Box<Expr>),
    /// `a and b`
    And(Box<Expr>, Box<Expr>),
    /// `a or b`
    Or(Box<Expr>, Box<Expr>),
    /// `f(a, b)`
    Call(Name, Vec<Expr>),
    /// `a[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `a.field`
    Field(Box<Expr>, Name),
    /// `(a)`
    Paren(Box<Expr>),
}
