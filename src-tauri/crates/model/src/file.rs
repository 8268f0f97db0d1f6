//! A model's file: read within bounds, its metadata as plain data, its tensors as ranges of bytes.

pub(crate) mod gguf;
pub(crate) mod header;
pub(crate) mod metadata;
mod model_file;
pub(crate) mod part_name;
pub(crate) mod parts;
