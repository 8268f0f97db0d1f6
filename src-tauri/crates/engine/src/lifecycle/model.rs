//! A model's lifecycle: whether it is here.

use std::time::Instant;

use crate::told::state::{Failure, ModelState};

/// What can happen to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelTransition {
    /// Start loading (also: retry after a failure).
    Load,
    /// The weights are there.
    Loaded,
    /// Finish what runs and go. Of two deadlines the nearer one wins.
    Leave {
        /// When sequences still running are ended.
        deadline: Instant,
    },
    /// Every sequence has ended and its KV is durable.
    Left,
    /// A load error, a worker's panic, a lost or hung device.
    Fail(Failure),
}

impl ModelTransition {
    /// What was asked for, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            ModelTransition::Load => "load",
            ModelTransition::Loaded => "take a loaded model",
            ModelTransition::Leave { .. } => "leave",
            ModelTransition::Left => "finish leaving",
            ModelTransition::Fail(_) => "fail",
        }
    }
}

impl ModelState {
    /// Where `transition` leads from here, if it is legal.
    pub fn after(&self, transition: &ModelTransition) -> Option<ModelState> {
        use ModelState::{Absent, Failed, Leaving, Loading, Ready};
        match (self, transition) {
            (Absent | Failed(_), ModelTransition::Load) => Some(Loading),
            (Loading, ModelTransition::Loaded) => Some(Ready),
            (Ready, ModelTransition::Leave { deadline }) => Some(Leaving { deadline: *deadline }),
            (Leaving { deadline }, ModelTransition::Leave { deadline: new }) => {
                Some(Leaving { deadline: *deadline.min(new) })
            }
            // There is nothing to finish.
            (Absent | Loading | Failed(_), ModelTransition::Leave { .. }) => Some(Absent),
            (Leaving { .. }, ModelTransition::Left) => Some(Absent),
            (Loading | Ready | Leaving { .. }, ModelTransition::Fail(failure)) => {
                Some(Failed(failure.clone()))
            }
            (Loading | Ready | Leaving { .. }, ModelTransition::Load)
            | (Absent | Ready | Leaving { .. } | Failed(_), ModelTransition::Loaded)
            | (Absent | Loading | Ready | Failed(_), ModelTransition::Left)
            | (Absent | Failed(_), ModelTransition::Fail(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::told::state::FailureKind;

    /// Every state against every transition, one line each; a state or a transition that is added shows up here.
    #[test]
    fn every_transition_from_every_state_leads_where_the_table_says() {
        let t0 = Instant::now();
        let at = |secs| t0 + Duration::from_secs(secs);
        let failure = |text| Failure::new(FailureKind::Damaged, text);
        let states = [
            ModelState::Absent,
            ModelState::Loading,
            ModelState::Ready,
            ModelState::Leaving { deadline: at(20) },
            ModelState::Failed(failure("old")),
        ];
        let transitions = [
            ModelTransition::Load,
            ModelTransition::Loaded,
            ModelTransition::Leave { deadline: at(10) },
            ModelTransition::Leave { deadline: at(30) },
            ModelTransition::Left,
            ModelTransition::Fail(failure("new")),
        ];
        let show = |state: &ModelState| match state {
            ModelState::Leaving { deadline } => format!("leaving-{}", (*deadline - t0).as_secs()),
            ModelState::Failed(failure) => format!("failed-{}", failure.text),
            other => other.name().to_owned(),
        };
        let show_transition = |transition: &ModelTransition| match transition {
            ModelTransition::Leave { deadline } => format!("leave-{}", (*deadline - t0).as_secs()),
            other => other.name().replace(' ', "-"),
        };
        let mut table = String::new();
        for state in &states {
            for transition in &transitions {
                let to = state.after(transition).map_or("-".to_owned(), |state| show(&state));
                table += &format!("{:<11} {:<20} {to}\n", show(state), show_transition(transition));
            }
        }
        assert_eq!(table, include_str!("model_table.txt"), "the table now reads:\n{table}");
    }
}
