//! What those see who look after the server: health, metrics, and the admin calls.

pub(crate) mod admin;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod prometheus;
pub(crate) mod rounding;
