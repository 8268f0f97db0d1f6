//! Files that go under a running store: what it says is saved is what a restart finds, and it saves again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Folder;
use super::rig::{self, Rig, agent, key, open_any, record};
use crate::block_store::{StoreEvent, Trouble};
use crate::config::StoreConfig;
use crate::open::OpenError;
use crate::real_disk::RealDisk;

fn config(folder: &Folder) -> StoreConfig {
    StoreConfig { dir: folder.0.clone(), ..rig::config(256 << 10) }
}

fn open(folder: &Folder) -> Rig {
    open_any(Arc::new(RealDisk), &config(folder)).unwrap()
}

/// Two agents of eight blocks, one of them of a group that attends to a window; the first one's segments are sealed.
fn some_agents(folder: &Folder) -> Rig {
    let mut rig = open(folder);
    for chain in [0, 1] {
        (0..8).for_each(|idx| rig.save(record(chain, idx)));
        rig.inner.put_agent(agent(&format!("agent {chain}"), chain, 8));
        rig.flush();
    }
    assert_eq!(saved(&rig), [256, 256]);
    rig
}

/// What is said to be saved, by name.
fn saved(rig: &Rig) -> Vec<usize> {
    let mut agents = rig.inner.agents_where(|_| true);
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents.iter().map(|agent| rig.n_saved(&agent.name)).collect()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn cut(path: &Path, n_bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(n_bytes).unwrap();
}

/// What is done to the directory.
type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 11] = [
    ("all segments removed", |dir| {
        files_in(&dir.join("segments")).iter().for_each(|path| fs::remove_file(path).unwrap());
    }),
    ("one segment removed", |dir| fs::remove_file(&files_in(&dir.join("segments"))[0]).unwrap()),
    ("all segments emptied", |dir| {
        files_in(&dir.join("segments")).iter().for_each(|path| cut(path, 0));
    }),
    ("all segments cut in the middle of a record", |dir| {
        for path in files_in(&dir.join("segments")) {
            cut(&path, fs::metadata(&path).unwrap().len() / 2);
        }
    }),
    ("the last byte of each segment cut off", |dir| {
        for path in files_in(&dir.join("segments")) {
            cut(&path, fs::metadata(&path).unwrap().len() - 1);
        }
    }),
    ("segments moved away", |dir| {
        let away = dir.join("away");
        fs::create_dir(&away).unwrap();
        for path in files_in(&dir.join("segments")) {
            fs::rename(&path, away.join(path.file_name().unwrap())).unwrap();
        }
    }),
    ("the segments' folder removed", |dir| fs::remove_dir_all(dir.join("segments")).unwrap()),
    ("segments replaced by empty files", |dir| {
        for path in files_in(&dir.join("segments")) {
            fs::remove_file(&path).unwrap();
            fs::write(&path, vec![0; 9000]).unwrap();
        }
    }),
    ("the agents' folder and a segment removed", |dir| {
        fs::remove_dir_all(dir.join("agents")).unwrap();
        fs::remove_file(&files_in(&dir.join("segments"))[0]).unwrap();
    }),
    ("the whole folder removed", |dir| fs::remove_dir_all(dir).unwrap()),
    ("the whole folder moved away", |dir| {
        let away = dir.with_extension("away");
        let _ = fs::remove_dir_all(&away);
        fs::rename(dir, &away).unwrap();
        fs::remove_dir_all(&away).unwrap();
    }),
];

#[test]
fn what_is_said_to_be_saved_is_what_a_restart_finds_whatever_is_removed_or_cut() {
    let nothing: fn(&mut Rig) = |_| {};
    // The writer comes to the cut end before anybody looks.
    let records: fn(&mut Rig) = |rig| (0..4).for_each(|idx| rig.save(record(2, idx)));
    for (what, harm) in HARMS {
        for comes_next in [nothing, records] {
            check_a_harm(what, harm, comes_next);
        }
    }
}

fn check_a_harm(what: &str, harm: fn(&Path), comes_next: fn(&mut Rig)) {
    let folder = Folder::new("harm");
    let mut rig = some_agents(&folder);
    rig.events.lock().unwrap().clear();
    harm(&folder.0);
    comes_next(&mut rig);
    rig.flush();
    let said = saved(&rig);
    assert!(said.iter().sum::<usize>() < 512, "{what}: {said:?}");
    let told = rig.events.lock().unwrap().iter().any(|event| matches!(event, StoreEvent::Lost(_)));
    assert!(told, "{what}");
    drop(rig);
    let mut rig = open(&folder);
    assert_eq!(saved(&rig), said, "{what}");
    for chain in [0, 1] {
        for idx in 0..8 {
            let found = rig.restore(key(chain, idx));
            assert!(found.is_err() || found == Ok(record(chain, idx)), "{what}");
        }
    }
    rig.pump();
}

#[test]
fn after_files_were_removed_or_cut_it_saves_again_by_itself() {
    for (what, harm) in HARMS {
        let folder = Folder::new("again");
        let mut rig = some_agents(&folder);
        harm(&folder.0);
        for chain in [0, 1] {
            // What the pool still has of it is offered again.
            (0..8).for_each(|idx| rig.save(record(chain, idx)));
        }
        rig.flush();
        for chain in [0, 1] {
            (0..8).for_each(|idx| rig.save(record(chain, idx)));
        }
        rig.flush();
        assert_eq!(rig.inner.stats().trouble, None, "{what}");
        assert_eq!(saved(&rig), [256, 256], "{what}");
        rig.writer.close();
        drop(rig);
        let rig = open(&folder);
        assert_eq!(saved(&rig), [256, 256], "{what}, after a restart");
        for chain in [0, 1] {
            assert!((0..8).all(|idx| rig.restore(key(chain, idx)) == Ok(record(chain, idx))), "{what}");
        }
    }
}

