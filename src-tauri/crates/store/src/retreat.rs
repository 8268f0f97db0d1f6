//! What the writer does when the disk refuses: it leaves what is in doubt, gives up in good order, and tries again.

use std::time::Instant;

use crate::block_store::{StoreEvent, Trouble};
use crate::segment::Purpose;
use crate::segment::{Lane, Seal};
use crate::writer::Writer;

/// Doublings of the wait after a failure.
const MAX_DOUBLINGS: u32 = 5;

impl Writer {
    /// Leave a lane's segment, whose end is in doubt. What was written there and not synced is the next to be
    /// written again, and states after the blocks they stand on.
    pub(crate) fn leave(&mut self, lane: Lane) {
        if lane != Lane::State {
            self.leave_alone(Lane::State);
        }
        self.leave_alone(lane);
    }

    fn leave_alone(&mut self, lane: Lane) {
        let Some(active) = self.active[lane as usize].take() else { return };
        self.to_cut.push((active.id, active.synced_end, Seal::Not));
        let mut state = self.shared.state();
        active.unsynced.into_iter().rev().for_each(|(record, _)| state.queue.push_front(record));
    }

    /// Leave the segments that grow, and decide what becomes of what waits.
    pub(crate) fn fail(&mut self, trouble: Trouble) {
        self.n_failures += 1;
        // What was written whole before may still be synced; a state not without what was written before it.
        for lane in Lane::ALL {
            let _ = self.commit_lane(lane);
        }
        Lane::ALL.into_iter().for_each(|lane| self.leave(lane));
        self.unsynced_since = None;
        let mut state = self.shared.state();
        let is_worth_another = self.n_failures < 2 && trouble == Trouble::Io;
        if is_worth_another {
            return;
        }
        // Heard in this order, nobody takes what is not saved for what need not be.
        if state.trouble != Some(trouble) {
            state.trouble = Some(trouble);
            state.events.push(StoreEvent::Failing(trouble));
        }
        state.drop_queue();
        let wait = self.config.retry_after * 2u32.pow(self.n_retreats.min(MAX_DOUBLINGS));
        state.retry_at = Some(Instant::now() + wait);
        self.n_retreats += 1;
        self.n_failures = 0;
    }

    /// Find out whether saving works again, since nobody may offer anything before it does.
    pub(crate) fn probe(&mut self) -> Result<(), Trouble> {
        self.look()?;
        self.make_room(self.config.segment_bytes / 4, Purpose::Save)?;
        if self.active(Lane::Whole).is_none() {
            self.begin_segment(Lane::Whole)?;
        }
        match self.active(Lane::Whole) {
            Some(active) => active.file.sync().map_err(|error| Trouble::of(&error)),
            None => Ok(()),
        }
    }

    pub(crate) fn recover(&mut self) {
        self.n_failures = 0;
        self.n_retreats = 0;
        let mut state = self.shared.state();
        if state.trouble.take().is_some() {
            state.events.push(StoreEvent::Recovered);
        }
    }
}
