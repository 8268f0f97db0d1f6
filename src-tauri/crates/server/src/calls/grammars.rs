//! What holds an answer to its format, built where it may take its time.
//!
//! A grammar is built on a thread of its own, because a schema within its bounds may go deeper than other threads'
//! stacks, and with seats of its own, because others must not wait for it.
//!
//! `text`'s `tests/bounds.rs` measures the stack.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine::{ModelCard, Refusal, RequestId};
use text::{AnswerRules, CONSTRAINT_STACK_BYTES, Calls, Constraint, ConstraintError, Most, OutputFormat};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::call::Names;
use super::closed_objects::close_objects;
use super::fault::Fault;
use super::reading::Reading;
use super::tools::{Parallel, ToolChoice, Tools};

/// How long a seat and a grammar may take together. The bounds on schemas keep grammars far below it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where grammars are built.
#[derive(Debug)]
pub(crate) struct GrammarBuilder {
    /// One grammar for every two cores: the engine needs the others.
    seats: Arc<Semaphore>,
}

/// What an answer is to be held to.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A format, and nothing else: the answer is of a raw prompt, or of a model whose answers are text.
    Format(OutputFormat),
    /// What a chat's answer must be.
    Rules(AnswerRules),
}

impl Wanted {
    /// What an answer that is read like this is to be held to, by the call's format, its tools and how many tokens of
    /// thinking it allows; nothing, where it is free.
    pub(crate) fn new(
        format: Option<OutputFormat>,
        tools: &Tools,
        most_thoughts: Option<usize>,
        reading: Option<&Reading>,
    ) -> Option<Wanted> {
        let Some(reading) = reading else { return format.map(Wanted::Format) };
        let must = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        Some(Wanted::Rules(AnswerRules {
            form: Arc::clone(&reading.form),
            begins: reading.begins,
            tools: reading.tools.clone(),
            calls: if must { Calls::Must } else { Calls::May },
            most: if tools.parallel() == Parallel::One { Most::One } else { Most::Any },
            format,
            most_thoughts,
        }))
    }

    fn build(mut self, card: &ModelCard) -> Result<Option<Constraint>, ConstraintError> {
        let format = match &mut self {
            Wanted::Format(format) => Some(format),
            Wanted::Rules(rules) => rules.format.as_mut(),
        };
        if let Some(OutputFormat::JsonSchema { schema, .. }) = format {
            close_objects(schema);
        }
        match &self {
            Wanted::Format(format) => card.text.constraint(format).map(Some),
            Wanted::Rules(rules) => card.text.answer_constraint(rules),
        }
    }
}

impl GrammarBuilder {
    pub(crate) fn new(n_cores: usize) -> GrammarBuilder {
        GrammarBuilder { seats: Arc::new(Semaphore::new((n_cores / 2).max(1))) }
    }

    /// Builds what holds an answer of the model to what is wanted of it. A complaint about the schema of a tool names
    /// its place in `tools`.
    ///
    /// # Errors
    /// A schema cannot be used; a fault when building panics; busy when others' schemas take too long.
    pub(crate) async fn build(
        &self,
        card: &Arc<ModelCard>,
        wanted: Wanted,
        (names, tools): (Names, &Tools),
        id: &RequestId,
    ) -> Result<Option<Constraint>, Fault> {
        let building = async {
            // The semaphore is never closed. The seat stays taken until the thread has ended, whoever waits for it.
            let seat = Arc::clone(&self.seats).acquire_owned().await;
            let (sender, built) = oneshot::channel();
            let card = Arc::clone(card);
            let thread = thread::Builder::new().name("grammar".into()).stack_size(CONSTRAINT_STACK_BYTES);
            let started = thread.spawn(move || {
                let _seat = seat;
                // A client that is gone wants nothing more.
                if !sender.is_closed() {
                    let _ = sender.send(wanted.build(&card));
                }
            });
            match started {
                // Without an answer it has panicked.
                Ok(_) => built.await.map_err(|_| Fault::internal(id, "building a grammar panicked")),
                Err(error) => Err(Fault::internal(id, format!("no thread for a grammar: {error}"))),
            }
        };
        match timeout(DEADLINE, building).await {
            Ok(built) => built?.map_err(|error| of_grammar(&error, names, tools)),
            Err(_) => Err(Refusal::Busy { n_waiting: 0 }.into()),
        }
    }
}

fn of_grammar(error: &ConstraintError, names: Names, tools: &Tools) -> Fault {
    match error {
        ConstraintError::Schema(fault) => {
            Fault::invalid(format!("{}{}", names.schema, fault.pointer), error.to_string())
        }
        ConstraintError::Tool { tool, fault } => {
            let place = tools.callable().nth(*tool).map_or(names.tools, |offered| offered.place.as_str());
            Fault::invalid(format!("{place}{}", fault.pointer), error.to_string())
        }
        ConstraintError::Stuck(_) => Fault::invalid(names.format, error.to_string()),
    }
}
