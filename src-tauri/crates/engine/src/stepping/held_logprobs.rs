//! Log-probabilities that wait until the text of their tokens is sent.
//!
//! Text is held back while it may become a stop string or a character is incomplete. What a stop string cuts off is
//! never sent, and a token without text in the answer has no log-probability in it.

use std::collections::VecDeque;

use crate::told::event::TokenLogprob;

/// The log-probabilities of one answer that are not sent yet.
#[derive(Debug, Default)]
pub(crate) struct HeldLogprobs {
    /// Each with the place in the text, in bytes, at which its token's own text starts.
    held: VecDeque<(usize, TokenLogprob)>,
    /// Bytes of text that the tokens so far have completed.
    n_said: usize,
    /// Bytes of them that were sent.
    n_sent: usize,
}

impl HeldLogprobs {
    /// A token was sampled and has completed `n_bytes` of text.
    pub(crate) fn push(&mut self, logprob: Option<TokenLogprob>, n_bytes: usize) {
        if let Some(logprob) = logprob {
            self.held.push_back((self.n_said, logprob));
        }
        self.n_said += n_bytes;
    }

    /// So many bytes of text are sent: the log-probabilities that go with them. A token goes with its first byte.
    pub(crate) fn sent(&mut self, n_bytes: usize) -> Vec<TokenLogprob> {
        self.n_sent += n_bytes;
        let n_ready = self.held.partition_point(|(start, _)| *start < self.n_sent);
        self.held.drain(..n_ready).map(|(_, logprob)| logprob).collect()
    }

    /// The answer is complete and nothing of it was cut: all that is left.
    pub(crate) fn rest(&mut self) -> Vec<TokenLogprob> {
        self.held.drain(..).map(|(_, logprob)| logprob).collect()
    }
}
