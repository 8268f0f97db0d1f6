//! `samovar keys`: the keys that have names. They are in a file of the data folder, which every server there looks at,
//! so this needs no server and no other key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::process::ExitCode;

use server::{KeyFile, NamedKey, NewKey, Scope};

use super::exit_codes::CLEAN;
use super::printing::{fail, say};
use super::{AddKeyArguments, KeysCommand, RemoveKeysArguments, settings};
use crate::settings::flags::Flags;

/// Read or change the file, and print.
pub(crate) fn keys(command: KeysCommand) -> ExitCode {
    match command {
        KeysCommand::List(flags) => with_file(flags.0, |file| {
            Ok::<_, server::KeyFileError>(file.list()?.iter().map(line).collect::<Vec<_>>().join("\n"))
        }),
        KeysCommand::Add(AddKeyArguments { name, scopes, limit, settings }) => {
            let scopes = if scopes.is_empty() {
                BTreeSet::from([Scope::Generate])
            } else {
                scopes.into_iter().collect()
            };
            let new = NewKey { name, scopes, requests_per_minute: limit };
            with_file(settings.0, |file| file.add(new).map(|(_, secret)| secret))
        }
        KeysCommand::Rm(RemoveKeysArguments { names, settings }) => with_file(settings.0, |file| {
            let mut done = Vec::new();
            for name in names {
                file.remove(&name)?;
                done.push(format!("removed {name}"));
            }
            Ok::<_, server::KeyFileError>(done.join("\n"))
        }),
    }
}

fn with_file<E: Display>(flags: Flags, work: impl FnOnce(&KeyFile) -> Result<String, E>) -> ExitCode {
    let settings = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match work(&KeyFile::new(settings.folders.keys.clone())) {
        Ok(text) if text.is_empty() => ExitCode::from(CLEAN),
        Ok(text) => say(&text, CLEAN),
        Err(error) => fail(&error),
    }
}

/// The name first, so that a script can look at the first word.
fn line(key: &NamedKey) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(Scope::name).collect();
    let limit = key.requests_per_minute.map_or_else(|| "-".to_owned(), |limit| format!("{limit}/min"));
    let made = jiff::Timestamp::try_from(key.created_at)
        .map_or_else(|_| "-".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
    format!("{}  {}  limit={limit}  made={made}", key.name, scopes.join(","))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_line_says_what_a_key_is_for_and_never_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys.json"));
        let new = NewKey {
            name: "laptop".to_owned(),
            scopes: Scope::ALL.into(),
            requests_per_minute: NonZeroU32::new(60),
        };
        let (key, secret) = file.add(new).unwrap();
        let shown = line(&key);
        assert!(shown.starts_with("laptop  generate,admin  limit=60/min  made=2"), "{shown}");
        assert!(!shown.contains(&secret));
    }
}
