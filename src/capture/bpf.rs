//! Classic BPF (McCanne and Jacobson, 1993), as libpcap compiles filters to: checked once, then run without a fault.
//!
//! A program can only jump forward, so it ends; a load beyond the packet, and a division by 0, end it with "no match", as
//! in libpcap's own interpreter. Linux's extensions at negative offsets are none of it.

use thiserror::Error;

/// One instruction as libpcap has it, and `tcpdump -ddd` prints it: code, jump if true, jump if false, constant.
pub type Instruction = (u16, u8, u8, u32);

/// Most instructions that a program may have: the kernel's limit too.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Words of scratch memory.
const WORDS: usize = 16;

/// Why a program is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadProgram {
    /// No instruction, or too many.
    #[error("a filter of {0} instructions, not 1 to {MAX_INSTRUCTIONS}")]
    Length(usize),
    /// An instruction that is not known, jumps behind the end, or has an operand that it may not have.
    #[error("instruction {0} of the filter is not valid")]
    Instruction(usize),
    /// The last instruction does not return.
    #[error("the filter does not end with a return")]
    NoReturn,
}

/// Bytes of a load.
#[derive(Clone, Copy, Debug)]
enum Size {
    Word,
    Half,
    Byte,
}

/// The right-hand side.
#[derive(Clone, Copy, Debug)]
enum Operand {
    K(u32),
    X,
}

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    Lsh,
    Rsh,
}

#[derive(Clone, Copy, Debug)]
enum Test {
    Equal,
    Greater,
    AtLeast,
    AnyBit,
}

/// An instruction that was checked.
#[derive(Clone, Copy, Debug)]
enum Op {
    LoadAbsolute(Size, u32),
    LoadIndirect(Size, u32),
    LoadImmediate(u32),
    LoadLength,
    LoadMemory(usize),
    LoadXImmediate(u32),
    LoadXLength,
    LoadXMemory(usize),
    /// Four times the low nibble of a byte: the length of an IPv4 header.
    LoadXHeader(u32),
    StoreA(usize),
    StoreX(usize),
    Compute(Arithmetic, Operand),
    Negate,
    Jump(usize),
    Branch(Test, Operand, u8, u8),
    ReturnK(u32),
    ReturnA,
    AToX,
    XToA,
}

/// A program that was checked.
#[derive(Clone, Debug)]
pub struct Program {
    ops: Box<[Op]>,
}

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// What it has that no compiler makes.
    pub fn new(instructions: &[Instruction]) -> Result<Self, BadProgram> {
        if instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
            return Err(BadProgram::Length(instructions.len()));
        }
        let mut ops = Vec::with_capacity(instructions.len());
        for (at, instruction) in instructions.iter().enumerate() {
            let left = instructions.len() - at - 1;
            ops.push(Op::decode(*instruction, left).ok_or(BadProgram::Instruction(at))?);
        }
        match ops.last() {
            Some(Op::ReturnK(_) | Op::ReturnA) => Ok(Self { ops: ops.into() }),
            _ => Err(BadProgram::NoReturn),
        }
    }

    /// Whether the packet, of which `data` is there and `original_len` bytes were on the wire, is wanted.
    #[must_use]
    pub fn matches(&self, data: &[u8], original_len: u32) -> bool {
        self.run(data, original_len).is_some_and(|value| value != 0)
    }

    /// What it returns; none where it reads behind the packet or divides by 0.
    fn run(&self, data: &[u8], original_len: u32) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; WORDS]);
        let mut at = 0;
        loop {
            let op = *self.ops.get(at)?;
            at += 1;
            let value = |operand| match operand {
                Operand::K(k) => k,
                Operand::X => x,
            };
            match op {
                Op::LoadAbsolute(size, k) => a = load(data, size, k)?,
                Op::LoadIndirect(size, k) => a = load(data, size, x.checked_add(k)?)?,
                Op::LoadImmediate(k) => a = k,
                Op::LoadLength => a = original_len,
                Op::LoadMemory(i) => a = *memory.get(i)?,
                Op::LoadXImmediate(k) => x = k,
                Op::LoadXLength => x = original_len,
                Op::LoadXMemory(i) => x = *memory.get(i)?,
                Op::LoadXHeader(k) => x = (load(data, Size::Byte, k)? & 0xf) << 2,
                Op::StoreA(i) => *memory.get_mut(i)? = a,
                Op::StoreX(i) => *memory.get_mut(i)? = x,
                Op::Compute(arithmetic, operand) => a = compute(arithmetic, a, value(operand))?,
                Op::Negate => a = a.wrapping_neg(),
                Op::Jump(by) => at += by,
                Op::Branch(test, operand, if_true, if_false) => {
                    let right = value(operand);
                    let holds = match test {
                        Test::Equal => a == right,
                        Test::Greater => a > right,
                        Test::AtLeast => a >= right,
                        Test::AnyBit => a & right != 0,
                    };
                    at += usize::from(if holds { if_true } else { if_false });
                }
                Op::ReturnK(k) => return Some(k),
                Op::ReturnA => return Some(a),
                Op::AToX => x = a,
                Op::XToA => a = x,
            }
        }
    }
}

