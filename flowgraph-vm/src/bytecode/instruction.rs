//! The instructions of the register machine.
//!
//! An instruction is one word: `opcode | a << 8 | b << 16 | c << 24 | immediate << 32`. The operands `a`, `b` and `c` are registers of the
//! frame (its first 256 slots); where an instruction needs more, `immediate` says which. Jumps are relative to the instruction
//! that follows, in words.
//!
//! A *fused* instruction stands for itself and the one behind it, which stays where it is: whoever jumps there, or cannot go the quick
//! way, runs it by itself.
//!
//! A *chain of floats* is a row of instructions each of which uses the result of the one before, and nobody else does. As long as all is
//! floats, results are handed on in a machine register and never become values. Where something else turns up, the result becomes a value in its
//! own register, and the rest of the chain runs as the plain instructions it was made from.
//!
//! Every quick instruction covers the common case of one operation of the flowgraph. For all other cases it falls back to the operation
//! itself, which the [side table](super::Code::sites) finds by the instruction's place, so that no instruction repeats what an operation means.

macro_rules! instructions {
    ($( $name:ident $doc:literal; )*) => {
        /// What an instruction does.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Opcode {
            $( #[doc = $doc] $name, )*
        }

        impl Opcode {
            /// Every opcode in order.
            pub(crate) const ALL: &[Opcode] = &[$( Opcode::$name, )*];
        }
    };
}

instructions! {
    Move "a = b";
    LoadConstant "a = constants[immediate]";
    LoadFar "a = slots[immediate]: a variable that found no register";
    StoreFar "slots[immediate] = a";
    Check "Fails if slots[immediate] was never set.";
    Add "a = b + c";
    Sub "a = b - c";
    Mul "a = b * c";
    FloorDiv "a = b // c";
    Modulo "a = b % c";
    Div "a = b / c";
    AddSmall "a = b + immediate, a tagged integer; for a subtraction the immediate has its sign turned.";
    Eq "a = b == c";
    Ne "a = b != c";
    Lt "a = b < c";
    Le "a = b <= c";
    Jump "Jumps.";
    JumpIf "Jumps unless a is the integer 0.";
    JumpIfNot "Jumps if a is the integer 0.";
    JumpEq "Jumps if a == b.";
    JumpNotEq "Jumps unless a == b.";
    JumpLt "Jumps if a < b.";
    JumpNotLt "Jumps unless a < b.";
    JumpLe "Jumps if a <= b.";
    JumpNotLe "Jumps unless a <= b.";
    JumpLtSmall "Jumps if a is less than the small integer in b and c.";
    JumpNotLtSmall "Jumps unless a is less than the small integer in b and c.";
    AddSmallJumpLt "AddSmall, and then the JumpLt that follows.";
    AddSmallJumpLtSmall "AddSmall, and then the JumpLtSmall that follows.";
    AddSmallIndex "AddSmall, and then the Index that follows.";
    AddSmallJumpIf "a = b + c, a small integer with sign; then jumps unless a is the integer 0.";
    Switch "Jumps to where the table number immediate sends a; falls through for other values.";
    Index "a = b[c]";
    IndexSmall "a = b[immediate]";
    SetIndex "a[b] = c";
    AddThrough "Add, the first of a chain of floats.";
    SubThrough "Sub, the first of a chain of floats.";
    MulThrough "Mul, the first of a chain of floats.";
    DivThrough "Div, the first of a chain of floats.";
    IndexThrough "Index, the first of a chain of floats.";
    AddOn "Add in a chain of floats, which b comes from.";
    SubOn "Sub in a chain of floats, which b comes from.";
    SubFromOn "Sub in a chain of floats, which c comes from.";
    MulOn "Mul in a chain of floats, which b comes from.";
    DivOn "Div in a chain of floats, which b comes from.";
    AddSmallOn "AddSmall in a chain of floats, which it has no part in: it steps an index.";
    IndexAddOn "Index and the Add that follows, in a chain of floats, which the Add's b comes from; its c is the element.";
    IndexSubOn "Index and the Sub that follows, in a chain of floats, which the Sub's b comes from; its c is the element.";
    IndexMulOn "Index and the Mul that follows, in a chain of floats, which the Mul's b comes from; its c is the element.";
    SetIndexOn "SetIndex at the end of a chain of floats, which c comes from.";
    GetField "a = b.field, with the inline cache number immediate";
    SetField "a.field = b, with the inline cache number immediate";
    GetSettled "a = the shared variable number immediate, which no function assigns to.";
    GetGlobal "a = the shared variable number immediate";
    SetGlobal "The shared variable number immediate = a";
    Call "slots[a | b << 8] = the function number immediate, called; the c arguments' slots follow in words of four.";
    Return "Returns a.";
    Perform "slots[immediate] = the operation of this place on its operands; no result is kept for u32::MAX.";
    Enter "Enters a guarded region; the immediate is the guard's number.";
    Leave "Leaves the innermost guarded region.";
    Raise "Raises a.";
    Retry "Gives up the attempt until something it has read changes.";
    Stop "Prints a and ends the run.";
}

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Instruction(pub u64);

impl Instruction {
    pub(crate) const fn new(opcode: Opcode, a: u8, b: u8, c: u8, immediate: i32) -> Instruction {
        Instruction(
            opcode as u64 | (a as u64) << 8 | (b as u64) << 16 | (c as u64) << 24 | (immediate as u32 as u64) << 32,
        )
    }

    /// The opcode.
    #[inline(always)]
    pub(crate) fn opcode(self) -> Opcode {
        Opcode::ALL[(self.0 & 0xff) as usize]
    }

    /// The opcode as the number it is in the word.
    #[inline(always)]
    pub(crate) const fn opcode_byte(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub(crate) const fn a(self) -> usize {
        (self.0 >> 8) as u8 as usize
    }

    #[inline(always)]
    pub(crate) const fn b(self) -> usize {
        (self.0 >> 16) as u8 as usize
    }

    #[inline(always)]
    pub(crate) const fn c(self) -> usize {
        (self.0 >> 24) as u8 as usize
    }

    /// How many words it takes.
    pub(crate) fn length(self) -> usize {
        if self.opcode() == Opcode::Call { 1 + self.c().div_ceil(4) } else { 1 }
    }

    /// The operands `b` and `c` as one number with sign.
    #[inline(always)]
    pub(crate) const fn bc(self) -> i16 {
        (self.0 >> 16) as u16 as i16
    }

    /// The operands `a` and `b` as one number.
    #[inline(always)]
    pub(crate) const fn ab(self) -> usize {
        (self.0 >> 8) as u16 as usize
    }

    #[inline(always)]
    pub(crate) const fn immediate(self) -> i32 {
        (self.0 >> 32) as i32
    }

    pub(crate) fn set_opcode(&mut self, opcode: Opcode) {
        self.0 = self.0 & !0xff | opcode as u64;
    }

    /// Exchanges the operands `b` and `c`.
    pub(crate) fn swap_operands(&mut self) {
        let (b, c) = (self.b() as u64, self.c() as u64);
        self.0 = self.0 & !0xffff_0000 | c << 16 | b << 24;
    }

    pub(crate) fn set_immediate(&mut self, immediate: i32) {
        self.0 = self.0 & 0xffff_ffff | (immediate as u32 as u64) << 32;
    }
}

impl std::fmt::Debug for Instruction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {} {} {}", self.opcode(), self.a(), self.b(), self.c(), self.immediate())
    }
}
