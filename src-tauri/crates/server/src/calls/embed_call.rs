//! A call for vectors: which texts a model is to read, and what the vectors are to be like.

use text::TokenId;

/// Texts of one call at most.
pub(crate) const MAX_TEXTS: usize = 2048;

/// A call as its API was read, checked as far as that can be without a model.
#[derive(Debug, PartialEq)]
pub(crate) struct EmbedCall {
    /// The model's name; absent or empty means whichever there is that gives vectors.
    pub(crate) model: Option<String>,
    pub(crate) inputs: Inputs,
    /// What becomes of a text that is too long.
    pub(crate) too_long: TooLong,
    /// The first so many values of each vector; absent = all of them.
    pub(crate) dimensions: Option<usize>,
    pub(crate) length: VectorLength,
    /// What its API calls things.
    pub(crate) names: EmbedNames,
}

/// The texts, as they were sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Inputs {
    One(Input),
    /// One at least, and [`MAX_TEXTS`] at most.
    List(Vec<Input>),
}

/// A text as a client gives it.
#[derive(Debug, PartialEq)]
pub(crate) enum Input {
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<TokenId>),
}

/// What becomes of a text that is too long for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooLong {
    /// The call is refused.
    Refuse,
    /// What is too much at its end is left out.
    Cut,
    /// The same, where anything beyond so many tokens is too much.
    CutTo(usize),
}

/// How long vectors are, in the sense of geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VectorLength {
    /// 1, so that their products are cosines.
    One,
    /// As the model gives them.
    Own,
}

/// What an API calls those parts of a call that only a model can judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmbedNames {
    /// The texts; one of a list is named by its place in it, as in `input.3`.
    pub(crate) input: &'static str,
    /// How many values of a vector are wanted.
    pub(crate) dimensions: &'static str,
    /// What a client sends to have long texts cut, as it would write it.
    pub(crate) cut: &'static str,
    /// How many tokens are left of them.
    pub(crate) cut_to: &'static str,
}

impl Inputs {
    /// Each with its name in complaints, where all of them are called `input`.
    pub(crate) fn into_named(self, input: &'static str) -> Vec<(String, Input)> {
        match self {
            Inputs::One(one) => vec![(input.to_owned(), one)],
            Inputs::List(list) => {
                list.into_iter().enumerate().map(|(idx, one)| (format!("{input}.{idx}"), one)).collect()
            }
        }
    }
}
