//! The house rules as tests.
//!
//! Every rule is a pure function from the tree's text to a list of complaints; `tests/house_rules.rs` runs them
//! over this repository, and each rule's own test shows it finding what it is for.
//! Read `tests/house_rules.rs` first. This crate has no dependencies and must keep none.

pub mod imports;
pub mod manifests;
pub mod names;
pub mod page;
pub mod prose;
pub mod rooms;
pub mod sources;
pub mod tree;
