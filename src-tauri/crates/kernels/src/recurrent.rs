//! What mixes tokens through a state of fixed size instead of keys and values: the operations of recurrent layers on the
//! pool's [`crate::state`].
//!
//! A head's recurrence runs token by token, heads of all rows in parallel, and a chunk's last state is stored as it is
//! computed with. So a row's bits depend on its tokens and positions only.

pub mod conv;
pub mod delta;
pub mod mamba2;
