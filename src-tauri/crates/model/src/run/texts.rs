//! A batch of whole texts, cut into chunks for the layers: short ones side by side, each long one by itself.

use std::ops::Range;

use kernels::attention::AttentionRow;
use scheduler::{EmbedSpec, RunError, TokenId};

use super::batch::Chunk;

/// Tokens of a block of the keys and values of a text, which last for one layer.
pub(crate) const TEXT_BLOCK_TOKENS: usize = 16;

/// What a batch takes memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSize {
    /// Tokens of all texts.
    pub(crate) n_tokens: usize,
    /// Tokens that go through attention together at most.
    pub(crate) chunk_tokens: usize,
    /// Blocks that the keys and values of these take.
    pub(crate) n_blocks: usize,
}

/// Texts, checked.
pub(crate) struct Texts {
    texts: Vec<Vec<TokenId>>,
    /// The numbers of the blocks that a chunk takes, ascending.
    blocks: Vec<u32>,
    /// The texts of each chunk.
    chunks: Vec<Range<usize>>,
}

impl Texts {
    /// Texts for a model of `spec`, in chunks of at most `chunk_tokens` where they have more than one.
    ///
    /// # Errors
    /// There is none, one is empty or too long, or a token is beyond the vocabulary.
    pub(crate) fn new(
        texts: &[&[TokenId]],
        spec: &EmbedSpec,
        chunk_tokens: usize,
    ) -> Result<Texts, RunError> {
        let invalid = |cause: String| Err(RunError::InvalidStep(cause));
        if texts.is_empty() {
            return invalid("a batch without texts".to_owned());
        }
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let (mut n_tokens, mut n_blocks, mut most_blocks) = (0, 0, 0);
        for (idx, text) in texts.iter().enumerate() {
            if text.is_empty() {
                return invalid(format!("text {idx} has no tokens"));
            }
            if text.len() > spec.max_tokens {
                return invalid(format!("text {idx} has {} tokens of {}", text.len(), spec.max_tokens));
            }
            if let Some(token) = text.iter().find(|&&token| token as usize >= spec.n_vocab) {
                return invalid(format!("text {idx} has token {token} of {}", spec.n_vocab));
            }
            match chunks.last_mut() {
                Some(chunk) if n_tokens + text.len() <= chunk_tokens => chunk.end = idx + 1,
                _ => {
                    chunks.push(idx..idx + 1);
                    (n_tokens, n_blocks) = (0, 0);
                }
            }
            n_tokens += text.len();
            n_blocks += text.len().div_ceil(TEXT_BLOCK_TOKENS);
            most_blocks = most_blocks.max(n_blocks);
        }
        let texts = texts.iter().map(|text| text.to_vec()).collect();
        Ok(Texts { texts, blocks: (0..most_blocks as u32).collect(), chunks })
    }

    /// What it takes memory for.
    pub(crate) fn size(&self) -> BatchSize {
        let n_tokens = |texts: &[Vec<TokenId>]| texts.iter().map(Vec::len).sum::<usize>();
        let of_chunk = |chunk: &Range<usize>| n_tokens(&self.texts[chunk.clone()]);
        BatchSize {
            n_tokens: n_tokens(&self.texts),
            chunk_tokens: self.chunks.iter().map(of_chunk).max().unwrap_or(0),
            n_blocks: self.blocks.len(),
        }
    }

    /// How many texts there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The places of each text's tokens in the line of all.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let range = |text: &Vec<TokenId>| {
            let start = end;
            end += text.len();
            start..end
        };
        self.texts.iter().map(range).collect()
    }

    /// All tokens, text by text.
    pub(crate) fn pieces(&self) -> Vec<&[TokenId]> {
        self.texts.iter().map(Vec::as_slice).collect()
    }

    /// The chunks, each of whole texts.
    pub(crate) fn chunks(&self) -> Vec<Chunk<'_>> {
        let mut first = 0;
        let chunk = |texts: &Range<usize>| {
            let mut chunk = Chunk {
                tokens: first..first,
                pieces: Vec::new(),
                positions: Vec::new(),
                rows: Vec::new(),
                states: Vec::new(),
            };
            let (mut rows, mut n_blocks) = (Vec::with_capacity(texts.len()), 0);
            for text in &self.texts[texts.clone()] {
                let n = text.len().div_ceil(TEXT_BLOCK_TOKENS);
                let blocks = &self.blocks[n_blocks..n_blocks + n];
                rows.push(AttentionRow { blocks, first_block: 0, start: 0, n_tokens: text.len() });
                n_blocks += n;
                chunk.tokens.end += text.len();
                chunk.pieces.push(text);
                chunk.positions.extend(0..text.len());
            }
            chunk.rows = vec![rows];
            first = chunk.tokens.end;
            chunk
        };
        self.chunks.iter().map(chunk).collect()
    }
}

#[cfg(test)]
mod tests {
    use scheduler::Pooling;

    use super::*;

    fn spec() -> EmbedSpec {
        EmbedSpec { width: 8, max_tokens: 300, n_vocab: 40, pooling: Pooling::Mean, n_parts: 2 }
    }

    #[test]
    fn short_texts_share_a_chunk_and_a_long_one_has_its_own_with_blocks_apart() {
        let texts: Vec<Vec<u32>> = [60, 60, 8, 1, 300, 20].iter().map(|n| vec![7; *n]).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let texts = Texts::new(&texts, &spec(), 128).unwrap();
        let chunks = texts.chunks();
        let sizes: Vec<Vec<usize>> =
            chunks.iter().map(|chunk| chunk.pieces.iter().map(|piece| piece.len()).collect()).collect();
        assert_eq!(sizes, [vec![60, 60, 8], vec![1], vec![300], vec![20]]);
        let tokens: Vec<Range<usize>> = chunks.iter().map(|chunk| chunk.tokens.clone()).collect();
        assert_eq!(tokens, [0..128, 128..129, 129..429, 429..449]);
        assert_eq!(texts.ranges()[3..], [128..129, 129..429, 429..449]);
        let blocks: Vec<&[u32]> = chunks[0].rows[0].iter().map(|row| row.blocks).collect();
        assert_eq!(blocks, [&[0, 1, 2, 3][..], &[4, 5, 6, 7], &[8]]);
        assert_eq!(texts.size(), BatchSize { n_tokens: 449, chunk_tokens: 300, n_blocks: 19 });
        assert_eq!(chunks[2].rows[0][0].blocks.len(), 19);
        assert_eq!(chunks[0].positions[59..63], [59, 0, 1, 2]);
    }

    #[test]
    fn what_is_no_batch_of_texts_is_an_error_that_says_why() {
        let check = |texts: &[&[u32]], want: &str| {
            let error = Texts::new(texts, &spec(), 128).err().unwrap().to_string();
            assert!(error.contains(want), "{error:?} does not say {want:?}");
        };
        check(&[], "a batch without texts");
        check(&[&[1], &[]], "text 1 has no tokens");
        check(&[&[1; 301]], "text 0 has 301 tokens of 300");
        check(&[&[1, 40]], "text 0 has token 40 of 40");
    }
}
