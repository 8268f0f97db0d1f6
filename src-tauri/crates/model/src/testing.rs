//! What unit tests share: small files, and the formulas as they stand in papers.

pub(crate) mod gguf_writer;
pub(crate) mod oracle;
