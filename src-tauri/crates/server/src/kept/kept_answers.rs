//! Answers that go on although nobody listens, so that a window that is closed and opened again finds them.
//!
//! A client asks for that by `X-Samovar-Keep: true`, streams as ever, and may come back to
//! `/admin/answers/{x-request-id}` for all of it. Without the header an answer ends when its client goes away.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use engine::RequestId;
use futures_util::{Stream, stream};
use tokio::sync::{Notify, watch};

use crate::calls::fault::Fault;

/// Answers at a time, those under way and those that have ended: many windows' worth of chats that all wait for theirs.
const MOST: usize = 64;
/// Bytes of ended answers; what goes beyond is forgotten, the oldest first.
const MOST_ENDED_BYTES: usize = 16 << 20;

/// The answers that are kept, oldest first.
#[derive(Debug, Default)]
pub(crate) struct KeptAnswers {
    /// Guards the list; held for a walk over at most [`MOST`] entries.
    answers: Mutex<VecDeque<Arc<KeptAnswer>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    id: RequestId,
    written: watch::Sender<Written>,
    stop: Notify,
}

#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

impl KeptAnswers {
    /// Make room for the answer to request `id`; `None` when every place is taken by an answer under way.
    ///
    /// # Errors
    /// An answer to a request of this id is there already.
    pub(crate) fn begin(&self, id: &RequestId) -> Result<Option<Arc<KeptAnswer>>, Fault> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.iter().any(|kept| kept.id == *id) {
            return Err(Fault::invalid("X-Request-ID", "an answer to a request of this id is kept already"));
        }
        while let Some(oldest) = oldest_ended_beyond_the_bounds(&answers) {
            answers.remove(oldest);
        }
        if answers.len() >= MOST {
            return Ok(None);
        }
        let kept = Arc::new(KeptAnswer {
            id: id.clone(),
            written: watch::Sender::new(Written::default()),
            stop: Notify::new(),
        });
        answers.push_back(Arc::clone(&kept));
        Ok(Some(kept))
    }

    /// The answer to request `id`.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<KeptAnswer>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().find(|kept| kept.id.0.as_ref() == id).cloned()
    }
}

fn oldest_ended_beyond_the_bounds(answers: &VecDeque<Arc<KeptAnswer>>) -> Option<usize> {
    let ended = |kept: &Arc<KeptAnswer>| {
        let written = kept.written.borrow();
        written.ended.then_some(written.bytes.len())
    };
    let bytes: usize = answers.iter().filter_map(ended).sum();
    let is_too_much = answers.len() >= MOST || bytes > MOST_ENDED_BYTES;
    answers.iter().position(|kept| is_too_much && ended(kept).is_some())
}

impl KeptAnswer {
    /// Write an answer down until it ends or is stopped, whoever follows it. Stopping drops `pieces`, and that cancels
    /// the sequence.
    pub(crate) async fn write(self: Arc<KeptAnswer>, pieces: impl Stream<Item = Result<Bytes, Infallible>>) {
        use futures_util::StreamExt;
        let end = EndOnDrop(&self);
        let mut pieces = std::pin::pin!(pieces);
        let all = async {
            while let Some(Ok(piece)) = pieces.next().await {
                self.written.send_modify(|written| written.bytes.extend_from_slice(&piece));
            }
        };
        tokio::select! {
            () = all => {}
            () = self.stopped() => {}
        }
        drop(end);
    }

    /// Everything so far, and whether that is all.
    pub(crate) fn so_far(&self) -> (Bytes, bool) {
        let written = self.written.borrow();
        (Bytes::copy_from_slice(&written.bytes), written.ended)
    }

    /// Everything so far and everything to come.
    pub(crate) fn follow(&self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
        stream::unfold((self.written.subscribe(), 0), |(mut written, at)| async move {
            loop {
                {
                    let now = written.borrow_and_update();
                    if at < now.bytes.len() {
                        let piece = Bytes::copy_from_slice(&now.bytes[at..]);
                        let end = now.bytes.len();
                        drop(now);
                        return Some((Ok(piece), (written, end)));
                    }
                    if now.ended {
                        return None;
                    }
                }
                // The writer is gone: nothing more will come.
                written.changed().await.ok()?;
            }
        })
    }

    /// End it.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    fn stopped(&self) -> impl Future<Output = ()> {
        self.stop.notified()
    }
}

/// Also a writer that panics leaves nobody waiting.
struct EndOnDrop<'a>(&'a KeptAnswer);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.written.send_modify(|written| written.ended = true);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId(text.into())
    }

    async fn keep(answers: &KeptAnswers, name: &str, pieces: &[&'static str]) {
        let kept = answers.begin(&id(name)).unwrap().unwrap();
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        kept.write(stream::iter(pieces)).await;
    }

    async fn text(answers: &KeptAnswers, name: &str) -> Option<String> {
        let pieces: Vec<_> = answers.find(name)?.follow().map(Result::unwrap).collect().await;
        Some(String::from_utf8(pieces.concat()).unwrap())
    }

    #[tokio::test]
    async fn an_answer_can_be_read_again_and_again_from_its_beginning() {
        let answers = KeptAnswers::default();
        keep(&answers, "a", &["one ", "two"]).await;
        assert_eq!(text(&answers, "a").await.as_deref(), Some("one two"));
        assert_eq!(text(&answers, "a").await.as_deref(), Some("one two"));
        assert_eq!(text(&answers, "b").await, None);
    }

    #[tokio::test]
    async fn who_comes_in_the_middle_gets_the_beginning_and_the_rest_as_it_comes() {
        let answers = KeptAnswers::default();
        let kept = answers.begin(&id("a")).unwrap().unwrap();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            Some((Ok(Bytes::from_static(receiver.recv().await?)), receiver))
        });
        let writing = tokio::spawn(Arc::clone(&kept).write(pieces));
        sender.send(b"one ".as_slice()).unwrap();
        let mut early = Box::pin(kept.follow());
        assert_eq!(early.next().await.unwrap().unwrap(), "one ");
        sender.send(b"two".as_slice()).unwrap();
        assert_eq!(early.next().await.unwrap().unwrap(), "two");
        drop(sender);
        assert!(early.next().await.is_none());
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn stopping_drops_the_stream_and_lets_the_followers_go() {
        let answers = KeptAnswers::default();
        let kept = answers.begin(&id("a")).unwrap().unwrap();
        let writing = tokio::spawn(Arc::clone(&kept).write(stream::pending()));
        kept.stop();
        writing.await.unwrap();
        assert_eq!(text(&answers, "a").await.as_deref(), Some(""));
    }

    #[tokio::test]
    async fn the_oldest_ended_answer_makes_room_and_one_under_way_never_does() {
        let answers = KeptAnswers::default();
        let under_way = answers.begin(&id("first")).unwrap().unwrap();
        for n in 1..MOST {
            keep(&answers, &format!("ended-{n}"), &["x"]).await;
        }
        assert!(answers.begin(&id("ended-1")).is_err(), "an id is one answer's");
        keep(&answers, "new", &["x"]).await;
        assert!(answers.find("first").is_some() && answers.find("ended-1").is_none());
        drop(under_way);

        let full = KeptAnswers::default();
        for n in 0..MOST {
            full.begin(&id(&n.to_string())).unwrap().unwrap();
        }
        assert!(full.begin(&id("one too many")).unwrap().is_none());
    }
}
