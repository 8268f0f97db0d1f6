//! Tests of the whole: timelines, random operations, answers put back, the arithmetic against brute force.

mod answers;
mod arithmetic;
mod random_ops;
mod sim;
mod timeline;
