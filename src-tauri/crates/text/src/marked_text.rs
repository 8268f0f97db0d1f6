//! A rendered chat as a reader of answers is shown it: with the mark before each token that is a marker in answers.

use crate::answer_form::MARK;

/// A text with marks, and the way to it and back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MarkedText {
    text: String,
    /// Where marks stand in the text without them, ascending.
    marks: Vec<usize>,
}

impl MarkedText {
    /// `text` with a mark before each of `marks`, ascending. None where the text has marks of its own: whoever wrote
    /// them could make a marker of what is none.
    pub(crate) fn new(text: &str, marks: Vec<usize>) -> Option<MarkedText> {
        if text.contains(MARK) {
            return None;
        }
        let mut marked = String::with_capacity(text.len() + marks.len() * MARK.len_utf8());
        let mut done = 0;
        for &at in &marks {
            marked.push_str(&text[done..at]);
            marked.push(MARK);
            done = at;
        }
        marked.push_str(&text[done..]);
        Some(MarkedText { text: marked, marks })
    }

    /// The text with its marks.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a place of the text without marks is in the one with them: before a mark that stands there.
    pub fn with_marks(&self, at: usize) -> usize {
        at + self.marks.partition_point(|&mark| mark < at) * MARK.len_utf8()
    }

    /// Where a place of the text with marks is in the one without them.
    pub fn without_marks(&self, at: usize) -> usize {
        let mut n_before = 0;
        let (mut low, mut high) = (0, self.marks.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.marks[middle] + middle * MARK.len_utf8() < at {
                n_before = middle + 1;
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        at.saturating_sub(n_before * MARK.len_utf8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_with_marks_and_without() {
        let marked = MarkedText::new("ab<x>c<y>", vec![2, 6]).unwrap();
        assert_eq!(marked.text(), format!("ab{MARK}<x>c{MARK}<y>"));
        for (plain, with) in [(0, 0), (2, 2), (3, 6), (5, 8), (6, 9), (7, 13), (9, 15)] {
            assert_eq!(marked.with_marks(plain), with, "{plain}");
            assert_eq!(marked.without_marks(with), plain, "{with}");
        }
        assert_eq!(MarkedText::new(&format!("a{MARK}"), Vec::new()), None);
    }
}
