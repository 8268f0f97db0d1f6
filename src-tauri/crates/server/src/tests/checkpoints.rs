//! What is told of checkpoints, the kept states of recurrent layers: of a request, of memory, of the disk, and since the
//! start.

use engine::testing::{ScriptedLoader, ScriptedModel};
use serde_json::json;

use super::*;

/// Blocks of a state, and tokens of a block.
const N_PIECES: u64 = 3;
const BLOCK: u64 = 16;

async fn recurrent(n_blocks: usize) -> Rig {
    let script = Script::Says(" ok".to_owned());
    let model = ScriptedModel { script, n_blocks, ..ScriptedModel::recurrent() };
    let steering = Steering::free();
    let rig = Rig::around(steering.clone(), Arc::new(ScriptedLoader::new(model, steering)), |_, _| {});
    rig.ready().await;
    rig
}

/// What becomes of a prompt, of which every letter is a token: what its answer's head and its record say.
async fn complete(rig: &Rig, prompt: &str) -> (String, Value) {
    let answer = rig.post("/v1/completions", &json!({"prompt": prompt, "max_tokens": 2}).to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    let id = answer.header("x-request-id");
    (answer.header("x-samovar-cache").to_owned(), rig.get(&format!("/admin/requests/{id}")).await.json())
}

fn number(of: &Value, pointer: &str) -> u64 {
    of.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} of {of}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_told_at_which_checkpoint_it_began_and_what_an_exact_one_would_have_saved() {
    let rig = recurrent(256).await;
    let story = "once upon a time there was a samovar that never let the tea go cold, and ".repeat(2);
    let (head, record) = complete(&rig, &story).await;
    assert_eq!(record["checkpoint"], json!({"tokens": 0, "missed_tokens": 0, "skipped": 0}));
    let n_prompt = number(&record, "/prompt_tokens");
    assert_eq!(head, format!("reused=0; prefilled={n_prompt}; restored=0; without_state=0"));

    // It goes on: a state was kept where it ended.
    let (head, record) = complete(&rig, &format!("{story} ok and then it boiled")).await;
    let reused = number(&record, "/reused_tokens");
    assert_eq!(record["checkpoint"], json!({"tokens": reused, "missed_tokens": 0, "skipped": 0}));
    assert!(reused > n_prompt - BLOCK, "{record}");
    assert!(head.ends_with("; without_state=0"), "{head}");

    // Another end, in the middle of what was there: its keys and values are, and no state is.
    let (head, record) = complete(&rig, &format!("{}another end of the story", &story[..70])).await;
    let missed = number(&record, "/checkpoint/missed_tokens");
    let began = number(&record, "/checkpoint/tokens");
    assert_eq!((began, began + missed), (number(&record, "/reused_tokens"), 64), "{record}");
    assert!(missed > 0, "{record}");
    assert_eq!(
        (&record["difference"]["why"], number(&record, "/difference/missed_tokens")),
        (&json!("no_checkpoint"), missed)
    );
    assert!(head.ends_with(&format!("; without_state={missed}")), "{head}");

    let status = rig.get("/admin/status").await.json();
    assert_eq!(number(&status, "/totals/tokens_without_state"), missed);
    let line = format!("samovar_tokens_without_state_total {missed}");
    let metrics = rig.get("/metrics").await.text;
    assert!(metrics.lines().any(|got| got == line), "{line}\n{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_running_sequences_and_kept_ones_are_shown_as_a_part_of_the_pool() {
    let rig = recurrent(256).await;
    complete(&rig, &"tea ".repeat(30)).await;
    rig.steering.hold_steps();
    let router = rig.router.clone();
    let running = tokio::spawn(async move {
        router
            .oneshot(post("/v1/completions", r#"{"prompt":"coffee","max_tokens":2}"#))
            .await
            .unwrap()
            .status()
    });
    let mut stats = rig.engine.watch_stats();
    let pool = stats.wait_for(|stats| stats.pool.live_states > 0).await.unwrap().pool;
    let status = rig.get("/admin/status").await.json();
    let metrics = rig.get("/metrics").await.text;
    rig.steering.free_steps();
    assert_eq!(running.await.unwrap(), OK);

    let states = &status["pool"]["states"];
    let (n_checkpoints, block_bytes) = (number(states, "/checkpoints"), number(&status, "/pool/block_bytes"));
    assert!(n_checkpoints > 0 && n_checkpoints == pool.checkpoints as u64, "{states}");
    assert_eq!(
        *states,
        json!({
            "live_blocks": N_PIECES,
            "live_bytes": N_PIECES * block_bytes,
            "checkpoints": n_checkpoints,
            "checkpoint_blocks": N_PIECES * n_checkpoints,
            "checkpoint_bytes": N_PIECES * n_checkpoints * block_bytes,
        })
    );
    for line in [
        format!("samovar_pool_state_blocks{{kind=\"live\"}} {N_PIECES}"),
        format!("samovar_pool_state_blocks{{kind=\"checkpoint\"}} {}", N_PIECES * n_checkpoints),
        format!("samovar_pool_checkpoints {n_checkpoints}"),
        "samovar_store_checkpoints 0".to_owned(),
        "samovar_store_checkpoint_bytes 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|got| got == line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_without_room_for_a_checkpoint_are_counted_for_the_request_and_since_the_start() {
    let rig = recurrent(16).await;
    // Where the system's message ends, where the question does, and where the answer begins.
    let says = |role: &str| json!({"role": role, "content": format!("{role}: {}", "tea ".repeat(10))});
    let body = json!({"messages": [says("system"), says("user")], "max_tokens": 2});
    let answer = rig.post("/v1/chat/completions", &body.to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    let record = rig.get(&format!("/admin/requests/{}", answer.header("x-request-id"))).await.json();
    let skipped = number(&record, "/checkpoint/skipped");
    assert!(skipped > 0, "{record}");
    rig.engine.watch_stats().wait_for(|stats| stats.totals.checkpoints_skipped >= skipped).await.unwrap();
    let status = rig.get("/admin/status").await.json();
    assert_eq!(number(&status, "/totals/checkpoints_skipped"), skipped);
    let line = format!("samovar_checkpoints_skipped_total {skipped}");
    let metrics = rig.get("/metrics").await.text;
    assert!(metrics.lines().any(|got| got == line), "{line}\n{metrics}");
}

#[tokio::test]
async fn of_a_model_without_recurrent_layers_nothing_is_said_of_checkpoints() {
    let rig = Rig::saying(" ok").await;
    let (head, record) = complete(&rig, "tea").await;
    assert_eq!((head.as_str(), record.get("checkpoint")), ("reused=0; prefilled=3; restored=0", None));
    let states = rig.get("/admin/status").await.json()["pool"]["states"].clone();
    assert!(states.as_object().unwrap().values().all(|number| number == 0), "{states}");
}
