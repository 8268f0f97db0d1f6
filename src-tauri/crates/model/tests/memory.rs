//! What loading a model costs; alone in its process, because it measures the process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;

use common::alone;
use common::vectors::{GEMMA3, SMOLLM2, model_path};

/// A figure of this process's memory, in bytes.
fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Loads a model, and holds that this takes at no moment more than 1.15 times the file.
fn check(path: &Path) {
    let file_bytes = std::fs::metadata(path).unwrap().len();
    // From here on the peak counts from what there is.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_bytes("VmRSS:");
    // A gigabyte of pool, none of it written: it costs nothing until it is.
    let runner = common::load_file(path, |options| {
        options.pool = model::PoolSize::Bytes(1 << 30);
    });
    let [grown, peak] = ["VmRSS:", "VmHWM:"].map(|name| status_bytes(name).saturating_sub(before));
    drop(runner);
    let name = path.file_name().unwrap().display();
    println!("{name}: {grown} bytes, at most {peak}, for a file of {file_bytes}");
    assert!(100 * peak <= 115 * file_bytes, "{name}: {peak} bytes for a file of {file_bytes}");
    assert!(2 * grown > file_bytes, "{name}: {grown} bytes cannot be all of it");
}

#[test]
fn loading_takes_at_no_moment_more_than_1_15_times_the_file() {
    let _alone = alone();
    for model in [SMOLLM2, GEMMA3] {
        check(&model_path(model));
    }
}

#[test]
fn loading_a_gigabyte_takes_at_no_moment_more_than_1_15_times_the_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gigabyte.gguf");
    write_gigabyte(&path);
    let file_bytes = std::fs::metadata(&path).unwrap().len();
    assert!((1_000_000_000..1_200_000_000).contains(&file_bytes), "{file_bytes}");
    check(&path);
}

/// A model in the mixture of types that most people use, whose tensors are holes of the file: they are read as zeros and
/// take as much memory as others.
fn write_gigabyte(path: &Path) {
    const WIDTH: u64 = 2048;
    const N_LAYERS: u32 = 23;
    // GGUF's number of a type, and the values and bytes of its blocks.
    const F32: (u32, u64, u64) = (0, 1, 4);
    const Q4_K: (u32, u64, u64) = (12, 256, 144);
    const Q6_K: (u32, u64, u64) = (14, 256, 210);
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let key = |name: &str, kind: u32, value: &[u8]| [&string(name), &kind.to_le_bytes()[..], value].concat();
    let mut keys = vec![
        key("general.architecture", 8, &string("llama")),
        key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5_f32.to_le_bytes()),
    ];
    for (name, value) in [
        ("block_count", N_LAYERS),
        ("embedding_length", WIDTH as u32),
        ("feed_forward_length", 8192),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 8),
        ("context_length", 8192),
    ] {
        keys.push(key(&format!("llama.{name}"), 4, &value.to_le_bytes()));
    }
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![WIDTH, 128_256], Q6_K),
        ("output_norm.weight".to_owned(), vec![WIDTH], F32),
    ];
    for layer in 0..N_LAYERS {
        for (name, shape, ty) in [
            ("attn_norm", vec![WIDTH], F32),
            ("attn_q", vec![WIDTH, WIDTH], Q4_K),
            ("attn_k", vec![WIDTH, 512], Q4_K),
            ("attn_v", vec![WIDTH, 512], Q6_K),
            ("attn_output", vec![WIDTH, WIDTH], Q4_K),
            ("ffn_norm", vec![WIDTH], F32),
            ("ffn_gate", vec![WIDTH, 8192], Q4_K),
            ("ffn_up", vec![WIDTH, 8192], Q4_K),
            ("ffn_down", vec![8192, WIDTH], Q6_K),
        ] {
            tensors.push((format!("blk.{layer}.{name}.weight"), shape, ty));
        }
    }
    let mut head = [&b"GGUF"[..], &3_u32.to_le_bytes()].concat();
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((keys.len() as u64).to_le_bytes());
    head.extend(keys.concat());
    let mut offset = 0_u64;
    for (name, shape, (type_id, values, bytes)) in &tensors {
        head.extend(string(name));
        head.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|length| head.extend(length.to_le_bytes()));
        head.extend(type_id.to_le_bytes());
        head.extend(offset.to_le_bytes());
        offset += (shape.iter().product::<u64>() / values * bytes).next_multiple_of(32);
    }
    let file = std::fs::File::create(path).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.set_len((head.len() as u64).next_multiple_of(32) + offset).unwrap();
}
