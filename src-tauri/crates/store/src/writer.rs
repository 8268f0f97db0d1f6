//! The one that writes: takes records off the queue, appends them, syncs them in groups, and gives up in good order.
//!
//! A record is in memory until its group is synced; only then does the index point to the disk and the listener
//! hear `Saved`. So a failed sync loses nothing: the group is written again to a new segment. What fails twice in a
//! row is given up, and nothing is taken until `retry_at`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block_store::{FlushReport, Trouble};
use crate::config::StoreConfig;
use crate::disk::{Disk, Lock};
use crate::format::{RecordHeader, token_bytes};
use crate::jobs::Job;
use crate::opened::Opened;
use crate::place::Spot;
use crate::record::BlockRecord;
use crate::segment::{Active, Lane, Purpose, Seal};
use crate::state::{Shared, StoreState};

const SECONDS_A_DAY: u64 = 86_400;
/// How often the meter is written when nothing else happens.
pub(crate) const METER_EVERY: Duration = Duration::from_secs(60);
/// How often in a row a record waits for readers, each time until the bell rings or 20 ms have passed.
const MAX_YIELDS: u32 = 10;
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: StoreConfig,
    pub(crate) shared: Arc<Shared>,
    /// What keeps other processes out of the directory.
    pub(crate) lock: Box<dyn Lock>,
    /// When it was last looked at what is still there.
    pub(crate) looked_at: Option<Instant>,
    /// By [`Lane`].
    pub(crate) active: [Option<Active>; Lane::ALL.len()],
    pub(crate) next_segment: u64,
    pub(crate) unsynced_since: Option<Instant>,
    /// Segments to cut off at an offset.
    pub(crate) to_cut: Vec<(u64, u64, Seal)>,
    /// Those of them that failed; tried again with the meter.
    pub(crate) uncut: Vec<(u64, u64, Seal)>,
    /// How often in a row a record waited for readers.
    n_yields: u32,
    pub(crate) n_failures: u32,
    pub(crate) n_retreats: u32,
    pub(crate) meter: (u64, u64),
    pub(crate) meter_saved: (u64, Instant),
}

impl Writer {
    pub(crate) fn new(disk: Arc<dyn Disk>, config: StoreConfig, opened: Opened) -> Writer {
        let mut state = opened.state;
        let today = disk.now() / SECONDS_A_DAY;
        let meter = if opened.meter.0 == today { opened.meter } else { (today, 0) };
        state.counters.written_today_bytes = meter.1;
        // What may wait to be saved comes again as long as streams run.
        let max_idle_bytes = usize::try_from(config.queue_bytes).unwrap_or(usize::MAX);
        Writer {
            disk,
            config,
            shared: Arc::new(Shared::new(state, max_idle_bytes)),
            lock: opened.lock,
            looked_at: None,
            active: [const { None }; Lane::ALL.len()],
            next_segment: opened.next_segment,
            unsynced_since: None,
            to_cut: opened.to_cut,
            uncut: Vec::new(),
            n_yields: 0,
            n_failures: 0,
            n_retreats: 0,
            meter,
            meter_saved: (meter.1, Instant::now()),
        }
    }

    /// Work until the store is dropped, then make everything durable that can be.
    pub(crate) fn run(mut self) {
        loop {
            {
                let state = self.shared.state();
                if state.is_stopping && state.retry_at.is_some() {
                    break;
                }
            }
            if self.work() {
                continue;
            }
            let state = self.shared.state();
            let is_idle = state.queue.is_empty() && state.jobs.is_empty() && state.flushes.is_empty();
            if state.is_stopping && is_idle {
                break;
            }
            let wait = self.wait(&state, Instant::now());
            let _unused = self.shared.writer_bell.wait_timeout(state, wait);
        }
        self.close();
    }

    /// How long there is nothing to do unless the bell rings.
    fn wait(&self, state: &StoreState, now: Instant) -> Duration {
        let commit = self.unsynced_since.map(|since| since + self.config.commit_after);
        let look = self.look_due(state, now);
        let due = commit.into_iter().chain(state.retry_at).chain(look).min();
        let reads = (state.n_reading > 0).then_some(Duration::from_millis(20));
        let due = due.map_or(METER_EVERY, |due| due.saturating_duration_since(now));
        reads.map_or(due, |reads| reads.min(due)).max(Duration::from_millis(1))
    }

    /// What is written and not synced.
    fn unsynced(&self) -> impl Iterator<Item = &Arc<BlockRecord>> {
        self.active.iter().flatten().flat_map(|active| &active.unsynced).map(|(record, _)| record)
    }

    /// The last commit; then the segments are sealed, so that the next start need not read them all.
    pub(crate) fn close(&mut self) {
        let seal_all = |writer: &mut Writer| Lane::ALL.into_iter().try_for_each(|lane| writer.seal(lane));
        let _ = self
            .look()
            .and_then(|()| self.commit())
            .and_then(|()| self.write_agents())
            .and_then(|()| seal_all(self));
        self.save_meter();
        self.shared.announce();
    }

    /// Do one thing; false when there is nothing to do now.
    pub(crate) fn work(&mut self) -> bool {
        let did = self.work_quietly();
        self.shared.announce();
        did
    }

