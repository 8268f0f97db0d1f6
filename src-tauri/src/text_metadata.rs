//! From a GGUF's metadata to what `text` needs to know of a vocabulary.

use model::{Metadata, MetadataError};
use text::TextMetadata;

/// Copy the `tokenizer.*` keys out.
///
/// # Errors
/// A key holds another type than it should, or the vocabulary itself is missing.
pub(crate) fn text_metadata(metadata: &Metadata) -> Result<TextMetadata, MetadataError> {
    let strings = |key: &str| -> Result<Vec<String>, MetadataError> {
        Ok(metadata.find_strings(key)?.map(|s| s.iter().map(str::to_owned).collect()).unwrap_or_default())
    };
    let id = |key: &str| -> Result<Option<u32>, MetadataError> {
        let found = metadata.find_usize(key)?;
        // An id that no token can have means the same as none: some converters write -1 as 0xffff_ffff.
        Ok(found.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX))
    };
    let text = |key: &str| -> Result<Option<String>, MetadataError> {
        Ok(metadata.find_str(key)?.map(str::to_owned))
    };
    Ok(TextMetadata {
        tokenizer_model: metadata.str("tokenizer.ggml.model")?.to_owned(),
        pre: text("tokenizer.ggml.pre")?,
        tokens: strings("tokenizer.ggml.tokens")?,
        token_types: token_types(metadata)?,
        scores: metadata.find_f32s("tokenizer.ggml.scores")?.map(<[f32]>::to_vec).unwrap_or_default(),
        merges: strings("tokenizer.ggml.merges")?,
        bos: id("tokenizer.ggml.bos_token_id")?.or(id("tokenizer.ggml.cls_token_id")?),
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        eom: id("tokenizer.ggml.eom_token_id")?,
        fim_ends: ["pad", "rep", "sep"]
            .into_iter()
            .filter_map(|role| id(&format!("tokenizer.ggml.fim_{role}_token_id")).transpose())
            .collect::<Result<_, _>>()?,
        unk: id("tokenizer.ggml.unknown_token_id")?,
        separator: id("tokenizer.ggml.seperator_token_id")?,
        pad: id("tokenizer.ggml.padding_token_id")?,
        add_bos: metadata.find_bool("tokenizer.ggml.add_bos_token")?,
        add_eos: metadata.find_bool("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: metadata.find_bool("tokenizer.ggml.add_space_prefix")?,
        escape_whitespaces: metadata.find_bool("tokenizer.ggml.escape_whitespaces")?,
        remove_extra_whitespaces: metadata.find_bool("tokenizer.ggml.remove_extra_whitespaces")?,
        has_charsmap: metadata.get("tokenizer.ggml.precompiled_charsmap").is_some(),
        lower_case: metadata.find_bool("tokenizer.ggml.normalizer.lowercase")?,
        strip_accents: metadata.find_bool("tokenizer.ggml.normalizer.strip_accents")?,
        chat_template: text("tokenizer.chat_template")?,
    })
}

/// One small number for each token; writers differ in the integer's width.
fn token_types(metadata: &Metadata) -> Result<Vec<i32>, MetadataError> {
    let types = metadata.find_usizes("tokenizer.ggml.token_type")?.unwrap_or_default();
    Ok(types.into_iter().map(|ty| i32::try_from(ty).unwrap_or(i32::MAX)).collect())
}
