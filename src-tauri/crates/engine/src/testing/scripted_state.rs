//! What a scripted runner has where a model has the state of its recurrent layers: a digest of the exact tokens so far,
//! in every piece and in each in its own way. So a state that is another place's, another sequence's, or put together
//! of two, is found out.

use scheduler::{BlockId, Row, RunError, StateSave, TokenId};

/// The digest of no tokens.
const START: u64 = 0;

/// That of some tokens and one more.
fn next(digest: u64, token: TokenId) -> u64 {
    (digest ^ (u64::from(token) + 1)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
}

/// That of these tokens.
pub(super) fn digest_of(tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(START, |digest, token| next(digest, *token))
}

/// The digests after each of a row's tokens; of none where the state that it begins with is wrong.
pub(super) fn digests(row: &Row, before: Option<u64>) -> Vec<Option<u64>> {
    let mut digest = if row.start == 0 { Some(START) } else { before };
    let mut go_on = |token: &TokenId| {
        digest = digest.map(|digest| next(digest, *token));
        digest
    };
    row.tokens().iter().map(&mut go_on).collect()
}

/// Write a state into a piece's block; one that is wrong stays so.
pub(super) fn write(digest: Option<u64>, piece: usize, block: &mut [u8]) {
    let Some(digest) = digest else { return block.fill(0xEE) };
    for (bytes, value) in block.chunks_mut(8).zip(pattern(digest, piece)) {
        bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
    }
}

/// The digest that the blocks of all pieces have; none where they do not agree.
pub(super) fn read<'a>(blocks: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let mut found = None;
    for (piece, block) in blocks.enumerate() {
        let first = u64::from_le_bytes(block.get(..8)?.try_into().ok()?);
        let digest = first ^ salt(piece, 0);
        let mut written = vec![0; block.len()];
        write(Some(digest), piece, &mut written);
        if written != block || found.is_some_and(|other| other != digest) {
            return None;
        }
        found = Some(digest);
    }
    found
}

fn pattern(digest: u64, piece: usize) -> impl Iterator<Item = u64> {
    (0..).map(move |at| digest ^ salt(piece, at))
}

fn salt(piece: usize, at: u64) -> u64 {
    (piece as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(11) ^ at
}

/// That a row's states are where they may be: one block a piece, no block twice, and saves within the row.
///
/// # Errors
/// They are not.
pub(super) fn check(row: &Row, n_pieces: usize) -> Result<(), RunError> {
    let state = &row.state;
    let mut blocks: Vec<BlockId> = state.blocks.clone();
    blocks.extend(state.saves.iter().flat_map(|save| &save.blocks));
    let n_blocks = n_pieces * (1 + state.saves.len());
    let is_whole = state.blocks.len() == n_pieces
        && state.saves.iter().all(|save| save.blocks.len() == n_pieces)
        && blocks.len() == n_blocks;
    blocks.sort_unstable_by_key(|block| block.0);
    blocks.dedup();
    let is_within = |save: &StateSave| (1..=row.len()).contains(&save.n_tokens);
    let is_ascending = state.saves.is_sorted_by(|a, b| a.n_tokens < b.n_tokens);
    if is_whole && blocks.len() == n_blocks && state.saves.iter().all(is_within) && is_ascending {
        return Ok(());
    }
    Err(RunError::InvalidStep(format!("a row of {} tokens with the state {state:?}", row.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_put_together_of_two_or_of_pieces_that_changed_places_is_none() {
        let pieces = |tokens: &[TokenId]| -> Vec<Vec<u8>> {
            let written = |piece| {
                let mut block = vec![0; 100];
                write(Some(digest_of(tokens)), piece, &mut block);
                block
            };
            (0..3).map(written).collect()
        };
        let read_all = |blocks: &[Vec<u8>]| read(blocks.iter().map(Vec::as_slice));
        let (one, other) = (pieces(&[1, 2]), pieces(&[1, 3]));
        assert_eq!(read_all(&one), Some(digest_of(&[1, 2])));
        assert_eq!(read_all(&[one[0].clone(), other[1].clone(), one[2].clone()]), None);
        assert_eq!(read_all(&[one[1].clone(), one[0].clone(), one[2].clone()]), None);
        let mut torn = one;
        torn[2][99] ^= 1;
        assert_eq!(read_all(&torn), None);
        let mut wrong = vec![vec![0; 100]; 3];
        wrong.iter_mut().enumerate().for_each(|(piece, block)| write(None, piece, block));
        assert_eq!(read_all(&wrong), None);
    }
}
