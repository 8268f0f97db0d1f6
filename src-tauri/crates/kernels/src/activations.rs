//! The input rows of a matrix product, in the form that the kernels read.
//!
//! Each 32 values of a row become 32 signed bytes and a scale; the sums of the bytes pay for the offsets and
//! minimums of the weights. Rows of the same 32 columns stand next to each other, because a kernel holds the
//! weights of 32 columns in registers while the rows stream past:
//!
//! ```text
//! q:     columns 0..32: [row 0: 32 B][row 1]..[row n][gap]   columns 32..64: [row 0]..
//! meta:  the same with 16 bytes instead of 32
//! ```
//!
//! The gap keeps the distance between two columns of a row off a power of two, which would map them to the
//! same few cache sets. Float weights read the rows as they are.
//!
//! [`Rounding::Bits16`] adds a second plane of the same shape: what the first rounding left of each value, as bytes
//! that count a 254th of the first plane's. A kernel passes over it as over the first, so a product of 16 bits costs
//! two of 8 and reads its weights once.
//!
//! A block whose values are not all finite gets NaN as its scale: the outputs of that row become NaN, those of
//! other rows do not.

mod blocks;
mod fill;
mod gate;
mod quantize;
mod rows;

pub(crate) use blocks::BlockRows;
pub(crate) use gate::{gate_values, square_positive};
pub(crate) use rows::Meta;

pub use fill::{GateUp, RmsNorm};
pub use gate::Gate;
pub use rows::{Activations, Form, Rounding};

#[cfg(test)]
mod tests;
