//! Models in several files, and what may be wrong with the others.

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;

use tempfile::TempDir;

use super::*;
use crate::cpu::load::load_open;
use crate::families::plan_of;
use crate::file::gguf::Gguf;
use crate::options::{LoadOptions, PoolSize, Precision};
use crate::testing::gguf_writer::GgufWriter;

/// A model's parts in a folder of their own.
struct Parts {
    folder: TempDir,
    count: usize,
}

impl Parts {
    fn write(parts: &[GgufWriter]) -> Parts {
        let written = Parts { folder: tempfile::tempdir().unwrap(), count: parts.len() };
        for (idx, part) in parts.iter().enumerate() {
            fs::write(written.path(idx + 1), part.bytes()).unwrap();
        }
        written
    }

    /// A tiny llama in three parts, the first of which has no tensors.
    fn tiny() -> Parts {
        Parts::write(&tiny_split())
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("tiny{}.gguf", ending_of(number, self.count)))
    }

    fn error(&self) -> LoadError {
        Gguf::open(&self.path(1)).unwrap_err()
    }
}

/// What is wrong, how it comes about, the part at fault, and the end of what is said.
type Case<'a> = (&'a str, &'a dyn Fn(&Parts), usize, String);

fn whole() -> GgufWriter {
    GgufWriter::tiny("llama").str("general.name", "Tiny")
}

fn tiny_split() -> Vec<GgufWriter> {
    let whole = whole();
    whole.split(&[0, 11, whole.n_tensors() - 11])
}

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

fn cut_to(path: &Path, n_bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(n_bytes).unwrap();
}

#[test]
fn a_model_in_three_parts_is_the_model_that_was_cut() {
    let (parts, whole) = (Parts::tiny(), whole().open());
    let split = Gguf::open(&parts.path(1)).unwrap();
    assert_eq!(
        split.parts().iter().map(|part| part.path().to_owned()).collect::<Vec<_>>(),
        [parts.path(1), parts.path(2), parts.path(3)]
    );
    let sizes: u64 = (1..=3).map(|number| fs::metadata(parts.path(number)).unwrap().len()).sum();
    assert_eq!(split.file_bytes(), sizes);
    assert_eq!((split.name(), split.n_params()), ("Tiny".to_owned(), whole.n_params()));
    assert_eq!(plan_of(&split).unwrap(), plan_of(&whole).unwrap());
    assert_eq!(split.tensors().len(), whole.tensors().len());
    for tensor in whole.tensors() {
        let same = split.tensor(&tensor.name).unwrap();
        assert_eq!((&same.shape, same.ty), (&tensor.shape, tensor.ty));
        assert_eq!(split.read(same).unwrap(), whole.read(tensor).unwrap(), "{}", tensor.name);
    }
    let mut progress = Vec::new();
    let mut note = |done: crate::LoadProgress| {
        progress.push(done);
        ControlFlow::Continue(())
    };
    load_open(&split, &options(), &mut note).map(drop).unwrap();
    let last = progress.last().unwrap();
    assert_eq!(last.bytes_done, last.bytes_total);
}

#[test]
fn a_model_without_a_name_is_called_by_what_its_parts_have_in_common() {
    let whole = GgufWriter::tiny("llama");
    let parts = Parts::write(&whole.split(&[5, whole.n_tensors() - 5]));
    assert_eq!(Gguf::open(&parts.path(1)).unwrap().name(), "tiny");
}

#[test]
fn any_other_file_than_the_first_says_which_to_name() {
    let parts = Parts::tiny();
    for number in [2, 3] {
        let error = Gguf::open(&parts.path(number)).unwrap_err();
        assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
        let want = format!(
            "it is part {number} of 3 of a split model; name the first, `tiny-00001-of-00003.gguf`, and the others are found"
        );
        assert!(error.to_string().ends_with(&want), "{error}");
    }
    // Under other names.
    for (number, want) in [
        (
            1,
            "it is part 1 of 3 of a split model, and its name must end in `-00001-of-00003.gguf` as theirs do",
        ),
        (2, "it is part 2 of 3 of a split model; name the first, which ends in `-00001-of-00003.gguf`"),
    ] {
        for name in ["tiny.gguf", "tiny-00001-of-00004.gguf", "tiny-00003-of-00003.gguf"] {
            let path = parts.folder.path().join(name);
            fs::write(&path, tiny_split()[number - 1].bytes()).unwrap();
            let error = Gguf::open(&path).unwrap_err();
            assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
            assert!(error.to_string().ends_with(want), "{name}: {error}");
        }
    }
}

