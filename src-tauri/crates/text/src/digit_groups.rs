//! Where pre-tokenizers cut long numbers: so that the last group, and each before it, has three digits.

use std::ops::Range;

/// What is cut off at a group of digits; the first group has what is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigitGroups {
    /// Each group stands alone.
    Alone,
    /// Each group of three begins a word that goes on until the next.
    Begin,
    /// Each group ends a word, and the first one's begins with what is before the number.
    End,
}

impl DigitGroups {
    /// The places in a text at which one of its numbers is cut, ascending.
    pub(crate) fn cuts(self, text: &str, number: Range<usize>) -> impl Iterator<Item = usize> {
        let digits = &text[number.clone()];
        let n = digits.chars().count();
        let starts = digits.char_indices().map(move |(at, _)| number.start + at);
        let ends = [number.end].into_iter().filter(move |_| self != DigitGroups::Begin);
        let is_cut = move |n_before: usize| {
            n_before % 3 == n % 3 && n_before > 0 || n_before == 0 && self.cuts_before_a_number(n)
        };
        starts.zip(0..).filter(move |(_, n_before)| is_cut(*n_before)).map(|(at, _)| at).chain(ends)
    }

    fn cuts_before_a_number(self, n_digits: usize) -> bool {
        match self {
            DigitGroups::Alone => true,
            DigitGroups::Begin => n_digits.is_multiple_of(3),
            DigitGroups::End => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DigitGroups;

    /// Cuts the one number of a text.
    fn check(groups: DigitGroups, text: &str, pieces: &str) {
        let start = text.find(char::is_numeric).unwrap();
        let end = text[start..].find(|c: char| !c.is_numeric()).map_or(text.len(), |n| start + n);
        let mut cuts: Vec<usize> = [0].into_iter().chain(groups.cuts(text, start..end)).collect();
        cuts.push(text.len());
        cuts.dedup();
        let found: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        assert_eq!(found.join("|"), pieces);
    }

    #[test]
    fn the_last_group_has_three_digits() {
        check(DigitGroups::Alone, "a 12345, b", "a |12|345|, b");
        check(DigitGroups::Alone, "1234567", "1|234|567");
        check(DigitGroups::Alone, "x12", "x|12");
        check(DigitGroups::Begin, "x12345y", "x12|345y");
        check(DigitGroups::Begin, "x123456y", "x|123|456y");
        check(DigitGroups::Begin, "x12y", "x12y");
        check(DigitGroups::End, "x 12345y", "x 12|345|y");
        check(DigitGroups::End, "x123y", "x123|y");
        check(DigitGroups::End, "١٢٣٤", "١|٢٣٤");
    }
}
