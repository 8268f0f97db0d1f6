//! The way of a generation call over HTTP.

pub(crate) mod kept_answers;
