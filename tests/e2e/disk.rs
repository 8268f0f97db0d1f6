//! The disk's troubles cost time and never a request: damage, refusals, bounds, and a second process.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::server::samovar;
use crate::harness::{GEMMA3, SMOLLM2, Samovar, Setup, eventually};
use crate::warmth::{Answer, complete, metric, prose, restarted, stopped};

pub(crate) fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("store/segments")).expect("the store's segments");
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Bytes that all files of the store take on disk.
fn disk_bytes(data: &Path) -> u64 {
    let folders = ["store", "store/segments", "store/agents"].map(|folder| data.join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(Result::unwrap);
    // One that goes while we look takes nothing.
    files
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|m| m.blocks() * 512)
        .sum()
}

#[test]
fn damaged_files_are_a_miss_with_a_reason_and_the_answer_is_the_same() {
    [SMOLLM2, GEMMA3].into_iter().for_each(check_damaged_files);
}

fn check_damaged_files(model: &str) {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 4] = [
        ("flipped", |bytes| bytes.iter_mut().skip(3000).step_by(100_000).for_each(|b| *b ^= 0x10), "corrupt"),
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2), ""),
        ("foreign", |bytes| bytes.iter_mut().for_each(|b| *b = 0xA5), ""),
        // The version in the segment's header.
        ("of another version", |bytes| bytes[8] = 0x7F, ""),
    ];
    let server = Setup::new(model).ready();
    let prompt = prose(20, 300);
    let cold = complete(&server, &prompt, 8);
    let mut setup = stopped(server);
    let whole: Vec<(PathBuf, Vec<u8>)> =
        segments(setup.data()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(!whole.is_empty());
    for (what, damage, reason) in damages {
        for path in segments(setup.data()) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &whole {
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
        let server = setup.ready();
        let again = complete(&server, &prompt, 8);
        assert_eq!(again.text, cold.text, "{what}");
        assert!(again.cached_tokens < again.whole_blocks(), "{what}: {again:?}");
        assert!(metric(&server, "samovar_restore_misses_total") > 0.0, "{what}");
        let record = &server.get("/admin/requests").json()["requests"][0];
        if !reason.is_empty() {
            assert!(record["restore_misses"][reason].as_u64() > Some(0), "{what}: {record}");
            assert!(metric(&server, "samovar_store_quarantined_total") > 0.0, "{what}");
        }
        // What was computed again is there again.
        let server = restarted(server);
        let warm = complete(&server, &prompt, 8);
        assert!(warm.cached_tokens >= warm.whole_blocks(), "{what}: {warm:?}");
        assert_eq!(warm.text, cold.text, "{what}");
        setup = stopped(server);
    }
}

#[test]
fn a_disk_that_refuses_is_said_to_and_saving_goes_on_when_it_takes_bytes_again() {
    [SMOLLM2, GEMMA3].into_iter().for_each(check_a_disk_that_refuses);
}

fn check_a_disk_that_refuses(model: &str) {
    // Segments so small that a few blocks need a new file.
    let server = Setup::new(model).with("--store-max", "64MiB").ready();
    let folder = server.data().join("store/segments");
    let away = server.data().join("segments-away");
    fs::rename(&folder, &away).unwrap();
    // A folder that is not there would be made again.
    fs::write(&folder, b"no folder").unwrap();
    let prompt = prose(21, 700);
    let cold = complete(&server, &prompt, 8);
    let status = eventually("the status says so", || {
        let status = server.get("/admin/status").json()["store"].clone();
        (status["saving"] == "not saved").then_some(status)
    });
    assert!(status["trouble"].is_string(), "{status}");
    assert_eq!(metric(&server, "samovar_store_not_saving"), 1.0);
    assert_eq!(server.get("/health/ready").status, 200);
    // Nothing of that is in anybody's way.
    assert_eq!(complete(&server, &prompt, 8).text, cold.text);

    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    eventually("saving works again", || {
        let status = &server.get("/admin/status").json()["store"];
        (status["saving"] == "saving" && status["queued_bytes"] == 0).then_some(())
    });
    // What the pool still has is saved after all.
    let server = restarted(server);
    let warm = complete(&server, &prompt, 8);
    assert!(warm.cached_tokens >= warm.whole_blocks(), "{warm:?}");
    assert_eq!(warm.text, cold.text);
}

#[test]
fn a_disk_as_full_as_its_floor_is_left_alone_and_requests_are_answered() {
    [SMOLLM2, GEMMA3].into_iter().for_each(check_a_full_disk);
}

fn check_a_full_disk(model: &str) {
    let server = Setup::new(model).with("--store-floor", "1000TiB").ready();
    let prompt = prose(22, 300);
    let cold = complete(&server, &prompt, 8);
    let status = eventually("the status says so", || {
        let status = server.get("/admin/status").json()["store"].clone();
        (status["saving"] == "not saved").then_some(status)
    });
    assert_eq!((&status["trouble"], &status["blocks"]), (&json!("disk_full"), &json!(0)), "{status}");
    assert!(disk_bytes(server.data()) < 64 << 10, "{} bytes", disk_bytes(server.data()));
    let server = stopped(server).with("--store-floor", "0").ready();
    let again = complete(&server, &prompt, 8);
    assert_eq!((again.cached_tokens, &again.text), (0, &cold.text));
    let server = restarted(server);
    assert!(complete(&server, &prompt, 8).cached_tokens > 0);
}

#[test]
fn the_store_never_takes_more_than_its_cap() {
    [SMOLLM2, GEMMA3].into_iter().for_each(check_the_cap);
}

fn check_the_cap(model: &str) {
    const CAP: u64 = 24 << 20;
    let server = Setup::new(model).with("--store-max", "24MiB").with("--store-floor", "0").ready();
    for i in 0..5 {
        complete(&server, &prose(30 + i, 300), 8);
        let taken = disk_bytes(server.data());
        assert!(taken <= CAP, "{taken} bytes after {} prompts", i + 1);
    }
    eventually("everything is on disk", || {
        let status = &server.get("/admin/status").json()["store"];
        (status["queued_bytes"] == 0 && status["saving"] == "saving").then_some(())
    });
    assert!(metric(&server, "samovar_store_evicted_blocks_total") > 0.0);
    assert!(metric(&server, "samovar_store_written_today_bytes") > CAP as f64);
    let status = &server.get("/admin/status").json()["store"];
    assert_eq!(status["max_bytes"], CAP, "{status}");
    assert!(status["bytes"].as_u64() <= Some(CAP), "{status}");
    assert!(disk_bytes(server.data()) <= CAP);
    // The last one is the one that is kept.
    let server = restarted(server);
    let last = complete(&server, &prose(34, 300), 8);
    assert!(last.cached_tokens >= last.whole_blocks(), "{last:?}");
}

#[test]
fn a_store_that_cannot_be_opened_costs_its_warmth_and_no_request() {
    let setup = Setup::new(SMOLLM2);
    // A file where the folder should be.
    fs::write(setup.data().join("store"), b"not a folder").unwrap();
    let server = setup.ready();
    assert_eq!(complete(&server, "Tea is", 4).completion_tokens, 4);
    let status = &server.get("/admin/status").json()["store"];
    assert_eq!((&status["on"], &status["saving"]), (&json!(false), &json!("not saved")), "{status}");
}

#[test]
fn a_second_server_on_the_same_folder_is_told_who_has_it() {
    let server = Samovar::ready();
    let model = crate::harness::model(SMOLLM2);
    let output =
        samovar(server.data()).args(["serve", "--port", "0", "--model"]).arg(model).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another process (pid ") && stderr.contains("store"), "{stderr}");
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn a_store_that_is_off_writes_nothing() {
    let server = Setup::new(SMOLLM2).with("--store", "off").ready();
    let prompt = prose(23, 300);
    complete(&server, &prompt, 4);
    assert_eq!(server.get("/admin/status").json()["store"]["saving"], "off");
    let server = restarted(server);
    assert_eq!(complete(&server, &prompt, 4).cached_tokens, 0);
    assert!(!server.data().join("store").exists());
}

#[test]
fn what_is_on_disk_is_for_its_owner_alone() {
    let server = Samovar::ready();
    complete(&server, &prose(24, 300), 4);
    let setup = stopped(server);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&setup.data().join("store")), 0o700);
    assert_eq!(mode(&setup.data().join("store/segments")), 0o700);
    for path in segments(setup.data()) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// The bytes of the first tokens after a shared start, as manifests and records have them.
fn own_tokens(data: &Path, agent: &str, n_shared: usize) -> Vec<u8> {
    let manifests =
        fs::read_dir(data.join("store/agents")).unwrap().map(|entry| fs::read(entry.unwrap().path()));
    // The fixed part has 112 bytes; then come the name and the tokens, four bytes each.
    let is_named = |bytes: &Vec<u8>| bytes[112..].starts_with(agent.as_bytes());
    let manifest = manifests.map(Result::unwrap).find(is_named).expect("the agent's manifest");
    let start = 112 + agent.len() + 4 * n_shared;
    manifest[start..start + 4 * 32].to_vec()
}

fn is_on_disk(data: &Path, needle: &[u8]) -> bool {
    segments(data).iter().any(|path| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn a_deleted_agent_leaves_no_bytes_and_another_one_with_the_same_start_is_warm() {
    [SMOLLM2, GEMMA3].into_iter().for_each(check_a_deleted_agent);
}

fn check_a_deleted_agent(model: &str) {
    let server = Setup::new(model).ready();
    let ask = |server: &Samovar, agent: &str, salt: usize| {
        let prompt = format!("{} {}", prose(40, 150), prose(salt, 150));
        let body = json!({"prompt": prompt, "max_tokens": 4, "temperature": 0, "ignore_eos": true});
        Answer::of(&server.post_with("/v1/completions", &[("X-Session-ID", agent)], &body))
    };
    let gone = ask(&server, "goes", 41);
    let stays = ask(&server, "stays", 42);
    // Both begin with the same 160 tokens at least.
    assert!(stays.cached_tokens >= 160, "{stays:?}");
    let n_shared = (stays.cached_tokens / 32 * 32 + 32) as usize;
    eventually("both are on disk", || {
        let agents = server.get("/v1/agents").json();
        let saved = |agent: &serde_json::Value| agent["saved_tokens"] == agent["tokens"];
        let agents = agents["agents"].as_array().or_else(|| agents["data"].as_array()).unwrap().clone();
        (agents.len() == 2 && agents.iter().all(saved)).then_some(())
    });
    let [of_gone, of_stays] = ["goes", "stays"].map(|agent| own_tokens(server.data(), agent, n_shared));
    assert!(is_on_disk(server.data(), &of_gone) && is_on_disk(server.data(), &of_stays));

    let deleted = server.delete("/v1/agents/goes");
    assert!((200..300).contains(&deleted.status), "{} {}", deleted.status, deleted.body);
    assert_eq!(server.get("/v1/agents/goes").status, 404);
    eventually("its bytes are gone", || (!is_on_disk(server.data(), &of_gone)).then_some(()));
    assert!(is_on_disk(server.data(), &of_stays));

    let server = restarted(server);
    assert_eq!(server.get("/v1/agents/goes").status, 404);
    let warm = ask(&server, "stays", 42);
    assert!(warm.cached_tokens >= warm.whole_blocks(), "{warm:?}");
    assert_eq!(warm.text, stays.text);
    let again = ask(&server, "goes", 41);
    assert!(again.cached_tokens < n_shared as u64, "{again:?}");
    assert_eq!(again.text, gone.text);
}

/// A completion in the name of an agent.
fn complete_as(server: &Samovar, agent: &str, prompt: &serde_json::Value, max_tokens: usize) {
    let body = json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true});
    let answer = server.post_with("/v1/completions", &[("x-session-id", agent)], &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// What is said to be saved of an agent, and how many tokens it has.
fn saved_of(server: &Samovar, agent: &str) -> (u64, u64) {
    let shown = server.get(&format!("/v1/agents/{agent}")).json();
    (shown["saved_tokens"].as_u64().unwrap(), shown["tokens"].as_u64().unwrap())
}

fn wait_until_saved(server: &Samovar, agent: &str) -> u64 {
    eventually("all of the agent is said to be saved", || {
        let (saved, all) = saved_of(server, agent);
        (saved == all).then_some(all)
    })
}

#[test]
fn a_store_whose_files_were_removed_or_cut_writes_them_again_and_says_what_is_true() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("segments removed", |data| segments(data).iter().for_each(|path| fs::remove_file(path).unwrap())),
        ("segments emptied", |data| segments(data).iter().for_each(|path| fs::write(path, b"").unwrap())),
        ("the folder removed", |data| fs::remove_dir_all(data.join("store")).unwrap()),
    ];
    for (what, harm) in harms {
        let server = Setup::new(SMOLLM2).ready();
        complete_as(&server, "tea", &json!(prose(31, 200)), 4);
        let n_tokens = wait_until_saved(&server, "tea");
        harm(server.data());
        // What another says makes the store look at what it has; what the pool has of the first is written again.
        complete_as(&server, "coffee", &json!(prose(32, 40)), 4);
        wait_until_saved(&server, "coffee");
        eventually("the files are there again", || {
            let folder = fs::read_dir(server.data().join("store/segments")).ok()?;
            let n_bytes: u64 = folder.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
            // Of 23,040 bytes a token.
            (n_bytes > 20_000 * n_tokens).then_some(())
        });
        assert_eq!(wait_until_saved(&server, "tea"), n_tokens, "{what}");
        server.signal("KILL");
        let setup = server.again();
        drop(server);
        let server = setup.ready();
        assert_eq!(saved_of(&server, "tea"), (n_tokens, n_tokens), "{what}");
        let again = complete(&server, &prose(31, 200), 4);
        assert!(again.cached_tokens >= again.whole_blocks(), "{what}: {again:?}");
    }
}

#[test]
fn a_file_of_a_terabyte_of_nothing_in_the_stores_folder_costs_no_conversation() {
    let server = Setup::new(SMOLLM2).ready();
    complete_as(&server, "tea", &json!(prose(33, 200)), 4);
    let n_tokens = wait_until_saved(&server, "tea");
    let setup = stopped(server);
    for name in ["store/film", "store/segments/film"] {
        fs::File::create(setup.data().join(name)).unwrap().set_len(1 << 40).unwrap();
    }
    let server = setup.ready();
    complete_as(&server, "coffee", &json!(prose(34, 200)), 4);
    wait_until_saved(&server, "coffee");
    assert_eq!(saved_of(&server, "tea"), (n_tokens, n_tokens));
    assert_eq!(metric(&server, "samovar_store_evicted_blocks_total"), 0.0);
}

#[test]
fn a_named_request_of_few_tokens_costs_about_what_its_bytes_are_and_comes_back() {
    // A part of a block, and a part after a whole one.
    for n in [4_u64, 36] {
        let server = Setup::new(SMOLLM2).ready();
        let prompt: Vec<u64> = (0..n).map(|i| 504 + 37 * i).collect();
        complete_as(&server, "tea", &json!(prompt), 1);
        assert_eq!(wait_until_saved(&server, "tea"), n);
        let setup = stopped(server);
        // 23,040 bytes a token; segment, manifest, lock and meter take a few file-system blocks.
        let n_bytes = disk_bytes(setup.data());
        assert!(n_bytes < 23_040 * n + 40_000, "{n_bytes} for {n}");
        let server = setup.ready();
        assert_eq!(saved_of(&server, "tea"), (n, n));
        let longer = [prompt, vec![275, 253]].concat();
        let body = json!({"prompt": longer, "max_tokens": 8, "temperature": 0, "ignore_eos": true});
        let warm = Answer::of(&server.post("/v1/completions", &body));
        let cold = Answer::of(&Setup::new(SMOLLM2).ready().post("/v1/completions", &body));
        assert_eq!((cold.cached_tokens, &cold.text), (0, &warm.text));
        assert!(n < 32 || warm.cached_tokens == n, "{warm:?}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_made_keeps_nobody_from_serving() {
    for store in ["on", "off"] {
        let setup = Setup::new(SMOLLM2);
        let file = setup.data().join("file");
        fs::write(&file, b"").unwrap();
        let folder = file.join("data").display().to_string();
        let server = setup.with("--data-dir", &folder).with("--store", store).ready();
        assert!(!complete(&server, "Once upon", 4).text.is_empty());
        let said = server.stderr();
        assert!(said.contains("there is no log file") && said.contains(&folder), "{said}");
    }
}

#[test]
fn what_logs_say_is_for_their_owner_alone() {
    let server = Samovar::ready();
    let logs = server.data().join("logs");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files: Vec<PathBuf> = fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty() && mode(&logs) == 0o700, "{files:?}");
    files.iter().for_each(|path| assert_eq!(mode(path), 0o600, "{}", path.display()));
}
