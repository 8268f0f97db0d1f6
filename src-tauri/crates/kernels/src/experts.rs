//! A mixture of experts: feed-forwards of which each token goes through a few.
//!
//! ```text
//!  tokens   0: experts 5, 2     1: experts 2, 7     2: experts 5, 7        as routed, the best first
//!              ▼
//!  slots    [2: token 0, 1][5: token 0, 2][7: token 1, 2]                  grouped by expert
//!              │ gate, up of an expert's slots, the function, rounding     workers share experts and their tiles
//!              ▼
//!  hidden   a row for each slot
//!              │ down of every expert                                      workers share the outputs' tiles
//!              ▼
//!  out      token 0 = w · slot(5, 0) + w · slot(2, 0) …                    in the order of rank
//! ```
//!
//! Only experts that a token has chosen are read, each once for up to 128 of its tokens. A row's bits are its own: an
//! expert's products have the bits of [`crate::matmul`], and whichever rows share an expert, a token's terms are
//! scaled one by one and added in the order of rank.
//!
//! There are two starts of the workers, whatever the number of experts: one tile of gate and up is 32 columns of
//! the hidden rows, which are rounded by themselves.

mod groups;
mod product;
mod routing;

pub use groups::ExpertBuffers;
pub use product::{ExpertMatrix, Experts, Inner, run};
pub use routing::{ExpertGroups, Router, Routes, Scoring};

#[cfg(test)]
mod tests;
