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
use text::{CONSTRAINT_STACK_BYTES, Constraint, ConstraintError, OutputFormat};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::call::Names;
use super::fault::Fault;

/// How long a seat and a grammar may take together. The bounds on schemas keep grammars far below it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where grammars are built.
#[derive(Debug)]
pub(crate) struct GrammarBuilder {
    /// One grammar for every two cores: the engine needs the others.
    seats: Arc<Semaphore>,
}

impl GrammarBuilder {
    pub(crate) fn new(n_cores: usize) -> GrammarBuilder {
        GrammarBuilder { seats: Arc::new(Semaphore::new((n_cores / 2).max(1))) }
    }

    /// Builds what holds an answer of the model to `format`.
    ///
    /// # Errors
    /// The schema cannot be used; a fault when building panics; busy when others' schemas take too long.
    pub(crate) async fn build(
        &self,
        card: &Arc<ModelCard>,
        format: OutputFormat,
        names: Names,
        id: &RequestId,
    ) -> Result<Constraint, Fault> {
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
                    let _ = sender.send(card.text.constraint(&format));
                }
            });
            match started {
                // Without an answer it has panicked.
                Ok(_) => built.await.map_err(|_| Fault::internal(id, "building a grammar panicked")),
                Err(error) => Err(Fault::internal(id, format!("no thread for a grammar: {error}"))),
            }
        };
        match timeout(DEADLINE, building).await {
            Ok(built) => built?.map_err(|error| of_grammar(&error, names)),
            Err(_) => Err(Refusal::Busy { n_waiting: 0 }.into()),
        }
    }
}

fn of_grammar(error: &ConstraintError, names: Names) -> Fault {
    match error {
        ConstraintError::Schema(fault) => {
            Fault::invalid(format!("{}{}", names.schema, fault.pointer), error.to_string())
        }
        ConstraintError::Stuck(_) => Fault::invalid(names.format, error.to_string()),
    }
}
