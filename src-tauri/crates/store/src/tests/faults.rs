//! A disk that fails: no panic, nothing wrong served, nothing lost that was reported saved, and a way back.

use std::collections::HashSet;

use address::BlockKey;

use super::rig::{N_PIECES, Rig, agent, config, key, open, record, state_keys};
use super::sim_disk::{Fault, LEFTOVERS, Leftover, SimDisk};
use crate::agent::OfModels;
use crate::block_store::{MissReason, StoreEvent, Trouble};

const CHAINS: u32 = 4;
const BLOCKS: u32 = 6;

/// Blocks after which states are saved. The first is buried when the second is durable.
const STATES: [u32; 2] = [2, BLOCKS - 1];

/// Saves, flushes, agents, states and their burials, a deletion and a compaction, whatever the disk says. Returns the
/// keys that a delete or a burial was asked for: these may be gone.
fn work(rig: &mut Rig, pump: fn(&mut Rig)) -> HashSet<BlockKey> {
    let mut deleted: HashSet<BlockKey> = (0..BLOCKS).map(|idx| key(1, idx)).collect();
    deleted.extend(STATES.iter().flat_map(|idx| state_keys(1, *idx)));
    for chain in 0..CHAINS {
        for idx in 0..BLOCKS {
            rig.save(record(chain, idx));
            if idx % 2 == 0 {
                pump(rig);
            }
            if STATES.contains(&idx) {
                rig.save_state(chain, idx);
            }
        }
        rig.inner.put_agent(agent(&format!("agent {chain}"), chain, BLOCKS));
        rig.ask_flush();
        pump(rig);
        if rig.is_state_saved(chain, STATES[1]) {
            rig.inner.bury(&state_keys(chain, STATES[0]));
            deleted.extend(state_keys(chain, STATES[0]));
            pump(rig);
        }
    }
    rig.inner.delete_agent("agent 1", OfModels::All, Box::new(|| ()));
    pump(rig);
    rig.ask_flush();
    pump(rig);
    rig.writer.close();
    deleted
}

/// Everything reported saved is there, of states all pieces, and everything there is right.
fn check(rig: &Rig, saved: &HashSet<BlockKey>, deleted: &HashSet<BlockKey>, what: &str) {
    for chain in 0..CHAINS {
        for idx in 0..BLOCKS {
            let found = rig.restore(key(chain, idx));
            let must = saved.contains(&key(chain, idx)) && !deleted.contains(&key(chain, idx));
            match found {
                Ok(found) => assert_eq!(found, record(chain, idx), "{what}: wrong bytes"),
                Err(why) => assert!(!must, "{what}: {chain}/{idx} was reported saved and is {}", why.name()),
            }
        }
        for idx in STATES {
            let pieces = state_keys(chain, idx);
            let must = pieces.iter().all(|piece| saved.contains(piece) && !deleted.contains(piece));
            assert!(rig.has_state(chain, idx) || !must, "{what}: state {chain}/{idx} was reported saved");
        }
    }
}

/// No piece of a state was called saved before it was said of the block it stands on whether that is.
fn check_order(rig: &Rig, what: &str) {
    let mut settled = HashSet::new();
    for event in rig.events.lock().unwrap().iter() {
        match event {
            StoreEvent::Saved(keys) => {
                for key in keys {
                    settled.extend((!key.group.is_state()).then_some(key.hash));
                    assert!(settled.contains(&key.hash), "{what}: {key:?}");
                }
            }
            StoreEvent::NotSaved(keys) => settled.extend(keys.iter().map(|key| key.hash)),
            _ => {}
        }
    }
}

fn n_ops() -> usize {
    let disk = SimDisk::default();
    work(&mut open(&disk, &config(256 << 10)).unwrap(), Rig::pump);
    disk.n_ops()
}

#[test]
fn every_operation_fails_once_and_nothing_is_lost_that_was_reported_saved() {
    for at in 0..n_ops() {
        for fault in [Fault::Once(at), Fault::Full(at), Fault::Short(at)] {
            let what = format!("{fault:?}");
            let disk = SimDisk::default();
            disk.set_fault(Some(fault));
            let mut rig = match open(&disk, &config(256 << 10)) {
                Ok(rig) => rig,
                Err(_) => {
                    open(&disk, &config(256 << 10)).expect("the second attempt meets a disk that works")
                }
            };
            let deleted = work(&mut rig, Rig::pump);
            check(&rig, &rig.saved(), &deleted, &what);
            check_order(&rig, &what);
            assert_eq!(rig.inner.stats().trouble, None, "{what}: it recovers");
            let saved = rig.saved();
            if matches!(fault, Fault::Short(_)) {
                let n_pieces = CHAINS * STATES.len() as u32 * u32::from(N_PIECES);
                let n_all = (CHAINS * BLOCKS + n_pieces) as usize;
                assert_eq!(saved.len(), n_all, "{what}: a short write is no failure");
            }
            rig.save(record(90, 0));
            assert_eq!(rig.flush().n_saved, 1, "{what}: it saves again");
            assert_eq!(rig.inner.stats().queued_bytes, 0, "{what}: nothing waits for ever");
            drop(rig);
            let again = open(&disk, &config(256 << 10)).unwrap();
            check(&again, &saved, &deleted, &format!("{what}, opened again"));
            assert_eq!(again.restore(key(90, 0)), Ok(record(90, 0)), "{what}");
        }
    }
}

