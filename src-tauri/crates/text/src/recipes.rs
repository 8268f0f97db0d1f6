//! What the names in `tokenizer.ggml.pre` stand for.
//!
//! The patterns are those of the models' own tokenizers. Where llama.cpp only comes near them, as with letters of either
//! case beyond ASCII and the marks on them, theirs are what the models have learnt, so they are taken.

use self::Rule::{Digits, Pattern, PatternAndSteps};
use crate::TextError;
use crate::digit_groups::DigitGroups;

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
/// The same without the English contractions.
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const MINICPM5: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+");
const EXAONE_MOE: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+"
);
/// The same with the marks on letters and what joins them.
const K2_HORIZON: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}\x{200c}\x{200d}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const SEED_CODER: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+");
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##;
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+"##;
const HAN_AND_KANA: &str = r"[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+";
/// Scripts that are written without spaces.
const AFMOE_SCRIPTS: &str = r"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{309f}\x{30a0}-\x{30ff}\x{ff65}-\x{ff9f}\x{2f00}-\x{2fdf}\x{e40}-\x{e7f}\x{e80}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+";
const YOUTU_SCRIPTS: &str = r"[\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019}\x{2014}\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+|[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+";
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
/// The same but for how many digits are one word and what may end a run of signs.
const YOUTU: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:",
    contractions!(),
    r")?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:",
    contractions!(),
    r")?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);
