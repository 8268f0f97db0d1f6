//! The settings' flags, made from the table of keys, for the commands to include.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::keys::{KEYS, Key};

/// The flags that were given, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// One text for each time the flag was given.
    pub(crate) values: BTreeMap<&'static str, Vec<String>>,
}

/// The flags of a command that runs an engine: all of them.
#[derive(Debug, Clone)]
pub(crate) struct EngineFlags(pub(crate) Flags);

/// The flags of a command that only talks to a server: where it is and how to be let in.
#[derive(Debug, Clone)]
pub(crate) struct ClientFlags(pub(crate) Flags);

fn augment(command: Command, wanted: fn(&Key) -> bool) -> Command {
    KEYS.iter().filter(|key| wanted(key)).fold(command, |command, key| {
        let default =
            if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
        command.arg(
            Arg::new(key.name)
                .long(key.flag())
                .value_name(key.value_name)
                .help(format!("{}{default}", key.help))
                .help_heading("Settings")
                .action(if key.many { ArgAction::Append } else { ArgAction::Set }),
        )
    })
}

fn read(matches: &ArgMatches, wanted: fn(&Key) -> bool) -> Flags {
    let mut flags = Flags::default();
    for key in KEYS.iter().filter(|key| wanted(key)) {
        if let Some(texts) = matches.get_many::<String>(key.name) {
            flags.values.insert(key.name, texts.cloned().collect());
        }
    }
    flags
}

macro_rules! flags_from_keys {
    ($name:ident, $wanted:expr) => {
        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok($name(read(matches, $wanted)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = read(matches, $wanted);
                Ok(())
            }
        }

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                augment(command, $wanted)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $wanted)
            }
        }
    };
}

flags_from_keys!(EngineFlags, |_| true);
flags_from_keys!(ClientFlags, |key| key.for_clients);
