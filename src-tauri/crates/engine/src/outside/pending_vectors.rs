//! A request's vectors on their way to the HTTP task.

use tokio::sync::oneshot;

use crate::told::embedding::Embedded;
use crate::told::request::Refusal;
use crate::told::request_id::RequestId;

/// Vectors that are being computed; dropping it cancels the request.
#[derive(Debug)]
pub struct PendingVectors {
    id: RequestId,
    reply: oneshot::Receiver<Result<Embedded, Refusal>>,
}

impl PendingVectors {
    pub(crate) fn new(id: RequestId, reply: oneshot::Receiver<Result<Embedded, Refusal>>) -> PendingVectors {
        PendingVectors { id, reply }
    }

    /// Wait for them. There is an answer in any case, also when the engine thread dies.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn recv(self) -> Result<Embedded, Refusal> {
        let PendingVectors { id, reply } = self;
        reply.await.unwrap_or_else(|_| Err(Refusal::Fault { id: id.to_string() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn vectors_whose_engine_died_are_a_fault() {
        let (sender, receiver) = oneshot::channel();
        let pending = PendingVectors::new(RequestId("r-1".into()), receiver);
        drop(sender);
        assert!(matches!(pending.recv().await, Err(Refusal::Fault { id }) if id == "r-1"));
    }
}
