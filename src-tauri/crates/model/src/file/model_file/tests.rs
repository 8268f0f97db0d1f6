//! Files that are cut, changed or replaced while they are read, and what is no file at all.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::cpu::load::load_open;
use crate::error::LoadError;
use crate::file::gguf::Gguf;
use crate::options::{LoadOptions, PoolSize, Precision};
use crate::testing::gguf_writer::GgufWriter;

fn options() -> LoadOptions {
    LoadOptions {
        n_threads: 2,
        isa: kernels::isa::Isa::detect(),
        block_tokens: 16,
        kv_dtype: scheduler::KvDtype::F16,
        pool: PoolSize::Blocks(4),
        ready_bytes: 0,
        precision: Precision::Fast,
    }
}

/// A tiny model in a file whose last change is long past, so that any change shows.
fn tiny() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    fs::write(&path, GgufWriter::tiny("llama").bytes()).unwrap();
    make_old(&path);
    (folder, path)
}

fn make_old(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
}

/// How a load ends during which `change` happens after the tensor of this number.
fn load_with(after: usize, change: impl Fn(&Path)) -> Result<(), LoadError> {
    let (_folder, path) = tiny();
    let gguf = Gguf::open(&path).unwrap();
    let mut n_done = 0;
    let mut progress = |_| {
        n_done += 1;
        if n_done == after {
            change(&path);
        }
        ControlFlow::Continue(())
    };
    load_open(&gguf, &options(), &mut progress).map(drop)
}

fn cut_to(path: &Path, n_bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(n_bytes).unwrap();
}

#[test]
fn a_file_cut_short_at_any_moment_of_a_load_is_an_error_that_says_so() {
    for after in 1..=20 {
        for n_bytes in [0, 1, 3000, 20_000] {
            let error = load_with(after, |path| cut_to(path, n_bytes)).unwrap_err().to_string();
            let wanted = format!("the file was cut short while it was read: it has {n_bytes} of ");
            assert!(error.contains(&wanted) && error.contains("tiny.gguf"), "{after}: {error}");
        }
    }
}

#[test]
fn a_file_changed_in_its_place_is_no_model_and_one_that_is_replaced_is_the_old_one() {
    let says = |change: &dyn Fn(&Path)| match load_with(3, change) {
        Ok(()) => "loaded".to_owned(),
        Err(error) => error.to_string().rsplit(": ").next().unwrap().to_owned(),
    };
    let changed = "the file was changed while it was read";
    let grow = |path: &Path| {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    };
    assert_eq!(says(&grow), changed);
    let overwrite = |path: &Path| {
        let bytes = vec![7; fs::metadata(path).unwrap().len() as usize];
        OpenOptions::new().write(true).open(path).unwrap().write_all(&bytes).unwrap();
    };
    assert_eq!(says(&overwrite), changed);
    let write_anew = |path: &Path| fs::write(path, GgufWriter::tiny("llama").bytes()).unwrap();
    assert_eq!(says(&write_anew), changed);
    let replace = |path: &Path| {
        let new = path.with_extension("new");
        fs::write(&new, b"another").unwrap();
        fs::rename(&new, path).unwrap();
    };
    assert_eq!(says(&replace), "loaded");
    assert_eq!(says(&|path: &Path| fs::remove_file(path).unwrap()), "loaded");
}

#[test]
fn what_is_cut_after_it_was_opened_is_said_by_everything_that_reads() {
    let (_folder, path) = tiny();
    let gguf = Gguf::open(&path).unwrap();
    let digest = gguf.digest().unwrap();
    assert_eq!(digest, *blake3::hash(&fs::read(&path).unwrap()).as_bytes());
    cut_to(&path, gguf.file_bytes() - 1);
    assert!(gguf.digest().unwrap_err().to_string().contains("cut short"));
    let last = gguf.tensors().iter().max_by_key(|tensor| tensor.range.end).unwrap();
    assert!(gguf.read(last).unwrap_err().to_string().contains("cut short"));
    // The directory's entry is as good as any other way to a file that is gone.
    assert!(matches!(Gguf::open(&path), Err(LoadError::Malformed { .. })));
}

#[test]
fn a_header_longer_than_what_is_read_at_first_is_read_to_its_end() {
    let words: Vec<String> = (0..300_000).map(|id| format!("word number {id}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let file = GgufWriter::tiny("llama").strs("tokenizer.ggml.tokens", &words);
    let gguf = file.open();
    let found = gguf.metadata().find_strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((found.iter().count(), found.iter().last()), (300_000, words.last().copied()));
    assert_eq!(gguf.tensors().len(), GgufWriter::tiny("llama").open().tensors().len());
}

#[test]
fn claims_that_only_the_holes_of_a_file_bear_out_are_refused_within_bounds() {
    // An array of numbers, a string, and an array of empty strings.
    let array = [&5_u32.to_le_bytes()[..], &(1_u64 << 37).to_le_bytes()].concat();
    let string = (1_u64 << 39).to_le_bytes();
    let vast = GgufWriter::tiny("llama");
    for file in [
        vast.clone().raw("many", 9, &array).bytes(),
        vast.clone().raw("long", 8, &string).bytes(),
        vast.clone()
            .raw("none", 9, &[&8_u32.to_le_bytes()[..], &(1_u64 << 36).to_le_bytes()].concat())
            .bytes(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vast.gguf");
        fs::write(&path, &file).unwrap();
        cut_to(&path, 1 << 40);
        let error = Gguf::open(&path).unwrap_err();
        assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let empty = folder.path().join("empty");
    fs::write(&empty, b"").unwrap();
    for (path, want) in [
        (pipe.as_path(), "it is not a regular file"),
        (folder.path(), "it is not a regular file"),
        (Path::new("/dev/zero"), "it is not a regular file"),
        (Path::new("/dev/null"), "it is not a regular file"),
        (&empty, "the file is empty"),
    ] {
        let error = Gguf::open(path).unwrap_err().to_string();
        assert!(error.ends_with(want), "{error}");
    }
}
