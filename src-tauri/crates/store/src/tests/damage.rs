//! Damaged files: a miss with a reason or the right bytes, never a wrong one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::rig::{MODEL, Rig, agent, config, key, open, record};
use super::sim_disk::SimDisk;
use crate::agent::AgentManifest;
use crate::block_store::{MissReason, Wanted};
use crate::format::{Death, Kind, Position, RECORD_HEADER_BYTES, RecordHeader, encode_segment_header};
use crate::record::BlockRecord;

const BLOCKS: u32 = 3;

fn written() -> BTreeMap<PathBuf, Vec<u8>> {
    written_with(&[(0, 0), (0, 1), (0, 2)])
}

/// What a store leaves that was given these blocks.
fn written_with(blocks: &[(u32, u32)]) -> BTreeMap<PathBuf, Vec<u8>> {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    blocks.iter().for_each(|(chain, idx)| rig.save(record(*chain, *idx)));
    rig.inner.put_agent(agent("a", 0, BLOCKS));
    rig.flush();
    rig.writer.close();
    disk.files()
}

/// How many of the blocks are there; those are right.
fn n_right(rig: &Rig, what: &str) -> u32 {
    let wanted = (0..BLOCKS).map(|idx| Wanted { key: key(0, idx), fingerprint: MODEL, room: None }).collect();
    let found = rig.restore_all(wanted);
    let right = |(idx, found): (u32, Result<BlockRecord, MissReason>)| match found {
        Ok(found) => {
            assert_eq!(found, record(0, idx), "{what}");
            1
        }
        Err(_) => 0,
    };
    (0..BLOCKS).zip(found).map(right).sum()
}

fn only(files: &BTreeMap<PathBuf, Vec<u8>>, ending: &str) -> PathBuf {
    let mut found = files.keys().filter(|path| path.to_string_lossy().ends_with(ending));
    let path = found.next().unwrap().clone();
    assert_eq!(found.next(), None);
    path
}

#[test]
fn any_flipped_byte_of_a_segment_is_a_miss_or_the_right_bytes() {
    let files = written();
    let path = only(&files, ".kv");
    for at in 0..files[&path].len() {
        let mut files = files.clone();
        files.get_mut(&path).unwrap()[at] ^= 0x41;
        let found = [false, true].map(|is_cold| {
            let disk = SimDisk::with_files(&files);
            disk.set_cold(is_cold);
            let mut rig = open(&disk, &config(256 << 10)).unwrap();
            let n = n_right(&rig, &format!("byte {at}"));
            rig.pump();
            let again = open(&disk, &config(256 << 10)).unwrap();
            assert!(n_right(&again, &format!("byte {at}, opened again")) <= n, "byte {at}");
            n
        });
        assert_eq!(found[0], found[1], "byte {at}: past the page cache the same");
    }
}

#[test]
fn a_segment_cut_off_anywhere_keeps_its_whole_records() {
    let files = written();
    let path = only(&files, ".kv");
    let record_bytes = 192 + 4 * 32 + super::rig::BLOCK_BYTES;
    for n_bytes in 0..files[&path].len() {
        let mut files = files.clone();
        files.get_mut(&path).unwrap().truncate(n_bytes);
        for is_cold in [false, true] {
            let disk = SimDisk::with_files(&files);
            disk.set_cold(is_cold);
            let mut rig = open(&disk, &config(256 << 10)).unwrap();
            let whole = (n_bytes.saturating_sub(64) / record_bytes).min(BLOCKS as usize) as u32;
            assert_eq!(n_right(&rig, &format!("{n_bytes} bytes")), whole, "{n_bytes} bytes");
            rig.pump();
            assert_eq!(n_right(&rig, &format!("{n_bytes} bytes")), whole, "{n_bytes} bytes, salvaged");
        }
    }
}

#[test]
fn a_damaged_block_is_quarantined_and_stays_so_until_it_is_saved_again() {
    let mut files = written();
    let path = only(&files, ".kv");
    files.get_mut(&path).unwrap()[64 + 192 + 128 + 5] ^= 1;
    let disk = SimDisk::with_files(&files);
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    assert_eq!(rig.restore(key(0, 0)), Err(MissReason::Corrupt));
    assert_eq!(rig.inner.stats().n_quarantined, 1);
    assert_eq!(rig.restore(key(0, 1)), Ok(record(0, 1)));
    rig.flush();
    let mut again = open(&disk, &config(256 << 10)).unwrap();
    assert!(!again.is_there(0, 0));
    assert_eq!(again.restore(key(0, 0)), Err(MissReason::Corrupt));
    assert_eq!(again.restore(key(0, 50)), Err(MissReason::Absent));
    again.save(record(0, 0));
    again.flush();
    assert_eq!(open(&disk, &config(256 << 10)).unwrap().restore(key(0, 0)), Ok(record(0, 0)));
}

