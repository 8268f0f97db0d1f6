//! Whether a request shows a key that opens what it asks for.

use std::time::Instant;

use super::key_file::{KeyFile, NamedKey};
use super::key_ring::{KeyRing, Keys};
use super::scope::Scope;
use crate::calls::fault::Fault;
use crate::config::{ApiKey, ServerConfig};

/// The keys of a server.
#[derive(Debug)]
pub(crate) struct KeyCheck {
    /// The one key of the settings, which opens everything.
    single: Option<ApiKey>,
    /// What the owner's own programs show; it opens everything, and nobody has to show it.
    own: Option<ApiKey>,
    named: KeyRing,
    /// Whether others than this machine's programs can come here: then a key is wanted, also when none has been given.
    is_exposed: bool,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Anybody: no key is wanted.
    Anybody,
    /// The owner, by a key that opens everything.
    Owner,
    /// Who was given this key.
    Named(Box<str>),
}

impl Caller {
    /// The name of the key, for the log.
    pub(crate) fn key_name(&self) -> Option<&str> {
        match self {
            Caller::Named(name) => Some(name),
            Caller::Anybody | Caller::Owner => None,
        }
    }
}

impl KeyCheck {
    /// The keys that `config` names.
    pub(crate) fn new(config: &ServerConfig, is_exposed: bool) -> KeyCheck {
        KeyCheck {
            single: config.api_key.clone(),
            own: config.own_key.clone(),
            named: KeyRing::new(config.key_file.clone().map(KeyFile::new)),
            is_exposed,
        }
    }

    /// The file in which named keys are kept, where there is one.
    pub(crate) fn file(&self) -> Option<&KeyFile> {
        self.named.file()
    }

