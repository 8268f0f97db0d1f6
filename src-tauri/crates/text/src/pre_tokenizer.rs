//! How byte-level BPE vocabularies cut text into words before merging.
//!
//! The engine is a linear-time one without look-ahead, so no text can make it slow; the one look-ahead that all
//! patterns share, `\s+(?!\S)`, is done by hand: a run of white space before a word leaves its last character to that
//! word.

use regex::Regex;

use crate::TextError;
use crate::digit_groups::DigitGroups;
use crate::recipes::Rule;

/// The longest run of white space that is one word where runs are cut into steps.
const LONGEST_STEP: usize = 512;

/// Cuts text into words.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    rules: Vec<Compiled>,
}

#[derive(Debug)]
enum Compiled {
    Pattern(Pattern),
    Digits(Regex, DigitGroups),
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Whether runs of white space leave their last character to the word that follows.
    gives_back_space: bool,
    /// Whether runs of white space that end with a line break are an alternative of their own.
    keeps_line_breaks: bool,
    /// Whether runs of white space are cut into powers of two.
    has_steps: bool,
}

impl PreTokenizer {
    pub(crate) fn new(rules: &[Rule]) -> Result<PreTokenizer, TextError> {
        let rules = rules.iter().map(|rule| match *rule {
            Rule::Pattern(source) => Ok(Compiled::Pattern(Pattern::new(source)?)),
            Rule::PatternAndSteps(source) => {
                Ok(Compiled::Pattern(Pattern { has_steps: true, ..Pattern::new(source)? }))
            }
            Rule::Digits(source, groups) => Ok(Compiled::Digits(compiled(source)?, groups)),
        });
        Ok(PreTokenizer { rules: rules.collect::<Result<_, TextError>>()? })
    }

    /// Calls `word` for each word, in order, until it fails; together they are the text.
    pub(crate) fn split<'a, E>(
        &self,
        text: &'a str,
        mut word: impl FnMut(&'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        split_by(&self.rules, text, &mut word)
    }
}

fn split_by<'a, E>(
    rules: &[Compiled],
    text: &'a str,
    word: &mut dyn FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((rule, rest)) = rules.split_first() else { return word(text) };
    let mut at = 0;
    match rule {
        Compiled::Pattern(pattern) => {
            while let Some(found) = pattern.regex.find_at(text, at) {
                let (start, end) = (found.start(), pattern.end_of(text, found.start(), found.end()));
                split_by(rest, &text[at..start], word)?;
                if pattern.has_steps && text[start..end].chars().all(char::is_whitespace) {
                    for step in steps(&text[start..end]) {
                        split_by(rest, step, word)?;
                    }
                } else {
                    split_by(rest, &text[start..end], word)?;
                }
                at = end;
            }
        }
        Compiled::Digits(regex, groups) => {
            for number in regex.find_iter(text) {
                for end in groups.cuts(text, number.range()) {
                    split_by(rest, &text[at..end], word)?;
                    at = end;
                }
            }
        }
    }
    split_by(rest, &text[at..], word)
}

fn compiled(source: &str) -> Result<Regex, TextError> {
    Regex::new(source).map_err(|e| TextError::Unsupported(format!("its pre-tokenizer does not compile: {e}")))
}

/// A run of white space as powers of two, the longest first; one that ends with a line break is one word.
fn steps(run: &str) -> impl Iterator<Item = &str> {
    let is_whole = run.ends_with(['\r', '\n']);
    let mut left = run;
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        if is_whole {
            return Some(std::mem::take(&mut left));
        }
        let n_chars = 1 << left.chars().take(LONGEST_STEP).count().ilog2();
        let end = left.char_indices().nth(n_chars).map_or(left.len(), |(at, _)| at);
        let step;
        (step, left) = left.split_at(end);
        Some(step)
    })
}

impl Pattern {
    fn new(source: &'static str) -> Result<Pattern, TextError> {
        Ok(Pattern {
            regex: compiled(source)?,
            gives_back_space: source.ends_with(r"|\s+"),
            keeps_line_breaks: source.contains(r"\s*[\r\n]"),
            has_steps: false,
        })
    }

