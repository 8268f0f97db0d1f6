//! What `make reference` fetches: the reference's vocabularies and chat templates, and which of them a run takes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

/// A folder of the reference's: `vocabularies` or `templates`.
///
/// # Panics
/// When it is not there.
pub(crate) fn folder(name: &str) -> PathBuf {
    let cache = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/samovar-dev");
    let reference = std::env::var_os("SAMOVAR_TEST_REFERENCE")
        .map_or_else(|| cache().join("reference-0.3.36"), PathBuf::from);
    let folder = reference.join(name);
    assert!(folder.is_dir(), "{} is not there; run `make reference`", folder.display());
    folder
}

/// The files of a folder of the reference's that end so, by name.
///
/// # Panics
/// When there are not as many as there should be.
pub(crate) fn files(name: &str, end: &str, n: usize) -> Vec<PathBuf> {
    let folder = folder(name);
    let entries = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(end))).collect();
    files.sort();
    assert_eq!(files.len(), n, "{} has not what it should; run `make reference`", folder.display());
    files
}

/// The tenth of these that this run takes, at least one, or all of them where `SAMOVAR_TEST_ALL` is set, as `make families` does.
///
/// The seed is another in every run; it is printed, and `SAMOVAR_TEST_SEED` takes the same ones again.
#[allow(clippy::print_stderr, reason = "a test that fails shows with what it can be repeated")]
pub(crate) fn tenth<T>(mut all: Vec<T>) -> Vec<T> {
    if std::env::var_os("SAMOVAR_TEST_ALL").is_some() {
        return all;
    }
    let given = std::env::var("SAMOVAR_TEST_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().build_hasher().finish() >> 32,
        |seed| seed.parse().expect("SAMOVAR_TEST_SEED is a number"),
    );
    eprintln!("a tenth of {}, by SAMOVAR_TEST_SEED={seed}", all.len());
    let mut state = seed;
    let mut chosen = Vec::new();
    for _ in 0..all.len().div_ceil(10) {
        // SplitMix64: neighbouring seeds choose unlike each other.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        chosen.push(all.swap_remove(((bits ^ bits >> 31) % all.len() as u64) as usize));
    }
    chosen
}
