//! What all handlers share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use engine::EngineHandle;

use crate::calls::model_names::ModelNames;
use crate::calls::prepare::Preparer;
use crate::calls::prompt_seats::PromptSeats;
use crate::config::{ConfigError, ServerConfig};
use crate::edge::gate::Gate;
use crate::kept::diary::RequestDiary;
use crate::kept::kept_answers::KeptAnswers;
use crate::kept::kept_responses::KeptResponses;
use crate::kept::moments::History;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    pub(crate) engine: EngineHandle,
    /// For prompts that are parsed, rendered and tokenised.
    pub(crate) prompt_seats: PromptSeats,
    pub(crate) preparer: Preparer,
    /// Answers that go on without their clients.
    pub(crate) kept_answers: KeptAnswers,
    /// Responses that others may go on with.
    pub(crate) kept_responses: Arc<KeptResponses>,
    /// Which models answered the last requests that asked for a diagnosis.
    pub(crate) diary: Arc<RequestDiary>,
    /// The last minutes.
    pub(crate) history: History,
    pub(crate) started: Instant,
}

impl App {
    /// # Errors
    /// The configuration has a list entry without its form.
    pub(crate) fn new(
        config: ServerConfig,
        address: SocketAddr,
        engine: EngineHandle,
        started: Instant,
    ) -> Result<App, ConfigError> {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let names = ModelNames::new(engine.clone(), config.model_patterns.clone());
        let preparer = Preparer::new(
            engine.clone(),
            Arc::clone(&config.render_workers),
            names,
            config.sampling.clone(),
            n_cores,
        );
        Ok(App {
            gate: Arc::new(Gate::new(&config, address)?),
            prompt_seats: PromptSeats::new(n_cores),
            preparer,
            kept_answers: KeptAnswers::default(),
            kept_responses: Arc::default(),
            diary: Arc::default(),
            history: History::default(),
            config,
            address,
            engine,
            started,
        })
    }
}
