//! The store that is switched off: nothing is kept and nothing is found.

use address::BlockKey;

use crate::block_store::{BlockStore, Deliver, FlushReport, MissReason, StoreStats, Trouble, Wanted};
use crate::record::BlockRecord;

/// Keeps nothing. Saving succeeds, because nobody was promised that it would be there again.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOff {
    /// Why there is no store, where that is not what the user wanted.
    pub trouble: Option<Trouble>,
}

impl BlockStore for StoreOff {
    fn is_on(&self) -> bool {
        false
    }

    fn save(&self, _record: BlockRecord) -> Result<(), Box<BlockRecord>> {
        Ok(())
    }

    fn restore(&self, wanted: Vec<Wanted>, deliver: Deliver) {
        deliver(wanted.iter().map(|_| Err(MissReason::Absent)).collect());
    }

    fn flush(&self, done: Box<dyn FnOnce(FlushReport) + Send>) {
        done(FlushReport::default());
    }

    fn find(&self, keys: &[BlockKey]) -> Vec<Result<(), MissReason>> {
        vec![Err(MissReason::Absent); keys.len()]
    }

    fn stats(&self) -> StoreStats {
        StoreStats { trouble: self.trouble, ..StoreStats::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use address::{ChainHash, GroupId};
    use std::sync::mpsc::channel;

    #[test]
    fn a_store_that_is_off_answers_every_restore_with_absent() {
        let (sender, receiver) = channel();
        let wanted = [1, 2].map(|n| Wanted {
            key: BlockKey { hash: ChainHash([n; 32]), group: GroupId::full(0) },
            fingerprint: [1; 32],
            room: None,
        });
        StoreOff::default().restore(wanted.into(), Box::new(move |found| sender.send(found).unwrap()));
        assert_eq!(receiver.recv().unwrap(), vec![Err(MissReason::Absent), Err(MissReason::Absent)]);
    }

    #[test]
    fn a_flush_of_a_store_that_is_off_ends_at_once() {
        let (sender, receiver) = channel();
        StoreOff::default().flush(Box::new(move |report| sender.send(report).unwrap()));
        assert_eq!(receiver.recv().unwrap(), FlushReport::default());
    }
}
