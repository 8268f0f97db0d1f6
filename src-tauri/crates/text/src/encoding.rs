//! One text on its way to tokens: what has come of it, and when to stop.

use crate::TokenId;
use crate::merge::Merger;

/// Bytes of text after which somebody is asked whether the tokens are still wanted.
const ASK_EVERY_BYTES: usize = 16 << 10;

/// How far it is worth encoding a text.
#[derive(Clone, Copy)]
pub struct EncodeLimits<'a> {
    /// Tokens that are of use at most; with more the work stops.
    pub max_tokens: usize,
    /// Says whether nobody waits for the tokens any more; asked every 16 KiB of text, or after the 256 KiB that are
    /// merged as one where a run has no seam.
    pub is_abandoned: &'a dyn Fn() -> bool,
}

impl EncodeLimits<'static> {
    /// To the end.
    pub const NONE: EncodeLimits<'static> = EncodeLimits { max_tokens: usize::MAX, is_abandoned: &|| false };
}

impl std::fmt::Debug for EncodeLimits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodeLimits").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}

/// Why a text was not encoded to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It has more tokens than are of use.
    #[error("the text has {at_least} tokens or more")]
    TooLong {
        /// As many as had come when that was clear.
        at_least: usize,
    },
    /// Nobody waits for the tokens any more.
    #[error("nobody waits for the tokens")]
    Abandoned,
}

/// State of encoding one text that goes on over special tokens.
pub(crate) struct Encoding<'a> {
    pub(crate) merger: Merger,
    /// Whether a special token, or nothing, stands before what comes next.
    pub(crate) after_special: bool,
    pub(crate) ids: Vec<TokenId>,
    limits: EncodeLimits<'a>,
    /// Bytes since the last question.
    n_unasked: usize,
}

impl<'a> Encoding<'a> {
    pub(crate) fn new(limits: EncodeLimits<'a>) -> Encoding<'a> {
        Encoding {
            merger: Merger::default(),
            after_special: true,
            ids: Vec::new(),
            limits,
            // What is abandoned already is not begun.
            n_unasked: ASK_EVERY_BYTES,
        }
    }

    pub(crate) fn push_special(&mut self, id: TokenId) {
        self.ids.push(id);
        self.after_special = true;
    }

    /// Whether to go on, now that `n_bytes` more of the text are tokens.
    pub(crate) fn go_on(&mut self, n_bytes: usize) -> Result<(), EncodeError> {
        if self.ids.len() > self.limits.max_tokens {
            return Err(EncodeError::TooLong { at_least: self.ids.len() });
        }
        self.keep_on(n_bytes)
    }

    /// The same where the last of the tokens may yet be taken back.
    pub(crate) fn keep_on(&mut self, n_bytes: usize) -> Result<(), EncodeError> {
        self.n_unasked += n_bytes;
        if self.n_unasked >= ASK_EVERY_BYTES {
            self.n_unasked = 0;
            if (self.limits.is_abandoned)() {
                return Err(EncodeError::Abandoned);
            }
        }
        Ok(())
    }
}
