//! The real file system, real threads, and the checked-in file of the format.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use super::rig::{self, MODEL, agent, hash, key, open, record, state, state_keys};
use super::sim_disk::SimDisk;
use crate::agent::AgentManifest;
use crate::block_store::{BlockStore, MissReason, Origin, SaveCandidate, StoreEvent, Wanted};
use crate::config::StoreConfig;
use crate::disk::{Disk, read_exact, write_all};
use crate::idle_buffers::BlockBytes;
use crate::open::OpenError;
use crate::real_disk::RealDisk;
use crate::record::BlockRecord;
use crate::store::Store;
use crate::writer::METER_EVERY;

/// A folder that goes with its owner.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("samovar-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn config(&self) -> StoreConfig {
        StoreConfig { free_space_floor: 0, ..StoreConfig::new(self.0.clone(), 64 << 20) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn restore(store: &Store, n_blocks: u32) -> Vec<Result<BlockRecord, MissReason>> {
    let (sender, receiver) = channel();
    let wanted =
        (0..n_blocks).map(|idx| Wanted { key: key(0, idx), fingerprint: MODEL, room: None }).collect();
    store.restore(wanted, Box::new(move |found| sender.send(found).unwrap()));
    receiver.recv().unwrap()
}

#[test]
fn what_was_saved_is_there_after_a_restart_in_private_files() {
    let folder = Folder::new("restart");
    let store = Store::open(folder.config()).unwrap();
    let (sender, events) = channel();
    store.listen(Box::new(move |event| sender.send(event).unwrap()));
    (0..4).for_each(|idx| store.save(record(0, idx)).unwrap());
    store.put_agent(agent("a", 0, 4));
    let (sender, flushed) = channel();
    store.flush(Box::new(move |report| sender.send(report).unwrap()));
    let report = flushed.recv().unwrap();
    assert_eq!((report.n_saved, report.n_failed), (4, 0));
    assert!(store.durable_at(&[hash(0, 3)]).iter().any(|block| block.key == key(0, 3)));
    let mut saved = Vec::new();
    while saved.len() < 4 {
        if let StoreEvent::Saved(keys) = events.recv().unwrap() {
            saved.extend(keys);
        }
    }
    assert_eq!(saved, (0..4).map(|idx| key(0, idx)).collect::<Vec<_>>(), "parents before children");
    drop(store);

    let store = Store::open(folder.config()).unwrap();
    assert_eq!(restore(&store, 4), (0..4).map(|idx| Ok(record(0, idx))).collect::<Vec<_>>());
    assert_eq!(store.find(&[key(0, 3), key(0, 9)]), [Ok(()), Err(MissReason::Absent)]);
    assert_eq!(*store.agent("a")[0], agent("a", 0, 4));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (mut n_files, mut dirs) = (0, vec![folder.0.clone()]);
    while let Some(dir) = dirs.pop() {
        assert_eq!(mode(&dir), 0o700, "{}", dir.display());
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                n_files += 1;
            }
        }
    }
    assert!(n_files >= 4, "lock, meter, a segment and a manifest");
}

#[test]
fn a_block_goes_where_the_caller_has_room_if_it_is_as_long() {
    let mut rig = open(&SimDisk::default(), &rig::config(256 << 10)).unwrap();
    rig.save(record(0, 0));
    for when in ["queued", "on disk"] {
        for (n_bytes, is_lent) in [(rig::BLOCK_BYTES, true), (rig::BLOCK_BYTES - 1, false)] {
            let room = BlockBytes::lent(Box::new(vec![0; n_bytes]));
            let found = rig.restore_to(key(0, 0), Some(room)).unwrap();
            assert_eq!((found.bytes.is_lent(), &found), (is_lent, &record(0, 0)), "{when}");
        }
        rig.flush();
    }
}

#[test]
fn dropping_the_store_makes_durable_what_was_queued() {
    let folder = Folder::new("drop");
    let store = Store::open(folder.config()).unwrap();
    (0..20).for_each(|idx| store.save(record(0, idx)).unwrap());
    drop(store);
    let found = restore(&Store::open(folder.config()).unwrap(), 20);
    assert!(found.iter().all(Result::is_ok));
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let folder = Folder::new("lock");
    let store = Store::open(folder.config()).unwrap();
    let Err(error) = Store::open(folder.config()) else { panic!("two at a time") };
    assert!(matches!(error, OpenError::Locked { .. }));
    let message = error.to_string();
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    drop(store);
    Store::open(folder.config()).unwrap();
}

#[test]
fn short_prompts_of_nobody_in_particular_are_not_worth_writing() {
    let folder = Folder::new("admission");
    let store = Store::open(folder.config()).unwrap();
    let admits = |n_prompt_tokens, origin| store.admits(SaveCandidate { n_prompt_tokens, origin });
    assert!(!admits(255, Origin::Anonymous) && admits(256, Origin::Anonymous) && admits(1, Origin::Named));
}

/// What the checked-in files hold.
fn golden_records() -> Vec<BlockRecord> {
    let mut records: Vec<_> = (0..2).map(|idx| record(0, idx)).collect();
    records.iter_mut().for_each(|record| record.bytes = record.bytes[..16].to_vec().into());
    records
}

