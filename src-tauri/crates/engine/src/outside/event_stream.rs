//! A request's events on their way to the HTTP task.
//!
//! A client that goes away drops its stream: the sequence ends within a step, and what it computed stays as cache.

use tokio::sync::mpsc;

use crate::told::event::{Event, Usage};
use crate::told::request::Refusal;
use crate::told::request_id::RequestId;

/// The events of one request; dropping it cancels the sequence.
///
/// It always ends with exactly one terminal event, also when the engine thread dies.
#[derive(Debug)]
pub struct EventStream {
    id: RequestId,
    n_prompt: usize,
    events: mpsc::UnboundedReceiver<Event>,
    ended: bool,
}

impl EventStream {
    pub(crate) fn new(id: RequestId, n_prompt: usize, events: mpsc::UnboundedReceiver<Event>) -> EventStream {
        EventStream { id, n_prompt, events, ended: false }
    }

    /// The next event; nothing after the terminal one.
    pub async fn recv(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await.unwrap_or_else(|| Event::Failed {
            error: Refusal::Fault { id: self.id.to_string() },
            usage: Usage { n_prompt: self.n_prompt, ..Usage::default() },
        });
        self.ended = event.is_terminal();
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::event::FinishReason;

    fn stream() -> (mpsc::UnboundedSender<Event>, EventStream) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, EventStream::new(RequestId("r-1".into()), 3, receiver))
    }

    #[tokio::test]
    async fn a_stream_whose_engine_died_ends_with_a_fault_and_only_once() {
        let (sender, mut stream) = stream();
        sender.send(Event::Prefilled { done: 1, total: 3 }).unwrap();
        drop(sender);
        assert_eq!(stream.recv().await, Some(Event::Prefilled { done: 1, total: 3 }));
        let fault = Refusal::Fault { id: "r-1".to_owned() };
        let usage = Usage { n_prompt: 3, ..Usage::default() };
        assert_eq!(stream.recv().await, Some(Event::Failed { error: fault, usage }));
        assert_eq!(stream.recv().await, None);
    }

    #[tokio::test]
    async fn nothing_follows_the_terminal_event() {
        let (sender, mut stream) = stream();
        let finished = Event::Finished { reason: FinishReason::Length, usage: Usage::default() };
        sender.send(finished.clone()).unwrap();
        drop(sender);
        assert_eq!(stream.recv().await, Some(finished));
        assert_eq!(stream.recv().await, None);
    }
}