#[test]
fn whoever_asks_is_soon_told_though_nothing_is_written() {
    let folder = Folder::new("asked");
    let mut rig = some_agents(&folder);
    fs::remove_dir_all(folder.0.join("segments")).unwrap();
    rig.writer.looked_at = None;
    saved(&rig);
    rig.pump();
    assert_eq!(saved(&rig), [0, 0]);
}

#[test]
fn a_removed_manifest_does_not_count_and_is_written_again() {
    let folder = Folder::new("manifest");
    let mut rig = some_agents(&folder);
    let manifests = files_in(&folder.0.join("agents"));
    fs::remove_file(&manifests[0]).unwrap();
    cut(&manifests[1], 100);
    rig.writer.look().unwrap();
    assert_eq!(saved(&rig), [0, 0], "a restart would not know whose they are");
    rig.pump();
    assert_eq!(saved(&rig), [256, 256]);
    assert_eq!(files_in(&folder.0.join("agents")), manifests);
    drop(rig);
    assert_eq!(saved(&open(&folder)), [256, 256]);
}

#[test]
fn a_segment_that_is_cut_between_two_records_gets_no_hole() {
    let folder = Folder::new("hole");
    let mut rig = open(&folder);
    rig.save(record(0, 0));
    rig.flush();
    cut(&files_in(&folder.0.join("segments"))[0], 0);
    // No look comes between the cut and the next record.
    rig.save(record(0, 1));
    rig.flush();
    let found = [rig.restore(key(0, 0)).is_ok(), rig.restore(key(0, 1)).is_ok()];
    assert_eq!(found, [false, true]);
    drop(rig);
    let rig = open(&folder);
    assert!(rig.restore(key(0, 0)).is_err());
    assert_eq!(rig.restore(key(0, 1)), Ok(record(0, 1)));
}

#[test]
fn no_removal_of_a_file_lets_a_second_process_in() {
    let folder = Folder::new("locked");
    let _house = some_agents(&folder);
    let is_locked =
        || matches!(open_any(Arc::new(RealDisk), &config(&folder)), Err(OpenError::Locked { .. }));
    assert!(is_locked());
    fs::remove_file(folder.0.join("lock")).unwrap();
    assert!(is_locked(), "without the file");
    fs::create_dir(folder.0.join("lock")).unwrap();
    assert!(is_locked(), "with something else of that name");
    fs::remove_dir(folder.0.join("lock")).unwrap();
    fs::remove_dir_all(folder.0.join("segments")).unwrap();
    assert!(is_locked(), "without its segments");
    let moved = folder.0.with_extension("moved");
    let _ = fs::remove_dir_all(&moved);
    fs::rename(&folder.0, &moved).unwrap();
    let elsewhere = StoreConfig { dir: moved.clone(), ..config(&folder) };
    assert!(matches!(open_any(Arc::new(RealDisk), &elsewhere), Err(OpenError::Locked { .. })), "elsewhere");
    fs::remove_dir_all(&moved).unwrap();
}

#[test]
fn a_folder_that_another_process_has_made_anew_is_that_ones_until_it_leaves() {
    for is_removed in [true, false] {
        let folder = Folder::new("anew");
        let mut first = some_agents(&folder);
        let away = folder.0.with_extension("away");
        let _ = fs::remove_dir_all(&away);
        if is_removed {
            fs::remove_dir_all(&folder.0).unwrap();
        } else {
            fs::rename(&folder.0, &away).unwrap();
        }
        let mut second = open(&folder);
        (0..8).for_each(|idx| second.save(record(6, idx)));
        second.inner.put_agent(agent("agent 1", 6, 8));
        second.flush();
        let files = || {
            let dirs = ["", "segments", "agents"].map(|name| files_in(&folder.0.join(name)));
            dirs.concat()
                .into_iter()
                .filter(|path| path.is_file())
                .map(|path| (fs::read(&path).unwrap(), path))
                .collect::<Vec<_>>()
        };
        let before = files();

        (0..8).for_each(|idx| first.save(record(8, idx)));
        first.ask_flush();
        first.pump_a_little();
        assert_eq!(first.inner.stats().trouble, Some(Trouble::Io));
        assert_eq!(saved(&first), [0, 0]);
        first.writer.close();
        assert!(files() == before, "nothing of the other's is touched");

        second.writer.close();
        drop(second);
        first.pump();
        assert_eq!(first.inner.stats().trouble, None, "it moves in when the other has left");
        (0..8).for_each(|idx| first.save(record(8, idx)));
        assert_eq!(first.flush().n_saved, 8);
        first.writer.close();
        drop(first);
        let third = open(&folder);
        for chain in [6, 8] {
            assert!((0..8).all(|idx| third.restore(key(chain, idx)) == Ok(record(chain, idx))), "{chain}");
        }
        let _ = fs::remove_dir_all(&away);
    }
}