    /// Where a match really ends: `\s+(?!\S)` gives back one character if a word follows and one is left.
    fn end_of(&self, text: &str, start: usize, end: usize) -> usize {
        let found = &text[start..end];
        if !self.gives_back_space || end == text.len() {
            return end;
        }
        let Some(last) = found.chars().next_back() else { return end };
        let is_line_break = self.keeps_line_breaks && matches!(last, '\r' | '\n');
        if last.len_utf8() == found.len() || is_line_break || !found.chars().all(char::is_whitespace) {
            return end;
        }
        end - last.len_utf8()
    }
}

#[cfg(test)]
mod tests {
    use super::PreTokenizer;
    use crate::recipes::{Cutting, Recipe};

    fn cutting(pre: &str) -> &'static Cutting {
        &Recipe::named(pre).unwrap().cutting
    }

    fn named(pre: &str) -> PreTokenizer {
        let Cutting::Words(rules) = cutting(pre) else { panic!("{pre} cuts no words") };
        PreTokenizer::new(rules).unwrap()
    }

    fn check(pre: &str, text: &str, words: &[&str]) {
        let mut found = Vec::new();
        let splitter = named(pre);
        let all: Result<(), ()> = splitter.split(text, |word| {
            found.push(word);
            Ok(())
        });
        assert_eq!(all, Ok(()));
        assert_eq!(found, words, "{pre} {text:?}");
    }

    #[test]
    fn every_known_pre_tokenizer_compiles_and_loses_no_text() {
        let text =
            "  Ünï 12345 'll\t\n\n  x=1;\u{a0}\u{3000}漢字ひら 한국 e\u{301}\u{200d}👩‍👩‍👧 \r\n \u{0}end  ";
        for name in Recipe::names().filter(|name| matches!(cutting(name), Cutting::Words(_))) {
            let mut joined = String::new();
            let all: Result<(), ()> = named(name).split(text, |word| {
                joined.push_str(word);
                Ok(())
            });
            assert_eq!(all, Ok(()));
            assert_eq!(joined, text, "{name}");
        }
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_next_word() {
        check("gpt-2", "a   b", &["a", "  ", " b"]);
        check("gpt-2", "a\n\nb", &["a", "\n", "\n", "b"]);
        check("gpt-2", "a   ", &["a", "   "]);
        check("llama-bpe", "a \n  b", &["a", " \n", " ", " b"]);
        check("llama-bpe", "a\t\tb", &["a", "\t", "\tb"]);
        check("llama-bpe", "a  1", &["a", " ", " ", "1"]);
        check("qwen2", "x\u{a0}\u{a0}1", &["x", "\u{a0}", "\u{a0}", "1"]);
    }

    #[test]
    fn runs_of_white_space_are_cut_into_powers_of_two_where_the_model_learnt_them_so() {
        let run = |n: usize| " ".repeat(n);
        check("jais-2", &format!("a{}b", run(6)), &["a", &run(4), " ", " b"]);
        check("jais-2", &format!("a{}", run(7)), &["a", &run(4), &run(2), " "]);
        check(
            "jais-2",
            &run(1500),
            &[&run(512), &run(512), &run(256), &run(128), &run(64), &run(16), &run(8), &run(4)],
        );
        check("jais-2", "a   \n  1", &["a", "   \n", " ", " ", "1"]);
    }

    #[test]
    fn digits_are_grouped_as_the_model_learnt_them() {
        check("smollm", "a 123", &["a", " ", "1", "2", "3"]);
        check("llama-bpe", "12345", &["123", "45"]);
        check("gpt-2", "a 123", &["a", " 123"]);
        check("qwen2", "12", &["1", "2"]);
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_an_error_that_names_it_and_those_that_are_known() {
        let error = Recipe::named("klingon").unwrap_err().to_string();
        assert!(error.contains("\"klingon\""), "{error}");
        for name in Recipe::names() {
            assert!(error.contains(&format!(" {name}")), "{error} does not name {name}");
        }
    }
}