#[test]
fn any_flipped_byte_or_cut_of_a_manifest_is_noticed() {
    let bytes = agent("a name", 0, 2).encode();
    assert_eq!(AgentManifest::decode(&bytes), Ok(agent("a name", 0, 2)));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        assert!(AgentManifest::decode(&flipped).is_err(), "byte {at}");
        assert!(AgentManifest::decode(&bytes[..at]).is_err(), "{at} bytes");
    }
}

#[test]
fn a_block_of_another_model_is_foreign() {
    let disk = SimDisk::with_files(&written());
    let rig = open(&disk, &config(256 << 10)).unwrap();
    let of = |fingerprint| Wanted { key: key(0, 0), fingerprint, room: None };
    let found = rig.restore_all(vec![of([8; 32]), of(MODEL)]);
    assert_eq!(found, [Err(MissReason::Foreign), Ok(record(0, 0))], "and its own is warm");
}

#[test]
fn a_hole_in_a_segment_that_a_crash_left_open_is_found_at_the_start() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    (0..BLOCKS).for_each(|idx| rig.save(record(0, idx)));
    rig.flush();
    let mut files = disk.files();
    let path = only(&files, ".kv");
    files.get_mut(&path).unwrap()[64 + 192 + 128 + 5] ^= 1;
    let rig = open(&SimDisk::with_files(&files), &config(256 << 10)).unwrap();
    assert!(!rig.is_there(0, 0) && rig.is_there(0, 1));
    assert_eq!(rig.restore(key(0, 0)), Err(MissReason::Corrupt));
}

#[test]
fn a_tombstone_that_buries_what_comes_after_it_ends_its_segment() {
    let mut files = written();
    let path = only(&files, ".kv");
    let raised_at = Position { segment: u64::MAX, offset: 0 };
    let tombstone = Kind::Tombstone { why: Death::Deleted, raised_at };
    let bytes = files.get_mut(&path).unwrap();
    // In the place of the seal, so that it is the last record of a segment that is not complete.
    bytes.truncate(bytes.len() - RECORD_HEADER_BYTES);
    bytes.extend(RecordHeader::without_body(tombstone, key(0, 0), 0).encode());
    let disk = SimDisk::with_files(&files);
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    assert_eq!(n_right(&rig, "a tombstone from nowhere"), BLOCKS);
    rig.save(record(5, 0));
    rig.flush();
    assert_eq!(rig.restore(key(5, 0)), Ok(record(5, 0)));
}

#[test]
fn a_segment_whose_id_leaves_none_for_others_is_left_alone() {
    let mut files = written();
    let bytes = files[&only(&files, ".kv")].clone();
    files.insert(PathBuf::from("/store/segments/ffffffffffffffff.kv"), bytes.clone());
    let disk = SimDisk::with_files(&files);
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    rig.save(record(5, 0));
    rig.flush();
    assert_eq!(rig.restore(key(5, 0)), Ok(record(5, 0)));
    assert_eq!(disk.files()[&PathBuf::from("/store/segments/ffffffffffffffff.kv")], bytes);
}

#[test]
fn a_torn_copy_of_a_block_never_stands_for_it_however_often_the_store_is_opened() {
    let mut files = written();
    let others = written_with(&[(0, 0), (6, 0), (6, 1)]);
    let mut copy = others[&only(&others, ".kv")].clone();
    // What a power cut leaves of a segment that blocks were being copied to: no seal, and a hole.
    copy.truncate(copy.len() - RECORD_HEADER_BYTES);
    copy[..64].copy_from_slice(&encode_segment_header(2, 0));
    copy[64 + 192 + 128 + 5] ^= 1;
    files.insert(PathBuf::from("/store/segments/0000000000000002.kv"), copy);
    let disk = SimDisk::with_files(&files);
    for start in 0..3 {
        let mut rig = open(&disk, &config(256 << 10)).unwrap();
        assert_eq!(n_right(&rig, "before tidying up"), BLOCKS, "start {start}");
        rig.flush();
        assert_eq!(n_right(&rig, "after tidying up"), BLOCKS, "start {start}");
        rig.writer.close();
    }
}
