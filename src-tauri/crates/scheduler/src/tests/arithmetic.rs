//! Block arithmetic against brute force, and the counts that others decide by.

use super::sim::{checked, layout};
use crate::block_pool::{BlockPool, Retention};
use crate::footprint::Footprint;
use crate::prefix_cache::{PrefixCache, Registered};
use crate::{
    GroupId, NewSequence, PromptLogits, Scheduler, SchedulerConfig, SeqId, SeqState, StatePoints, StoreMode,
    SubmitError,
};

/// Blocks of `tokens` tokens that the queries at `positions` look into or write.
fn looked_into(tokens: usize, window: usize, positions: std::ops::Range<usize>) -> Vec<usize> {
    let mut blocks: Vec<usize> = positions
        .flat_map(|i| (i + 1).saturating_sub(window)..=i)
        .map(|position| position / tokens)
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

#[test]
fn a_window_needs_exactly_the_blocks_that_its_queries_look_into() {
    for window in [1, 2, 3, 4, 5, 7, 8, 9, 16] {
        let footprint = Footprint::new(&layout(4, &[Some(window)]));
        for position in 0..60 {
            let first = looked_into(4, window, position..position + 1)[0];
            assert_eq!(footprint.first_needed(0, position), first, "window {window} at {position}");
        }
    }
}

#[test]
fn no_chunking_ever_needs_more_blocks_than_the_peak() {
    for window in [1, 2, 5, 8, 9, 16] {
        let footprint = Footprint::new(&layout(4, &[Some(window)]));
        for chunk in [1, 3, 4, 8, 11] {
            for from in 0..12 {
                for to in from + 1..50 {
                    let peak = footprint.peak(0, from, to, chunk);
                    let mut most = 0;
                    for start in (from..to).step_by(chunk) {
                        most = most.max(looked_into(4, window, start..(start + chunk).min(to)).len());
                    }
                    assert!(most <= peak, "window {window}, {from}..{to} by {chunk}: {most} > {peak}");
                    assert!(peak <= most + 2, "window {window}, {from}..{to} by {chunk}: {most} << {peak}");
                }
            }
        }
    }
}

#[test]
fn a_kept_window_has_what_every_boundary_at_its_block_needs() {
    for window in [1, 3, 4, 6, 8, 13] {
        let footprint = Footprint::new(&layout(4, &[None, Some(window)]));
        for kept in 1..60_usize {
            let floor = kept - kept % 4;
            let needed = (floor + 1).saturating_sub(window) / 4..kept.div_ceil(4);
            for block_idx in 0..20 {
                let is_kept = footprint.is_of_kept_window(1, block_idx, &[kept], 0);
                assert_eq!(is_kept, needed.contains(&block_idx), "{window} {kept} {block_idx}");
                let by_distance = footprint.is_of_kept_window(1, block_idx, &[], kept);
                assert!(by_distance || !is_kept, "multiples of {kept} keep block {block_idx}");
                assert!(!footprint.is_of_kept_window(0, block_idx, &[kept], 8), "full groups have none");
            }
        }
    }
}

#[test]
fn the_longest_sequence_that_fits_alone_is_the_longest() {
    let footprint = Footprint::new(&layout(4, &[None, Some(8), Some(8)]));
    for n_blocks in 0..60 {
        let longest = footprint.longest_alone(n_blocks, 100);
        assert!(footprint.alone(longest) <= n_blocks && longest <= 100);
        assert!(longest == 100 || footprint.alone(longest + 1) > n_blocks);
    }
}

fn request(id: u64, n_prompt: u32, max_new_tokens: usize) -> NewSequence {
    NewSequence {
        id: SeqId(id),
        agent: None,
        prompt: checked((0..n_prompt).collect()),
        max_new_tokens,
        kept_windows: Vec::new(),
        state_points: StatePoints::default(),
        answer_ends: Vec::new(),
        prompt_logits: PromptLogits::Last,
        former: None,
    }
}

#[test]
fn unsaved_and_pinned_blocks_count_as_used_until_they_can_be_had() {
    let config = SchedulerConfig { store: StoreMode::On, ..SchedulerConfig::new(100, [0; 32]) };
    let mut scheduler = Scheduler::new(&layout(4, &[None]), 10, config);
    scheduler.submit(request(1, 8, 1)).unwrap();
    let step = scheduler.plan(&|keys| vec![false; keys.len()]).step;
    assert_eq!(scheduler.commit(&step, &[(SeqId(1), 9)]).at_limit, [SeqId(1)]);
    scheduler.finish(SeqId(1));
    assert_eq!((scheduler.pool().n_cached, scheduler.pool().n_unavailable()), (2, 2));
    let completed = scheduler.take_completed();
    completed.iter().for_each(|block| scheduler.mark_saved(&block.key));
    assert_eq!(scheduler.pool().n_unavailable(), 0);
    let keys: Vec<_> = completed.iter().map(|block| block.key).collect();
    assert_eq!(scheduler.pin(&keys).len(), 2);
    assert_eq!((scheduler.pool().n_pinned, scheduler.pool().n_unavailable()), (2, 2));
    scheduler.unpin(&keys);
    assert_eq!(scheduler.evict(&keys), 2);
    assert_eq!(scheduler.pool().n_free, 10);
}

#[test]
fn content_that_must_be_kept_is_not_written_over() {
    let mut pool = BlockPool::new(2, StoreMode::On);
    let key = |n: u8| crate::BlockKey { hash: crate::ChainHash([n; 32]), group: GroupId::full(0) };
    let (block, _) = pool.alloc().unwrap();
    assert!(pool.is_private(block) && pool.register(block, key(1), false));
    assert!(!pool.is_private(block));
    assert_eq!(pool.take_over(block), None, "it is not saved yet");
    pool.mark_saved(block);
    pool.retain(block);
    assert_eq!(pool.take_over(block), None, "somebody else holds it");
    pool.release(block, Retention::Prefix);
    assert_eq!(pool.take_over(block), Some(key(1)));
    assert!(pool.is_private(block));
    pool.check_integrity(&[1, 0]).unwrap();

    assert!(pool.register(block, key(2), false));
    pool.release(block, Retention::Prefix);
    assert_eq!(pool.evict(block), None, "it is not saved yet");
    assert_eq!((pool.n_available(), pool.n_idle_unsaved()), (1, 1));
    pool.set_store(StoreMode::Off);
    assert_eq!((pool.n_available(), pool.n_idle_unsaved()), (2, 0));
    pool.check_integrity(&[0, 0]).unwrap();
}

#[test]
fn nothing_of_a_discarded_sequence_is_offered_to_the_store() {
    let config = SchedulerConfig { store: StoreMode::On, ..SchedulerConfig::new(100, [0; 32]) };
    let mut scheduler = Scheduler::new(&layout(4, &[None]), 10, config);
    scheduler.submit(request(1, 9, 4)).unwrap();
    let step = scheduler.plan(&|keys| vec![false; keys.len()]).step;
    scheduler.commit(&step, &[(SeqId(1), 9)]);
    assert_eq!(scheduler.discard(SeqId(1)).len(), 2);
    assert_eq!(scheduler.take_completed(), []);
    assert_eq!((scheduler.pool().n_free, scheduler.state(SeqId(1))), (10, None));
    assert_eq!(scheduler.discard(SeqId(1)), []);
}

#[test]
fn a_hash_alone_is_no_hit() {
    let footprint = Footprint::new(&layout(4, &[None]));
    let mut cache = PrefixCache::new(footprint, 4, [0; 32], StoreMode::Off);
    let hash = crate::ChainHash([5; 32]);
    let key = crate::BlockKey { hash, group: GroupId::full(0) };
    let root = cache.hasher.root();
    let block = cache.alloc().unwrap();
    assert_eq!(cache.register(block, key, &root, &[1, 2, 3, 4], true), Registered::New);
    assert_eq!(cache.find_hit(&[1, 2, 3, 4, 9], &[hash], 4, None, (None, &[])).n_tokens, 4);
    // Other tokens that hash to the same, as far as the hash can tell.
    assert_eq!(cache.find_hit(&[8, 2, 3, 4, 9], &[hash], 4, None, (None, &[])).n_tokens, 0);
    let other = cache.alloc().unwrap();
    assert_eq!(cache.register(other, key, &root, &[8, 2, 3, 4], true), Registered::Collision);
    assert_eq!(cache.register(other, key, &root, &[1, 2, 3, 4], true), Registered::Taken(block));
}

#[test]
fn what_continues_a_block_that_is_written_over_goes_with_it() {
    for store in [StoreMode::Off, StoreMode::On] {
        let mut cache = PrefixCache::new(Footprint::new(&layout(4, &[None])), 5, [0; 32], store);
        // A row of four blocks, and one beside the last; of an unsaved one nothing is taken.
        let root = cache.hasher.root();
        let mut parent = root;
        let mut blocks = Vec::new();
        for n in 0..4_u32 {
            let tokens = [n; 4];
            let hash = cache.hasher.child(&parent, &tokens);
            let block = cache.alloc().unwrap();
            let is_saved = n != 3;
            let key = crate::BlockKey { hash, group: GroupId::full(0) };
            assert_eq!(cache.register(block, key, &parent, &tokens, is_saved), Registered::New);
            blocks.push((block, key));
            parent = hash;
        }
        for (block, _) in blocks.iter().rev() {
            cache.pool.release(*block, Retention::Prefix);
        }
        let (second, _) = blocks[1];
        cache.pool.retain(second);
        assert!(cache.take_over(second));
        let left: Vec<bool> = blocks.iter().map(|(_, key)| cache.pool.lookup(key).is_some()).collect();
        assert_eq!(left, [true, false, false, store == StoreMode::On]);
        assert_eq!(cache.pool.counts().n_free, if store == StoreMode::On { 2 } else { 3 });
        cache.check_integrity(&[0, 1, 0, 0, 0]).unwrap();
    }
}

#[test]
fn at_most_half_the_pool_is_ever_pinned() {
    let mut scheduler = Scheduler::new(&layout(4, &[None]), 9, SchedulerConfig::new(100, [0; 32]));
    scheduler.submit(request(1, 32, 1)).unwrap();
    let step = scheduler.plan(&|keys| vec![false; keys.len()]).step;
    scheduler.commit(&step, &[(SeqId(1), 9)]);
    scheduler.finish(SeqId(1));
    let prompt: Vec<u32> = (0..32).collect();
    let hashes = scheduler.addresses(&prompt).whole;
    let keys: Vec<_> = hashes.iter().map(|&hash| crate::BlockKey { hash, group: GroupId::full(0) }).collect();
    assert_eq!(scheduler.pin(&keys).len(), 4);
    assert_eq!(scheduler.pin(&keys).len(), 4, "pinning again changes nothing");
}

#[test]
fn a_step_is_booked_once() {
    let mut scheduler = Scheduler::new(&layout(4, &[None]), 9, SchedulerConfig::new(100, [0; 32]));
    scheduler.submit(request(1, 5, 4)).unwrap();
    let first = scheduler.plan(&|keys| vec![false; keys.len()]).step;
    scheduler.commit(&first, &[(SeqId(1), 9)]);
    scheduler.commit(&first, &[(SeqId(1), 9)]);
    assert_eq!(scheduler.state(SeqId(1)), Some(SeqState::Decoding { n_generated: 1 }));
    let second = scheduler.plan(&|keys| vec![false; keys.len()]).step;
    scheduler.commit(&second, &[(SeqId(1), 9)]);
    scheduler.commit(&first, &[(SeqId(1), 9)]);
    assert_eq!(scheduler.plan(&|keys| vec![false; keys.len()]).step.rows[0].start, 6);
    scheduler.check_integrity().unwrap();
}

#[test]
fn what_cannot_run_is_refused_and_the_rest_is_clamped() {
    let mut scheduler = Scheduler::new(&layout(4, &[None]), 5, SchedulerConfig::new(100, [0; 32]));
    assert_eq!(scheduler.effective_context, 20);
    let too_long = |n_tokens| Err(SubmitError::TooLong { n_tokens, limit: 20 });
    assert_eq!(scheduler.submit(request(1, 21, 0)), too_long(21));
    assert_eq!(scheduler.submit(request(1, 20, 1)), too_long(20));
    assert_eq!(scheduler.submit(request(1, 20, 0)).unwrap().max_new_tokens, 0);
    assert_eq!(scheduler.submit(request(2, 15, 50)).unwrap().max_new_tokens, 5);
    assert_eq!(scheduler.submit(request(2, 5, 1)), Err(SubmitError::DuplicateId(SeqId(2))));
}

#[test]
fn the_context_is_the_model_s_where_the_pool_is_larger() {
    let scheduler = Scheduler::new(&layout(4, &[None]), 50, SchedulerConfig::new(100, [0; 32]));
    assert_eq!(scheduler.effective_context, 100);
}

/// Conversations of `n_tokens` that are wholly resident after `n_agents` of them went through a pool one by one.
fn resident_after(layout: &crate::KvLayout, n_blocks: usize, n_agents: u32, n_tokens: u32) -> usize {
    let config = SchedulerConfig {
        step_token_budget: 256,
        max_chunk: 256,
        ..SchedulerConfig::new(2 * n_tokens as usize, [0; 32])
    };
    let mut scheduler = Scheduler::new(layout, n_blocks, config);
    let prompt = |agent: u32| -> Vec<u32> { (0..n_tokens).map(|i| agent * n_tokens + i).collect() };
    for agent in 0..n_agents {
        let id = SeqId(u64::from(agent));
        scheduler.submit(NewSequence { id, prompt: checked(prompt(agent)), ..request(0, 1, 1) }).unwrap();
        while scheduler.state(id) != Some(SeqState::AtLimit) {
            let step = scheduler.plan(&|keys| vec![false; keys.len()]).step;
            let row = &step.rows[0];
            let is_last = row.end() == n_tokens as usize;
            let sampled = is_last.then_some((id, 7));
            scheduler.commit(&step, sampled.as_slice());
        }
        scheduler.finish(id);
    }
    scheduler.check_integrity().unwrap();
    let footprint = Footprint::new(layout);
    let is_resident = |agent: &u32| {
        let hashes = scheduler.addresses(&prompt(*agent)).whole;
        (0..footprint.n_groups()).all(|group_idx| {
            let needed = &hashes[footprint.first_needed(group_idx, n_tokens as usize)..];
            needed
                .iter()
                .all(|&hash| scheduler.n_resident(&[scheduler.cache.footprint.key(hash, group_idx)]) == 1)
        })
    };
    (0..n_agents).filter(is_resident).count()
}

/// Gemma 3's shape: one full group, five of a window of 512.
#[test]
fn a_pool_keeps_as_many_conversations_as_its_capacity_says_and_no_more() {
    let layout = layout(32, &[None, Some(512), Some(512), Some(512), Some(512), Some(512)]);
    for n_tokens in [2_048, 4_096] {
        let residency = crate::Residency::new(&layout, n_tokens as usize, &[], 1_024);
        for n_agents in [1, 3, 5] {
            // Beside them the one that runs has a chunk of 256 tokens before its windows slide.
            let n_blocks = n_agents * residency.n_live + 6 * 256 / 32;
            assert_eq!(residency.agents(n_blocks * layout.block_bytes), n_agents);
            assert_eq!(resident_after(&layout, n_blocks, n_agents as u32, n_tokens), n_agents);
            assert_eq!(resident_after(&layout, n_blocks, n_agents as u32 + 1, n_tokens), n_agents);
        }
    }
}
