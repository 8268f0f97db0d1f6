//! The bound on requests in flight.

use tokio::sync::OwnedSemaphorePermit;

/// One request's place among those in flight. It travels with the request and is free again when that has ended.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] pub(crate) OwnedSemaphorePermit);
