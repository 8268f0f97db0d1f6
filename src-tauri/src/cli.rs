//! The command line: its grammar, and the commands that are clients of the HTTP API.

pub(crate) mod agents;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod drain;
pub(crate) mod exit_codes;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod printing;
pub(crate) mod run;
pub(crate) mod status;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use server::Scope;

use crate::settings::flags::{ClientFlags, EngineFlags, Flags};
use crate::settings::{Settings, SettingsError};
use crate::{api_key, own_key};
use client::Client;
use exit_codes::{FAILED, USAGE};
use printing::fail;

/// The arguments of `samovar`.
#[derive(Debug, Parser)]
#[command(
    name = "samovar",
    version,
    about,
    after_help = "Settings: flag > SAMOVAR_* variable > settings.toml > default."
)]
pub(crate) struct Arguments {
    /// What to do; without it the desktop app starts.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What `samovar` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a model over HTTP until a signal comes; then drain and exit
    Serve(EngineFlags),
    /// Answer one prompt in the terminal
    Run(RunArguments),
    /// Say in one line how the server is; exit code 0 only when it is ready
    Status(ClientFlags),
    /// Let running answers finish, admit nothing new, stay up
    Drain(DrainArguments),
    /// Admit requests again after a drain
    Resume(ClientFlags),
    /// Let running answers finish, then end the server
    Stop(DrainArguments),
    /// List, look at, pin, evict or remove the conversations whose KV is kept
    Agents(AgentsArguments),
    /// Give clients keys of their own, or take them away; a server takes that in at once
    Keys(KeysArguments),
    /// Look at model files
    Models(ModelsArguments),
    /// List each setting, its value and where it came from
    Config(EngineFlags),
    /// Render chats for a server, which starts this by itself
    #[command(hide = true)]
    RenderChats,
    /// Measure batching, chunked prefill and the engine's own share on this machine
    Bench(BenchArguments),
    /// Measure what keeping KV on disk gives and costs: restores, agents in turn, saving, checkpoints
    BenchStore(BenchStoreArguments),
}

/// `samovar run [MODEL] PROMPT`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The model, if not the one that is set, and the prompt; `-` reads the prompt from standard input
    #[arg(num_args = 1..=2, required = true, value_names = ["[MODEL] PROMPT"])]
    pub(crate) words: Vec<String>,
    /// End the answer after this many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,
    #[command(flatten)]
    pub(crate) settings: EngineFlags,
}

/// `samovar agents`.
#[derive(Debug, Args)]
pub(crate) struct AgentsArguments {
    #[command(subcommand)]
    pub(crate) command: AgentsCommand,
}

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// One line for each agent, the one used last first
    List(ClientFlags),
    /// What is known of one agent
    Show(AgentArguments),
    /// Never give an agent's KV up for space
    Pin(AgentArguments),
    /// Let an agent's KV go when its space is needed
    Unpin(AgentArguments),
    /// Leave an agent's KV on disk only
    Evict(AgentArguments),
    /// Forget agents and erase the KV that is theirs alone
    Rm(RemoveArguments),
}

/// One agent.
#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    /// The agent's name, as `samovar agents list` shows it
    pub(crate) name: String,
    /// Only its conversation with the model of this name or fingerprint, as `samovar agents show` has them
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) settings: ClientFlags,
}

/// `samovar agents rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// The agents' names
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) names: Vec<String>,
    /// All agents there are
    #[arg(long)]
    pub(crate) all: bool,
    /// Only their conversations with the model of this name or fingerprint
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) settings: ClientFlags,
}

/// `samovar keys`.
#[derive(Debug, Args)]
pub(crate) struct KeysArguments {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, this one time; as soon as there is one, clients must show one
    Add(AddKeyArguments),
    /// One line for each key, in the order in which they were made
    List(ClientFlags),
    /// Take keys away
    #[command(visible_alias = "revoke")]
    Rm(RemoveKeysArguments),
}

/// `samovar keys add`.
#[derive(Debug, Args)]
pub(crate) struct AddKeyArguments {
    /// What the key is called: letters, digits, dots, underscores or hyphens
    pub(crate) name: String,
    /// What it opens: generate, admin; may be repeated [default: generate]
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
    pub(crate) scopes: Vec<Scope>,
    /// How many requests it may make a minute; any number if not given
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<std::num::NonZeroU32>,
    #[command(flatten)]
    pub(crate) settings: ClientFlags,
}

