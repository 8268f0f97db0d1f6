//! Black box: the real binary with a real model, over HTTP only. A test's name is what a client may rely on.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and says on stderr why")]

mod harness;

mod agents;
mod bad_input;
mod binary;
mod command_line;
mod disk;
mod drain;
mod embeddings;
mod faults;
mod generation;
mod health;
mod hostile;
mod keys;
mod load;
mod long_prompts;
mod model_files;
mod observing;
mod reuse;
mod same_bytes;
mod shutdown;
mod tools;
mod warmth;
mod web;
