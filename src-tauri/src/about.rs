//! What a model's file says of itself, for people.

use std::collections::BTreeMap;

use engine::About;
use model::Gguf;

/// What the file's metadata and its tensors say. What it does not say is left out: it is no reason to refuse a model.
pub(crate) fn about(gguf: &Gguf) -> About {
    let word = |key: &str| gguf.metadata().find_str(key).ok().flatten().map(str::to_owned);
    About {
        architecture: word("general.architecture").unwrap_or_default(),
        basename: word("general.basename"),
        license: word("general.license"),
        n_parameters: gguf.n_params(),
        quantization: most_common_type(gguf),
        modified_at: std::fs::metadata(gguf.path()).and_then(|file| file.modified()).ok(),
    }
}

/// The type that most of the bytes are stored in.
fn most_common_type(gguf: &Gguf) -> String {
    let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *bytes.entry(tensor.ty.name().to_owned()).or_default() += tensor.range.len();
    }
    bytes.into_iter().max_by_key(|(_, n_bytes)| *n_bytes).map_or(String::new(), |(name, _)| name)
}
