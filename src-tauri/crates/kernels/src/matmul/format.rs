//! The quantised types as compile-time parameters, so that a kernel is written once and compiled for each.

use crate::ggml::GgmlType;
use crate::weights::{Layout, bias, has_min};

/// A quantised type.
pub(super) trait Format {
    const TY: GgmlType;
    /// Where things stand in its tiles.
    const LAYOUT: Layout = Layout::of(Self::TY);
    /// Whether its weights have a minimum.
    const HAS_MIN: bool = has_min(Self::TY);
    /// Whether the first and the second 16 columns of a sub-block have scales of their own.
    const SPLIT: bool = matches!(Self::TY, GgmlType::Q6K);
    /// The stored integers are too large by 2 to this, if at all.
    const BIAS_SHIFT: Option<u32> = match bias(Self::TY) {
        0 => None,
        bias => Some(bias.trailing_zeros()),
    };
    /// Bytes from the start of a sub-block to its integers.
    const LINES: usize = match Self::TY {
        GgmlType::Q4_1 | GgmlType::Q5_1 => 128,
        _ => 64,
    };
    /// Lines of high bits before the nibbles.
    const HIGH_LINES: usize = match Self::TY {
        GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Q5K => 2,
        GgmlType::Q6K => 4,
        _ => 0,
    };
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

formats! { Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4K Q5K Q6K }

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
            GgmlType::Q4K => arm!(Q4K),
            GgmlType::Q5K => arm!(Q5K),
            GgmlType::Q6K => arm!(Q6K),
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => $float,
        }
    }};
}
pub(super) use with_format;
