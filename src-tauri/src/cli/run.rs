//! `samovar run [MODEL] PROMPT`: one answer in the terminal, as it is generated.
//!
//! A server that answers at the configured address is asked. Otherwise this process hosts the same engine and the
//! same server for itself, on a free loopback port with a key that nobody else has, and drains on its way out. So
//! there is one way to an answer, not two.

use std::io::{IsTerminal, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use engine::After;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use server::FaultKind;

use super::client::{Client, ClientError, refused};
use super::exit_codes::{CLEAN, INTERRUPTED};
use super::printing::{AnswerPrinter, fail, fail_soon, progress};
use super::{RunArguments, settings};
use crate::app::{App, Prepared};
use crate::kv_store::WhenLocked;
use crate::settings::{Settings, Source};
use crate::signals::QuitSignals;
use crate::{logs, model_file};

/// Bytes that a prompt from standard input may have; the server takes no more either.
const MAX_PROMPT_BYTES: u64 = 16 << 20;

/// The length of an answer of a model that cannot chat.
const DEFAULT_COMPLETION_TOKENS: u32 = 128;

/// What is asked.
struct Question {
    model: Option<String>,
    prompt: String,
    max_tokens: Option<u32>,
    /// Parameters of the request by name.
    sampling: Vec<(&'static str, Value)>,
}

impl Question {
    /// What the command line names goes into the request: that model must be the one that answers, those choices
    /// of sampling count. What only the settings name is the server's matter where one runs.
    fn new(settings: &Settings, prompt: String, max_tokens: Option<u32>) -> Question {
        let is_flag =
            |key: &str| settings.rows.iter().any(|row| row.key == key && row.source == Source::Flag);
        let sampling = &settings.sampling;
        let parameters = [
            ("temperature", json!(sampling.temperature)),
            ("top_p", json!(sampling.top_p)),
            ("top_k", json!(sampling.top_k)),
            ("min_p", json!(sampling.min_p)),
            ("repetition_penalty", json!(sampling.repetition_penalty)),
        ];
        Question {
            model: settings.model.as_deref().filter(|_| is_flag("model")).map(name_in_requests),
            prompt,
            max_tokens,
            sampling: parameters.into_iter().filter(|(key, _)| is_flag(key)).collect(),
        }
    }
}

/// Why there is no whole answer.
enum NoAnswer {
    /// The user pressed Ctrl-C.
    Cancelled,
    /// The line for the user.
    Failed(String),
}

impl From<ClientError> for NoAnswer {
    fn from(error: ClientError) -> NoAnswer {
        NoAnswer::Failed(error.to_string())
    }
}

/// Answer one prompt.
pub(crate) async fn run(mut arguments: RunArguments) -> ExitCode {
    let prompt = match arguments.words.pop().map(read_prompt) {
        Some(Ok(prompt)) => prompt,
        Some(Err(line)) => return fail(&line),
        None => return fail(&"a prompt is wanted"),
    };
    let mut flags = arguments.settings.0;
    if let Some(model) = arguments.words.pop() {
        flags.values.insert("model", vec![model]);
    }
    let settings = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let question = Question::new(&settings, prompt, arguments.max_tokens);
    let client = match super::client_for(&settings) {
        Ok(client) => client,
        Err(line) => return fail(&line),
    };
    // The look is over before the question: a connection that says nothing would be one for the server to keep.
    match client.connect().await.map(drop) {
        Ok(()) => ask_server(&client, &question).await,
        Err(ClientError::NoServer { .. }) => host(settings, question).await,
        Err(error) => fail(&error),
    }
}

/// A path or a name with or without its ending, as requests name the model.
fn name_in_requests(model: &str) -> String {
    let path = Path::new(model);
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
        model_file::name_of(path)
    } else {
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Ask a server that runs already. Ctrl-C closes the connection, which ends the answer over there.
async fn ask_server(client: &Client, question: &Question) -> ExitCode {
    let mut signals = match QuitSignals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals cannot be received: {error}")),
    };
    exit_code(tokio::select! {
        outcome = answer(client, question) => outcome,
        () = signals.recv() => Err(NoAnswer::Cancelled),
    })
}

/// The prompt itself, or standard input for `-`.
fn read_prompt(word: String) -> Result<String, String> {
    if word != "-" {
        return Ok(word);
    }
    let mut prompt = String::new();
    std::io::stdin()
        .take(MAX_PROMPT_BYTES)
        .read_to_string(&mut prompt)
        .map_err(|error| format!("standard input: {error}"))?;
    Ok(prompt)
}

/// Host engine and server in this process for the length of one answer.
async fn host(mut settings: Settings, question: Question) -> ExitCode {
    let mut signals = match QuitSignals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals cannot be received: {error}")),
    };
    // Nothing of them on the terminal: there, an answer is being read.
    let _logs = match logs::start(&settings.folders.logs, &settings.log) {
        Ok(logs) => logs,
        Err(line) => return fail(&line),
    };
    settings.address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    settings.host = settings.address.ip().to_string();
    let key = uuid::Uuid::new_v4().simple().to_string();
    let prepared = match Prepared::with_key_alone(&settings, key.clone(), WhenLocked::GoWithout).await {
        Ok(prepared) => prepared,
        Err(line) => return fail(&line),
    };
    let client = Client::new(prepared.address(), Some(key));
    let app = prepared.start();
    let engine = app.handle();
    // It is the model that was asked for: this process has loaded it.
    let question = Question { model: None, ..question };
    let asking = async {
        show_loading(&app).await?;
        answer(&client, &question).await
    };
    let outcome = tokio::select! {
        outcome = asking => outcome,
        () = signals.recv() => Err(NoAnswer::Cancelled),
    };
    // Nothing else runs here, so there is nothing to wait for; a signal cannot make it shorter.
    engine.begin_drain(After::Exit, Duration::ZERO);
    app.ended().await;
    exit_code(outcome)
}

/// Wait for the model, with the progress on a terminal's stderr.
async fn show_loading(app: &App) -> Result<(), NoAnswer> {
    if !std::io::stderr().is_terminal() {
        return app.loaded().await.map_err(NoAnswer::Failed);
    }
    let mut stats = app.handle().watch_stats();
    let showing = async {
        while stats.changed().await.is_ok() {
            let fraction = stats.borrow_and_update().load.fraction();
            progress(&format!("\rloading the model: {:3.0} %", fraction * 100.0));
        }
        std::future::pending::<()>().await;
    };
    let loaded = tokio::select! {
        loaded = app.loaded() => loaded,
        () = showing => Ok(()),
    };
    progress(&"\r\x1b[K");
    loaded.map_err(NoAnswer::Failed)
}

/// Ask as a chat, or as plain text where the model cannot chat, and print what comes.
async fn answer(client: &Client, question: &Question) -> Result<(), NoAnswer> {
    match stream(client, "/v1/chat/completions", &chat_body(question)).await {
        Err(ClientError::Refused { code: Some(code), .. }) if code == FaultKind::NoChatTemplate.name() => {
            Ok(stream(client, "/v1/completions", &completion_body(question)).await?)
        }
        other => Ok(other?),
    }
}

fn chat_body(question: &Question) -> Value {
    let mut body = common_body(question);
    body["messages"] = json!([{"role": "user", "content": question.prompt}]);
    body
}

fn completion_body(question: &Question) -> Value {
    let mut body = common_body(question);
    body["prompt"] = json!(question.prompt);
    // A model that cannot chat has no end of turn either.
    body["max_tokens"] = json!(question.max_tokens.unwrap_or(DEFAULT_COMPLETION_TOKENS));
    body
}

fn common_body(question: &Question) -> Value {
    let mut body = json!({"stream": true});
    if let Some(model) = &question.model {
        body["model"] = json!(model);
    }
    if let Some(max_tokens) = question.max_tokens {
        body["max_tokens"] = json!(max_tokens);
    }
    for (name, value) in &question.sampling {
        body[*name] = value.clone();
    }
    body
}

/// Print the text of a stream as it comes.
async fn stream(client: &Client, path: &str, body: &Value) -> Result<(), ClientError> {
    let mut events = client.stream(Method::POST, path, Some(body)).await?;
    let mut printer = AnswerPrinter::new();
    while let Some(frame) = events.next().await? {
        if frame.data == "[DONE]" {
            break;
        }
        let data: Value = serde_json::from_str(&frame.data).unwrap_or_default();
        if data.get("error").is_some() {
            printer.end().await?;
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, &data));
        }
        let choice = &data["choices"][0];
        let text = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
        if !printer.print(text.unwrap_or_default()).await? {
            // Nobody reads any more; dropping the stream ends the answer over there.
            return Ok(());
        }
    }
    Ok(printer.end().await?)
}

fn exit_code(outcome: Result<(), NoAnswer>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(CLEAN),
        Err(NoAnswer::Cancelled) => ExitCode::from(INTERRUPTED),
        Err(NoAnswer::Failed(line)) => fail_soon(&line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_in_requests_by_its_file_without_path_and_ending() {
        for (given, name) in [
            ("/models/SmolLM2.Q4_1.gguf", "SmolLM2.Q4_1"),
            ("SmolLM2.Q4_1.GGUF", "SmolLM2.Q4_1"),
            ("SmolLM2.Q4_1", "SmolLM2.Q4_1"),
        ] {
            assert_eq!(name_in_requests(given), name);
        }
    }
}
