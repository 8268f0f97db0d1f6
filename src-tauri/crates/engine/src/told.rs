//! What crosses the engine's border: what it is asked and what it tells.

pub(crate) mod agent_info;
pub(crate) mod backend;
pub(crate) mod card;
pub(crate) mod checkpoint;
pub(crate) mod difference;
pub(crate) mod embedding;
pub(crate) mod event;
pub(crate) mod histograms;
pub(crate) mod load_progress;
pub(crate) mod loader;
pub(crate) mod model_name;
mod names;
pub(crate) mod prompt;
pub(crate) mod prompt_map;
pub mod readiness;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod request_id;
pub(crate) mod sampling_choices;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod trace_id;