#[test]
fn a_part_that_is_missing_cut_short_doubled_or_of_another_model_is_refused_by_its_name() {
    let other = || GgufWriter::tiny("llama").str("general.name", "Tiny").tensor("one.more", &[8]);
    let check = |what: &str, change: &dyn Fn(&Parts), part: usize, want: &str| {
        let parts = Parts::tiny();
        change(&parts);
        let error = parts.error();
        let message = error.to_string();
        assert!(message.contains(&format!("tiny-0000{part}-of-00003.gguf")), "{what}: {message}");
        assert!(message.ends_with(want), "{what}: {message}");
        error
    };
    let missing = check(
        "missing",
        &|parts| fs::remove_file(parts.path(3)).unwrap(),
        3,
        "part 3 of 3 of the model is missing",
    );
    assert!(
        matches!(&missing, LoadError::Unreadable { cause, .. } if cause.kind() == ErrorKind::NotFound),
        "{missing:?}"
    );
    let put = |number: usize, part: GgufWriter| {
        move |parts: &Parts| fs::write(parts.path(number), part.bytes()).unwrap()
    };
    let copy = |from: usize, to: usize| {
        move |parts: &Parts| {
            fs::copy(parts.path(from), parts.path(to)).unwrap();
        }
    };
    let [_, second, third] = <[GgufWriter; 3]>::try_from(tiny_split()).ok().unwrap();
    let n_tensors = whole().n_tensors();
    let foreign = |parts: usize, cut: usize| {
        let other = other();
        let mut sizes = vec![1; parts - 1];
        sizes[0] = cut;
        let rest = other.n_tensors() - sizes.iter().sum::<usize>();
        sizes.push(rest);
        other.split(&sizes)
    };
    let cases: [Case<'_>; 13] = [
        (
            "cut short",
            &|parts: &Parts| cut_to(&parts.path(2), fs::metadata(parts.path(2)).unwrap().len() - 1),
            2,
            "(is it cut off?)".to_owned(),
        ),
        ("cut in its header", &|parts: &Parts| cut_to(&parts.path(3), 40), 3, "are left".to_owned()),
        ("doubled", &copy(2, 3), 3, "by its name it is part 3 of 3, by its keys part 2 of 3".to_owned()),
        (
            "the first again",
            &copy(1, 2),
            2,
            "by its name it is part 2 of 3, by its keys part 1 of 3".to_owned(),
        ),
        (
            "a whole model",
            &put(2, whole()),
            2,
            "by its name it is part 2 of 3, by its keys a model of its own".to_owned(),
        ),
        (
            "of a model in more parts",
            &put(2, foreign(4, 5)[1].clone()),
            2,
            "by its name it is part 2 of 3, by its keys part 2 of 4".to_owned(),
        ),
        (
            "of a model of more tensors",
            &put(2, foreign(3, 5)[1].clone()),
            2,
            format!(
                "it is a part of a model of {} tensors, and the first part of one of {n_tensors}",
                n_tensors + 1
            ),
        ),
        (
            "cut elsewhere",
            &put(3, whole().split(&[0, 10, n_tensors - 10])[2].clone()),
            3,
            "is in part 2 too: one is of another model".to_owned(),
        ),
        (
            "cut elsewhere, with fewer",
            &put(3, whole().split(&[0, 12, n_tensors - 12])[2].clone()),
            1,
            format!(
                "its 3 parts have {} tensors together, not the {n_tensors} that they claim: one is of another model",
                n_tensors - 1
            ),
        ),
        (
            "other keys",
            &put(2, second.str("general.architecture", "qwen3")),
            2,
            "its `general.architecture` is not the first part's: it is of another model".to_owned(),
        ),
        (
            "no number",
            &put(3, third.clone().str("split.no", "2")),
            3,
            "is a string where an integer is needed".to_owned(),
        ),
        (
            "no GGUF",
            &|parts: &Parts| fs::write(parts.path(2), "no GGUF").unwrap(),
            2,
            "does not begin with `GGUF`".to_owned(),
        ),
        (
            "an unknown type",
            &put(3, third.clone().tensor_of("x", &[8], 99, vec![0; 32])),
            1,
            "together, not the 20 that they claim: one is of another model".to_owned(),
        ),
    ];
    for (what, change, part, want) in cases {
        let error = check(what, change, part, &want);
        assert!(matches!(error, LoadError::Malformed { .. }), "{what}: {error:?}");
    }
    // A folder, and what waits for a writer.
    check(
        "a folder",
        &|parts| {
            fs::remove_file(parts.path(2)).unwrap();
            fs::create_dir(parts.path(2)).unwrap();
        },
        2,
        "it is not a regular file",
    );
}

