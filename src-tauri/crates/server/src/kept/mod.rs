//! What outlives a request: answers that go on without their clients, and the last minutes.

pub(crate) mod kept_answers;
pub(crate) mod moments;
