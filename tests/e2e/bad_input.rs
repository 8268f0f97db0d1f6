//! What cannot work is one clear line on stderr and exit code 1, with nothing left behind.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use crate::harness::server::samovar;
use crate::harness::tiny_gguf::TinyGguf;
use crate::harness::{SMOLLM2, eventually, model};

/// As [`check_listening`], before anybody was told an address.
fn check(data: &Path, arguments: &[&str], wanted: &[&str]) {
    let stdout = check_listening(data, arguments, wanted);
    assert_eq!(stdout, "", "{arguments:?}");
}

/// Asserts that `samovar serve` ends with code 1, says one line on stderr with all of `wanted` in it, and that
/// nobody listens any more where it said it would; what it said on stdout.
fn check_listening(data: &Path, arguments: &[&str], wanted: &[&str]) -> String {
    let mut command = samovar(data);
    command.arg("serve").args(arguments);
    if !arguments.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("it ends", || child.try_wait().expect("a child"));
    }));
    if ended.is_err() {
        let _ = child.kill();
        panic!("it still runs with {arguments:?}");
    }
    let output = child.wait_with_output().expect("its output");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let stdout = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "not one line:\n{stderr}");
    for part in wanted {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
    if let Some(address) = stdout.trim().strip_prefix("listening on http://") {
        assert!(std::net::TcpStream::connect(address).is_err(), "somebody listens on {address}");
    }
    stdout
}

/// A GGUF header with one key, `general.architecture`, and no tensors.
fn tiny_gguf(architecture: &str) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    let key = "general.architecture";
    bytes.extend((key.len() as u64).to_le_bytes());
    bytes.extend(key.as_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend((architecture.len() as u64).to_le_bytes());
    bytes.extend(architecture.as_bytes());
    bytes
}

#[test]
fn a_truncated_gguf_is_one_line() {
    let data = tempfile::tempdir().unwrap();
    let whole = std::fs::read(model(SMOLLM2)).unwrap();
    // Within the metadata, within the tensor table's data, and one byte short.
    for length in [100, whole.len() / 2, whole.len() - 1] {
        let path = data.path().join("cut.gguf");
        std::fs::write(&path, &whole[..length]).unwrap();
        check(data.path(), &["--model", path.to_str().unwrap()], &["cut.gguf", "damaged"]);
    }
}

#[test]
fn a_gguf_of_an_unknown_architecture_is_one_line() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("odd.gguf");
    std::fs::write(&path, tiny_gguf("nonesuch")).unwrap();
    check(data.path(), &["--model", path.to_str().unwrap()], &["odd.gguf", "nonesuch", "not supported"]);
}

#[test]
fn a_gguf_with_an_unknown_vocabulary_type_or_key_is_one_line() {
    let data = tempfile::tempdir().unwrap();
    let tiny = TinyGguf::llama;
    for (file, wanted) in [
        (tiny().str("tokenizer.ggml.model", "nonesuch"), "\"nonesuch\""),
        (tiny().number("llama.nonesuch", 7), "`llama.nonesuch`"),
        (tiny().tensor("output.weight", &[64, 32], 200, vec![0; 4096]), "type 200"),
        (tiny().noise("blk.0.ffn_up.weight", &[64, 95]), "blk.0.ffn_up.weight"),
    ] {
        let path = file.write(&data.path().join("odd.gguf"));
        check(data.path(), &["--model", path.to_str().unwrap()], &["odd.gguf", wanted]);
    }
}

#[test]
fn a_file_that_is_no_gguf_is_one_line() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("notes.gguf");
    std::fs::write(&path, "Dear diary").unwrap();
    check(data.path(), &["--model", path.to_str().unwrap()], &["notes.gguf"]);
}

#[test]
fn a_missing_model_is_one_line_that_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    check(data.path(), &[], &["no model", "make models", "--model"]);
    check(data.path(), &["--model", "no-such-model"], &["no-such-model", "models"]);
}

#[test]
fn a_port_in_use_is_one_line_that_names_it() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let path = model(SMOLLM2);
    check(data.path(), &["--model", path.to_str().unwrap(), "--port", &port], &[&port, "in use"]);
}

#[test]
fn an_unreadable_settings_file_is_one_line() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("settings.toml");
    for (text, wanted) in [
        (&b"port = "[..], "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b"colour = 'red'", "unknown key `colour`"),
        (b"kv_pool = 'lots'", "`kv_pool`"),
    ] {
        std::fs::write(&file, text).unwrap();
        check(data.path(), &[], &["settings.toml", wanted]);
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    check(data.path(), &[], &["settings.toml", "cannot be read"]);
}

#[test]
fn a_pool_too_small_for_the_model_is_one_line() {
    let data = tempfile::tempdir().unwrap();
    let path = model(SMOLLM2);
    let arguments = ["--model", path.to_str().unwrap(), "--kv-pool", "1KiB"];
    // How much memory there is, is known when the model comes in.
    check_listening(data.path(), &arguments, &[SMOLLM2, "pool", "1024"]);
}

#[test]
fn an_open_address_without_a_key_is_refused() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("settings.toml"), "host = '0.0.0.0'").unwrap();
    check(data.path(), &[], &["host", "0.0.0.0", "key"]);
}
