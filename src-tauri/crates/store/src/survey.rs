//! What of the records that stand in the segments counts at a start: of each key the last one that nothing buries, and
//! of states those that are whole.

use std::collections::{BTreeMap, HashMap, HashSet};

use address::{BlockKey, ChainHash};

use crate::format::{Death, Kind, Position, RecordHeader};
use crate::place::Spot;
use crate::record::fate_of;
use crate::scan::Scanned;
use crate::segment::Tombstone;

/// The records of the segments that were looked at so far, in the order of their ids.
#[derive(Default)]
pub(crate) struct Survey {
    alive: HashMap<BlockKey, (Position, RecordHeader)>,
    /// Records whose bytes are there and which do not count, by their fate: a newer one of the same key or a tombstone
    /// has made them dead, or damage.
    dead: HashMap<BlockKey, Vec<Spot>>,
    /// By their fate.
    damaged: HashSet<BlockKey>,
    tombstones: Vec<Tombstone>,
}

/// What came out.
pub(crate) struct Surveyed {
    /// What can be restored, in the order of its saving.
    pub(crate) alive: Vec<(Position, RecordHeader)>,
    /// Pieces of states that are on disk and do not count, by their hash.
    pub(crate) dead_pieces: HashMap<ChainHash, Vec<Spot>>,
    /// What is not there because of damage.
    pub(crate) damaged: Vec<BlockKey>,
    /// Bodies of deleted agents: a crash may have come before they were overwritten.
    pub(crate) to_erase: Vec<Position>,
}

/// The pieces of a state that are alive, in the order in which they stand.
type Pieces = BTreeMap<Position, BlockKey>;

impl Survey {
    /// Take in what a segment holds; returns its tombstones.
    pub(crate) fn add(&mut self, found: Scanned) -> Vec<Tombstone> {
        let mut in_segment = Vec::new();
        for (at, header) in found.records {
            match header.kind {
                Kind::Block(_) => {
                    if let Some((at, before)) = self.alive.insert(header.key, (at, header)) {
                        self.note_dead(at, &before);
                    }
                }
                Kind::Tombstone { why, raised_at } => {
                    in_segment.push(Tombstone { key: header.key, why, raised_at });
                }
                Kind::Seal => {}
            }
        }
        for (at, header) in found.damaged {
            self.damaged.insert(fate_of(&header.key));
            self.note_dead(at, &header);
        }
        self.tombstones.extend(&in_segment);
        in_segment
    }

    /// Decide what counts.
    pub(crate) fn finish(mut self) -> Surveyed {
        let mut states: HashMap<ChainHash, Pieces> = HashMap::new();
        for (key, (at, _)) in self.alive.iter().filter(|(key, _)| key.group.is_state()) {
            states.entry(key.hash).or_default().insert(*at, *key);
        }
        let mut to_erase = Vec::new();
        let tombstones = std::mem::take(&mut self.tombstones);
        for tombstone in &tombstones {
            self.bury(tombstone, &mut states);
            if tombstone.why == Death::Deleted {
                let fate = fate_of(&tombstone.key);
                // Its zeros are no damage.
                self.damaged.remove(&fate);
                let buried = self.dead.get(&fate).into_iter().flatten().map(|spot| spot.at);
                to_erase.extend(buried.filter(|at| *at < tombstone.raised_at));
            }
        }
        to_erase.extend(self.kill_left_over(&tombstones, &mut states));
        for pieces in states.values_mut() {
            self.drop_parts(pieces);
        }
        to_erase.sort_unstable();
        to_erase.dedup();
        let is_there = |fate: &BlockKey| match fate.group.is_state() {
            true => states.get(&fate.hash).is_some_and(|pieces| !pieces.is_empty()),
            false => self.alive.contains_key(fate),
        };
        let damaged = self.damaged.iter().filter(|fate| !is_there(fate)).copied().collect();
        // The time of saving stands for the time of use.
        let mut alive: Vec<(Position, RecordHeader)> = self.alive.into_values().collect();
        alive.sort_unstable_by_key(|(at, header)| (header.saved_at, *at));
        let of_states = self.dead.into_iter().filter(|(fate, _)| fate.group.is_state());
        let dead_pieces = of_states.map(|(fate, spots)| (fate.hash, spots)).collect();
        Surveyed { alive, dead_pieces, damaged, to_erase }
    }

    fn note_dead(&mut self, at: Position, header: &RecordHeader) {
        let spot = Spot { at, n_bytes: header.record_bytes() };
        self.dead.entry(fate_of(&header.key)).or_default().push(spot);
    }

    /// A record that was alive is not.
    fn kill(&mut self, key: &BlockKey) -> Option<Position> {
        let (at, header) = self.alive.remove(key)?;
        self.note_dead(at, &header);
        Some(at)
    }

    /// Kill what a tombstone buries.
    fn bury(&mut self, tombstone: &Tombstone, states: &mut HashMap<ChainHash, Pieces>) {
        let fate = fate_of(&tombstone.key);
        let is_any_buried = if fate.group.is_state() {
            let pieces = states.get_mut(&fate.hash);
            pieces.is_some_and(|pieces| !self.kill_before(tombstone.raised_at, pieces).is_empty())
        } else {
            let is_before = self.alive.get(&fate).is_some_and(|(at, _)| *at < tombstone.raised_at);
            is_before && self.kill(&fate).is_some()
        };
        if is_any_buried && tombstone.why == Death::Corrupt {
            self.damaged.insert(fate);
        }
    }

    fn kill_before(&mut self, end: Position, pieces: &mut Pieces) -> Vec<Position> {
        let mut killed = Vec::new();
        while let Some(first) = pieces.first_entry().filter(|first| *first.key() < end) {
            killed.extend(self.kill(&first.remove()));
        }
        killed
    }

    /// Programs that know no states delete an agent without them: those whose blocks were deleted go with them.
    fn kill_left_over(
        &mut self,
        tombstones: &[Tombstone],
        states: &mut HashMap<ChainHash, Pieces>,
    ) -> Vec<Position> {
        let blocks = self.alive.keys().filter(|key| !key.group.is_state() && states.contains_key(&key.hash));
        let with_blocks: HashSet<ChainHash> = blocks.map(|key| key.hash).collect();
        let mut killed = Vec::new();
        for tombstone in tombstones.iter().filter(|tombstone| tombstone.why == Death::Deleted) {
            let hash = tombstone.key.hash;
            if let Some(pieces) = states.get_mut(&hash).filter(|_| !with_blocks.contains(&hash)) {
                killed.extend(self.kill_before(tombstone.raised_at, pieces));
            }
        }
        killed
    }

    /// Kill pieces of a state of which others are not there.
    fn drop_parts(&mut self, pieces: &mut Pieces) {
        let n_pieces = |survey: &Survey, key: &BlockKey| match survey.alive.get(key) {
            Some((_, RecordHeader { kind: Kind::Block(reason), .. })) => reason.n_pieces(),
            _ => 0,
        };
        // States of one address that were cut otherwise are none of each other's.
        let last = pieces.last_key_value().map_or(0, |(_, key)| n_pieces(self, key));
        let is_of_last = |survey: &Survey, key: &BlockKey| n_pieces(survey, key) == last;
        let n_there = pieces.values().filter(|key| is_of_last(self, key)).count();
        let is_whole = n_there == usize::from(last);
        let parts: Vec<_> = pieces
            .iter()
            .filter(|(_, key)| !(is_whole && is_of_last(self, key)))
            .map(|(at, key)| (*at, *key))
            .collect();
        for (at, key) in parts {
            self.kill(&key);
            pieces.remove(&at);
        }
    }
}
