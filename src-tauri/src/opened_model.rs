//! A model's file, understood: everything that is looked at before memory is asked for and weights are read.

use std::fmt::Display;
use std::path::Path;

use engine::{Failure, FailureKind};
use model::{Gguf, LoadError, Outline};
use scheduler::{KvDtype, KvLayout};
use text::{TextError, TextModel};

use crate::text_metadata::text_metadata;

/// A model that can be loaded if there is memory for it.
pub(crate) struct OpenedModel {
    pub(crate) gguf: Gguf,
    pub(crate) outline: Outline,
    pub(crate) text: TextModel,
    /// How its KV is cut into blocks; an encoder has none.
    pub(crate) layout: Option<KvLayout>,
}

impl OpenedModel {
    /// Open the model at `path`, whose KV is to be stored so.
    ///
    /// # Errors
    /// It is damaged or not supported: the file, its architecture, its tensors or its vocabulary.
    pub(crate) fn open(path: &Path, block_tokens: usize, kv_dtype: KvDtype) -> Result<OpenedModel, Failure> {
        let gguf = Gguf::open(path).map_err(|error| failure(&error))?;
        let outline = model::outline(&gguf).map_err(|error| failure(&error))?;
        let text = text_of(&gguf)?;
        let layout = match &outline.encoder {
            Some(_) => None,
            None => Some(layout_of(path, &outline, block_tokens, kv_dtype)?),
        };
        Ok(OpenedModel { gguf, outline, text, layout })
    }
}

/// The vocabulary and the chat template of an open file.
///
/// # Errors
/// The vocabulary is broken or of a kind that is not supported.
pub(crate) fn text_of(gguf: &Gguf) -> Result<TextModel, Failure> {
    let metadata = text_metadata(gguf.metadata())
        .map_err(|error| in_file(gguf.path(), FailureKind::Unsupported, &error))?;
    TextModel::new(metadata).map_err(|error| {
        let kind = match error {
            TextError::Vocabulary(_) => FailureKind::Damaged,
            _ => FailureKind::Unsupported,
        };
        in_file(gguf.path(), kind, &error)
    })
}

/// How the KV of a model is cut into blocks.
///
/// # Errors
/// It cannot be.
pub(crate) fn layout_of(
    path: &Path,
    outline: &Outline,
    block_tokens: usize,
    kv_dtype: KvDtype,
) -> Result<KvLayout, Failure> {
    KvLayout::new(&outline.plan.cache_spec(), block_tokens, kv_dtype)
        .map_err(|error| in_file(path, FailureKind::Unsupported, &error))
}

/// What kind of failure an error of the file is.
pub(crate) fn failure(error: &LoadError) -> Failure {
    let kind = match error {
        LoadError::Unreadable { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            FailureKind::NoSuchFile
        }
        LoadError::Unreadable { .. } => FailureKind::Unreadable,
        LoadError::Malformed { .. } => FailureKind::Damaged,
        LoadError::Unsupported { .. } => FailureKind::Unsupported,
        LoadError::Setup { .. } | LoadError::Cancelled { .. } => FailureKind::NoRoom,
    };
    Failure::new(kind, error.to_string())
}

/// A failure of the model at `path`, in one line.
pub(crate) fn in_file(path: &Path, kind: FailureKind, cause: &dyn Display) -> Failure {
    Failure::new(kind, format!("model {} cannot be set up: {cause}", path.display()))
}
