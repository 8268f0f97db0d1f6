//! Keeps KV blocks and agents' manifests on disk: atomic, verified, within a byte budget.
//!
//! It knows no models, nothing of what the bytes mean, and no scheduling: a block is a key, the tokens it stands
//! for, and opaque bytes. Whatever goes wrong here costs time, never a request: a failed read is a miss with a
//! reason.
//!
//! ```text
//!  save ──▶ queue ──▶ writer thread ───▶ segments         one mutex over the state (index, sizes, queue),
//!  restore ─────────▶ reader threads ◀── segments         never held across a disk operation
//! ```
//!
//! Read `block_store.rs` first for the interface, `FORMAT.md` for the files, then `writer.rs`, `append.rs` and `reader.rs`.

pub mod agent;
mod append;
mod backup;
pub mod block_store;
mod config;
mod direct_buffer;
mod disk;
mod erase;
mod format;
mod idle_buffers;
mod index;
mod jobs;
mod look;
mod manifests;
pub mod off;
pub mod open;
mod opened;
mod pieces;
mod place;
mod reader;
mod real_disk;
pub mod record;
mod retreat;
mod room;
mod scan;
mod segment;
mod state;
pub mod store;
mod survey;
mod writer;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod testing;
#[cfg(test)]
mod tests;

pub use address::{BlockKey, ChainHash, GroupId};
pub use agent::{AgentManifest, OfModels, Pin, TokenSpan, is_unnamed};
pub use block_store::{
    BlockStore, Deliver, DurableBlock, FlushReport, MissReason, Origin, SaveCandidate, StoreEvent,
    StoreListener, StoreStats, Trouble, Wanted,
};
pub use config::StoreConfig;
pub use idle_buffers::BlockBytes;
pub use off::StoreOff;
pub use open::OpenError;
pub use record::{BlockRecord, SaveReason};
pub use store::Store;