#[test]
fn a_part_with_other_shapes_is_named_when_its_tensors_are_looked_for() {
    let wide = whole().tensor("blk.1.ffn_up.weight", &[64, 128]);
    let mut split = tiny_split();
    split[2] = wide.split(&[0, 11, wide.n_tensors() - 11])[2].clone();
    let parts = Parts::write(&split);
    let gguf = Gguf::open(&parts.path(1)).unwrap();
    let error = load_open(&gguf, &options(), &mut |_| ControlFlow::Continue(())).map(drop).unwrap_err();
    assert!(error.to_string().contains("blk.1.ffn_up.weight"), "{error}");
    assert!(error.to_string().ends_with("(part 3 of 3, tiny-00003-of-00003.gguf)"), "{error}");
}

#[test]
fn the_digest_covers_every_byte_of_every_part_and_no_name() {
    let parts = Parts::tiny();
    let digest = |parts: &Parts| Gguf::open(&parts.path(1)).unwrap().digest().unwrap();
    let first = digest(&parts);
    assert_ne!(first, whole().open().digest().unwrap());
    let of_files = [1, 2, 3].map(|number| *blake3::hash(&fs::read(parts.path(number)).unwrap()).as_bytes());
    assert_eq!(first, Gguf::digest_of(&of_files));
    assert_ne!(first, Gguf::digest_of(&[of_files[0], of_files[2], of_files[1]]));

    let moved = tempfile::tempdir().unwrap();
    for number in 1..=3 {
        fs::copy(parts.path(number), moved.path().join(format!("x{}.gguf", ending_of(number, 3)))).unwrap();
    }
    let moved = Gguf::open(&moved.path().join("x-00001-of-00003.gguf")).unwrap();
    assert_eq!(moved.digest().unwrap(), first);

    for number in 2..=3 {
        let before = fs::read(parts.path(number)).unwrap();
        let mut bytes = before.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(parts.path(number), &bytes).unwrap();
        assert_ne!(digest(&parts), first, "part {number}");
        fs::write(parts.path(number), &before).unwrap();
    }
    assert_eq!(digest(&parts), first);
}

#[test]
fn a_part_that_is_cut_while_the_model_loads_is_named() {
    for number in [2, 3] {
        let parts = Parts::tiny();
        let gguf = Gguf::open(&parts.path(1)).unwrap();
        let mut progress = |_| {
            cut_to(&parts.path(number), 100);
            ControlFlow::Continue(())
        };
        let error = load_open(&gguf, &options(), &mut progress).map(drop).unwrap_err().to_string();
        let want = format!("part {number} of 3, tiny-0000{number}-of-00003.gguf: the file was cut short");
        assert!(error.contains(&want), "{error}");
    }
}

#[test]
fn more_parts_than_can_be_open_and_numbers_that_make_no_sense_are_refused_before_a_second_file_is() {
    let part = |no: u16, count: u16| {
        whole().raw("split.no", 2, &no.to_le_bytes()).raw("split.count", 2, &count.to_le_bytes()).raw(
            "split.tensors.count",
            5,
            &20_i32.to_le_bytes(),
        )
    };
    for (part, want) in [
        (part(0, 600), "a model in 600 parts; up to 512 are"),
        (part(u16::MAX, 2), "it is part 65536 of 2 of a split model"),
        (part(2, 2), "it is part 3 of 2 of a split model"),
        (part(0, 2).raw("split.no", 10, &u64::MAX.to_le_bytes()), "of 2 of a split model"),
        (
            part(0, 2).raw("split.tensors.count", 5, &(-1_i32).to_le_bytes()),
            "`split.tensors.count` is out of range: -1",
        ),
        (whole().u32("split.count", 2), "`split.no` is missing"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny-00001-of-00002.gguf");
        fs::write(&path, part.bytes()).unwrap();
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(error.ends_with(want) && error.contains("tiny-00001-of-00002"), "{error}");
    }
    // A model in one piece may say so, and keys of another kind mean nothing.
    for file in [part(0, 1), part(0, 0), whole().str("split.count", "3")] {
        assert_eq!(file.open().parts().len(), 1);
    }
}
