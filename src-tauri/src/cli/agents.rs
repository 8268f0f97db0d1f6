//! `samovar agents`: the named conversations, for a terminal.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::exit_codes::CLEAN;
use super::printing::{fail, one_line, say};
use super::{AgentArguments, AgentsCommand, RemoveArguments, with_client};

/// Ask the server and print.
pub(crate) async fn agents(command: AgentsCommand) -> ExitCode {
    match command {
        AgentsCommand::List(flags) => with_client(flags, async |client| answer(list(&client).await)).await,
        AgentsCommand::Show(one) => of_one(one, Method::GET, "", details).await,
        AgentsCommand::Pin(one) => of_one(one, Method::POST, "/pin", |agent| line(&agent, now())).await,
        AgentsCommand::Unpin(one) => of_one(one, Method::POST, "/unpin", |agent| line(&agent, now())).await,
        AgentsCommand::Evict(one) => of_one(one, Method::POST, "/evict", |agent| line(&agent, now())).await,
        AgentsCommand::Rm(arguments) => {
            let RemoveArguments { names, all, model, settings } = arguments;
            let names = (!all).then_some(names);
            with_client(settings, async |client| answer(remove(&client, names, model.as_deref()).await)).await
        }
    }
}

/// One request about one agent, and what to print of its answer.
async fn of_one(one: AgentArguments, method: Method, verb: &str, show: fn(Value) -> String) -> ExitCode {
    let path = format!("{}{verb}{}", path_of(&one.name), query_of(one.model.as_deref()));
    let body = (method == Method::POST).then(|| json!({}));
    with_client(one.settings, async |client| answer(client.ask(method, &path, body.as_ref()).await.map(show)))
        .await
}

fn answer(text: Result<String, ClientError>) -> ExitCode {
    match text {
        Ok(text) if text.is_empty() => ExitCode::from(CLEAN),
        Ok(text) => say(&text, CLEAN),
        Err(error) => fail(&error),
    }
}

async fn list(client: &Client) -> Result<String, ClientError> {
    let now = now();
    let lines: Vec<String> = all(client).await?.iter().map(|agent| line(agent, now)).collect();
    Ok(lines.join("\n"))
}

/// Remove these, or all there are; the first that cannot be removed ends it.
async fn remove(
    client: &Client,
    names: Option<Vec<String>>,
    model: Option<&str>,
) -> Result<String, ClientError> {
    let names = match names {
        Some(names) => names,
        None => {
            all(client).await?.iter().filter_map(|agent| agent["id"].as_str().map(str::to_owned)).collect()
        }
    };
    let mut done = Vec::new();
    for name in names {
        client.ask(Method::DELETE, &format!("{}{}", path_of(&name), query_of(model)), None).await?;
        done.push(format!("removed {}", one_line(&name)));
    }
    Ok(done.join("\n"))
}

async fn all(client: &Client) -> Result<Vec<Value>, ClientError> {
    let mut answer = client.ask(Method::GET, "/v1/agents", None).await?;
    Ok(match answer["data"].take() {
        Value::Array(agents) => agents,
        _ => Vec::new(),
    })
}

/// What a name is in a path: whatever somebody types is one segment of it, and the server says what is wrong.
fn path_of(name: &str) -> String {
    format!("/v1/agents/{}", encoded(name))
}

/// The query that means one of an agent's models, or all of them.
fn query_of(model: Option<&str>) -> String {
    model.map_or_else(String::new, |model| format!("?model={}", encoded(model)))
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The name first, so that a script can look at the first word.
fn line(agent: &Value, now: u64) -> String {
    let n = |key: &str| agent[key].as_u64().unwrap_or(0);
    let text = |key: &str| one_line(agent[key].as_str().unwrap_or("?"));
    let ago = now.saturating_sub(n("last_used"));
    let pinned = if agent["pinned"] == true { "  pinned" } else { "" };
    let models: Vec<String> = models_of(agent).iter().map(model_and_tokens).collect();
    let models = if models.len() > 1 { format!("  models={}", models.join(",")) } else { String::new() };
    format!(
        "{}  {}  tokens={}  saved={}  used={}{pinned}{models}",
        text("id"),
        text("tier"),
        n("tokens"),
        n("saved_tokens"),
        since(ago),
    )
}

fn models_of(agent: &Value) -> &[Value] {
    agent["models"].as_array().map_or(&[], Vec::as_slice)
}

/// A model's name, or the beginning of its fingerprint where nobody knows its name, and how long the conversation is.
fn model_and_tokens(of: &Value) -> String {
    let fingerprint = || of["fingerprint"].as_str().unwrap_or("?").chars().take(12).collect();
    let name = of["model"].as_str().map_or_else(fingerprint, str::to_owned);
    format!("{}:{}", one_line(&name), of["tokens"].as_u64().unwrap_or(0))
}

/// Every field that the server tells, one a line, and then those of each model.
fn details(agent: Value) -> String {
    let mut lines = fields(&agent);
    for of in models_of(&agent) {
        lines.push(String::new());
        lines.extend(fields(of));
    }
    lines.join("\n")
}

fn fields(of: &Value) -> Vec<String> {
    let fields = of.as_object().into_iter().flatten();
    let told = fields.filter(|(key, value)| *key != "object" && *key != "models" && !value.is_null());
    told.map(|(key, value)| match value {
        Value::String(text) => one_line(&format!("{key:<16}{text}")),
        other => one_line(&format!("{key:<16}{other}")),
    })
    .collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A length of time in its largest whole unit.
fn since(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_name_first_and_the_time_since_the_last_use() {
        let agent = json!({
            "object": "agent", "id": "research", "tier": "stored", "pinned": true,
            "tokens": 100, "saved_tokens": 96, "last_used": 1_000,
        });
        assert_eq!(line(&agent, 1_120), "research  stored  tokens=100  saved=96  used=2m  pinned");
        assert_eq!(since(59), "59s");
        assert_eq!(since(7_200), "2h");
        assert_eq!(since(200_000), "2d");
        assert_eq!(details(agent).lines().next(), Some("id              research"));
    }

    #[test]
    fn an_agent_of_several_models_names_them_all_in_its_line_and_one_by_one_in_its_details() {
        let model = |model: Value, tokens: u64| json!({"model": model, "fingerprint": "ab".repeat(32), "tokens": tokens});
        let agent = json!({
            "object": "agent", "id": "research", "tier": "stored", "pinned": false, "tokens": 140,
            "saved_tokens": 96, "last_used": 1_000, "models": [model(json!("Tiny"), 100), model(Value::Null, 40)],
        });
        let want = "research  stored  tokens=140  saved=96  used=2m  models=Tiny:100,abababababab:40";
        assert_eq!(line(&agent, 1_120), want);
        let details = details(agent);
        let tokens: Vec<&str> = details.lines().filter(|line| line.starts_with("tokens ")).collect();
        assert_eq!(tokens, ["tokens          140", "tokens          100", "tokens          40"], "{details}");
        assert!(!details.contains("null"), "{details}");
    }

    #[test]
    fn whatever_is_typed_is_one_segment_of_a_path() {
        assert_eq!(path_of("a.b_c-9"), "/v1/agents/a.b_c-9");
        assert_eq!(path_of("../a b?ü"), "/v1/agents/..%2Fa%20b%3F%C3%BC");
        assert_eq!(query_of(Some("a/b&c=d")), "?model=a%2Fb%26c%3Dd");
    }
}
