//! Agents: found again, pinned, deleted with what is theirs alone.

use std::sync::{Arc, Mutex};

use super::rig::{Rig, agent, config, hash, key, open, record};
use super::sim_disk::{Fault, LEFTOVERS, SimDisk};
use crate::agent::{AgentManifest, OfModels, Pin};
use crate::block_store::MissReason;

/// `a` and `b` share the first two blocks of chain 0; `a` goes on with chain 1, `b` with chain 2. States stand at the
/// three ends.
fn shared_prompt(rig: &mut Rig) -> (AgentManifest, AgentManifest) {
    let branch = |chain: u32, idx: u32| {
        let mut record = record(chain, idx);
        record.parent = if idx == 2 { hash(0, 1) } else { hash(chain, idx - 1) };
        record
    };
    (0..2).for_each(|idx| rig.save(record(0, idx)));
    for chain in [1, 2] {
        (2..4).for_each(|idx| rig.save(branch(chain, idx)));
        rig.save_state(chain, 3);
    }
    rig.save_state(0, 1);
    let manifest = |name: &str, chain: u32| AgentManifest {
        blocks: vec![hash(0, 0), hash(0, 1), hash(chain, 2), hash(chain, 3)],
        ..agent(name, 0, 4)
    };
    let (a, b) = (manifest("a", 1), manifest("b", 2));
    rig.inner.put_agent(a.clone());
    rig.inner.put_agent(b.clone());
    rig.flush();
    (a, b)
}

fn manifest(rig: &Rig, name: &str) -> Option<AgentManifest> {
    let state = rig.inner.shared.state();
    state.agents.values().find(|agent| agent.name == name).map(|agent| (**agent).clone())
}

fn delete(rig: &mut Rig, name: &str) {
    let is_done = Arc::new(Mutex::new(false));
    let done = Arc::clone(&is_done);
    assert!(rig.inner.delete_agent(name, OfModels::All, Box::new(move || *done.lock().unwrap() = true)));
    rig.pump();
    assert!(*is_done.lock().unwrap(), "a deletion ends");
}

#[test]
fn an_agent_is_found_again_with_its_exact_tokens() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    let (a, b) = shared_prompt(&mut rig);
    let rig = open(&disk, &config(256 << 10)).unwrap();
    assert_eq!((manifest(&rig, "a"), manifest(&rig, "b")), (Some(a), Some(b)));
}

#[test]
fn only_durable_tokens_count_as_saved() {
    let mut rig = open(&SimDisk::default(), &config(256 << 10)).unwrap();
    (0..3).for_each(|idx| rig.save(record(0, idx)));
    rig.inner.put_agent(agent("a", 0, 4));
    assert_eq!(rig.n_saved("a"), 0);
    rig.flush();
    assert_eq!(rig.n_saved("a"), 96, "of 128");
}

#[test]
fn what_an_agent_shares_counts_as_saved_once_its_own_manifest_would_keep_it_from_being_deleted_with_another()
{
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    (0..3).for_each(|idx| rig.save(record(0, idx)));
    rig.inner.put_agent(agent("a", 0, 3));
    rig.flush();
    rig.inner.put_agent(agent("b", 0, 3));
    assert_eq!((rig.n_saved("a"), rig.n_saved("b")), (96, 0), "a crash would leave a only");
    let mut after = open(&disk.after_power_cut(LEFTOVERS[0]), &config(256 << 10)).unwrap();
    delete(&mut after, "a");
    assert!(!after.is_there(0, 0));
    rig.flush();
    assert_eq!(rig.n_saved("b"), 96);
    let mut after = open(&disk.after_power_cut(LEFTOVERS[0]), &config(256 << 10)).unwrap();
    delete(&mut after, "a");
    assert_eq!((after.is_there(0, 0), after.n_saved("b")), (true, 96));
}

#[test]
fn deleting_an_agent_erases_what_is_its_alone_and_leaves_the_other_whole() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    let (_, b) = shared_prompt(&mut rig);
    let needle = |chain: u32| record(chain, 3).tokens[5..9].iter().flat_map(|t| t.to_le_bytes()).collect();
    let is_on_disk = |needle: &Vec<u8>| disk.files().values().any(|f| f.windows(16).any(|w| w == needle));
    let (own, others): (Vec<u8>, Vec<u8>) = (needle(1), needle(2));
    assert!(is_on_disk(&own) && is_on_disk(&others));
    delete(&mut rig, "a");
    assert!(!is_on_disk(&own), "its text is in no file");
    assert!(is_on_disk(&others));
    for rig in [rig, open(&disk, &config(256 << 10)).unwrap()] {
        assert_eq!((manifest(&rig, "a"), manifest(&rig, "b")), (None, Some(b.clone())));
        assert_eq!(rig.restore(key(1, 2)), Err(MissReason::Absent));
        assert_eq!(rig.restore(key(1, 3)), Err(MissReason::Absent));
        assert!(rig.restore(key(0, 1)).is_ok() && rig.restore(key(2, 3)).is_ok());
    }
}