#[test]
fn a_power_cut_at_any_step_leaves_everything_that_was_reported_saved() {
    for at in 0..n_ops() {
        let disk = SimDisk::default();
        disk.set_fault(Some(Fault::PowerCut(at)));
        let (saved, deleted) = match open(&disk, &config(256 << 10)) {
            Err(_) => Default::default(),
            Ok(mut rig) => {
                let deleted = work(&mut rig, Rig::pump_a_little);
                (rig.saved(), deleted)
            }
        };
        for leftover in LEFTOVERS {
            let what = format!("power cut at {at}, {leftover:?}");
            let disk = disk.after_power_cut(leftover);
            let mut rig = open(&disk, &config(256 << 10)).unwrap();
            check(&rig, &saved, &deleted, &what);
            if leftover == Leftover::Nothing {
                check_states_stand_on_blocks(&rig, &what);
            }
            // The start's own work (cutting off, sealing, erasing) changes nothing of that.
            rig.pump();
            check(&rig, &saved, &deleted, &what);
            rig.save(record(90, 0));
            assert_eq!(rig.flush().n_saved, 1, "{what}: it saves again");
        }
    }
}

/// Of what was synced no state is there without its block.
fn check_states_stand_on_blocks(rig: &Rig, what: &str) {
    for chain in 0..CHAINS {
        for idx in STATES {
            let is_alone = rig.has_state(chain, idx) && rig.restore(key(chain, idx)).is_err();
            assert!(!is_alone, "{what}: state {chain}/{idx} without its block");
        }
    }
}

#[test]
fn a_full_disk_is_said_and_when_there_is_room_again_it_saves_again() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    rig.save(record(0, 0));
    rig.flush();
    disk.set_capacity(Some(0));
    rig.save(record(0, 1));
    rig.ask_flush();
    rig.pump_a_little();
    assert_eq!(rig.inner.stats().trouble, Some(Trouble::DiskFull));
    assert_eq!(rig.restore(key(0, 1)), Err(MissReason::Io));
    assert_eq!(rig.restore(key(0, 0)), Ok(record(0, 0)), "reading goes on");
    assert!(rig.events.lock().unwrap().contains(&StoreEvent::NotSaved(vec![key(0, 1)])));
    disk.set_capacity(None);
    rig.pump();
    assert_eq!(rig.inner.stats().trouble, None, "nobody has to offer anything for that");
    assert_eq!(rig.events.lock().unwrap().last(), Some(&StoreEvent::Recovered));
    rig.save(record(0, 1));
    assert_eq!(rig.flush().n_saved, 1);
}

#[test]
fn a_read_only_disk_costs_saving_and_nothing_else() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    rig.save(record(0, 0));
    rig.flush();
    disk.set_read_only(true);
    rig.save(record(0, 1));
    let report = rig.ask_flush();
    rig.pump_a_little();
    assert_eq!(report.lock().unwrap().map(|report| report.n_failed), Some(1), "the flush ends all the same");
    assert_eq!(rig.inner.stats().trouble, Some(Trouble::ReadOnly));
    assert_eq!(rig.restore(key(0, 0)), Ok(record(0, 0)));
}

#[test]
fn a_full_queue_gives_the_record_back() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    let mut n_taken = 0;
    let back = loop {
        match rig.inner.save(record(0, n_taken)) {
            Ok(()) => n_taken += 1,
            Err(back) => break back,
        }
    };
    assert_eq!(*back, record(0, n_taken));
    assert!(rig.inner.stats().queued_bytes <= 64 << 10);
    assert_eq!(rig.restore(key(0, n_taken - 1)), Ok(record(0, n_taken - 1)), "from memory");
    assert_eq!(rig.flush().n_saved, n_taken as usize);
    assert_eq!(rig.inner.stats().queued_bytes, 0);
    rig.save(*back);
}
