//! The engine thread: it owns everything mutable and reads one inbox.

mod door;
pub(crate) mod engine_thread;
mod loading;
mod parting;
mod windows;
