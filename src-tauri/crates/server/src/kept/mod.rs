//! What outlives a request: answers that go on without their clients, responses that others go on with, and the last minutes.

pub(crate) mod diary;
pub(crate) mod kept_answers;
pub(crate) mod kept_responses;
pub(crate) mod moments;