    /// Whether a key has to be shown.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_exposed || self.has_keys()
    }

    /// Whether there is a key that a client can have.
    pub(crate) fn has_keys(&self) -> bool {
        self.single.is_some() || !matches!(self.named.now(), Keys::None)
    }

    /// Who shows these keys, one in each of the places where a key can be, and asks for something of `scope`, or for
    /// what any key opens.
    ///
    /// # Errors
    /// 401 without a key that is one, 403 with one for something else, 429 with one that was used too often.
    pub(crate) fn check(
        &self,
        shown: [Option<&[u8]>; 2],
        scope: Option<Scope>,
        now: Instant,
    ) -> Result<Caller, Fault> {
        let named = self.named.now();
        let given: &[NamedKey] = match &named {
            Keys::Given(keys) => keys,
            Keys::None | Keys::Unreadable => &[],
        };
        // Each is compared with each to the end, so that the time does not tell which was right. Digests say that they
        // are compared in constant time.
        let (mut is_owner, mut found) = (false, None);
        for shown in shown.into_iter().flatten() {
            let digest = blake3::hash(shown);
            for owners in [&self.single, &self.own].into_iter().flatten() {
                is_owner |= owners.has_digest(&digest);
            }
            for key in given {
                if key.digest == digest {
                    found = Some(key);
                }
            }
        }
        let is_wanted = self.is_exposed || self.single.is_some() || !matches!(named, Keys::None);
        match found {
            _ if is_owner => Ok(Caller::Owner),
            _ if !is_wanted => Ok(Caller::Anybody),
            None => Err(Fault::unauthorized()),
            Some(key) => self.check_named(key, scope, now),
        }
    }

    fn check_named(&self, key: &NamedKey, scope: Option<Scope>, now: Instant) -> Result<Caller, Fault> {
        if let Some(scope) = scope.filter(|scope| !key.scopes.contains(scope)) {
            return Err(Fault::key_not_allowed(&key.name, scope.name()));
        }
        if let (Some(a_minute), Some(Scope::Generate)) = (key.requests_per_minute, scope) {
            let taken = self.named.rates.take(key.digest, a_minute, now);
            taken.map_err(|wait| Fault::key_limit(&key.name, a_minute.get(), wait))?;
        }
        Ok(Caller::Named(key.name.as_str().into()))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::super::key_file::NewKey;
    use super::*;
    use crate::dialects::openai::fault::status;

    fn rig(change: impl FnOnce(&mut ServerConfig)) -> (tempfile::TempDir, KeyCheck) {
        let folder = tempfile::tempdir().unwrap();
        let key_file = Some(folder.path().join("keys.json"));
        let mut config = ServerConfig { key_file, ..ServerConfig::default() };
        change(&mut config);
        let check = KeyCheck::new(&config, false);
        (folder, check)
    }

    fn add(check: &KeyCheck, name: &str, scopes: &[Scope], a_minute: u32) -> String {
        let scopes = scopes.iter().copied().collect();
        let new = NewKey { name: name.into(), scopes, requests_per_minute: NonZeroU32::new(a_minute) };
        check.file().unwrap().add(new).unwrap().1
    }

    fn ask(check: &KeyCheck, key: &str, scope: Scope) -> Result<Caller, u16> {
        let asked = check.check([Some(key.as_bytes()), None], Some(scope), Instant::now());
        asked.map_err(|fault| status(fault.kind).as_u16())
    }

    #[test]
    fn keys_are_wanted_as_soon_as_there_is_one_and_no_longer_than_that_without_a_restart() {
        let (_folder, check) = rig(|_| {});
        assert_eq!(ask(&check, "", Scope::Admin), Ok(Caller::Anybody));
        let first = add(&check, "first", &[Scope::Generate], 0);
        assert_eq!(ask(&check, "", Scope::Generate), Err(401));
        assert_eq!(ask(&check, &first, Scope::Generate), Ok(Caller::Named("first".into())));
        let second = add(&check, "second", &[Scope::Generate], 0);
        assert!(ask(&check, &second, Scope::Generate).is_ok());
        check.file().unwrap().remove("first").unwrap();
        assert_eq!(ask(&check, &first, Scope::Generate), Err(401));
        check.file().unwrap().remove("second").unwrap();
        assert_eq!(ask(&check, "", Scope::Admin), Ok(Caller::Anybody));
    }

    #[test]
    fn a_key_opens_what_it_is_for_and_nothing_else() {
        let (_folder, check) = rig(|_| {});
        let generate = add(&check, "g", &[Scope::Generate], 0);
        let admin = add(&check, "a", &[Scope::Admin], 0);
        let both = add(&check, "b", &[Scope::Generate, Scope::Admin], 0);
        for (key, scope, want) in [
            (&generate, Scope::Generate, None),
            (&generate, Scope::Admin, Some(403)),
            (&admin, Scope::Generate, Some(403)),
            (&admin, Scope::Admin, None),
            (&both, Scope::Generate, None),
            (&both, Scope::Admin, None),
        ] {
            assert_eq!(ask(&check, key, scope).err(), want, "{scope:?}");
        }
        for key in [&generate, &admin] {
            assert!(check.check([None, Some(key.as_bytes())], None, Instant::now()).is_ok());
        }
    }

    #[test]
    fn the_key_of_the_settings_and_the_owners_own_open_everything_beside_named_ones() {
        let (_folder, check) = rig(|config| {
            config.api_key = Some(ApiKey::new("single").unwrap());
            config.own_key = Some(ApiKey::new("own").unwrap());
        });
        let named = add(&check, "n", &[Scope::Generate], 0);
        for key in ["single", "own"] {
            assert_eq!(ask(&check, key, Scope::Admin), Ok(Caller::Owner));
        }
        assert_eq!(ask(&check, &named, Scope::Generate), Ok(Caller::Named("n".into())));
        for wrong in ["", "singl", "OWN", &named[1..]] {
            assert_eq!(ask(&check, wrong, Scope::Generate), Err(401), "{wrong}");
        }
        // Its owner's programs show theirs whether or not it is wanted.
        let (_folder, check) = rig(|config| config.own_key = Some(ApiKey::new("own").unwrap()));
        assert_eq!(ask(&check, "", Scope::Admin), Ok(Caller::Anybody));
        assert_eq!(ask(&check, "own", Scope::Admin), Ok(Caller::Owner));
    }

    #[test]
    fn a_server_that_others_can_reach_stays_closed_when_its_last_key_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = Some(folder.path().join("keys.json"));
        let check = KeyCheck::new(&ServerConfig { key_file, ..ServerConfig::default() }, true);
        let key = add(&check, "n", &[Scope::Generate], 0);
        assert!(ask(&check, &key, Scope::Generate).is_ok());
        check.file().unwrap().remove("n").unwrap();
        assert_eq!(ask(&check, &key, Scope::Generate), Err(401));
        assert!(check.is_wanted() && !check.has_keys());
    }

    #[test]
    fn a_file_that_cannot_be_read_opens_nothing_and_keys_are_wanted_still() {
        let (folder, check) = rig(|_| {});
        let key = add(&check, "n", &[Scope::Generate], 0);
        assert!(ask(&check, &key, Scope::Generate).is_ok());
        std::fs::write(folder.path().join("keys.json"), "no keys").unwrap();
        assert_eq!(ask(&check, &key, Scope::Generate), Err(401));
        assert_eq!(ask(&check, "", Scope::Admin), Err(401));
    }

    #[test]
    fn a_key_with_a_limit_is_told_when_to_come_again_and_others_go_on() {
        let (_folder, check) = rig(|_| {});
        let slow = add(&check, "slow", &[Scope::Generate, Scope::Admin], 2);
        let free = add(&check, "free", &[Scope::Generate], 0);
        let now = Instant::now();
        let at = |key: &str, scope, seconds| {
            check.check([Some(key.as_bytes()), None], Some(scope), now + Duration::from_secs(seconds))
        };
        assert!(at(&slow, Scope::Generate, 0).is_ok() && at(&slow, Scope::Generate, 0).is_ok());
        let refused = at(&slow, Scope::Generate, 10).unwrap_err();
        assert_eq!(status(refused.kind).as_u16(), 429);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(20)));
        assert!(refused.message.contains("slow") && refused.message.contains('2'), "{}", refused.message);
        // Looking after the server is not what the limit is for.
        assert!(at(&slow, Scope::Admin, 10).is_ok() && at(&free, Scope::Generate, 10).is_ok());
        assert!(at(&slow, Scope::Generate, 30).is_ok());
    }
}
