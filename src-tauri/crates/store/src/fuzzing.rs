//! What the fuzz targets drive: whole stores over files of arbitrary bytes, on a disk in memory.
//!
//! Digests would keep a fuzzer out of everything behind them, so half of the inputs have theirs put right first.

#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use address::BlockKey;

use crate::agent::{AgentManifest, OfModels, Pin};
use crate::config::{agents_dir, segment_path};
use crate::format::{
    BodyDigest, Kind, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, array, tokens_of,
};
use crate::record::{BlockRecord, SaveReason};
use crate::testing::rig::{self, Rig, agent, config, record};
use crate::testing::sim_disk::SimDisk;

/// Room for the two largest inputs, for what is saved beside them, and for tidying up.
const MAX_BYTES: u64 = 512 << 10;
/// Chain and index of a block that no input holds.
const OURS: (u32, u32) = (77, 0);

/// A store over one or two segments of arbitrary bytes: it opens, gives out nothing but what verifies, comes to
/// rest, takes new blocks and a state, and opens again with the same.
///
/// The first byte says how many segments there are, whose digests are put right, and whether their states are buried.
pub fn segments(input: &[u8]) {
    let Some((how, input)) = input.split_first() else { return };
    let (first, second) = if how & 1 == 0 { (input, None) } else { halves(input) };
    let mut files = BTreeMap::new();
    for (id, bytes) in [(1, Some(first)), (2, second)] {
        let Some(bytes) = bytes else { continue };
        let mut bytes = bytes.to_vec();
        if how & (2 << id) != 0 {
            mend_segment(&mut bytes, id);
        }
        files.insert(segment_path(&config(MAX_BYTES).dir, id), bytes);
    }
    let honest: HashSet<_> = files.values().flat_map(|bytes| verified(bytes)).collect();

    let disk = SimDisk::with_files(&files);
    let mut store = rig::open(&disk, &config(MAX_BYTES)).expect("damage is no reason to stay shut");
    let keys = all_keys(&store);
    let served = serve(&store, &keys, &honest);
    store.pump();
    let after = serve(&store, &keys, &honest);
    assert!(after.iter().all(|record| served.contains(record)), "tidying up changed what is served");

    store.save(record(OURS.0, OURS.1));
    store.save_state(OURS.0, OURS.1);
    store.flush();
    assert_eq!(store.restore(record(OURS.0, OURS.1).key), Ok(record(OURS.0, OURS.1)));
    assert!(store.has_state(OURS.0, OURS.1));
    // Of what the input holds nothing is of use any more but blocks.
    store.inner.bury(if how & 32 == 0 { &[] } else { &keys });
    let after = if how & 32 == 0 { after } else { serve(&store, &keys, &honest) };
    store.flush();
    store.writer.close();
    let again = rig::open(&disk, &config(MAX_BYTES)).expect("what a store leaves behind opens");
    assert_eq!(again.restore(record(OURS.0, OURS.1).key), Ok(record(OURS.0, OURS.1)));
    assert!(again.has_state(OURS.0, OURS.1));
    let reopened = serve(&again, &keys, &honest);
    assert_eq!(reopened, after, "opening again changed what is served");
}

/// A manifest of arbitrary bytes beside a segment: it is read as it would be written, or not at all, and what it
/// says can be listed, pinned and deleted.
///
/// The first byte says whether its digest is put right.
pub fn manifest(input: &[u8]) {
    let Some((how, input)) = input.split_first() else { return };
    let mut bytes = input.to_vec();
    if how & 1 != 0 && bytes.len() >= 32 {
        let end = bytes.len() - 32;
        let digest = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(digest.as_bytes());
    }
    let found = AgentManifest::decode(&bytes);
    let name = match &found {
        Ok(found) => {
            assert_eq!(AgentManifest::decode(&found.encode()).as_ref(), Ok(found));
            AgentManifest::file_name(&found.fingerprint, &found.name)
        }
        Err(_) => "00000000000000000000000000000000.agent".to_owned(),
    };
    let disk = SimDisk::default();
    let mut store = rig::open(&disk, &config(MAX_BYTES)).expect("an empty disk");
    (0..3).for_each(|idx| store.save(record(0, idx)));
    store.inner.put_agent(agent("beside", 0, 3));
    store.flush();
    store.writer.close();
    let mut files = disk.files();
    files.insert(agents_dir(&config(MAX_BYTES).dir).join(Path::new(&name)), bytes);

    let disk = SimDisk::with_files(&files);
    let mut store = rig::open(&disk, &config(MAX_BYTES)).expect("damage is no reason to stay shut");
    let listed = store.inner.agents_where(|_| true);
    // Another model may have one of the same name; of the same model it has taken the other's place.
    let is_in_place =
        found.as_ref().is_ok_and(|found| found.name == "beside" && found.fingerprint == rig::MODEL);
    let is_whole =
        |agent: &AgentManifest| agent.name == "beside" && store.n_saved("beside") == agent.tokens.len();
    assert!(is_in_place || listed.iter().any(|agent| is_whole(agent)));
    assert_eq!(listed.len(), 1 + usize::from(found.is_ok() && !is_in_place));
    let Ok(found) = found else { return };
    assert!(store.inner.pin_agent(&found.name, OfModels::All, Pin::Pinned));
    store.flush();
    assert!(store.inner.delete_agent(&found.name, OfModels::All, Box::new(|| {})));
    store.flush();
    let again = rig::open(&disk, &config(MAX_BYTES)).expect("what a store leaves behind opens");
    assert!(
        again.inner.agents_where(|agent| agent.name == found.name).is_empty(),
        "a deleted agent came back"
    );
}

