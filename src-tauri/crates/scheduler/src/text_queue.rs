//! Which texts are read together, where each is read whole: requests take turns, text by text.
//!
//! So a request of one text never waits for all those of a long list that came before it.

use std::collections::VecDeque;

use crate::ids::SeqId;

/// The texts that no batch has had yet.
#[derive(Debug, Default)]
pub struct TextQueue {
    /// The first one has the next turn; each has a text left.
    requests: VecDeque<Queued>,
}

#[derive(Debug)]
struct Queued {
    id: SeqId,
    /// Tokens of each text.
    lens: Vec<usize>,
    /// The first text that is not taken.
    next: usize,
}

/// A text of a request, by its place among that request's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedText {
    /// Whose.
    pub id: SeqId,
    /// Which.
    pub text_idx: usize,
    /// Its tokens.
    pub n_tokens: usize,
}

impl TextQueue {
    /// Take in a request with texts of so many tokens; its turn comes after those of all others.
    pub fn push(&mut self, id: SeqId, lens: Vec<usize>) {
        if !lens.is_empty() {
            self.requests.push_back(Queued { id, lens, next: 0 });
        }
    }

    /// Drop what is left of a request.
    pub fn remove(&mut self, id: SeqId) {
        self.requests.retain(|queued| queued.id != id);
    }

    /// Take the texts of the next batch: as many as have `n_tokens` together, and one in any case, if there is one.
    /// A text that does not fit has the first turn of the batch after.
    pub fn take(&mut self, n_tokens: usize) -> Vec<QueuedText> {
        let mut left = n_tokens;
        let mut batch: Vec<QueuedText> = Vec::new();
        while let Some(queued) = self.requests.front_mut() {
            let text =
                QueuedText { id: queued.id, text_idx: queued.next, n_tokens: queued.lens[queued.next] };
            if text.n_tokens > left && !batch.is_empty() {
                break;
            }
            left = left.saturating_sub(text.n_tokens);
            batch.push(text);
            queued.next += 1;
            let has_more = queued.next < queued.lens.len();
            if let Some(queued) = self.requests.pop_front().filter(|_| has_more) {
                self.requests.push_back(queued);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches of requests with texts of so many tokens, each text as `request.text`.
    fn batches(requests: &[&[usize]], n_tokens: usize) -> Vec<String> {
        let mut queue = TextQueue::default();
        for (id, lens) in (0..).zip(requests) {
            queue.push(SeqId(id), lens.to_vec());
        }
        let text = |text: &QueuedText| format!("{}.{}", text.id.0, text.text_idx);
        let batch = || queue.take(n_tokens).iter().map(text).collect::<Vec<_>>().join(" ");
        std::iter::repeat_with(batch).take_while(|batch| !batch.is_empty()).collect()
    }

    #[test]
    fn requests_take_turns_and_a_short_one_does_not_wait_for_a_long_list() {
        assert_eq!(batches(&[&[3; 6], &[3]], 9), ["0.0 1.0 0.1", "0.2 0.3 0.4", "0.5"]);
        assert_eq!(
            batches(&[&[4; 3], &[4; 3], &[4; 3]], 8),
            ["0.0 1.0", "2.0 0.1", "1.1 2.1", "0.2 1.2", "2.2"]
        );
    }

    #[test]
    fn a_text_longer_than_a_batch_is_one_by_itself_and_one_that_does_not_fit_is_the_next() {
        assert_eq!(batches(&[&[20], &[2, 2]], 8), ["0.0", "1.0 1.1"]);
        assert_eq!(batches(&[&[2, 2], &[20]], 8), ["0.0", "1.0", "0.1"]);
        assert_eq!(batches(&[&[]], 8), [""; 0]);
    }

    #[test]
    fn what_is_left_of_a_request_can_be_dropped() {
        let mut queue = TextQueue::default();
        queue.push(SeqId(1), vec![5; 4]);
        queue.push(SeqId(2), vec![5]);
        assert_eq!(queue.take(5).len(), 1);
        queue.remove(SeqId(1));
        assert_eq!(queue.take(100), [QueuedText { id: SeqId(2), text_idx: 0, n_tokens: 5 }]);
        assert_eq!(queue.take(100), []);
    }

    #[test]
    fn every_text_is_read_once_and_in_its_order_and_no_batch_is_too_large() {
        for seed in 0..200_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
            let mut random = |n: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % n
            };
            let lens: Vec<Vec<usize>> = (0..1 + random(5))
                .map(|_| (0..1 + random(20)).map(|_| 1 + random(30) as usize).collect())
                .collect();
            let mut queue = TextQueue::default();
            for (id, lens) in (0..).zip(&lens) {
                queue.push(SeqId(id), lens.clone());
            }
            let mut read = vec![0; lens.len()];
            loop {
                let batch = queue.take(16);
                if batch.is_empty() {
                    break;
                }
                let n_tokens: usize = batch.iter().map(|text| text.n_tokens).sum();
                assert!(n_tokens <= 16 || batch.len() == 1, "{seed}: {batch:?}");
                for text in batch {
                    let id = text.id.0 as usize;
                    assert_eq!((text.text_idx, text.n_tokens), (read[id], lens[id][read[id]]), "{seed}");
                    read[id] += 1;
                }
            }
            assert_eq!(read, lens.iter().map(Vec::len).collect::<Vec<_>>(), "{seed}");
        }
    }
}
