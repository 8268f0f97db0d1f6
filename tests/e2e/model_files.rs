//! Model files as `samovar models check` describes them, models in several files, and files that are larger than memory.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::server::samovar;
use crate::harness::tiny_gguf::TinyGguf;
use crate::harness::{GEMMA3, MINILM, SMOLLM2, Samovar, Setup, model};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn check(data: &Path, file: &Path, more: &[&str]) -> Output {
    let file = file.to_str().expect("a path that is text");
    samovar(data).args(["models", "check", file]).args(more).output().expect("the binary starts")
}

/// What is said of a file as JSON, with whether the exit code says that it runs.
fn described(data: &Path, file: &Path, more: &[&str]) -> (Value, bool) {
    let output = check(data, file, &[more, &["--json"]].concat());
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)) && output.stderr.is_empty(), "{code:?}: {}", text(&output.stderr));
    (serde_json::from_slice(&output.stdout).expect("JSON"), code == Some(0))
}

#[test]
fn a_file_that_runs_is_described_with_what_it_needs() {
    let data = tempfile::tempdir().unwrap();
    let path = TinyGguf::llama().write(&data.path().join("tiny.gguf"));
    let (told, runs) = described(data.path(), &path, &[]);
    assert!(runs && told["runs"] == true, "{told}");
    assert_eq!(told["reasons"], json!([]));
    assert_eq!(told["model"], "tiny");
    assert_eq!(told["architecture"], "llama");
    assert_eq!(told["files"], 1);
    assert_eq!(told["file_bytes"], std::fs::metadata(&path).unwrap().len());
    let n_values = 64 * 32 + 5 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96);
    assert_eq!(told["types"], json!([{"what": "F32", "tensors": 20, "bytes": 4 * n_values}]));
    assert_eq!(told["weights_bytes"], 4 * n_values, "all matrices have whole tiles of rows");
    assert_eq!(told["ignored"], json!([]));
    // Two layers, keys and values, one head of 32 values of two bytes each.
    let kv = &told["kv"];
    assert_eq!((&kv["bytes_per_token"], &kv["bytes_per_token_beyond_windows"]), (&json!(256), &json!(256)));
    assert_eq!(kv["unused_share"], 0.0);
    assert_eq!(kv["checkpoint"], Value::Null, "it has no recurrent layers");
    assert_eq!(kv["memory"], json!([{"context": 256, "bytes": 4 * n_values + 256 * 256}]));
    assert_eq!((&kv["max_context"], &kv["context_here"]), (&json!(256), &json!(256)));
    assert_eq!(told["tokenizer"], json!({"kind": "llama", "pre": null, "tokens": 30}));
    assert_eq!(told["template"], json!({"present": false, "fault": null}));
    assert_eq!(told["gpu"]["can_run_the_model"], true);

    let (q8, _) = described(data.path(), &path, &["--kv-dtype", "q8"]);
    assert_eq!(q8["kv"]["bytes_per_token"], 2 * 2 * (32 + 2));

    let words = check(data.path(), &path, &[]);
    assert_eq!(words.status.code(), Some(0));
    for line in [
        "model        tiny",
        "architecture llama",
        "KV           256 bytes a token, as f16; 0.0 % of its blocks unused",
        "tokenizer    llama, 30 tokens",
        "template     not there: completions only",
    ] {
        assert!(
            text(&words.stdout).lines().any(|said| said == line),
            "{line} is not in\n{}",
            text(&words.stdout)
        );
    }
    assert!(!text(&words.stdout).contains("cannot run"), "{}", text(&words.stdout));
}

