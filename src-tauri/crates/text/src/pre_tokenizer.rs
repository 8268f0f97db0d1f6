//! How byte-level BPE vocabularies cut text into words before merging.
//!
//! The patterns are those of the models' own tokenizers, keyed by the name that GGUF files give them. The
//! engine is a linear-time one without look-ahead, so no text can make it slow; the one look-ahead that all of
//! these patterns share, `\s+(?!\S)`, is done by hand: a run of white space before a word leaves its last
//! character to that word.

use regex::Regex;

use crate::TextError;

/// `'s`, `'LL` and the like, in any case.
macro_rules! contractions {
    () => {
        "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const QWEN2: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+");
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const SEED_CODER: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+");
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##;
/// Letters with case as of the Unicode version that these models were made with, some scripts left out.
const DEEPSEEK_LETTERS: &str = r"\s?[\p{LC}--[\x{560}-\x{588}\x{10c7}-\x{10ff}\x{1c80}-\x{1c8f}\x{2d00}-\x{2d2f}\x{a790}-\x{a7ff}\x{ab30}-\x{ab6f}\x{10570}-\x{105bf}\x{10d50}-\x{10d8f}\x{16e40}-\x{16eff}\x{1d400}-\x{1df2f}]]+";
const DEEPSEEK_CJK: &str = r"[\x{800}-\x{9fa5}\x{ac00}-\x{d7ff}]+";
/// Upper and lower case as the tokenizer of GPT-4o has it.
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:",
    contractions!(),
    r")?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:",
    contractions!(),
    r")?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const FALCON_PUNCTUATION: &str = r"[\p{P}$+<=>^~|`]+";
const DEFAULT_PUNCTUATION: &str = r"[\p{P}$+<=>^~|]+";
const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+";

/// What a name in `tokenizer.ggml.pre` stands for.
struct Recipe {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces of the one before.
    patterns: &'static [&'static str],
    whole_words: bool,
    adds_bos: bool,
}

const fn recipe(names: &'static [&'static str], patterns: &'static [&'static str]) -> Recipe {
    Recipe { names, patterns, whole_words: false, adds_bos: false }
}

const RECIPES: &[Recipe] = &[
    recipe(&["default"], &[DEFAULT_PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    recipe(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[r"\p{N}", GPT2],
    ),
    recipe(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "trillion",
            "granite-docling",
        ],
        &[GPT2],
    ),
    Recipe {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        whole_words: true,
        adds_bos: true,
    },
    recipe(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    Recipe { names: &["glm4", "glm5"], patterns: &[LLAMA3], whole_words: true, adds_bos: false },
    recipe(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        &[QWEN2],
    ),
    recipe(&["qwen35"], &[QWEN35]),
    recipe(&["seed-coder"], &[SEED_CODER]),
    recipe(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    recipe(
        &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        &[r"\p{N}{1,3}", r"[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+", DEEPSEEK3],
    ),
    recipe(
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
            r"\s+$",
            DEEPSEEK_CJK,
            r"\p{N}+",
        ],
    ),
    recipe(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, r"\p{N}"]),
    recipe(&["falcon"], &[FALCON_PUNCTUATION, GPT2, "[0-9][0-9][0-9]"]),
    recipe(&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    recipe(&["viking"], &[BLOOM, r"\p{N}"]),
    Recipe { names: &["tekken"], patterns: &[TEKKEN], whole_words: true, adds_bos: true },
    recipe(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
];

/// Cuts text into words.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    patterns: Vec<Pattern>,
    whole_words: bool,
    adds_bos: bool,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Whether runs of white space leave their last character to the word that follows.
    gives_back_space: bool,
    /// Whether runs of white space that end with a line break are an alternative of their own.
    keeps_line_breaks: bool,
}

impl PreTokenizer {
    /// # Errors
    /// When the name is not known: to guess would cost quality without a sign of it.
    pub(crate) fn new(pre: &str) -> Result<PreTokenizer, TextError> {
        let recipe = RECIPES.iter().find(|recipe| recipe.names.contains(&pre)).ok_or_else(|| {
            TextError::Unsupported(format!("its pre-tokenizer {pre:?} (tokenizer.ggml.pre) is not known"))
        })?;
        let pattern = |source: &&str| {
            let regex = Regex::new(source).map_err(|e| {
                TextError::Unsupported(format!("pre-tokenizer {pre:?} does not compile: {e}"))
            })?;
            Ok(Pattern {
                regex,
                gives_back_space: source.ends_with(r"|\s+"),
                keeps_line_breaks: source.contains(r"\s*[\r\n]"),
            })
        };
        Ok(PreTokenizer {
            patterns: recipe.patterns.iter().map(pattern).collect::<Result<_, TextError>>()?,
            whole_words: recipe.whole_words,
            adds_bos: recipe.adds_bos,
        })
    }

    /// Whether a word that is a token is taken as that token without looking at merges.
    pub(crate) fn takes_whole_words(&self) -> bool {
        self.whole_words
    }

    /// Whether models of this kind want a BOS when their file does not say.
    pub(crate) fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Calls `word` for each word, in order, until it fails; together they are the text.
    pub(crate) fn split<'a, E>(
        &self,
        text: &'a str,
        mut word: impl FnMut(&'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        split_by(&self.patterns, text, &mut word)
    }
}

fn split_by<'a, E>(
    patterns: &[Pattern],
    text: &'a str,
    word: &mut dyn FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    let Some((pattern, rest)) = patterns.split_first() else {
        return if text.is_empty() { Ok(()) } else { word(text) };
    };
    let mut at = 0;
    while let Some(found) = pattern.regex.find_at(text, at) {
        let (start, end) = (found.start(), pattern.end_of(text, found.start(), found.end()));
        if start > at {
            split_by(rest, &text[at..start], word)?;
        }
        split_by(rest, &text[start..end], word)?;
        at = end;
    }
    if at < text.len() { split_by(rest, &text[at..], word) } else { Ok(()) }
}

impl Pattern {
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
    use super::{PreTokenizer, RECIPES};

    fn check(pre: &str, text: &str, words: &[&str]) {
        let mut found = Vec::new();
        let splitter = PreTokenizer::new(pre).unwrap();
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
        for name in RECIPES.iter().flat_map(|recipe| recipe.names) {
            let mut joined = String::new();
            let words = PreTokenizer::new(name).unwrap();
            let all: Result<(), ()> = words.split(text, |word| {
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
    fn digits_are_grouped_as_the_model_learnt_them() {
        check("smollm", "a 123", &["a", " ", "1", "2", "3"]);
        check("llama-bpe", "12345", &["123", "45"]);
        check("gpt-2", "a 123", &["a", " 123"]);
        check("qwen2", "12", &["1", "2"]);
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_an_error_that_names_it() {
        let error = PreTokenizer::new("klingon").unwrap_err();
        assert!(error.to_string().contains("\"klingon\""), "{error}");
    }
}
