//! Keys with names: made and taken away by command, beside a server that runs.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::json;

use crate::harness::answer::chat;
use crate::harness::server::samovar;
use crate::harness::{SMOLLM2, Samovar, Setup};

fn run(server: &Samovar, arguments: &[&str]) -> Output {
    let port = server.address.port().to_string();
    samovar(server.data()).args(arguments).args(["--port", &port]).output().expect("the binary starts")
}

/// What a command prints that ends well.
fn printed(server: &Samovar, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn keys_made_and_taken_away_by_command_count_at_once_and_the_owners_commands_go_on() {
    let server = Samovar::ready();
    assert_eq!(server.get("/v1/models").status, 200, "nobody has a key");
    let key = printed(&server, &["keys", "add", "laptop", "--limit", "2"]);
    assert!(key.starts_with("sk-"), "{key}");
    assert_eq!(server.get("/v1/models").status, 401);
    let with_key = [("Authorization", &*format!("Bearer {key}"))];
    assert_eq!(server.get_with("/v1/models", &with_key).status, 200);
    assert_eq!(server.get_with("/admin/status", &with_key).status, 403);
    let answer = server.post_with("/v1/chat/completions", &with_key, &chat("Hello", 4));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let refused = server.post_with("/v1/chat/completions", &with_key, &chat("Hello", 4));
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s > 0)));

    let admin = printed(&server, &["keys", "add", "admin", "--scope", "admin", "--scope", "generate"]);
    assert_eq!(server.get_with("/admin/status", &[("x-api-key", &*admin)]).status, 200);
    let list = printed(&server, &["keys", "list"]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["laptop", "admin"]);
    assert!(printed(&server, &["status"]).contains("ready"));

    assert_eq!(printed(&server, &["keys", "rm", "laptop", "admin"]), "removed laptop\nremoved admin");
    assert_eq!(server.get("/v1/models").status, 200, "nobody has a key again");

    for entry in walk(server.data()) {
        let text = String::from_utf8_lossy(&std::fs::read(&entry).unwrap_or_default()).into_owned();
        for secret in [&key, &admin] {
            assert!(!text.contains(&secret[3..]), "a key is in {}", entry.display());
        }
    }
    for name in ["keys.json", "own-key"] {
        let mode = std::fs::metadata(server.data().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn keys_stay_over_a_restart_and_a_name_is_given_once() {
    let setup = Setup::new(SMOLLM2);
    let add = || samovar(setup.data()).args(["keys", "add", "a"]).output().unwrap();
    let first = add();
    let key = String::from_utf8(first.stdout).unwrap().trim().to_owned();
    let second = add();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("there is a key `a` already"));
    let server = setup.ready();
    assert_eq!(server.get("/v1/models").status, 401);
    assert_eq!(server.get_with("/v1/models", &[("x-api-key", &*key)]).status, 200);
    assert_eq!(server.post_with("/admin/stop", &[("x-api-key", &*key)], &json!({})).status, 403);
    printed(&server, &["drain"]);
    assert_eq!(server.get("/health/ready").json()["reason"], "parked");
}

#[test]
fn a_file_of_keys_that_others_may_read_ends_the_start_with_one_line() {
    let setup = Setup::new(SMOLLM2);
    samovar(setup.data()).args(["keys", "add", "a"]).output().unwrap();
    let file = setup.data().join("keys.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let model = crate::harness::model(SMOLLM2);
    let serve = ["serve", "--port", "0", "--model", model.to_str().unwrap()];
    let output = samovar(setup.data()).args(serve).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(line.contains("keys.json") && line.contains("chmod 600"), "{line}");
}