#[test]
fn what_a_checkpoint_of_recurrent_layers_takes_is_said() {
    let data = tempfile::tempdir().unwrap();
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/crates/model/tests/families");
    // Three layers, each with four heads of 16 × 16 values, and three columns of 64 + 2 · 2 · 16; three layers of two
    // columns of 64.
    for (name, n_values) in
        [("qwen35.gguf", 3 * (4 * 16 * 16 + 3 * (64 + 2 * 2 * 16))), ("lfm2.gguf", 3 * 2 * 64)]
    {
        let path = families.join(name);
        let (told, _) = described(data.path(), &path, &[]);
        let checkpoint = &told["kv"]["checkpoint"];
        let n_bytes = checkpoint["bytes"].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
        let unused = checkpoint["unused_share"].as_f64().unwrap();
        let used = n_bytes as f64 * (1.0 - unused);
        assert!((used - f64::from(4 * n_values)).abs() < 1.0, "{name}: {checkpoint}");
        let words = check(data.path(), &path, &[]);
        let line = format!("checkpoint   {n_bytes} bytes; {:.1} % of its blocks unused", 100.0 * unused);
        let words = text(&words.stdout);
        assert!(words.lines().any(|said| said == line), "{line} is not in\n{words}");
        assert!(
            words.lines().any(|said| said.starts_with("GPU          cannot run this model: ")),
            "{words}"
        );
    }
}

#[test]
fn real_models_are_described_as_they_are_and_found_by_name() {
    let data = tempfile::tempdir().unwrap();
    let (told, runs) = described(data.path(), &model(SMOLLM2), &[]);
    assert!(runs, "{told}");
    assert_eq!(told["template"], json!({"present": true, "fault": null}));
    assert_eq!(told["tokenizer"]["kind"], "gpt2");
    let memory: Vec<&Value> =
        told["kv"]["memory"].as_array().unwrap().iter().map(|m| &m["context"]).collect();
    assert_eq!(memory, [4096, 8192]);
    let of_types: u64 =
        told["types"].as_array().unwrap().iter().map(|share| share["bytes"].as_u64().unwrap()).sum();
    let file_bytes = told["file_bytes"].as_u64().unwrap();
    assert!(of_types < file_bytes && of_types > file_bytes - (4 << 20), "{told}");

    std::fs::create_dir(data.path().join("models")).unwrap();
    std::os::unix::fs::symlink(model(GEMMA3), data.path().join("models").join(GEMMA3)).unwrap();
    let (told, runs) = described(data.path(), Path::new(GEMMA3.strip_suffix(".gguf").unwrap()), &[]);
    assert!(runs, "{told}");
    assert_eq!(told["template"]["present"], false);
    // 3 of 18 layers have no window.
    let kv = &told["kv"];
    assert_eq!(kv["bytes_per_token"], 6 * kv["bytes_per_token_beyond_windows"].as_u64().unwrap());
}

#[test]
fn an_encoder_is_described_by_its_vectors_and_where_it_serves_them() {
    let data = tempfile::tempdir().unwrap();
    let (told, runs) = described(data.path(), &model(MINILM), &[]);
    assert!(runs, "{told}");
    let encoder = &told["encoder"];
    assert_eq!((&encoder["width"], &encoder["max_tokens"]), (&json!(384), &json!(512)));
    assert_eq!((&encoder["pooling"], &told["kv"]), (&json!("mean"), &Value::Null));
    assert!(encoder["work_bytes"].as_u64().unwrap() > 512 * 384 * 4);
    assert_eq!(
        (&told["tokenizer"]["kind"], &told["gpu"]["can_run_the_model"]),
        (&json!("bert"), &json!(false))
    );
    let words = check(data.path(), &model(MINILM), &[]);
    for line in [
        "serves       /v1/embeddings: it reads texts, and neither chats nor completes",
        "vectors      384 values, pooling mean",
        "texts        up to 512 tokens",
        "template     not there, and not needed",
        "runs         on the CPU",
    ] {
        assert!(
            text(&words.stdout).lines().any(|said| said == line),
            "{line} is not in\n{}",
            text(&words.stdout)
        );
    }
}

