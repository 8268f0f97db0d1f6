//! The named keys as they are now: read again whenever their file is another.

use std::sync::{Arc, Mutex, PoisonError};

use super::key_file::{KeyFile, NamedKey, Stamp};
use super::rates::Rates;

/// The keys of a file.
#[derive(Debug)]
pub(super) struct KeyRing {
    file: Option<KeyFile>,
    /// Guards what was read last; held for a look at what the system knows of the file, which is in memory, and for
    /// reading it where it has changed, which a person does.
    known: Mutex<Known>,
    pub(super) rates: Rates,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    keys: Keys,
}

/// What is known of named keys.
#[derive(Debug, Clone, Default)]
pub(super) enum Keys {
    /// Nobody has been given one.
    #[default]
    None,
    /// These have been given.
    Given(Arc<Vec<NamedKey>>),
    /// There are some, and nobody can tell which: none of them opens anything.
    Unreadable,
}

impl KeyRing {
    pub(super) fn new(file: Option<KeyFile>) -> KeyRing {
        KeyRing { file, known: Mutex::default(), rates: Rates::default() }
    }

    pub(super) fn file(&self) -> Option<&KeyFile> {
        self.file.as_ref()
    }

    /// The keys as they are now.
    pub(super) fn now(&self) -> Keys {
        let Some(file) = &self.file else { return Keys::None };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match file.stamp() {
            Ok(stamp) if stamp == known.stamp => return known.keys.clone(),
            Ok(stamp) => stamp,
            Err(error) => {
                if !matches!(known.keys, Keys::Unreadable) {
                    tracing::error!(%error, "the file of keys cannot be looked at: none of them opens anything");
                }
                *known = Known { stamp: None, keys: Keys::Unreadable };
                return Keys::Unreadable;
            }
        };
        // What comes between the look and the reading is seen at the next look.
        let keys = match file.list() {
            Ok(keys) if keys.is_empty() => Keys::None,
            Ok(keys) => {
                self.rates.keep(|digest| keys.iter().any(|key| key.digest == *digest));
                Keys::Given(Arc::new(keys))
            }
            Err(error) => {
                tracing::error!(%error, "none of the named keys opens anything");
                Keys::Unreadable
            }
        };
        *known = Known { stamp, keys: keys.clone() };
        keys
    }
}
