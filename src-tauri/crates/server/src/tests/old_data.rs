//! A data folder that was written before there were several models, agents of several models and rooms: by the program
//! of 29 November 2026, with the scripted model below. `wanted.json` beside it is what that program then said of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use store::{Store, StoreConfig};

use super::*;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_folder_that_was_written_before_keeps_every_agent_and_each_goes_on_with_what_is_new_only() {
    let checked_in = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data-before-rooms");
    let folder = tempfile::tempdir().unwrap();
    copy(&checked_in, folder.path());
    let config = StoreConfig { free_space_floor: 0, ..StoreConfig::new(folder.path().to_owned(), 64 << 20) };
    let store = Arc::new(Store::open(config).unwrap());
    let model = ScriptedModel {
        script: Script::Says("an answer of some length".to_owned()),
        window: Some(40),
        ..ScriptedModel::default()
    };
    let steering = Steering::free();
    let loader = ScriptedLoader::new(model, steering.clone());
    let rig = Rig::around(steering, Arc::new(loader), |_, engine| engine.store = store);
    rig.ready().await;

    let wanted: Value = serde_json::from_slice(&fs::read(checked_in.join("wanted.json")).unwrap()).unwrap();
    let wanted = wanted.as_array().unwrap();
    let listed = rig.get("/v1/agents").await.json()["data"].as_array().unwrap().clone();
    assert_eq!((listed.len(), wanted.len()), (3, 3));
    for wanted in wanted {
        let name = &wanted["agent"];
        let agent = listed.iter().find(|agent| agent["id"] == *name).unwrap();
        assert_eq!(agent["saved_tokens"], wanted["saved_tokens"], "{name}");
        assert_eq!(agent["pinned"], wanted["pinned"], "{name}");
    }
    for wanted in wanted {
        let name = &wanted["agent"];
        let body = json!({"messages": wanted["messages"], "session_id": name});
        let usage = rig.post("/v1/chat/completions", &body.to_string()).await.json()["usage"].clone();
        assert_eq!(usage["prompt_tokens"], wanted["prompt_tokens"], "{name}");
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], wanted["cached_tokens"], "{name}");
    }
}
