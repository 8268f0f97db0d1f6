//! Keeps KV blocks and agents' manifests on disk: atomic, verified, within a byte budget.
//!
//! It knows no models, nothing of what the bytes mean, and no scheduling: a block is a key, the tokens it stands
//! for, and opaque bytes. Whatever goes wrong here costs time, never a request: a failed read is a miss with a
//! reason.
//!
//! ```text
//!  save ──▶ queue ──▶ writer thread ───▶ segments         one mutex over the books (index, sizes, queue),
//!  restore ─────────▶ reader threads ◀── segments         never held across a disk operation
//! ```
//!
//! Read `block_store.rs` first for the interface, `FORMAT.md` for the files, then `writer.rs` and `reader.rs`.

pub mod agent;
mod backup;
pub mod block_store;
mod books;
mod bounce;
mod disk;
mod erase;
mod format;
mod free_space;
mod index;
mod look;
mod manifests;
pub mod off;
pub mod open;
mod reader;
mod real_disk;
mod retreat;
mod room;
mod scan;
mod spares;
pub mod store;
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
    BlockRecord, BlockStore, Deliver, DurableBlock, FlushReport, MissReason, Origin, SaveCandidate,
    SaveReason, StoreEvent, StoreListener, StoreStats, Trouble, Wanted,
};
pub use off::StoreOff;
pub use open::{OpenError, StoreConfig};
pub use spares::BlockBytes;
pub use store::Store;