#[test]
fn deleting_an_agent_erases_what_it_said_before_an_edit_too() {
    let mut rig = open(&SimDisk::default(), &config(256 << 10)).unwrap();
    (0..3).for_each(|idx| rig.save(record(0, idx)));
    (0..3).for_each(|idx| rig.save(record(1, idx)));
    rig.inner.put_agent(agent("a", 0, 3));
    rig.flush();
    rig.inner.put_agent(agent("a", 1, 3));
    rig.flush();
    delete(&mut rig, "a");
    assert!((0..3).all(|idx| !rig.is_there(0, idx) && !rig.is_there(1, idx)));
}

#[test]
fn a_power_cut_at_any_step_of_a_deletion_leaves_the_agent_listed_or_its_blocks_gone() {
    let written = || {
        let disk = SimDisk::default();
        let mut rig = open(&disk, &config(256 << 10)).unwrap();
        shared_prompt(&mut rig);
        (disk, rig)
    };
    let (disk, mut rig) = written();
    let first = disk.n_ops();
    delete(&mut rig, "a");
    for at in first..disk.n_ops() {
        let (disk, mut rig) = written();
        disk.set_fault(Some(Fault::PowerCut(at)));
        rig.inner.delete_agent("a", OfModels::All, Box::new(|| ()));
        rig.pump_a_little();
        for leftover in LEFTOVERS {
            let disk = disk.after_power_cut(leftover);
            let mut rig = open(&disk, &config(256 << 10)).unwrap();
            rig.pump();
            let is_listed = manifest(&rig, "a").is_some();
            let is_gone = (2..4).all(|idx| rig.restore(key(1, idx)).is_err()) && !rig.has_state(1, 3);
            assert!(is_listed || is_gone, "power cut at {at}, {leftover:?}");
            let others = rig.restore(key(2, 3)).is_ok() && rig.has_state(2, 3) && rig.has_state(0, 1);
            assert!(others, "power cut at {at}, {leftover:?}: the other agent");
        }
    }
}

#[test]
fn a_pin_outlives_a_restart() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    shared_prompt(&mut rig);
    assert!(rig.inner.pin_agent("a", OfModels::All, Pin::Pinned));
    assert!(!rig.inner.pin_agent("nobody", OfModels::All, Pin::Pinned));
    rig.flush();
    let rig = open(&disk, &config(256 << 10)).unwrap();
    assert_eq!(manifest(&rig, "a").unwrap().pin, Pin::Pinned);
    assert_eq!(manifest(&rig, "b").unwrap().pin, Pin::Unpinned);
}

#[test]
fn a_name_has_a_manifest_for_each_model_and_each_can_be_pinned_and_deleted_alone() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    let of = |fingerprint: [u8; 32], chain: u32| AgentManifest { fingerprint, ..agent("a", chain, 2) };
    for (model, chain) in [([1; 32], 0), ([2; 32], 2)] {
        (0..2).for_each(|idx| rig.save(record(chain, idx)));
        rig.inner.put_agent(of(model, chain));
    }
    assert!(rig.inner.pin_agent("a", OfModels::One([2; 32]), Pin::Pinned));
    assert!(!rig.inner.pin_agent("a", OfModels::One([3; 32]), Pin::Pinned));
    rig.flush();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    let pins = |rig: &Rig| {
        let mut found = rig.inner.agents_where(|agent| agent.name == "a");
        found.sort_by_key(|agent| agent.fingerprint);
        found.iter().map(|agent| (agent.fingerprint[0], agent.pin)).collect::<Vec<_>>()
    };
    assert_eq!(pins(&rig), [(1, Pin::Unpinned), (2, Pin::Pinned)]);
    assert!(rig.inner.delete_agent("a", OfModels::One([1; 32]), Box::new(|| ())));
    rig.pump();
    for rig in [rig, open(&disk, &config(256 << 10)).unwrap()] {
        assert_eq!(pins(&rig), [(2, Pin::Pinned)]);
        assert!(!rig.is_there(0, 1) && rig.is_there(2, 1));
    }
}

#[test]
fn a_tombstone_that_compaction_moves_still_buries() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    shared_prompt(&mut rig);
    rig.seal();
    delete(&mut rig, "a");
    rig.seal();
    let last = *rig.inner.shared.state().segments.keys().last().unwrap();
    rig.writer.compact(last).unwrap();
    let rig = open(&disk, &config(256 << 10)).unwrap();
    assert!(!rig.is_there(1, 2) && !rig.is_there(1, 3) && rig.is_there(2, 3));
}