fn halves(input: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (length, rest) = input.split_at(input.len().min(2));
    let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (first, second) = rest.split_at(rest.len().min(length));
    (first, Some(second))
}

/// Put a segment's digests right, as far as its records follow one another. Two bits of a record's unused bytes
/// keep its header or its body wrong.
fn mend_segment(bytes: &mut [u8], id: u64) {
    if bytes.len() < SEGMENT_HEADER_BYTES {
        return;
    }
    bytes[16..24].copy_from_slice(&id.to_le_bytes());
    let digest = blake3::hash(&bytes[..32]);
    bytes[32..64].copy_from_slice(digest.as_bytes());
    let mut rest = &mut bytes[SEGMENT_HEADER_BYTES..];
    while rest.len() >= RECORD_HEADER_BYTES {
        let (head, body) = rest.split_at_mut(RECORD_HEADER_BYTES);
        let (n_tokens, payload) = (word(head, 8), word(head, 12));
        let Some(n_body) = n_tokens.checked_mul(4).and_then(|n| n.checked_add(payload)) else { return };
        let Some((body, next)) = body.split_at_mut_checked(n_body) else { return };
        if head[54] & 1 == 0 {
            head[128..144].copy_from_slice(&BodyDigest::of(body, &[]).0);
        }
        if head[54] & 2 == 0 {
            let digest = blake3::hash(&head[..160]);
            head[160..].copy_from_slice(digest.as_bytes());
        }
        rest = next;
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(array(bytes, at)) as usize
}

/// Every block that stands anywhere in `bytes` and verifies, found without the store's scan.
fn verified(bytes: &[u8]) -> Vec<(BlockKey, Vec<u32>, Vec<u8>)> {
    let mut found = Vec::new();
    for (at, head) in bytes.windows(RECORD_HEADER_BYTES).enumerate() {
        if &head[..4] != b"SKVR" {
            continue;
        }
        let Ok(header) = RecordHeader::decode(&array(head, 0)) else { continue };
        let body = &bytes[at + RECORD_HEADER_BYTES..];
        let Some(body) = body.get(..header.body_bytes() as usize) else { continue };
        let (tokens, payload) = body.split_at(4 * header.n_tokens as usize);
        if matches!(header.kind, Kind::Block(_)) && BodyDigest::of(tokens, payload) == header.body_digest {
            found.push((header.key, tokens_of(tokens), payload.to_vec()));
        }
    }
    found
}

fn all_keys(store: &Rig) -> Vec<BlockKey> {
    let state = store.inner.shared.state();
    let mut keys: Vec<_> = state.segments.keys().flat_map(|id| state.index.keys_in(*id)).collect();
    keys.sort_unstable();
    keys
}

/// What the store gives out of `keys`; each must be one of `honest`. A state of which a piece is found to be damaged is
/// none, whatever came before that.
fn serve(
    store: &Rig,
    keys: &[BlockKey],
    honest: &HashSet<(BlockKey, Vec<u32>, Vec<u8>)>,
) -> Vec<BlockRecord> {
    let mut served = Vec::new();
    for key in keys {
        if let Ok(found) = store.restore(*key) {
            assert_eq!(found.key, *key);
            let bytes = (found.key, found.tokens.clone(), found.bytes.to_vec());
            assert!(honest.contains(&bytes), "a block that verifies nowhere was given out");
            served.push(found);
        }
    }
    let state = store.inner.shared.state();
    served.retain(|record| state.index.find(&record.key).is_some());
    for record in &served {
        if let SaveReason::Checkpoint { n_pieces } = record.reason {
            let is_of_it =
                |other: &&BlockRecord| other.key.group.is_state() && other.key.hash == record.key.hash;
            assert_eq!(served.iter().filter(is_of_it).count(), usize::from(n_pieces), "a part of a state");
        }
    }
    served
}