/// `samovar keys rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveKeysArguments {
    /// The keys' names
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: ClientFlags,
}

fn scope(name: &str) -> Result<Scope, String> {
    Scope::named(name).ok_or_else(|| format!("{} is wanted", Scope::NAMES.join(" or ")))
}

/// `samovar models`.
#[derive(Debug, Args)]
pub(crate) struct ModelsArguments {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

/// What can be done with model files.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Say what a model file is, what it needs and why it cannot run; exit code 0 only when it runs here
    Check(CheckArguments),
}

/// `samovar models check FILE`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// A GGUF file, the first one of a model in several files, or a name in the models folder
    pub(crate) file: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: EngineFlags,
}

/// `samovar bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Rounds; every figure is the median over them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// Measure instead what storing keys and values in fewer bits costs on this text, in perplexity
    #[arg(long, value_name = "TEXT-FILE")]
    pub(crate) kv_quality: Option<std::path::PathBuf>,
    /// Say too how many conversations of this model a gibibyte of KV holds
    #[arg(long, value_name = "GGUF")]
    pub(crate) capacity: Vec<std::path::PathBuf>,
    /// Write the figures there as JSON too
    #[arg(long, value_name = "PATH")]
    pub(crate) json: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) settings: EngineFlags,
}

/// `samovar bench-store`.
#[derive(Debug, Args)]
pub(crate) struct BenchStoreArguments {
    /// Some real text to make prompts of: a few hundred kilobytes
    #[arg(long, value_name = "PATH")]
    pub(crate) text: std::path::PathBuf,
    /// Lengths of the prompts that are restored, in tokens
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1_000, 2_000, 4_000, 8_000])]
    pub(crate) sizes: Vec<usize>,
    /// What is measured
    #[arg(long, value_name = "PART,…", value_enum, value_delimiter = ',',
          default_values_t = [BenchStorePart::Restores, BenchStorePart::InTurn, BenchStorePart::Saving])]
    pub(crate) parts: Vec<BenchStorePart>,
    /// Rounds of the restores; every figure is the median over them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// Write the figures there as JSON too
    #[arg(long, value_name = "PATH")]
    pub(crate) json: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) settings: EngineFlags,
}

/// A part of `samovar bench-store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchStorePart {
    /// The time to the first text cold, in memory, and restored after a restart
    Restores,
    /// Agents in turn through a pool too small for them
    InTurn,
    /// What saving takes from running streams
    Saving,
    /// What checkpoints of recurrent layers take in memory, and a conversation's turns write
    Checkpoints,
}

/// `samovar drain` and `samovar stop`.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// How long running answers may take; the server's own setting when not given
    #[arg(long, value_name = "SECONDS", value_parser = crate::settings::values::duration)]
    pub(crate) timeout: Option<std::time::Duration>,
    #[command(flatten)]
    pub(crate) settings: ClientFlags,
}

/// Settings, or the exit code after their one line on stderr.
pub(crate) fn settings(flags: Flags) -> Result<Settings, ExitCode> {
    Settings::load(flags).map_err(|error: SettingsError| {
        fail(&error);
        ExitCode::from(if error.is_usage() { USAGE } else { FAILED })
    })
}

/// A client of the server that the settings name.
///
/// # Errors
/// The key's file cannot be used; one line.
pub(crate) fn client_for(settings: &Settings) -> Result<Client, String> {
    let key = settings.api_key_file.as_deref().map(api_key::read).transpose()?;
    // What the server on this data folder left for its owner is nobody else's business.
    let is_here = settings.address.ip().is_loopback() || settings.address.ip().is_unspecified();
    let own = || own_key::of(&settings.folders.data).filter(|_| is_here);
    Ok(Client::new(settings.address, key.or_else(own)))
}

/// Run a command that needs nothing but a client.
pub(crate) async fn with_client(
    flags: ClientFlags,
    command: impl AsyncFnOnce(Client) -> ExitCode,
) -> ExitCode {
    let settings = match settings(flags.0) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match client_for(&settings) {
        Ok(client) => command(client).await,
        Err(line) => fail(&line),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_arguments_of_a_command_have_one_name() {
        Arguments::command().debug_assert();
    }
}
