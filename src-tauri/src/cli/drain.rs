//! `samovar drain`, `resume` and `stop`: what the tray's menu does, for a terminal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError, Events};
use super::exit_codes::{CLEAN, INTERRUPTED};
use super::printing::{fail, progress, say};
use super::{DrainArguments, with_client};

/// How often it is looked whether a stopped server is gone.
const POLL: Duration = Duration::from_millis(20);

/// `samovar drain`: returns when the server is parked.
pub(crate) async fn drain(arguments: DrainArguments) -> ExitCode {
    let timeout = arguments.timeout;
    with_client(arguments.settings, async |client| {
        match drain_and_watch(&client, "/admin/drain", timeout).await {
            Ok(report) => tell("drained and parked", &report),
            Err(error) => fail(&error),
        }
    })
    .await
}

/// `samovar stop`: returns when nobody listens any more.
pub(crate) async fn stop(arguments: DrainArguments) -> ExitCode {
    let timeout = arguments.timeout;
    with_client(arguments.settings, async |client| {
        match drain_and_watch(&client, "/admin/stop?wait=true", timeout).await {
            Ok(report) => {
                while client.connect().await.is_ok() {
                    tokio::time::sleep(POLL).await;
                }
                tell("stopped", &report)
            }
            Err(error) => fail(&error),
        }
    })
    .await
}

/// `samovar resume`.
pub(crate) async fn resume(client: &Client) -> ExitCode {
    match client.post("/admin/resume", &json!({})).await {
        Ok(answer) => say(&answer["status"].as_str().unwrap_or("resumed"), CLEAN),
        Err(error) => fail(&error),
    }
}

/// Post, and show on stderr what is still running until the answer comes.
async fn drain_and_watch(
    client: &Client,
    path: &str,
    timeout: Option<Duration>,
) -> Result<Value, ClientError> {
    let body = timeout.map_or_else(|| json!({}), |timeout| json!({"timeout_s": timeout.as_secs_f64()}));
    // Opened first, so that the drain's first moment is seen too.
    let mut events = client.stream(Method::GET, "/admin/events", None).await?;
    let posted = client.post(path, &body);
    let watched = async {
        show(&mut events).await;
        // The answer is what counts; a stream of events that ends early is no reason to leave.
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = posted => answer,
        never = watched => never,
    };
    clear_progress();
    answer
}

/// The progress of a drain: a line that is written over on a terminal, else a line for each change.
async fn show(events: &mut Events) {
    let is_terminal = std::io::stderr().is_terminal();
    let mut last = None;
    while let Ok(Some(frame)) = events.next().await {
        let status: Value = serde_json::from_str(&frame.data).unwrap_or_default();
        let Some(n_active) = status["drain"]["active"].as_u64() else { continue };
        if is_terminal {
            let left = status["drain"]["deadline_s"].as_f64().unwrap_or(0.0);
            progress(&format!("\r\x1b[Kdraining: {n_active} running, {left:.0} s left"));
        } else if last != Some(n_active) {
            progress(&format!("draining: {n_active} running\n"));
        }
        last = Some(n_active);
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        progress(&"\r\x1b[K");
    }
}

/// One line, and an exit code that says whether something was interrupted.
fn tell(what: &str, answer: &Value) -> ExitCode {
    let report = &answer["report"];
    let n = |name: &str| report[name].as_u64().unwrap_or(0);
    let line = format!(
        "{what}: {} finished, {} interrupted, {} refused, {:.1} s",
        n("drained"),
        n("interrupted"),
        n("refused"),
        report["took_s"].as_f64().unwrap_or(0.0)
    );
    say(&line, if n("interrupted") > 0 { INTERRUPTED } else { CLEAN })
}
