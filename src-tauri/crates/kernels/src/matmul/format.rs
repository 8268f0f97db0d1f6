//! The quantised types as compile-time parameters, so that a kernel is written once and compiled for each.
#![allow(unsafe_code)]

use crate::ggml::GgmlType;
use crate::weights::{Coding, Expanded, Layout, Scales, Signs, unit};

/// A quantised type.
pub(super) trait Format {
    const TY: GgmlType;
    const CODING: Coding = Coding::of(Self::TY);
    /// Where things stand in its tiles.
    const LAYOUT: Layout = Layout::of(Self::TY);
    /// Whether its weights have a minimum.
    const HAS_MIN: bool = Self::CODING.has_min();
    /// Whether the first and the second 16 columns of a sub-block have scales of their own.
    const SPLIT: bool = Self::CODING.split;
    /// Whether the integers are signed ones, once the sign bit is flipped.
    const SIGNED: bool = Self::CODING.bias == 128;
    /// The stored integers are too large by 2 to this, if at all.
    const BIAS_SHIFT: Option<u32> = match Self::CODING.bias {
        0 => None,
        bias => Some(bias.trailing_zeros()),
    };
    /// Whether its sub-blocks are decoded into an [`Expanded`] first.
    const IN_BLOCKS: bool = matches!(Self::CODING.scales, Scales::Blocks);
    /// What a step of the scales counts then.
    const UNIT: f32 = unit(Self::TY);
    /// Whether the signs stand beside the integers then.
    const SIGNS_BESIDE: bool = !matches!(Signs::of(Self::TY), Signs::None);
    /// Bytes from the start of a sub-block to its integers.
    const LINES: usize = Self::CODING.scale_bytes().1;
    /// Lines of high bits before the others.
    const HIGH_LINES: usize = Self::CODING.high_bytes() / 64;
    /// Of the high bits, how many of one integer stand next to each other, and how many words a line is for.
    const HIGH_BITS: (u32, usize) = if Self::CODING.high_bits == 2 { (2, 4) } else { (1, 8) };
    /// What the nibbles stand for: as it is, and with the bias.
    const BOOKS: Option<([i8; 16], [u8; 16])> = match Self::CODING.book {
        Some(book) => Some((*book, biased(book, Self::CODING.bias))),
        None => None,
    };
}

const fn biased(book: &[i8; 16], bias: i32) -> [u8; 16] {
    let (mut bytes, mut i) = ([0; 16], 0);
    while i < bytes.len() {
        bytes[i] = (book[i] as i32 + bias) as u8;
        i += 1;
    }
    bytes
}

macro_rules! formats {
    ($($name:ident)*) => {
        $(
            pub(super) struct $name;
            impl Format for $name {
                const TY: GgmlType = GgmlType::$name;
            }
        )*
    };
}

formats! {
    Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K IQ4NL IQ4XS MXFP4 NVFP4 IQ3XXS IQ3S IQ2XXS IQ2XS IQ2S IQ1S IQ1M TQ1_0
    TQ2_0
}

/// Index, head and start of each sub-block of a tile of `n_in` columns.
#[inline(always)]
pub(super) fn sub_blocks<F: Format>(
    tile: *const u8,
    n_in: usize,
) -> impl Iterator<Item = (usize, *const u8, *const u8)> {
    let layout = F::LAYOUT;
    (0..n_in / 32).map(move |i| {
        let head = tile.wrapping_add(i / layout.n_sub * layout.group_bytes());
        (i, head, head.wrapping_add(layout.head + i % layout.n_sub * layout.sub))
    })
}

/// Where a kernel reads sub-block `i`, which starts at `sub` and belongs to the group at `head`: in `room`, if the type
/// has to be decoded first.
///
/// # Safety
/// The sub-block is one of a tile of the type.
#[inline(always)]
pub(super) unsafe fn readable<F: Format>(
    i: usize,
    head: *const u8,
    sub: *const u8,
    room: &mut Expanded,
) -> *const u8 {
    if !F::IN_BLOCKS {
        return sub;
    }
    // SAFETY: the caller's promise: a group is there.
    let group = unsafe { std::slice::from_raw_parts(head, F::LAYOUT.group_bytes()) };
    room.fill(F::TY, group, i % F::LAYOUT.n_sub);
    (&raw const *room).cast()
}

/// Evaluates `$body` with `$format` standing for the [`Format`] of `$ty`; `$float` for float types.
macro_rules! with_format {
    ($ty:expr, $format:ident => $body:expr, _ => $float:expr) => {{
        use $crate::matmul::format;
        macro_rules! arm {
            ($name:ident) => {{
                type $format = format::$name;
                $body
            }};
        }
        match $ty {
            GgmlType::Q4_0 => arm!(Q4_0),
            GgmlType::Q4_1 => arm!(Q4_1),
            GgmlType::Q5_0 => arm!(Q5_0),
            GgmlType::Q5_1 => arm!(Q5_1),
            GgmlType::Q8_0 => arm!(Q8_0),
            GgmlType::Q2K => arm!(Q2K),
            GgmlType::Q3K => arm!(Q3K),
            GgmlType::Q4K => arm!(Q4K),
            GgmlType::Q5K => arm!(Q5K),
            GgmlType::Q6K => arm!(Q6K),
            GgmlType::IQ4NL => arm!(IQ4NL),
            GgmlType::IQ4XS => arm!(IQ4XS),
            GgmlType::MXFP4 => arm!(MXFP4),
            GgmlType::NVFP4 => arm!(NVFP4),
            GgmlType::IQ3XXS => arm!(IQ3XXS),
            GgmlType::IQ3S => arm!(IQ3S),
            GgmlType::IQ2XXS => arm!(IQ2XXS),
            GgmlType::IQ2XS => arm!(IQ2XS),
            GgmlType::IQ2S => arm!(IQ2S),
            GgmlType::IQ1S => arm!(IQ1S),
            GgmlType::IQ1M => arm!(IQ1M),
            GgmlType::TQ1_0 => arm!(TQ1_0),
            GgmlType::TQ2_0 => arm!(TQ2_0),
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => $float,
        }
    }};
}
pub(super) use with_format;
