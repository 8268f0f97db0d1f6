//! Tests of the whole: timelines, random operations, answers put back, the arithmetic against brute force, layouts.

mod answers;
mod arithmetic;
mod layouts;
mod random_ops;
mod sim;
mod timeline;
