//! The vectors of a call's texts, whichever API they are written for.

use std::time::Duration;

use engine::{Embedded, ModelCard, Room, Vectors};

use super::embed_call::VectorLength;

/// What vectors are to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Values of each, no more than the model gives.
    pub(crate) dimensions: usize,
    pub(crate) length: VectorLength,
}

/// A whole answer. Its memory is one of few: it is to be written and dropped.
#[derive(Debug)]
pub(crate) struct EmbedAnswer {
    /// The id of the model.
    pub(crate) model: String,
    /// Tokens of all texts.
    pub(crate) n_tokens: usize,
    /// From the call's receipt to the last vector.
    pub(crate) took: Duration,
    vectors: Vectors,
    shape: Shape,
    _room: Room,
}

impl EmbedAnswer {
    pub(crate) fn new(card: &ModelCard, embedded: Embedded, shape: Shape) -> EmbedAnswer {
        let Embedded { vectors, usage, room } = embedded;
        EmbedAnswer {
            model: card.name.clone(),
            n_tokens: usage.n_tokens,
            took: usage.took,
            vectors,
            shape,
            _room: room,
        }
    }

    /// The vector of the text with this index, shaped as it is wanted; none where there is no such text.
    pub(crate) fn vector(&self, idx: usize) -> Option<Vec<f32>> {
        let all = self.vectors.values.chunks_exact(self.vectors.width.max(1)).nth(idx)?;
        Some(shaped(all, self.shape))
    }
}

/// The first values of a vector, brought to the length that is wanted. One of nothing but zeros stays so.
fn shaped(vector: &[f32], shape: Shape) -> Vec<f32> {
    let first = &vector[..shape.dimensions.min(vector.len())];
    match shape.length {
        VectorLength::Own => first.to_vec(),
        VectorLength::One => {
            let squares = first.iter().map(|&value| f64::from(value) * f64::from(value));
            let length = squares.sum::<f64>().sqrt();
            let of_length = if length > 0.0 { length } else { 1.0 };
            first.iter().map(|&value| (f64::from(value) / of_length) as f32).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_are_brought_to_a_length_of_one_by_themselves() {
        let shape = |dimensions, length| Shape { dimensions, length };
        assert_eq!(shaped(&[3.0, 4.0, 12.0], shape(2, VectorLength::One)), [0.6, 0.8]);
        assert_eq!(shaped(&[3.0, 4.0, 12.0], shape(2, VectorLength::Own)), [3.0, 4.0]);
        assert_eq!(shaped(&[0.0, 0.0, 1.0], shape(2, VectorLength::One)), [0.0, 0.0]);
        // Squares that a float could not hold.
        for huge in [2_f32.powi(100), 2_f32.powi(-100)] {
            assert_eq!(shaped(&[3.0 * huge, -4.0 * huge], shape(2, VectorLength::One)), [0.6, -0.8]);
        }
    }
}