#[test]
fn why_a_file_cannot_run_is_said_by_name_of_what_is_in_the_way() {
    let data = tempfile::tempdir().unwrap();
    let tiny = TinyGguf::llama;
    let unknown_type = |model: TinyGguf| model.tensor("blk.0.attn_q.weight", &[64, 64], 200, vec![0; 4096]);
    for (what, file, wanted) in [
        ("architecture", tiny().str("general.architecture", "nonesuch"), &["architecture \"nonesuch\""][..]),
        ("key", tiny().number("llama.nonesuch", 7), &["metadata key `llama.nonesuch`"]),
        ("tensor", tiny().noise("blk.0.nonesuch.weight", &[8]), &["tensor `blk.0.nonesuch.weight`"]),
        ("type", unknown_type(tiny()), &["tensor `blk.0.attn_q.weight` is quantised as type 200"]),
        ("vocabulary", tiny().str("tokenizer.ggml.model", "nonesuch"), &["its kind \"nonesuch\""]),
        ("no vocabulary", tiny().without_key("tokenizer.ggml.model"), &["`tokenizer.ggml.model` is missing"]),
        (
            "all at once",
            unknown_type(tiny()).str("general.architecture", "nonesuch").str("tokenizer.ggml.model", "none"),
            &["type 200", "architecture \"nonesuch\"", "its kind \"none\""],
        ),
    ] {
        let path = file.write(&data.path().join("odd.gguf"));
        let (told, runs) = described(data.path(), &path, &[]);
        assert!(!runs && told["runs"] == false, "{what}: {told}");
        let reasons = told["reasons"].as_array().unwrap();
        assert_eq!(reasons.len(), wanted.len(), "{what}: {told}");
        for (reason, wanted) in reasons.iter().zip(wanted) {
            assert_eq!(reason["kind"], "unsupported", "{what}: {told}");
            assert!(reason["text"].as_str().unwrap().contains(wanted), "{what}: {told}");
        }
        let words = check(data.path(), &path, &[]);
        assert_eq!(words.status.code(), Some(1), "{what}");
        let said = text(&words.stdout);
        let said: Vec<&str> = said.lines().filter(|line| line.starts_with("cannot run")).collect();
        assert_eq!(said.len(), wanted.len(), "{what}: {said:?}");
        assert!(said.iter().zip(wanted).all(|(line, wanted)| line.contains(wanted)), "{what}: {said:?}");
    }
    // What there is to say is said all the same.
    let path = unknown_type(tiny()).write(&data.path().join("odd.gguf"));
    let (told, _) = described(data.path(), &path, &[]);
    assert_eq!(told["types"][1], json!({"what": "type 200", "tensors": 1, "bytes": 4096}));
    assert_eq!(told["tokenizer"]["tokens"], 30);
}

#[test]
fn what_is_ignored_and_what_is_no_model_by_itself_is_said() {
    let data = tempfile::tempdir().unwrap();
    // The second of two blocks foretells.
    let path = TinyGguf::llama().number("llama.nextn_predict_layers", 1).write(&data.path().join("mtp.gguf"));
    let (told, runs) = described(data.path(), &path, &[]);
    assert!(runs, "{told}");
    let n_values = 2 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96;
    let what = "blocks that foretell further tokens (MTP)";
    assert_eq!(told["ignored"], json!([{"what": what, "tensors": 9, "bytes": 4 * n_values}]));
    assert_eq!(told["weights_bytes"], 4 * (64 * 32 + 64 + n_values));
    assert_eq!(told["kv"]["bytes_per_token"], 128);

    let projector = TinyGguf::llama().str("general.type", "mmproj").str("general.architecture", "clip");
    let (told, runs) = described(data.path(), &projector.write(&data.path().join("mmproj.gguf")), &[]);
    assert!(!runs && told["not_a_model"] == "mmproj", "{told}");
    assert!(told["reasons"][0]["text"].as_str().unwrap().contains("architecture \"clip\""), "{told}");
}

