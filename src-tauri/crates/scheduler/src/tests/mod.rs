//! Tests of the whole: timelines, random operations, capacity.

mod answers;
mod random_ops;
mod sim;
mod timeline;
