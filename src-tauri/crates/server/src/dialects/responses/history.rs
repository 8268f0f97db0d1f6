//! What came before a response, for those that go on with it.

use std::sync::Arc;

use text::ChatMessage;

/// A response that others may go on with.
#[derive(Debug, PartialEq)]
pub(crate) struct KeptResponse {
    pub(crate) id: String,
    /// The response as it was given out, as JSON.
    pub(crate) body: String,
    /// The conversation up to it and with it, without instructions.
    pub(crate) messages: Vec<ChatMessage>,
}

impl KeptResponse {
    /// Bytes that it takes, as far as they grow with what is said.
    pub(crate) fn n_bytes(&self) -> usize {
        let of_message = |message: &ChatMessage| {
            let calls = message.tool_calls.iter();
            let calls: usize =
                calls.map(|call| call.id.len() + call.name.len() + call.arguments.len() + 72).sum();
            let words = [message.thinking.as_ref(), message.tool_call_id.as_ref(), message.name.as_ref()];
            let words: usize = words.into_iter().flatten().map(String::len).sum();
            size_of::<ChatMessage>() + message.role.len() + message.content.len() + words + calls
        };
        self.id.len() + self.body.len() + self.messages.iter().map(of_message).sum::<usize>()
    }
}

/// Where responses are kept for who asks, and found again.
pub(crate) trait Shelf: Send + Sync {
    /// The response of this id.
    fn find(&self, id: &str) -> Option<Arc<KeptResponse>>;

    /// Keep a response for as long as there is room.
    fn keep(&self, response: KeptResponse);
}
