//! Puts a prompt together from text and from answers as they were generated.

use std::ops::Range;

use crate::answer_index::Splice;
use crate::ids::TokenId;
use crate::prefix_trail::PrefixTrail;

/// A prompt put together from text and remembered answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplicedPrompt {
    /// The prompt's tokens.
    pub tokens: Vec<TokenId>,
    /// How many of them are generated ids that were spliced in.
    pub n_spliced: usize,
    /// Where these are among the tokens, in order.
    pub spliced: Vec<Range<usize>>,
    /// For each answer start that was usable, how many tokens of the prompt precede it. Generation prompts end
    /// there, so a window is well kept there.
    pub answer_positions: Vec<usize>,
}

/// Where in a text generated ids may stand instead of it: a byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpliceStart {
    /// An answer starts here: exactly where the generation prompt ended when it was generated.
    Answer(usize),
    /// Within an answer, something starts that was generated, though maybe after other tokens.
    Within(usize),
}

impl SpliceStart {
    /// The offset.
    pub fn at(self) -> usize {
        match self {
            SpliceStart::Answer(at) | SpliceStart::Within(at) => at,
        }
    }
}

/// Tokenise a rendered prompt, with remembered ids where the text of an earlier answer comes back.
///
/// `salt` is the model's fingerprint. `find(before, at)` gives the ids that were generated for the text from `at` on,
/// which follows the tokens of `before`: [`crate::AnswerIndex::splice`], for example; only that call needs what is
/// remembered, so that nobody waits for it while a prompt is tokenised.
///
/// `starts` are ascending. One that is out of order, out of range, off a character boundary or within what was put in
/// place is passed over. `encode(piece, n_before)` tokenises the bytes `piece` of the text, which follow `n_before`
/// tokens; the first piece, which follows none, is the only one that may get a BOS token, and is empty if an answer
/// starts the text.
///
/// The text is split at every start that is used: that is how it was tokenised when the answer was generated, so the
/// earlier prompt stays a prefix of this one whatever the tokeniser would merge across the border.
///
/// # Errors
/// The first of `encode`, which ends the work.
pub fn splice_prompt<E>(
    salt: [u8; 32],
    text: &str,
    starts: &[SpliceStart],
    encode: &mut dyn FnMut(Range<usize>, usize) -> Result<Vec<TokenId>, E>,
    find: &mut dyn FnMut(&PrefixTrail, usize) -> Option<Splice>,
) -> Result<SplicedPrompt, E> {
    let mut prompt = SplicedPrompt::default();
    let mut before = PrefixTrail::new(salt);
    let (mut done, mut is_start) = (0, true);
    for &start in starts {
        let at = start.at();
        if at < done || !text.is_char_boundary(at) {
            continue;
        }
        if at > done || is_start {
            let piece = encode(done..at, prompt.tokens.len())?;
            is_start = false;
            before.push(&piece);
            prompt.tokens.extend(piece);
            done = at;
        }
        if matches!(start, SpliceStart::Answer(_)) {
            prompt.answer_positions.push(prompt.tokens.len());
        }
        // An answer that a later request went on with was generated in several parts.
        while done < text.len() {
            let Some(splice) = find(&before, done).filter(|splice| splice.n_bytes > 0) else { break };
            before.push(&splice.tokens);
            prompt.n_spliced += splice.tokens.len();
            let start = prompt.tokens.len();
            prompt.tokens.extend(splice.tokens);
            prompt.spliced.push(start..prompt.tokens.len());
            done += splice.n_bytes;
        }
    }
    if done < text.len() || is_start {
        let piece = encode(done..text.len(), prompt.tokens.len())?;
        prompt.tokens.extend(piece);
    }
    Ok(prompt)
}