#[test]
fn a_type_that_no_gpu_multiplies_with_is_named_and_runs_on_the_cpu() {
    let data = tempfile::tempdir().unwrap();
    // IQ4_NL: 18 bytes for 32 values.
    let file = TinyGguf::llama().tensor("output.weight", &[64, 32], 20, vec![0; 64 * 18]);
    let path = file.write(&data.path().join("tiny.gguf"));
    let (told, runs) = described(data.path(), &path, &[]);
    assert!(runs, "{told}");
    assert_eq!(told["gpu"]["can_run_the_model"], false);
    let why = told["gpu"]["why_not_the_model"].as_str().unwrap();
    assert!(why.contains("`output.weight`") && why.contains("IQ4_NL"), "{why}");
    assert!(text(&check(data.path(), &path, &[]).stdout).contains("runs         on the CPU"));
}

#[test]
fn what_is_no_model_file_is_one_line_and_an_exit_code() {
    let data = tempfile::tempdir().unwrap();
    let at = |name: &str| data.path().join(name);
    std::fs::write(at("notes.gguf"), "Dear diary").unwrap();
    std::fs::write(at("empty.gguf"), "").unwrap();
    let whole = std::fs::read(TinyGguf::llama().write(&at("tiny.gguf"))).unwrap();
    std::fs::write(at("cut.gguf"), &whole[..whole.len() - 1]).unwrap();
    std::fs::write(at("head.gguf"), &whole[..100]).unwrap();
    let second = TinyGguf::llama().write_parts(data.path(), "parts", &[5]);
    let second = second.with_file_name("parts-00002-of-00002.gguf");
    for (path, wanted) in [
        (at("notes.gguf"), "does not begin with `GGUF`"),
        (at("empty.gguf"), "the file is empty"),
        (at("cut.gguf"), "is it cut off?"),
        (at("head.gguf"), "damaged"),
        (data.path().to_owned(), "it is a folder"),
        (at("none.gguf"), "there is no such file"),
        (second, "name the first, `parts-00001-of-00002.gguf`"),
    ] {
        for more in [&[][..], &["--json"]] {
            let output = check(data.path(), &path, more);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(wanted), "{stderr}");
            assert_eq!(text(&output.stdout), "", "{stderr}");
        }
    }
}

#[test]
fn what_a_file_says_of_itself_moves_no_terminal() {
    let data = tempfile::tempdir().unwrap();
    let file =
        TinyGguf::llama().str("general.architecture", "\u{1b}[2Jx\ny").str("tokenizer.ggml.pre", "a\rb\n");
    let output = check(data.path(), &file.write(&data.path().join("odd.gguf")), &[]);
    let said = text(&output.stdout);
    assert!(!said.contains(['\u{1b}', '\r']), "{said:?}");
    assert!(said.lines().all(|line| !line.starts_with(['x', 'y', 'b'])), "{said}");
}

/// A model whose weights take about a tebibyte, all of them holes of the file.
fn vast() -> TinyGguf {
    const FEED_FORWARD: u64 = 1 << 29;
    let mut vast = TinyGguf::llama().number("llama.feed_forward_length", FEED_FORWARD as u32);
    for layer in 0..2 {
        for (name, shape) in [
            ("ffn_gate", [64, FEED_FORWARD]),
            ("ffn_up", [64, FEED_FORWARD]),
            ("ffn_down", [FEED_FORWARD, 64]),
        ] {
            vast = vast.hole(&format!("blk.{layer}.{name}.weight"), &shape);
        }
    }
    vast
}

#[test]
fn a_model_larger_than_memory_is_refused_unread_with_what_it_needs_and_what_there_is() {
    let data = tempfile::tempdir().unwrap();
    let path = vast().write(&data.path().join("vast.gguf"));
    let weights_bytes = 6 * 4 * 64 * (1_u64 << 29);
    let (told, runs) = described(data.path(), &path, &[]);
    assert!(!runs, "{told}");
    assert!(told["weights_bytes"].as_u64().unwrap() > weights_bytes, "{told}");
    assert_eq!(told["reasons"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["reasons"][0]["kind"], "no_room");
    let numbers = |line: &str| -> Vec<u64> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let needed = numbers(told["reasons"][0]["text"].as_str().unwrap())[0];
    for pool in ["auto", "1MiB"] {
        let path = path.to_str().unwrap();
        let serve = ["serve", "--port", "0", "--kv-pool", pool, "--model", path];
        let output = samovar(data.path()).args(serve).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("model vast needs"), "{stderr}");
        let [said_needed, available] = numbers(&stderr)[..] else { panic!("{stderr}") };
        assert!(said_needed == needed && needed > weights_bytes && available < weights_bytes, "{stderr}");
    }
}

