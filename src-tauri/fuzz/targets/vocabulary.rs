//! A vocabulary of arbitrary bytes: it is read within bounds or refused, and what it makes of a text spells that text as
//! far as it has tokens for it.
//!
//! A line is a part of it: `k` and the kind, `p` and the pre-tokenizer, `f` and flags, `t` and a digit and a token of that
//! type, `m` and a merge, `x` and a text.

#![no_main]

use text::{EncodeLimits, TextMetadata, TextModel};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let input = String::from_utf8_lossy(bytes);
    let mut meta = TextMetadata::default();
    let mut texts = Vec::new();
    for line in input.split('\n').map(|line| line.replace("\\n", "\n")) {
        let mut chars = line.chars();
        let what = chars.next();
        let rest = chars.as_str();
        match what {
            Some('k') => rest.clone_into(&mut meta.tokenizer_model),
            Some('p') => meta.pre = Some(rest.to_owned()),
            Some('f') => {
                for flag in rest.bytes() {
                    let is_set = flag.is_ascii_uppercase();
                    match flag.to_ascii_lowercase() {
                        b'b' => meta.add_bos = Some(is_set),
                        b'e' => meta.add_eos = Some(is_set),
                        b'p' => meta.add_space_prefix = Some(is_set),
                        b'l' => meta.lower_case = Some(is_set),
                        b'a' => meta.strip_accents = Some(is_set),
                        b'x' => meta.escape_whitespaces = Some(is_set),
                        digit => meta.unk = Some(u32::from(digit)),
                    }
                }
            }
            Some('t') => {
                let kind = chars.next().unwrap_or('1');
                meta.tokens.push(chars.as_str().to_owned());
                meta.token_types.push(kind.to_digit(10).map_or(-1, |digit| digit as i32));
                meta.scores.push(f32::from_bits((meta.tokens.len() as u32).wrapping_mul(0x9e37_79b9)));
            }
            Some('m') => meta.merges.push(rest.to_owned()),
            Some('x') => texts.push(rest.to_owned()),
            _ => {}
        }
    }
    let is_byte_level = meta.tokenizer_model == "gpt2" && meta.escape_whitespaces != Some(true);
    let Ok(model) = TextModel::new(meta) else { return };
    for text in texts {
        let ids = model.encode_plain(&text);
        assert!(ids.iter().all(|id| (*id as usize) < model.n_vocab()));
        assert!(model.fewest_tokens([text.as_str()]) <= ids.len() || !is_byte_level);
        let spelt: Vec<u8> = ids.iter().flat_map(|&id| model.token_bytes(id)).copied().collect();
        assert!(spelt.len() <= 3 * text.len() + 64 || !is_byte_level);
        let mut detokenizer = model.detokenizer(&ids);
        ids.iter().for_each(|&id| drop(detokenizer.push(id)));
        let _ = (detokenizer.finish(), model.raw_text(&ids));
        let _ = model.encode_closed(&text, EncodeLimits::NONE);
        let raw = model.encode_raw(&text);
        match model.encode_raw_within(&text, EncodeLimits { max_tokens: 3, ..EncodeLimits::NONE }) {
            Ok(ids) => assert_eq!(ids, raw),
            Err(_) => assert!(raw.len() > 3),
        }
    }
});