/// Compare what was written with the checked-in files of a folder, but for the meter; returns these. To write them anew
/// after a change of the format: delete them and run the tests.
fn golden_files(folder: &str, written: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let name = |path: &Path| path.strip_prefix("/store").unwrap().to_string_lossy().replace('/', "-");
    let mut read = BTreeMap::new();
    for (path, bytes) in written.iter().filter(|(path, _)| !path.ends_with("meter")) {
        let golden = folder.join(name(path));
        if !golden.exists() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&golden, bytes).unwrap();
            panic!("{} was missing and is written; look at it and check it in", golden.display());
        }
        read.insert(path.clone(), fs::read(&golden).unwrap());
        assert!(read[path] == *bytes, "{} is written otherwise now: a new version?", golden.display());
    }
    read
}

#[test]
fn the_checked_in_files_of_the_format_are_read_and_would_be_written_again() {
    let disk = SimDisk::default();
    disk.set_now(1_700_000_000);
    let mut rig = open(&disk, &rig::config(256 << 10)).unwrap();
    golden_records().into_iter().for_each(|record| rig.save(record));
    let manifest = AgentManifest { last_used: 1_700_000_000, ..agent("golden", 0, 2) };
    rig.inner.put_agent(manifest.clone());
    rig.flush();
    rig.writer.close();
    let read = golden_files("format-2", &disk.files());
    assert_eq!(read.len(), 2, "a segment and a manifest");
    let rig = open(&SimDisk::with_files(&read), &rig::config(256 << 10)).unwrap();
    for record in golden_records() {
        assert_eq!(rig.restore(record.key), Ok(record));
    }
    assert_eq!(**rig.inner.shared.state().agents.values().next().unwrap(), manifest);
}

#[test]
fn the_checked_in_files_with_states_are_read_and_would_be_written_again() {
    let short = |mut record: BlockRecord| {
        record.bytes = record.bytes[..16].to_vec().into();
        record
    };
    let states = |idx| state(0, idx).into_iter().map(short).collect::<Vec<_>>();
    let disk = SimDisk::default();
    disk.set_now(1_700_000_000);
    let mut rig = open(&disk, &rig::config(256 << 10)).unwrap();
    golden_records().into_iter().for_each(|record| rig.save(record));
    (0..2).flat_map(states).for_each(|piece| rig.save(piece));
    rig.flush();
    rig.inner.bury(&state_keys(0, 0));
    rig.pump();
    rig.writer.close();
    let read = golden_files("format-2-states", &disk.files());
    assert_eq!(read.len(), 2, "a segment of blocks, and one of states with a tombstone");
    let rig = open(&SimDisk::with_files(&read), &rig::config(256 << 10)).unwrap();
    for record in golden_records().into_iter().chain(states(1)) {
        assert_eq!(rig.restore(record.key), Ok(record));
    }
    assert!(state_keys(0, 0).iter().all(|key| rig.restore(*key) == Err(MissReason::Absent)));
}

#[test]
fn buffers_lie_ready_while_blocks_are_saved_and_a_minute_without_any_frees_them() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &rig::config(1 << 20)).unwrap();
    let buffers = Arc::clone(&rig.inner.shared.buffers);
    let minute_ago = Instant::now().checked_sub(METER_EVERY).unwrap();
    for idx in 0..100 {
        let mut bytes = buffers.take(rig::BLOCK_BYTES);
        bytes.fill(idx as u8);
        rig.save(BlockRecord { bytes, ..record(2, idx) });
        if idx % 50 == 49 {
            assert_eq!(buffers.n_idle(), 0, "not durable yet");
            rig.flush();
            assert_eq!(buffers.n_idle(), 50);
        }
    }
    rig.writer.meter_saved.1 = minute_ago;
    rig.pump();
    assert_eq!(buffers.n_idle(), 50, "something was saved in this minute");
    rig.writer.meter_saved.1 = minute_ago;
    let written = rig.inner.stats().written_bytes;
    rig.pump();
    assert_eq!((buffers.n_idle(), rig.inner.stats().written_bytes), (0, written), "the meter neither");
}

#[test]
fn room_that_is_set_aside_is_empty_and_leaves_what_is_there() {
    let folder = Folder::new("room");
    fs::create_dir(&folder.0).unwrap();
    let systems_own = if cfg!(target_os = "linux") { 13_000 } else { 5000 };
    for (disk, n_bytes) in [(&RealDisk as &dyn Disk, systems_own), (&SimDisk::default(), 13_000)] {
        let file = disk.create(&folder.0.join("a")).unwrap();
        write_all(&*file, &[7; 5000], 0).unwrap();
        file.set_aside(10_000, 3000).unwrap();
        assert_eq!(file.len().unwrap(), n_bytes);
        file.set_aside(100, 0).unwrap();
        write_all(&*file, &[8; 1000], 6000).unwrap();
        let mut bytes = vec![1; 7000];
        read_exact(&*file, &mut bytes, 0).unwrap();
        let expected = [vec![7; 5000], vec![0; 1000], vec![8; 1000]].concat();
        assert!(bytes == expected);
    }
}
