//! Tests of the whole: timelines, random operations, capacity.

mod random_ops;
mod sim;
mod timeline;