fn greedy(server: &Samovar) -> Value {
    let body = json!({"prompt": "a tea pot", "temperature": 0, "max_tokens": 24, "logprobs": 1});
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["choices"][0].clone()
}

#[test]
fn a_model_in_three_files_answers_as_the_one_that_was_cut_and_is_one_model_with_one_name() {
    let data = tempfile::tempdir().unwrap();
    let whole = TinyGguf::llama().write(&data.path().join("whole.gguf"));
    let folder = data.path().join("models");
    std::fs::create_dir(&folder).unwrap();
    TinyGguf::llama().write_parts(&folder, "tiny", &[0, 12]);
    let serve = |path: &Path| Setup::new(SMOLLM2).with("--model", path.to_str().unwrap()).ready();
    let wanted = greedy(&serve(&whole));

    let split = serve(&folder.join("tiny-00001-of-00003.gguf"));
    assert_eq!(greedy(&split), wanted);
    assert_eq!(split.model_id(), "tiny");
    let sizes: u64 =
        std::fs::read_dir(&folder).unwrap().map(|part| part.unwrap().metadata().unwrap().len()).sum();
    let models = split.get("/v1/models").json();
    assert_eq!(models["data"][0]["file_bytes"], sizes, "{models}");
    for name in ["tiny", "tiny-00001-of-00003", "tiny-00001-of-00003.gguf"] {
        let body = json!({"model": name, "prompt": "a", "max_tokens": 1});
        assert_eq!(split.post("/v1/completions", &body).status, 200, "{name}");
    }

    // By its name alone, in the models folder.
    for wanted in ["tiny", "tiny-00001-of-00003"] {
        let (told, runs) = described(data.path(), Path::new(wanted), &[]);
        assert!(
            runs && told["model"] == "tiny" && told["files"] == 3 && told["file_bytes"] == sizes,
            "{told}"
        );
    }
}

#[test]
fn a_part_that_is_missing_cut_or_of_another_model_is_refused_by_name_before_anything_listens() {
    let data = tempfile::tempdir().unwrap();
    let refusal = |model: &Path| {
        let serve = ["serve", "--port", "0", "--model", model.to_str().unwrap()];
        let output = samovar(data.path()).args(serve).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!((stderr.lines().count(), text(&output.stdout).as_str()), (1, ""), "{stderr}");
        stderr
    };
    let first = TinyGguf::llama().write_parts(data.path(), "tiny", &[3, 9]);
    let third = first.with_file_name("tiny-00003-of-00003.gguf");
    let whole = std::fs::read(&third).unwrap();

    assert!(refusal(&third).contains("name the first, `tiny-00001-of-00003.gguf`"));
    std::fs::write(&third, &whole[..whole.len() - 40]).unwrap();
    let line = refusal(&first);
    assert!(line.contains("tiny-00003-of-00003.gguf") && line.contains("cut off"), "{line}");
    std::fs::copy(first.with_file_name("tiny-00002-of-00003.gguf"), &third).unwrap();
    let line = refusal(&first);
    assert!(line.contains("tiny-00003-of-00003.gguf") && line.contains("by its keys part 2 of 3"), "{line}");
    std::fs::remove_file(&third).unwrap();
    let line = refusal(&first);
    assert!(line.contains("tiny-00003-of-00003.gguf: part 3 of 3 of the model is missing"), "{line}");
}
