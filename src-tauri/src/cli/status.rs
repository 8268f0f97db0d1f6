//! `samovar status`: one line for scripts, and an exit code of 0 only when the server is ready.

use std::process::ExitCode;

use engine::State;
use hyper::StatusCode;
use serde_json::Value;

use super::client::{Client, ClientError, refused};
use super::exit_codes::{CLEAN, FAILED};
use super::printing::{fail, one_line, say};

/// Ask and print.
pub(crate) async fn status(client: &Client) -> ExitCode {
    match ask(client).await {
        Ok((line, is_ready)) => say(&line, if is_ready { CLEAN } else { FAILED }),
        Err(error) => fail(&error),
    }
}

async fn ask(client: &Client) -> Result<(String, bool), ClientError> {
    let (ready, readiness) = client.get("/health/ready").await?;
    let (status, body) = client.get("/admin/status").await?;
    if !status.is_success() {
        return Err(refused(status, &body));
    }
    Ok((line(&readiness, &body), ready == StatusCode::OK))
}

/// The state first, so that a script can look at the first word; then what is worth knowing in it.
fn line(readiness: &Value, status: &Value) -> String {
    let state = status["state"].as_str().unwrap_or("unknown");
    // A server that is up and not ready says why: an exhausted pool, an engine that hangs.
    let state = match readiness["reason"].as_str() {
        Some(reason) if state == State::Ready.name() => reason,
        _ => state,
    };
    let mut line = one_line(state);
    let mut add = |text: String| {
        line.push_str("  ");
        line.push_str(&one_line(&text));
    };
    if let Some(model) = status["model"]["id"].as_str() {
        add(format!("model={model}"));
    }
    if let Some(backend) = status["model"]["backend"].as_str() {
        add(format!("backend={backend}"));
    }
    if let Some(refusal) = status["model"]["gpu_refusal"].as_object() {
        let (kind, text) = (refusal["kind"].as_str(), refusal["text"].as_str());
        add(format!("gpu={}", kind.unwrap_or_default()));
        add(format!("gpu_refusal={:?}", text.unwrap_or_default()));
    }
    if let Some(progress) = status["load"]["progress"].as_f64().filter(|_| state == State::Loading.name()) {
        add(format!("progress={:.0}%", progress * 100.0));
    }
    for (name, value) in [("running", &status["running"]), ("waiting", &status["waiting"])] {
        if let Some(n) = value.as_u64() {
            add(format!("{name}={n}"));
        }
    }
    if let Some(utilization) = readiness["pool_utilization"].as_f64() {
        add(format!("pool={utilization:.1}%"));
    }
    // A model without recurrent layers has none.
    for (place, checkpoints) in [("", &status["pool"]["states"]), ("stored_", &status["store"])] {
        let (n, n_bytes) = (checkpoints["checkpoints"].as_u64(), checkpoints["checkpoint_bytes"].as_u64());
        if let (Some(n @ 1..), Some(n_bytes)) = (n, n_bytes) {
            add(format!("{place}checkpoints={n}"));
            add(format!("{place}checkpoint_bytes={n_bytes}"));
        }
    }
    if let Some(cause) = readiness["cause"].as_str() {
        add(format!("cause={cause:?}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn checkpoints_in_memory_and_on_disk_are_told_where_there_are_some() {
        let told = |in_memory: [u64; 2], stored: [u64; 2]| {
            let of = |[n, n_bytes]: [u64; 2]| json!({"checkpoints": n, "checkpoint_bytes": n_bytes});
            let status = json!({"state": "ready", "pool": {"states": of(in_memory)}, "store": of(stored)});
            line(&json!({}), &status)
        };
        assert_eq!(told([0, 0], [0, 0]), "ready");
        assert_eq!(told([3, 96], [0, 0]), "ready  checkpoints=3  checkpoint_bytes=96");
        assert_eq!(
            told([3, 96], [2, 64]),
            "ready  checkpoints=3  checkpoint_bytes=96  stored_checkpoints=2  stored_checkpoint_bytes=64"
        );
        assert_eq!(told([0, 0], [2, 64]), "ready  stored_checkpoints=2  stored_checkpoint_bytes=64");
    }
}
