//! The limits hold at all times, and what is given up goes in the right order.

use super::rig::{MODEL, agent, config, key, open, record};
use super::sim_disk::SimDisk;
use crate::agent::{OfModels, Pin};
use crate::block_store::{Trouble, Wanted};
use crate::index::Part;
use crate::place::{Place, Spot};

const MAX_BYTES: u64 = 96 << 10;

#[test]
fn the_directory_never_exceeds_its_cap_and_the_newest_chains_stay() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(MAX_BYTES)).unwrap();
    for chain in 0..100 {
        (0..5).for_each(|idx| rig.save(record(chain, idx)));
        assert_eq!(rig.flush().n_failed, 0, "chain {chain}");
        assert!(rig.inner.stats().stored_bytes <= MAX_BYTES);
    }
    assert!(disk.most_bytes() <= MAX_BYTES, "{} of {MAX_BYTES} at some moment", disk.most_bytes());
    assert!((0..5).all(|idx| rig.restore(key(99, idx)) == Ok(record(99, idx))));
    assert!(rig.inner.stats().n_evicted > 0 && !rig.is_there(0, 0));
    let n_blocks = rig.inner.stats().n_blocks;
    assert!(n_blocks * 920 > MAX_BYTES / 3, "{n_blocks} blocks: much of the cap is used");
    rig.writer.close();
    let again = open(&disk, &config(MAX_BYTES)).unwrap();
    assert!((0..5).all(|idx| again.restore(key(99, idx)) == Ok(record(99, idx))));
}

#[test]
fn leaves_go_before_what_they_rest_on_and_the_longest_unused_first() {
    let mut rig = open(&SimDisk::default(), &config(MAX_BYTES)).unwrap();
    const CHAINS: [u32; 3] = [0, 2, 4];
    for chain in CHAINS {
        (0..3).for_each(|idx| rig.save(record(chain, idx)));
    }
    rig.flush();
    assert!(rig.restore(key(0, 2)).is_ok(), "chain 0 was used last");
    let mut state = rig.inner.shared.state();
    let mut order = Vec::new();
    while let Some((hash, part)) = state.index.next_to_evict() {
        assert_eq!(part, Part::Blocks);
        let found = CHAINS
            .into_iter()
            .flat_map(|c| (0..3).map(move |i| (c, i)))
            .find(|(c, i)| key(*c, *i).hash == hash);
        order.extend(found);
        state.forget_node(&hash);
    }
    for chain in CHAINS {
        let of_chain: Vec<u32> = order.iter().filter(|(c, _)| *c == chain).map(|(_, idx)| *idx).collect();
        assert_eq!(of_chain, [2, 1, 0]);
    }
    let place = |block| order.iter().position(|other| *other == block);
    assert!(place((2, 2)) < place((4, 2)) && place((4, 2)) < place((0, 2)), "{order:?}");
}

#[test]
fn pinned_agents_lose_nothing_and_a_store_full_of_them_says_so() {
    let mut rig = open(&SimDisk::default(), &config(MAX_BYTES)).unwrap();
    (0..5).for_each(|idx| rig.save(record(0, idx)));
    rig.inner.put_agent(agent("a", 0, 5));
    assert!(rig.inner.pin_agent("a", OfModels::All, Pin::Pinned));
    for chain in 1..60 {
        (0..5).for_each(|idx| rig.save(record(chain, idx)));
        rig.flush();
    }
    assert!((0..5).all(|idx| rig.restore(key(0, idx)) == Ok(record(0, idx))));
    let mut rig = open(&SimDisk::default(), &config(MAX_BYTES)).unwrap();
    rig.inner.put_agent(agent("all", 0, 200));
    assert!(rig.inner.pin_agent("all", OfModels::All, Pin::Pinned));
    for idx in 0..200 {
        rig.save(record(0, idx));
        rig.ask_flush();
        rig.pump_a_little();
    }
    let stats = rig.inner.stats();
    assert_eq!(stats.trouble, Some(Trouble::CapReached));
    assert!(stats.stored_bytes <= MAX_BYTES && stats.n_evicted == 0);
}

