//! A prompt that a model can take: checked once, where it is made.

use crate::ids::TokenId;

/// One token at least, and all of them of one vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPrompt {
    tokens: Vec<TokenId>,
    n_vocab: usize,
}

/// Why tokens are no prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PromptFault {
    /// There are none.
    #[error("the prompt is empty")]
    Empty,
    /// One is none of the model's.
    #[error("token {token} is not in the vocabulary of {n_vocab}")]
    OutsideVocabulary {
        /// Which.
        token: TokenId,
        /// How many the model has.
        n_vocab: usize,
    },
}

impl CheckedPrompt {
    /// A prompt for a model of `n_vocab` tokens.
    ///
    /// # Errors
    /// It is empty, or has a token beyond the vocabulary.
    pub fn new(tokens: Vec<TokenId>, n_vocab: usize) -> Result<CheckedPrompt, PromptFault> {
        if tokens.is_empty() {
            return Err(PromptFault::Empty);
        }
        check_vocabulary(tokens.iter().copied(), n_vocab)?;
        Ok(CheckedPrompt { tokens, n_vocab })
    }

    /// Its tokens; one at least.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// How many tokens the vocabulary has that it was checked against.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Its tokens, to be kept.
    pub fn into_tokens(self) -> Vec<TokenId> {
        self.tokens
    }
}

/// That a vocabulary of `n_vocab` has all these tokens.
///
/// # Errors
/// Names the first that it has not.
pub fn check_vocabulary(
    mut tokens: impl Iterator<Item = TokenId>,
    n_vocab: usize,
) -> Result<(), PromptFault> {
    match tokens.find(|token| *token as usize >= n_vocab) {
        Some(token) => Err(PromptFault::OutsideVocabulary { token, n_vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_a_token_and_none_beyond_the_vocabulary() {
        for (tokens, wanted) in [
            (vec![], Err(PromptFault::Empty)),
            (vec![0], Ok(())),
            (vec![9, 0, 9], Ok(())),
            (vec![0, 10, 11], Err(PromptFault::OutsideVocabulary { token: 10, n_vocab: 10 })),
            (vec![u32::MAX], Err(PromptFault::OutsideVocabulary { token: u32::MAX, n_vocab: 10 })),
        ] {
            let checked = CheckedPrompt::new(tokens.clone(), 10);
            assert_eq!(checked.as_ref().map(|_| ()).map_err(|fault| *fault), wanted, "{tokens:?}");
            if let Ok(prompt) = checked {
                assert_eq!((prompt.tokens(), prompt.n_vocab()), (&tokens[..], 10));
                assert_eq!(prompt.into_tokens(), tokens);
            }
        }
    }
}