    fn work_quietly(&mut self) -> bool {
        let now = Instant::now();
        {
            let mut state = self.shared.state();
            match state.retry_at {
                Some(retry_at) if now < retry_at && !state.is_stopping => {
                    drop(state);
                    return self.end_flushes();
                }
                _ => state.retry_at = None,
            }
        }
        if self.look_due(&self.shared.state(), now).is_some_and(|due| due <= now) {
            if let Err(trouble) = self.look() {
                self.fail(trouble);
            }
            return true;
        }
        let job = self.shared.state().jobs.pop_front();
        if let Some(job) = job {
            self.run_job(job);
            return true;
        }
        if let Some((id, end, seal)) = self.to_cut.pop() {
            if self.cut(id, end, seal).is_err() {
                // Whatever is behind the end was never promised to anybody, so there is time.
                self.uncut.push((id, end, seal));
            }
            return true;
        }
        if self.is_commit_due(now) {
            // A flush of nothing says nothing about the disk.
            let is_proof = self.unsynced().next().is_some() || !self.shared.state().dirty_agents.is_empty();
            match self.look().and_then(|()| self.commit()).and_then(|()| self.write_agents()) {
                Ok(()) if is_proof => self.recover(),
                Ok(()) => {}
                Err(trouble) => self.fail(trouble),
            }
            self.end_flushes();
            return true;
        }
        let record = {
            let mut state = self.shared.state();
            let is_urgent = !state.flushes.is_empty() || state.is_stopping;
            if state.n_reading > 0 && !is_urgent && self.n_yields < MAX_YIELDS {
                self.n_yields += 1;
                return false;
            }
            self.n_yields = 0;
            state.queue.pop_front()
        };
        let Some(record) = record else {
            if self.shared.state().trouble.is_some() {
                match self.probe() {
                    Ok(()) => self.recover(),
                    Err(trouble) => self.fail(trouble),
                }
                return true;
            }
            let did = self.tidy_up();
            self.save_meter_now_and_then(now);
            return did;
        };
        if !self.shared.state().is_queued(&record) {
            // It was deleted while it waited.
            self.shared.state().queued_bytes -= StoreState::queue_cost(&record);
            return true;
        }
        match self.append_block(&record) {
            Ok(spot) => {
                if let Some(active) = self.active_mut(Lane::of(&record.key)) {
                    active.unsynced.push((record, spot));
                }
                self.unsynced_since.get_or_insert(now);
            }
            Err(trouble) => {
                self.shared.state().queue.push_front(record);
                self.fail(trouble);
            }
        }
        true
    }

    fn is_commit_due(&self, now: Instant) -> bool {
        let state = self.shared.state();
        let n_bytes: u64 = self.unsynced().map(|record| StoreState::queue_cost(record)).sum();
        let is_settled = n_bytes == 0;
        let first = state.queue.front().map(|_| state.n_queued - state.queue.len() as u64 + 1);
        let is_flush_next =
            state.flushes.front().is_some_and(|flush| first.is_none_or(|first| first > flush.until));
        let is_last =
            state.is_stopping && state.queue.is_empty() && (!is_settled || !state.dirty_agents.is_empty());
        is_flush_next
            || is_last
            || n_bytes > self.config.queue_bytes / 2
            || self.unsynced_since.is_some_and(|since| now >= since + self.config.commit_after)
            || (is_settled && state.queue.is_empty() && !state.dirty_agents.is_empty())
    }

    /// Tell those whose records are all settled.
    fn end_flushes(&mut self) -> bool {
        let mut done = Vec::new();
        {
            let mut state = self.shared.state();
            let n_pending = (state.queue.len() + self.unsynced().count()) as u64;
            let n_settled = state.n_queued - n_pending;
            while state.flushes.front().is_some_and(|flush| flush.until <= n_settled) {
                done.extend(state.flushes.pop_front());
            }
        }
        let any = !done.is_empty();
        let counters = self.shared.state().counters;
        // The listener hears of the records before the flush is reported.
        self.shared.announce();
        for flush in done {
            (flush.done)(FlushReport {
                n_saved: (counters.n_saved - flush.saved_before) as usize,
                n_failed: (counters.n_not_saved - flush.not_saved_before) as usize,
            });
        }
        any
    }

    fn append_block(&mut self, record: &BlockRecord) -> Result<Spot, Trouble> {
        let header = RecordHeader::of_block(record, self.disk.now());
        let tokens = token_bytes(&record.tokens);
        self.append(&header, &tokens, &record.bytes, Purpose::Save)
    }

    fn run_job(&mut self, job: Job) {
        let done = match job {
            Job::Quarantine(key) => self.bury_corrupt(key),
            Job::Bury(hashes) => self.bury_replaced(&hashes),
            Job::Delete(mut deletion) => match self.erase(&mut deletion) {
                Ok(()) => {
                    deletion.done.into_iter().for_each(|done| done());
                    Ok(())
                }
                Err(trouble) => {
                    self.shared.state().jobs.push_front(Job::Delete(deletion));
                    Err(trouble)
                }
            },
        };
        match done {
            Ok(()) => self.recover(),
            Err(trouble) => self.fail(trouble),
        }
    }

    /// Count bytes written, for the meter.
    pub(crate) fn count(&mut self, n_bytes: u64) {
        let today = self.disk.now() / SECONDS_A_DAY;
        if self.meter.0 != today {
            self.meter = (today, 0);
        }
        self.meter.1 += n_bytes;
        let counters = &mut self.shared.state().counters;
        counters.written_today_bytes = self.meter.1;
        counters.written_bytes += n_bytes;
    }
}