fn load(data: &[u8], size: Size, at: u32) -> Option<u32> {
    let from = data.get(usize::try_from(at).ok()?..)?;
    match size {
        Size::Word => from.first_chunk().map(|b| u32::from_be_bytes(*b)),
        Size::Half => from.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b))),
        Size::Byte => from.first().map(|b| u32::from(*b)),
    }
}

fn compute(arithmetic: Arithmetic, a: u32, by: u32) -> Option<u32> {
    match arithmetic {
        Arithmetic::Add => Some(a.wrapping_add(by)),
        Arithmetic::Sub => Some(a.wrapping_sub(by)),
        Arithmetic::Mul => Some(a.wrapping_mul(by)),
        Arithmetic::Div => a.checked_div(by),
        Arithmetic::Mod => a.checked_rem(by),
        Arithmetic::Or => Some(a | by),
        Arithmetic::And => Some(a & by),
        Arithmetic::Xor => Some(a ^ by),
        Arithmetic::Lsh => Some(a.checked_shl(by).unwrap_or(0)),
        Arithmetic::Rsh => Some(a.checked_shr(by).unwrap_or(0)),
    }
}

impl Op {
    /// `left`: instructions behind this one. None where it is not valid.
    fn decode((code, jt, jf, k): Instruction, left: usize) -> Option<Self> {
        let operand = if code & 0x08 == 0 { Operand::K(k) } else { Operand::X };
        let word = || usize::try_from(k).ok().filter(|&i| i < WORDS);
        let size = match code & 0x18 {
            0x00 => Some(Size::Word),
            0x08 => Some(Size::Half),
            0x10 => Some(Size::Byte),
            _ => None,
        };
        Some(match (code & 0x07, code) {
            (0, _) => match code & !0x18 {
                0x20 => Self::LoadAbsolute(size?, k),
                0x40 => Self::LoadIndirect(size?, k),
                _ => match code {
                    0x00 => Self::LoadImmediate(k),
                    0x60 => Self::LoadMemory(word()?),
                    0x80 => Self::LoadLength,
                    _ => return None,
                },
            },
            (_, 0x01) => Self::LoadXImmediate(k),
            (_, 0x61) => Self::LoadXMemory(word()?),
            (_, 0x81) => Self::LoadXLength,
            (_, 0xb1) => Self::LoadXHeader(k),
            (_, 0x02) => Self::StoreA(word()?),
            (_, 0x03) => Self::StoreX(word()?),
            (_, 0x84) => Self::Negate,
            (4, _) => {
                let arithmetic = match code & !0x08 {
                    0x04 => Arithmetic::Add,
                    0x14 => Arithmetic::Sub,
                    0x24 => Arithmetic::Mul,
                    0x34 => Arithmetic::Div,
                    0x44 => Arithmetic::Or,
                    0x54 => Arithmetic::And,
                    0x64 => Arithmetic::Lsh,
                    0x74 => Arithmetic::Rsh,
                    0x94 => Arithmetic::Mod,
                    0xa4 => Arithmetic::Xor,
                    _ => return None,
                };
                let divides = matches!(arithmetic, Arithmetic::Div | Arithmetic::Mod);
                if divides && matches!(operand, Operand::K(0)) {
                    return None;
                }
                Self::Compute(arithmetic, operand)
            }
            (_, 0x05) => Self::Jump(usize::try_from(k).ok().filter(|&by| by < left)?),
            (5, _) => {
                let test = match code & !0x08 {
                    0x15 => Test::Equal,
                    0x25 => Test::Greater,
                    0x35 => Test::AtLeast,
                    0x45 => Test::AnyBit,
                    _ => return None,
                };
                if usize::from(jt.max(jf)) >= left {
                    return None;
                }
                Self::Branch(test, operand, jt, jf)
            }
            (_, 0x06) => Self::ReturnK(k),
            (_, 0x16) => Self::ReturnA,
            (_, 0x07) => Self::AToX,
            (_, 0x87) => Self::XToA,
            _ => return None,
        })
    }
}
