//! The engine's promises, held against the scripted runner. No test sleeps: steps, loads and flushes are held and
//! released, and time is moved by hand.

mod agents;
mod answers;
mod cancelling;
mod chats;
mod checkpoints;
mod constraining;
mod draining;
mod embedding;
mod faults;
mod keeping;
mod lifecycle;
mod models;
mod numbers;
mod queueing;
mod replaying;
mod restoring;
mod rig;
mod saving;
mod splicing;
mod states_at_random;
mod stored_states;
