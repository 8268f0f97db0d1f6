//! A model's chat template as plain data, and the bounds on its source.
//!
//! The bounds on a source's parts keep compiling within the stack that `tests/bounds.rs` measures.

use serde::{Deserialize, Serialize};

/// Bytes of a source; the longest of models that people run have some fifty thousand.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Tags of a source. What each `elif` adds lies within the one before.
const MAX_TAGS: usize = 4_000;
/// Parts of one tag: names, numbers, strings and signs. A chain of them is as deep as it is long.
const MAX_PARTS: usize = 4_000;

/// What rendering a model's chats needs, and nothing else of its vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatTemplate {
    /// Jinja, as the model's file has it.
    pub source: String,
    /// The text of the token that templates know as `bos_token`.
    pub bos: Option<String>,
    /// `eos_token`
    pub eos: Option<String>,
    /// `unk_token`
    pub unk: Option<String>,
    /// `pad_token`
    pub pad: Option<String>,
    /// The texts of tokens that are structure, which must not come from a client's values.
    pub structural: Vec<String>,
    /// The texts that are always one token.
    pub user_defined: Vec<String>,
}

/// That a source has no more parts than a compiler can go down into.
///
/// It is a rough count, on the safe side: what looks like a tag within a comment or a string counts too.
pub(crate) fn check_parts(source: &str) -> Result<(), String> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(format!("it has {} bytes, at most {MAX_SOURCE_BYTES} are taken", source.len()));
    }
    let (mut n_tags, mut rest) = (0, source);
    while let Some(start) = rest.find('{') {
        let tag = &rest[start..];
        let Some(closing) =
            ["{{", "{%", "{#"].iter().zip(["}}", "%}", "#}"]).find(|(o, _)| tag.starts_with(**o))
        else {
            rest = &tag[1..];
            continue;
        };
        n_tags += 1;
        if n_tags > MAX_TAGS {
            return Err(format!("it has more than {MAX_TAGS} tags"));
        }
        let (_, closing) = closing;
        let (n_parts, len) = if closing == "#}" {
            (0, tag.find(closing).map_or(tag.len(), |at| at + closing.len()))
        } else {
            parts_of(&tag[2..], closing)
        };
        if n_parts > MAX_PARTS {
            return Err(format!("one of its tags has more than {MAX_PARTS} parts"));
        }
        rest = &tag[len..];
    }
    Ok(())
}

/// How many parts the tag has that `text` is the inside of, and the bytes of the tag with what opens and closes it.
fn parts_of(text: &str, closing: &str) -> (usize, usize) {
    let (mut n_parts, mut at, mut in_word) = (0, 0, false);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(closing) {
            return (n_parts, 2 + at + closing.len());
        }
        let c = rest.chars().next().unwrap_or(' ');
        let is_word = c.is_alphanumeric() || c == '_';
        let goes_on = is_word && in_word;
        n_parts += usize::from(!goes_on && !c.is_whitespace());
        in_word = is_word;
        at += match c {
            '\'' | '"' => string_len(rest, c),
            c => c.len_utf8(),
        };
    }
    (n_parts, 2 + text.len())
}

/// Bytes of the string that `text` begins with.
fn string_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, c)| at + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_names_numbers_strings_and_signs() {
        let parts = |text: &str| parts_of(text, "}}");
        assert_eq!(parts(" message.content }}"), (3, 21));
        assert_eq!(parts(" 'a }} b' + x1 }} more"), (3, 19));
        assert_eq!(parts(" \"it\\\"s\" }}"), (1, 13));
        assert_eq!(parts(" not not x }}"), (3, 15));
        assert_eq!(parts(" x"), (1, 4));
    }

    #[test]
    fn chains_that_are_too_long_are_refused_and_ordinary_templates_pass() {
        let check = |source: String| {
            check_parts(&source).map_err(|message| message.chars().take(40).collect::<String>())
        };
        let too_many = Err("one of its tags has more than 4000 parts".to_owned());
        for (open, part, close) in [
            ("{{ ", "not ", "x }}"),
            ("{{ ", "-", "1 }}"),
            ("{{ x", ".b", " }}"),
            ("{{ x", "|upper", " }}"),
            ("{{ x", "~x", " }}"),
            ("{% if x", " and x", " %}{% endif %}"),
            ("{% set x = ", "[", "] %}"),
        ] {
            assert_eq!(check(format!("{open}{}{close}", part.repeat(4_001))), too_many, "{part}");
            assert_eq!(check(format!("{open}{}{close}", part.repeat(1_000))), Ok(()), "{part}");
        }
        let elifs = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(4_000));
        assert_eq!(check(elifs), Err("it has more than 4000 tags".to_owned()));
        assert!(check("x".repeat(MAX_SOURCE_BYTES + 1)).is_err());
        assert_eq!(check("{ ".repeat(10_000)), Ok(()));
        assert_eq!(check(format!("{{# {} #}}", "not ".repeat(9_000))), Ok(()), "a comment has no parts");
    }
}
