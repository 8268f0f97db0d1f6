//! Vectors as a body: a few whole, many piece by piece, so that no more of them is text at a time than is being sent.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::calls::embed_answer::EmbedAnswer;
use crate::dialects::dialect::EmbedWriter;

/// Bytes of a piece, or a little more.
const PIECE_BYTES: usize = 64 << 10;

/// An answer as a response.
pub(crate) fn written(answer: EmbedAnswer, writer: Box<dyn EmbedWriter>) -> Response {
    let mut pieces = Pieces { answer, writer, next_idx: 0, has_ended: false };
    let first = pieces.next().unwrap_or_default();
    let body = match pieces.has_ended {
        // One that is whole has a length in its head.
        true => Body::from(first),
        false => {
            Body::from_stream(stream::iter(std::iter::once(first).chain(pieces).map(Ok::<_, Infallible>)))
        }
    };
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// The text of an answer, piece by piece. The vectors' memory is given back when it is dropped.
struct Pieces {
    answer: EmbedAnswer,
    writer: Box<dyn EmbedWriter>,
    next_idx: usize,
    has_ended: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let mut piece = String::new();
        if self.next_idx == 0 {
            self.writer.open(&self.answer, &mut piece);
        }
        while piece.len() < PIECE_BYTES && !self.has_ended {
            match self.answer.vector(self.next_idx) {
                Some(vector) => {
                    self.writer.vector(self.next_idx, vector, &mut piece);
                    self.next_idx += 1;
                }
                None => {
                    self.writer.close(&self.answer, &mut piece);
                    self.has_ended = true;
                }
            }
        }
        Some(piece.into())
    }
}
