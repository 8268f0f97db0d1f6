//! Who may ask: the keys that clients show, what each is for, and how often it may be used.
//!
//! Read `key_check.rs` first: what is decided of a request. `key_file.rs` is where named keys are kept.

pub(crate) mod key_check;
pub(crate) mod key_file;
mod key_ring;
mod rates;
pub(crate) mod scope;
