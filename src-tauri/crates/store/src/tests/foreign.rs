//! What others put into the directory may keep new blocks from being written, and costs nothing that is there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Folder;
use super::rig::{self, Rig, agent, key, open_any, record};
use crate::block_store::{MissReason, Trouble};
use crate::config::StoreConfig;
use crate::real_disk::RealDisk;

const MAX_BYTES: u64 = 256 << 10;
const TERABYTE: u64 = 1 << 40;
/// Six blocks each.
const CHAINS: [u32; 4] = [0, 1, 2, 3];

fn config(folder: &Folder) -> StoreConfig {
    StoreConfig { dir: folder.0.clone(), ..rig::config(MAX_BYTES) }
}

fn open(folder: &Folder) -> Rig {
    open_any(Arc::new(RealDisk), &config(folder)).unwrap()
}

/// Agents with all their blocks, closed.
fn some_agents(folder: &Folder) {
    let mut rig = open(folder);
    for chain in CHAINS {
        (0..6).for_each(|idx| rig.save(record(chain, idx)));
        rig.inner.put_agent(agent(&format!("agent {chain}"), chain, 6));
    }
    assert_eq!(rig.flush().n_failed, 0);
    rig.writer.close();
}

fn check_all_there(rig: &Rig, what: &str) {
    for chain in CHAINS {
        for idx in 0..6 {
            assert_eq!(rig.restore(key(chain, idx)), Ok(record(chain, idx)), "{what}: {chain}/{idx}");
        }
    }
    let saved = CHAINS.map(|chain| rig.n_saved(&format!("agent {chain}")));
    assert_eq!(saved, [192; CHAINS.len()], "{what}");
}

fn one_segment(folder: &Folder) -> PathBuf {
    let mut files: Vec<_> =
        fs::read_dir(folder.0.join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.remove(0)
}

fn make_sparse(path: &Path, n_bytes: u64) {
    File::options().write(true).create(true).truncate(false).open(path).unwrap().set_len(n_bytes).unwrap();
}

#[test]
fn files_with_holes_of_any_length_cost_nothing_that_is_there_and_do_not_stop_saving() {
    let hex = "0".repeat(31);
    let names = [
        "film.mkv".to_owned(),
        "old.tmp".to_owned(),
        "meter".to_owned(),
        "lock".to_owned(),
        "segments/notes".to_owned(),
        "segments/0000000000000fff.kv".to_owned(),
        "segments/x.tmp".to_owned(),
        "agents/notes".to_owned(),
        format!("agents/{hex}a.agent"),
    ];
    let mut all: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
    // A segment of the store's own.
    all.push(None);
    for name in all {
        let folder = Folder::new("sparse");
        some_agents(&folder);
        let path = name.map_or_else(|| one_segment(&folder), |name| folder.0.join(name));
        make_sparse(&path, TERABYTE);
        for round in ["at once", "and again"] {
            let what = format!("{}, {round}", path.display());
            let mut rig = open(&folder);
            check_all_there(&rig, &what);
            rig.pump();
            rig.save(record(90, 0));
            assert_eq!(rig.flush().n_failed, 0, "{what}");
            assert_eq!(rig.inner.stats().trouble, None, "{what}");
            assert!(rig.inner.stats().stored_bytes <= MAX_BYTES, "{what}");
            check_all_there(&rig, &what);
            rig.writer.close();
        }
    }
}

#[test]
fn foreign_bytes_beyond_the_cap_stop_saving_until_they_are_gone_and_nothing_is_given_up() {
    for name in ["film.mkv", "segments/film.mkv", "agents/film.mkv"] {
        for when in ["before the start", "while it runs"] {
            let folder = Folder::new("film");
            some_agents(&folder);
            let path = folder.0.join(name);
            let put = || fs::write(&path, vec![7; 2 * MAX_BYTES as usize]).unwrap();
            if when == "before the start" {
                put();
            }
            let mut rig = open(&folder);
            if when == "while it runs" {
                put();
                rig.writer.look().unwrap();
            }
            for idx in 0..20 {
                rig.save(record(90, idx));
                rig.ask_flush();
                rig.pump_a_little();
            }
            assert_eq!(rig.inner.stats().trouble, Some(Trouble::CapReached), "{name} {when}");
            assert_eq!(rig.inner.stats().n_evicted, 0);
            check_all_there(&rig, name);
            fs::remove_file(&path).unwrap();
            rig.pump();
            assert_eq!(rig.inner.stats().trouble, None, "{name} {when}: it recovers");
            rig.save(record(91, 0));
            assert_eq!(rig.flush().n_saved, 1);
            check_all_there(&rig, name);
        }
    }
}

#[test]
fn a_small_foreign_file_in_a_full_store_stops_nothing() {
    let folder = Folder::new("note");
    let mut rig = open(&folder);
    for chain in 0..100 {
        if chain == 50 {
            fs::write(folder.0.join(".DS_Store"), [7; 1024]).unwrap();
        }
        (0..5).for_each(|idx| rig.save(record(chain, idx)));
        assert_eq!(rig.flush().n_failed, 0, "chain {chain}");
        assert!(rig.inner.stats().stored_bytes <= MAX_BYTES);
    }
    assert!(rig.inner.stats().n_evicted > 0 && rig.restore(key(99, 4)).is_ok());
}

#[test]
fn what_is_no_file_or_cannot_be_opened_where_a_segment_would_be_is_passed_over() {
    let folder = Folder::new("odd");
    some_agents(&folder);
    let segments = folder.0.join("segments");
    let next: Vec<u64> = (1..30).collect();
    for (idx, id) in next.iter().enumerate() {
        let path = segments.join(format!("{id:016x}.kv"));
        if path.exists() {
            continue;
        }
        match idx % 3 {
            0 => fs::create_dir(&path).unwrap(),
            1 => {
                let made = std::process::Command::new("mkfifo").arg(&path).status();
                assert!(made.unwrap().success());
            }
            _ => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        }
    }
    let mut rig = open(&folder);
    check_all_there(&rig, "odd");
    for idx in 0..20 {
        rig.save(record(90, idx));
        rig.flush();
    }
    assert_eq!(rig.inner.stats().trouble, None);
    assert!((0..20).all(|idx| rig.restore(key(90, idx)) == Ok(record(90, idx))));
    assert_eq!(rig.restore(key(91, 0)), Err(MissReason::Absent));
    check_all_there(&rig, "odd");
}
