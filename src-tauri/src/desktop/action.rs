//! What can be chosen in the menu.

use crate::words::Offer;

/// A choice of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    OpenChat,
    CopyAddress,
    OpenLogs,
    RetryLoad,
    Quit,
    QuitNow,
    PauseNow,
    /// Take requests again, whatever kept the server from it.
    Resume,
    RetryPort,
    OtherPort,
}

// Their names in the menu's events.
engine::names! {
    pub(crate) Action, ALL {
        OpenChat => "open_chat",
        CopyAddress => "copy_address",
        OpenLogs => "open_logs",
        RetryLoad => "retry_load",
        Quit => "quit",
        QuitNow => "quit_now",
        PauseNow => "pause_now",
        Resume => "resume",
        RetryPort => "retry_port",
        OtherPort => "other_port",
    }
}

impl Action {
    /// The choice of that name.
    pub(crate) fn named(name: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Its key. Quit is ours, not the system's predefined one, which ends a process without asking.
    pub(crate) fn key(self) -> Option<&'static str> {
        (self == Action::Quit).then_some("CmdOrCtrl+Q")
    }
}

impl From<Offer> for Action {
    fn from(offer: Offer) -> Action {
        match offer {
            Offer::Retry => Action::RetryLoad,
            Offer::OpenLogs => Action::OpenLogs,
            Offer::QuitNow => Action::QuitNow,
            Offer::PauseNow => Action::PauseNow,
            Offer::CancelQuit | Offer::Resume => Action::Resume,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_has_a_name_of_its_own_and_only_quit_has_a_key() {
        for action in Action::ALL {
            assert_eq!(Action::named(action.name()), Some(action));
            assert_eq!(action.key().is_some(), action == Action::Quit);
        }
        assert_eq!(Action::named("nothing"), None);
    }
}
