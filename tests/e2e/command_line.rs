//! The commands, as a user or a script calls them.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::answer::endless_chat;
use crate::harness::server::{samovar, samovar_in};
use crate::harness::{SMOLLM2, Samovar, eventually, model};

/// In words that SmolLM2 understands without a system prompt.
const CAPITAL: &str = "Name the capital of France.";

fn run(server: &Samovar, arguments: &[&str]) -> Output {
    let port = server.address.port().to_string();
    samovar(server.data()).args(arguments).args(["--port", &port]).output().expect("the binary starts")
}

/// A port that was free a moment ago, and that the system gives to nobody for a while.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[cfg(not(feature = "desktop"))]
#[test]
fn without_a_command_a_build_without_the_desktop_says_so() {
    let data = tempfile::tempdir().unwrap();
    let output = samovar(data.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("samovar serve"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
}

#[cfg(all(feature = "desktop", target_os = "linux"))]
#[test]
fn without_a_screen_the_desktop_app_names_the_server() {
    let data = tempfile::tempdir().unwrap();
    let output = samovar(data.path()).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("samovar serve"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn nonsense_on_the_command_line_is_exit_code_2() {
    let data = tempfile::tempdir().unwrap();
    for arguments in [
        &["frobnicate"][..],
        &["serve", "--no-such-flag"],
        &["serve", "--port", "many"],
        &["serve", "--kv-dtype", "q5"],
        &["serve", "--precision", "exact"],
        &["run"],
    ] {
        let output = samovar(data.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_gpu_that_is_not_there_is_refused_before_anything_listens() {
    let data = tempfile::tempdir().unwrap();
    let model = model(SMOLLM2);
    let serve = ["serve", "--port", "0", "--device", "metal", "--model", model.to_str().unwrap()];
    let output = samovar(data.path()).args(serve).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("device: this machine or this build has no Metal"));
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn config_tells_each_value_and_where_it_came_from() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("settings.toml");
    std::fs::write(&file, "port = 1001\nmax_batch = 3\nqueue_timeout = '7s'\n").unwrap();
    let output = samovar(data.path())
        .args(["config", "--port", "1003"])
        .env("SAMOVAR_MAX_BATCH", "4")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows: Vec<Vec<String>> = text(&output.stdout)
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    for want in [
        ["port", "1003", "flag"],
        ["max_batch", "4", "SAMOVAR_MAX_BATCH"],
        ["queue_timeout", "7s", file.to_str().unwrap()],
        ["drain_timeout", "30", "default"],
        ["data_dir", data.path().to_str().unwrap(), "SAMOVAR_DATA_DIR"],
    ] {
        assert!(rows.iter().any(|row| row == &want), "{want:?} is not in {rows:#?}");
    }
}

#[test]
fn status_is_one_line_and_exit_code_0_only_when_ready() {
    let server = Samovar::ready();
    let ready = run(&server, &["status"]);
    assert_eq!(ready.status.code(), Some(0), "{}", text(&ready.stderr));
    assert_eq!(text(&ready.stdout).lines().count(), 1);
    assert!(text(&ready.stdout).starts_with("ready"), "{}", text(&ready.stdout));
    // Where there is no GPU nobody complains of none.
    assert!(text(&ready.stdout).contains("  backend=cpu  running="), "{}", text(&ready.stdout));
    let model = server.get("/admin/status").json()["model"].clone();
    assert_eq!((&model["backend"], &model["gpu_refusal"]), (&json!("cpu"), &Value::Null));

    assert_eq!(server.post("/admin/drain", &json!({})).status, 200);
    let parked = run(&server, &["status"]);
    assert_eq!(parked.status.code(), Some(1));
    assert!(text(&parked.stdout).starts_with("parked"), "{}", text(&parked.stdout));
}

#[test]
fn without_a_server_the_client_commands_say_so() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    for command in ["status", "drain", "resume", "stop"] {
        let output = samovar(data.path()).args([command, "--port", &port]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("no server") && stderr.contains(&port), "{stderr}");
    }
}

#[test]
fn drain_parks_resume_undoes_it_and_stop_ends_the_process() {
    let mut server = Samovar::ready();
    let drained = run(&server, &["drain"]);
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained.stderr));
    assert_eq!(server.get("/health/ready").json()["reason"], "parked");

    let resumed = run(&server, &["resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    server.wait_until_ready();

    let stopped = run(&server, &["stop"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn a_drain_that_interrupts_something_exits_with_3() {
    let server = Samovar::ready();
    server.hold("writing");
    let mut stream = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 6000));
    stream.wait_for_text();
    server.wait_until_held("writing");
    let drained = run(&server, &["drain", "--timeout", "0"]);
    assert_eq!(drained.status.code(), Some(3), "{}", text(&drained.stderr));
    assert!(stream.finish().error.is_some());
}

#[test]
fn a_stop_that_interrupts_something_exits_with_3_as_the_server_does() {
    let mut server = Samovar::ready();
    let mut stream = server.stream("/v1/chat/completions", &endless_chat("Tell me a story.", 6000));
    stream.wait_for_text();
    let stopped = run(&server, &["stop", "--timeout", "0"]);
    assert_eq!(stopped.status.code(), Some(3), "{}", text(&stopped.stderr));
    assert!(text(&stopped.stdout).contains("1 interrupted"), "{}", text(&stopped.stdout));
    assert!(stream.finish().error.is_some());
    assert_eq!(server.wait_for_exit(), 3);
}

#[test]
fn run_asks_the_server_that_is_there() {
    let server = Samovar::ready();
    let output = run(&server, &["run", "--temperature", "0", CAPITAL]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Paris"), "{}", text(&output.stdout));
    let requests = server.get("/admin/requests");
    assert!(requests.body.contains("prefill"), "the server has not seen it: {}", requests.body);
}

#[test]
fn run_hosts_the_engine_itself_when_no_server_answers() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let path = model(SMOLLM2);
    let output = samovar(data.path())
        .args(["run", path.to_str().unwrap(), CAPITAL])
        .args(["--port", &port, "--temperature", "0", "--max-tokens", "32", "--kv-pool", "128MiB"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Paris"), "{}", text(&output.stdout));
    assert!(!text(&output.stdout).contains("listening"), "{}", text(&output.stdout));
}

/// Starts `samovar run` with a question whose answer is long, and presses Ctrl-C once the answer has begun.
fn interrupt_run(data: &Path, arguments: &[&str]) -> Option<i32> {
    let mut child = samovar(data)
        .args(["run", "--temperature", "0", "--max-tokens", "4000"])
        .args(["Tell me a long story about a samovar."])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("the answer begins");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    child.wait_with_output().unwrap().status.code()
}

#[test]
fn ctrl_c_ends_a_run_that_hosts_the_engine_itself() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let path = model(SMOLLM2);
    let arguments = ["--port", &port, "--kv-pool", "128MiB", "--model", path.to_str().unwrap()];
    assert_eq!(interrupt_run(data.path(), &arguments), Some(3));
}

#[test]
fn ctrl_c_ends_the_answer_of_the_server_too() {
    let server = Samovar::ready();
    let port = server.address.port().to_string();
    assert_eq!(interrupt_run(server.data(), &["--port", &port]), Some(3));
    eventually("nothing runs", || (server.get("/admin/status").json()["running"] == 0).then_some(()));
    assert_eq!(server.get("/admin/status").json()["totals"]["cancelled"], 1);
}

#[test]
fn run_reads_the_prompt_from_standard_input() {
    let server = Samovar::ready();
    let port = server.address.port().to_string();
    let mut child = samovar(server.data())
        .args(["run", "-", "--temperature", "0", "--port", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(CAPITAL.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Paris"), "{}", text(&output.stdout));
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_is_an_error_and_a_reader_that_left_is_none() {
    let server = Samovar::ready();
    let port = server.address.port().to_string();
    for arguments in [
        &["config"][..],
        &["status"],
        &["--help"],
        &["--version"],
        &["help", "serve"],
        &["resume"],
        &["run", "--max-tokens", "4", CAPITAL],
    ] {
        let command = |stdout: Stdio| {
            let mut command = samovar(server.data());
            command.env("SAMOVAR_PORT", &port).args(arguments).stdout(stdout).stderr(Stdio::piped());
            command.spawn().unwrap().wait_with_output().unwrap()
        };
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command(full.into());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("samovar: ") && stderr.lines().count() == 1, "{arguments:?}: {stderr}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(writer.into());
        // There is nothing to resume.
        let wanted = if arguments == ["resume"] { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(wanted), "{arguments:?}: {}", text(&output.stderr));
    }
}

/// A server that answers whatever it is asked with a stream in which there are things that terminals obey.
fn hostile_server() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut request = [0; 4096];
            // A look whether somebody listens says nothing.
            if !client.read(&mut request).is_ok_and(|n| n > 0) {
                continue;
            }
            let piece = json!({"choices": [{"delta": {"content": "a\u{1b}]0;title\u{7}b\u{9b}31mc\rd\u{202e}e\n\tf"}}]});
            let body = format!("data: {piece}\n\ndata: [DONE]\n\n");
            let _ = write!(client, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

#[test]
fn a_terminal_gets_nothing_from_a_model_that_it_would_obey_and_a_pipe_gets_the_bytes() {
    let data = tempfile::tempdir().unwrap();
    let port = hostile_server().port().to_string();
    let asked = ["run", "--port", &port, "hi"];
    let piped = samovar(data.path()).args(asked).output().unwrap();
    assert_eq!(text(&piped.stdout), "a\u{1b}]0;title\u{7}b\u{9b}31mc\rd\u{202e}e\n\tf\n");

    let in_a_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let shown = samovar_in(&["python3", "-c", in_a_terminal], data.path()).args(asked).output().unwrap();
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let shown = text(&shown.stdout).replace("\r\n", "\n");
    assert_eq!(shown, "a\\u{1b}]0;title\\u{7}b\\u{9b}31mcd\\u{202e}e\n\tf\n");
}
