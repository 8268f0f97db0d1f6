//! Several models behind one API: each is found by its names, and what becomes of one is no matter of the others.

use std::time::Duration;

use engine::ModelState;
use engine::testing::Outcome as StepOutcome;
use tokio::task::spawn_blocking;

use super::*;

const CHAT: &str = "/v1/chat/completions";

fn model(name: &'static str, says: &str) -> ScriptedModel {
    let script = Script::Says(says.to_owned());
    ScriptedModel { name, script, fingerprint: [name.len() as u8; 32], ..ScriptedModel::default() }
}

/// A rig with the default model `first`, which the settings also call `gpt-*`, and with `second` under a steering of its
/// own.
async fn two() -> (Rig, Steering) {
    let (steering, of_second) = (Steering::free(), Steering::free());
    let loader = ScriptedLoader::new(model("first", " one"), steering.clone());
    let loader = loader.and("second", model("second", " two"), of_second.clone());
    let rig = Rig::around(steering, Arc::new(loader), |server, _| {
        server.model_patterns = vec!["gpt-*".into(), "second".into()];
    });
    rig.ready().await;
    rig.engine.load_model("second".into()).await.unwrap();
    second_becomes(&rig, "ready").await;
    (rig, of_second)
}

async fn second_becomes(rig: &Rig, state: &str) {
    let is_so = |stats: &engine::Stats| {
        let second = stats.models.iter().find(|stats| &*stats.name.0 == "second");
        second.map_or(ModelState::Absent.name(), |stats| stats.state.name()) == state
    };
    rig.engine.watch_stats().wait_for(is_so).await.unwrap();
}

async fn ask(rig: &Rig, model: &str) -> Answer {
    let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    rig.post(CHAT, &body.to_string()).await
}

#[tokio::test]
async fn each_model_answers_to_its_own_names_and_the_default_to_the_settings_too() {
    let (rig, _) = two().await;
    for (name, id, says) in [
        ("", "first", " one"),
        ("first", "first", " one"),
        ("first.gguf", "first", " one"),
        ("gpt-5", "first", " one"),
        // What a model is called itself goes before what the settings call another one.
        ("second", "second", " two"),
        ("second.gguf", "second", " two"),
    ] {
        let answer = ask(&rig, name).await.json();
        assert_eq!(answer["model"], id, "{name}");
        assert_eq!(answer["choices"][0]["message"]["content"], says, "{name}");
    }
    assert_eq!(ask(&rig, "third").await.error().0, 404);
    let listed = rig.get("/v1/models").await.json();
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["first", "second"]);
    assert_eq!(rig.get("/v1/models/second.gguf").await.json()["id"], "second");
    assert_eq!(rig.get("/v1/models/gpt-4o").await.json()["id"], "first");
    assert_eq!(rig.get("/v1/models/third").await.status, 404);
}

#[tokio::test]
async fn a_model_that_fails_or_leaves_takes_no_other_with_it() {
    let (rig, of_second) = two().await;
    of_second.hold_loads();
    of_second.hold_steps();
    let steering = of_second.clone();
    let panics = spawn_blocking(move || {
        steering.held_step();
        steering.release(StepOutcome::Panic);
    });
    assert_eq!(ask(&rig, "second").await.error().0, 500);
    panics.await.unwrap();
    assert_eq!(ask(&rig, "second").await.error().0, 503);
    assert_eq!(ask(&rig, "first").await.status, OK);
    of_second.free_steps();
    of_second.release_load(Ok(()));
    second_becomes(&rig, "ready").await;
    assert_eq!(ask(&rig, "second").await.status, OK);

    rig.engine.leave_model("second".into(), Duration::ZERO).await.unwrap();
    // The settings have that name for the default model, and nobody else is called so any more.
    assert_eq!(ask(&rig, "second").await.json()["model"], "first");
    assert_eq!(ask(&rig, "second.gguf").await.error().1, "model_not_found");
    assert_eq!(rig.get("/v1/models").await.json()["data"].as_array().unwrap().len(), 1);
}
