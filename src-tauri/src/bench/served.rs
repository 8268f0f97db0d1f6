//! A server in a process of its own for the measurements that need one: started, asked over HTTP, stopped, started
//! again on the same folder.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Nothing here takes that long unless it hangs.
const HANG_GUARD: Duration = Duration::from_secs(600);
/// What a server says first on stdout.
const LISTENING: &str = "listening on http://";

/// A folder that is removed in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder in `parent`.
    pub(super) fn new(parent: &Path) -> Result<Scratch, String> {
        let path = parent.join(format!("bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it; what is left is seen by its name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server; dropping it kills it.
pub(super) struct Served {
    child: Child,
    client: Client,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a request took, as its client saw it.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    /// From before the connection was opened to the first text.
    pub(super) first_text: Duration,
    /// When pieces of text came.
    pub(super) texts: Vec<Instant>,
    /// Tokens of the prompt, those of it that were reused, and those generated.
    pub(super) n_prompt: usize,
    pub(super) n_cached: usize,
    pub(super) n_generated: usize,
    /// What a chat was answered: thoughts, then what is not a thought.
    pub(super) said: (String, String),
}

impl Served {
    /// Start this very binary on a folder and wait until it is ready.
    pub(super) async fn start(flags: &[String], data: &Path) -> Result<Served, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
        let child = Command::new(program)
            .args(["serve", "--port", "0", "--log", "warn", "--data-dir"])
            .arg(data)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the server does not start: {error}"))?;
        let mut served = Served { child, client: Client::new(([127, 0, 0, 1], 0).into(), None) };
        let stdout = served.child.stdout.take().ok_or("the server has no stdout")?;
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = first.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let address = line.trim_end().strip_prefix(LISTENING).and_then(|text| text.parse().ok());
        let address: SocketAddr = address.ok_or_else(|| format!("the server said `{}`", line.trim_end()))?;
        served.client = Client::new(address, None);
        served.until("the server is ready", async |client| Ok(ask(client, "/health/ready").await?.0)).await?;
        Ok(served)
    }

    /// Drain and wait for the end of the process.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        self.client.post("/admin/stop", &json!({})).await.map_err(|error| error.to_string())?;
        let start = Instant::now();
        while self.child.try_wait().map_err(|error| error.to_string())?.is_none() {
            give_up(start, "the server ends")?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Ask for the continuation of `prompt` as `agent`, greedy, and time it.
    pub(super) async fn ask(&self, agent: &str, prompt: &[u32], n_tokens: usize) -> Result<Timed, String> {
        self.timed("/v1/completions", agent, json!({"prompt": prompt}), n_tokens).await
    }

    /// Ask for the answer to a chat as `agent`, greedy, and time it.
    pub(super) async fn chat(&self, agent: &str, messages: &Value, n_tokens: usize) -> Result<Timed, String> {
        self.timed("/v1/chat/completions", agent, json!({"messages": messages}), n_tokens).await
    }

    async fn timed(
        &self,
        path: &str,
        agent: &str,
        mut body: Value,
        n_tokens: usize,
    ) -> Result<Timed, String> {
        body["max_tokens"] = n_tokens.into();
        body["temperature"] = 0.into();
        body["ignore_eos"] = true.into();
        body["session_id"] = agent.into();
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        let failed = |error: &dyn std::fmt::Display| format!("{agent}: {error}");
        let start = Instant::now();
        let stream = self.client.stream(Method::POST, path, Some(&body)).await;
        let mut events = stream.map_err(|error| failed(&error))?;
        let (mut texts, mut usage, mut said) = (Vec::new(), Value::Null, (String::new(), String::new()));
        while let Some(frame) = events.next().await.map_err(|error| failed(&error))? {
            if frame.data == "[DONE]" {
                break;
            }
            let mut data: Value = serde_json::from_str(&frame.data).map_err(|error| failed(&error))?;
            if let Some(message) = data["error"]["message"].as_str() {
                return Err(failed(&message));
            }
            let choice = &data["choices"][0];
            let words = |text: &Value| text.as_str().unwrap_or_default().to_owned();
            let thought = words(&choice["delta"]["reasoning_content"]);
            let text = words(&choice["text"]) + &words(&choice["delta"]["content"]);
            if !(thought.is_empty() && text.is_empty()) {
                texts.push(Instant::now());
            }
            said.0 += &thought;
            said.1 += &text;
            if data["usage"].is_object() {
                usage = data["usage"].take();
            }
        }
        let n = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let n_cached = n(&usage["prompt_tokens_details"]["cached_tokens"]);
        let counts = (n(&usage["prompt_tokens"]), n_cached, n(&usage["completion_tokens"]));
        match (texts.first(), counts) {
            (Some(first), (Some(n_prompt), Some(n_cached), Some(n_generated))) => {
                Ok(Timed { first_text: *first - start, texts, n_prompt, n_cached, n_generated, said })
            }
            _ => Err(failed(&"the answer has no text or no usage")),
        }
    }

    /// Bytes of the blocks that hold something.
    pub(super) async fn pool_bytes(&self) -> Result<u64, String> {
        let pool = self.status().await?["pool"].take();
        let n = |value: &Value| value.as_u64().unwrap_or(0);
        Ok((n(&pool["blocks"]["held"]) + n(&pool["blocks"]["cached"])) * n(&pool["block_bytes"]))
    }

    /// Bytes that the store has written since midnight.
    pub(super) async fn written_bytes(&self) -> Result<u64, String> {
        let written = self.status().await?["store"]["written_today_bytes"].as_u64();
        written.ok_or_else(|| "the server does not say what it has written".to_owned())
    }

    /// Wait until all that `agent` has is on disk.
    pub(super) async fn until_saved(&self, agent: &str) -> Result<(), String> {
        let path = format!("/v1/agents/{agent}");
        self.until("the agent is saved", async |client| {
            let (found, agent) = ask(client, &path).await?;
            Ok(found && agent["saved_tokens"].as_u64() == agent["tokens"].as_u64())
        })
        .await
    }

    async fn status(&self) -> Result<Value, String> {
        Ok(ask(&self.client, "/admin/status").await?.1)
    }

    async fn until(
        &self,
        what: &str,
        holds: impl AsyncFn(&Client) -> Result<bool, String>,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !holds(&self.client).await? {
            give_up(start, what)?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

async fn ask(client: &Client, path: &str) -> Result<(bool, Value), String> {
    let (status, body) = client.get(path).await.map_err(|error| error.to_string())?;
    Ok((status.is_success(), body))
}

fn give_up(since: Instant, what: &str) -> Result<(), String> {
    if since.elapsed() < HANG_GUARD { Ok(()) } else { Err(format!("never happened: {what}")) }
}