#[test]
fn the_floor_of_free_space_is_never_broken() {
    let disk = SimDisk::default();
    let (capacity, floor) = (200 << 10, 120 << 10);
    disk.set_capacity(Some(capacity));
    let mut config = config(1 << 20);
    config.free_space_floor = floor;
    let mut rig = open(&disk, &config).unwrap();
    for chain in 0..40 {
        (0..5).for_each(|idx| rig.save(record(chain, idx)));
        rig.ask_flush();
        rig.pump_a_little();
    }
    assert!(capacity - disk.most_bytes() >= floor, "{} bytes were written", disk.most_bytes());
    assert_eq!(rig.inner.stats().trouble, Some(Trouble::DiskFull));
    assert!(rig.restore(key(0, 0)).is_ok(), "nothing is given up for it");
}

#[test]
fn a_lower_cap_is_kept_from_the_first_save_on() {
    let disk = SimDisk::default();
    let mut rig = open(&disk, &config(256 << 10)).unwrap();
    for chain in 0..40 {
        (0..5).for_each(|idx| rig.save(record(chain, idx)));
        rig.flush();
    }
    rig.writer.close();
    let mut rig = open(&disk, &config(MAX_BYTES)).unwrap();
    rig.save(record(90, 0));
    rig.flush();
    assert!(rig.inner.stats().stored_bytes <= MAX_BYTES);
    assert_eq!(rig.restore(key(90, 0)), Ok(record(90, 0)));
}

#[test]
fn what_was_written_today_is_counted_over_restarts_and_from_zero_on_the_next_day() {
    let disk = SimDisk::default();
    disk.set_now(1_000_000 * 86_400 + 5);
    let mut rig = open(&disk, &config(MAX_BYTES)).unwrap();
    rig.save(record(0, 0));
    rig.flush();
    rig.writer.close();
    let written = rig.inner.stats().written_today_bytes;
    assert!((920..3000).contains(&written), "{written}");
    let rig = open(&disk, &config(MAX_BYTES)).unwrap();
    assert!(rig.inner.stats().written_today_bytes >= 920);
    disk.set_now(1_000_001 * 86_400);
    assert_eq!(open(&disk, &config(MAX_BYTES)).unwrap().inner.stats().written_today_bytes, 0);
}

#[test]
fn queued_writes_wait_for_reads_but_not_for_ever() {
    let mut rig = open(&SimDisk::default(), &config(MAX_BYTES)).unwrap();
    rig.save(record(0, 0));
    rig.inner.restore(vec![Wanted { key: key(0, 0), fingerprint: MODEL, room: None }], Box::new(|_| ()));
    assert!(!rig.writer.work(), "the read goes first");
    assert!((0..20).any(|_| rig.writer.work()), "but not for ever");
}

#[test]
fn of_two_groups_that_are_read_differently_each_is_side_by_side() {
    let mut rig = open(&SimDisk::default(), &config(256 << 10)).unwrap();
    for idx in 0..4 {
        for chain in [0, 1] {
            rig.save(record(chain, idx));
        }
    }
    rig.flush();
    let state = rig.inner.shared.state();
    for chain in [0, 1] {
        let spots = (0..4).filter_map(|idx| match state.index.get(&key(chain, idx)) {
            Some(Place::Disk(spot)) => Some(*spot),
            _ => None,
        });
        let spots: Vec<Spot> = spots.collect();
        assert_eq!(spots.len(), 4);
        for two in spots.windows(2) {
            assert_eq!(two[1].at.segment, two[0].at.segment);
            assert_eq!(two[1].at.offset, two[0].at.offset + two[0].n_bytes, "chain {chain}");
        }
    }
}