/// The same with Chinese characters in words of their own.
const KIMI_K2: &str = concat!(
    r"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?:",
    contractions!(),
    r")?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?:",
    contractions!(),
    r")?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const FALCON_PUNCTUATION: &str = r"[\p{P}$+<=>^~|`]+";
const DEFAULT_PUNCTUATION: &str = r"[\p{P}$+<=>^~|]+";
const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+";

/// What a name in `tokenizer.ggml.pre` stands for.
#[derive(Debug)]
pub(crate) struct Recipe {
    names: &'static [&'static str],
    pub(crate) cutting: Cutting,
    /// Whether a word that is a token is taken as that token without looking at merges.
    pub(crate) whole_words: bool,
    pub(crate) bos: Bos,
}

/// What is merged as one.
#[derive(Debug)]
pub(crate) enum Cutting {
    /// The bytes of a word. The rules are applied one after the other, each to the pieces of the one before.
    Words(&'static [Rule]),
    /// The characters of a line, with U+2581 for a space.
    Lines {
        /// Whether a run of line breaks that is a token is taken as that token.
        takes_breaks_whole: bool,
    },
}

/// One cut through a text.
#[derive(Debug)]
pub(crate) enum Rule {
    /// At both ends of every match.
    Pattern(&'static str),
    /// The same, and a run of white space is cut further: into as long powers of two as it has, from 512 on.
    PatternAndSteps(&'static str),
    /// Within each match, which is a number.
    Digits(&'static str, DigitGroups),
}

/// When a prompt begins with a token of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bos {
    /// Where the file says so.
    IfAsked,
    /// Where the file does not say otherwise.
    ByDefault,
    /// Whatever the file says: those of such models are known to say it wrongly.
    Always,
}

impl Recipe {
    /// The recipe of that name.
    ///
    /// # Errors
    /// When the name is not known: to guess would cost quality without a sign of it.
    pub(crate) fn named(name: &str) -> Result<&'static Recipe, TextError> {
        RECIPES.iter().find(|recipe| recipe.names.contains(&name)).ok_or_else(|| {
            let mut known: Vec<&str> = Recipe::names().collect();
            known.sort_unstable();
            TextError::Unsupported(format!(
                "its pre-tokenizer {name:?} (tokenizer.ggml.pre) is none of those known: {}",
                known.join(", ")
            ))
        })
    }

    /// All names that are known.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().flat_map(|recipe| recipe.names).copied()
    }

    const fn of(names: &'static [&'static str], rules: &'static [Rule]) -> Recipe {
        let cutting = Cutting::Words(rules);
        Recipe { names, cutting, whole_words: false, bos: Bos::IfAsked }
    }

    const fn of_lines(names: &'static [&'static str], takes_breaks_whole: bool, bos: Bos) -> Recipe {
        let cutting = Cutting::Lines { takes_breaks_whole };
        Recipe { names, cutting, whole_words: false, bos }
    }

    const fn whole_words(self) -> Recipe {
        Recipe { whole_words: true, ..self }
    }

    const fn adds_bos(self) -> Recipe {
        Recipe { bos: Bos::ByDefault, ..self }
    }
}

const RECIPES: &[Recipe] = &[
    Recipe::of(
        &["default"],
        &[Pattern(DEFAULT_PUNCTUATION), Pattern(GPT2), Pattern(r"\p{N}+"), Pattern("[0-9][0-9][0-9]")],
    ),
    Recipe::of(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[Pattern(r"\p{N}"), Pattern(GPT2)],
    ),
    Recipe::of(
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
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
        ],
        &[Pattern(GPT2)],
    ),
    Recipe::of(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        &[Pattern(LLAMA3)],
    )
    .whole_words()
    .adds_bos(),
    Recipe::of(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[Pattern(LLAMA3)]),
    Recipe::of(&["k2-horizon"], &[Pattern(K2_HORIZON)]),
    Recipe::of(&["jais-2"], &[PatternAndSteps(LLAMA3)]),
    Recipe::of(&["glm4", "glm5"], &[Pattern(LLAMA3)]).whole_words(),
    Recipe::of(&["minicpm5"], &[Pattern(r"\p{N}{1,3}"), Pattern(MINICPM5)]).whole_words(),
    Recipe::of(
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
        &[Pattern(QWEN2)],
    ),
    Recipe::of(&["laguna"], &[Pattern(r"\n+"), Pattern(QWEN2)]),
    Recipe::of(&["qwen35"], &[Pattern(QWEN35)]),
    Recipe::of(&["ufakzeka"], &[Pattern(UFAKZEKA)]),
    Recipe::of(&["exaone-moe"], &[Pattern(EXAONE_MOE)]),
    Recipe::of(&["seed-coder"], &[Pattern(SEED_CODER)]),
    Recipe::of(&["bailingmoe", "bailingmoe2", "llada-moe"], &[Pattern(BAILING)]),
    Recipe::of(
        &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        &[Pattern(r"\p{N}{1,3}"), Pattern(HAN_AND_KANA), Pattern(DEEPSEEK3)],
    ),
    Recipe::of(
        &["spark2_5"],
        &[Pattern(r"\p{N}{1,3}"), Pattern(HAN_AND_KANA), Pattern(SPARK), Pattern(r"\p{N}")],
    ),
    Recipe::of(
        &["afmoe"],
        &[Digits(r"\p{N}+", DigitGroups::End), Pattern(AFMOE_SCRIPTS), Pattern(DEEPSEEK3)],
    ),
    Recipe::of(
        &["deepseek-llm"],
        &[
            Pattern(r"[\r\n]"),
            Pattern(DEEPSEEK_LETTERS),
            Pattern(r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+"),
            Pattern(r"\s+$"),
            Pattern(DEEPSEEK_CJK),
            Pattern(r"\p{N}+"),
        ],
    ),
    Recipe::of(
        &["deepseek-coder"],
        &[
            Pattern(r"[\r\n]"),
            Pattern(r"\s?\p{L}+"),
            Pattern(r"\s?\p{P}+"),
            Pattern(DEEPSEEK_CJK),
            Pattern(r"\p{N}"),
        ],
    ),
    Recipe::of(&["falcon"], &[Pattern(FALCON_PUNCTUATION), Pattern(GPT2), Pattern("[0-9][0-9][0-9]")]),
    Recipe::of(&["poro-chat", "bloom", "gpt3-finnish"], &[Pattern(BLOOM)]),
    Recipe::of(&["viking"], &[Pattern(BLOOM), Pattern(r"\p{N}")]),
    Recipe::of(
        &["chameleon"],
        &[
            Pattern("<sentinel:[0-9]+>"),
            Pattern("IMGIMG[A-I]{1,4}Z"),
            Pattern(r"[\t\n]|    |  "),
            Pattern(r"\p{N}"),
            Pattern(r"[\p{P}!-/:-@\[-`{-~]"),
            Pattern(GPT2),
        ],
    )
    .adds_bos(),
    Recipe::of(&["superbpe"], &[Pattern(r"\p{N}+"), Digits("[0-9]+", DigitGroups::Begin)]),
    Recipe::of(&["tekken"], &[Pattern(TEKKEN)]).whole_words().adds_bos(),
    Recipe::of(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[Pattern(GPT4O)]),
    Recipe::of(&["granite-embed-multi-97m"], &[Pattern(GPT4O)]).whole_words(),
    Recipe::of(&["tiny_aya", "cohere2moe"], &[Digits(r"\d+\b", DigitGroups::Alone), Pattern(GPT4O)]),
    Recipe::of(&["youtu"], &[Pattern(YOUTU_SCRIPTS), Pattern(YOUTU)]).whole_words(),
    Recipe::of(&["kimi-k2"], &[Pattern(KIMI_K2)]),
    Recipe::of_lines(&["gemma4", "granite-embed-multi-311m"], true, Bos::Always),
    Recipe::of_lines(&["sarvam-moe"], false, Bos::IfAsked),
];
