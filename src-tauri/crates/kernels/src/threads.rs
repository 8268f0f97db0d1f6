//! The worker pool of the kernels: back-to-back operations cost about a microsecond, idle ones nothing.
//!
//! ```text
//!  caller = worker 0:  publish job, epoch += 1 ── f(0) ── wait until n_running = 0 ──▶
//!  worker i:           spin on epoch, then sleep ─ f(i) ── n_running -= 1 ──▶ spin again
//! ```
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::placement::{Cpus, Sleeper, own_cpus, set_own_cpus};

/// How long a worker looks out for the next job before it sleeps: longer than the gap between two operations
/// of a step, far shorter than anything a user or a scheduler notices.
const SPIN: Duration = Duration::from_micros(60);

type Job = *const (dyn Fn(usize) + Sync);

/// A fixed set of workers that run one closure together.
pub struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Held while a job runs, because there is one job slot. Never waited for: see [`Threads::run`].
    turn: Mutex<()>,
}

struct Shared {
    /// Counts the jobs. The job slot is written before it moves and read after.
    epoch: AtomicU32,
    job: UnsafeCell<Option<Job>>,
    n_running: AtomicUsize,
    n_asleep: AtomicUsize,
    caller_asleep: AtomicBool,
    /// The workers but for the caller.
    workers: Box<[Sleeper]>,
    caller: Sleeper,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Where the caller may run, while it sleeps. Guards the two sleeps below too, so that no wake-up is lost between
    /// check and wait.
    sleep: Mutex<Option<Cpus>>,
    work: Condvar,
    done: Condvar,
}

// SAFETY: `job` is written only by the caller of `run` while no worker runs (`n_running` is 0), and read by
// workers only after they saw the epoch that was released after the write.
unsafe impl Sync for Shared {}
// SAFETY: the closure behind `job` is `Sync`, and the pointer is never followed outside `run`.
unsafe impl Send for Shared {}

impl Threads {
    /// A pool of `n` workers (at least 1), the calling thread being one of them.
    ///
    /// When the system refuses to start that many threads, the pool is smaller; [`Threads::n`] says how many.
    pub fn new(n: usize) -> Threads {
        let shared = Arc::new(Shared {
            epoch: AtomicU32::new(0),
            job: UnsafeCell::new(None),
            n_running: AtomicUsize::new(0),
            n_asleep: AtomicUsize::new(0),
            caller_asleep: AtomicBool::new(false),
            workers: (1..n).map(|_| Sleeper::default()).collect(),
            caller: Sleeper::default(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleep: Mutex::new(None),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let handles = (1..n)
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                let name = format!("kernels-{worker}");
                std::thread::Builder::new().name(name).spawn(move || shared.work_until_stopped(worker)).ok()
            })
            .collect();
        Threads { shared, handles, turn: Mutex::new(()) }
    }

    /// How many workers there are, the caller included.
    pub fn n(&self) -> usize {
        self.handles.len() + 1
    }

    /// Runs `f(worker)` once for each worker in `0..n`, the caller being worker 0, and returns when all did.
    ///
    /// `f` must not wait for another worker. A call from inside `f`, or from a second thread while one is
    /// running, runs all the indices one after the other on its own thread.
    ///
    /// # Panics
    /// When `f` panicked in any worker: with the first payload, after all workers have ended.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.n() == 1 {
            return f(0);
        }
        let Ok(_turn) = self.turn.try_lock().or_else(|e| match e {
            std::sync::TryLockError::Poisoned(e) => Ok(e.into_inner()),
            std::sync::TryLockError::WouldBlock => Err(()),
        }) else {
            return (0..self.n()).for_each(f);
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The pointer is followed by workers of this job only, and this
        // function does not return, nor unwind, before `n_running` is 0.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync), Job>(f) };
        // SAFETY: the previous job has ended (`turn` is ours, `n_running` is 0), so nobody reads the slot.
        unsafe { *shared.job.get() = Some(job) };
        shared.n_running.store(self.handles.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if shared.n_asleep.load(Ordering::SeqCst) > 0 {
            // Beside the caller, and not in turn with it.
            shared.workers.iter().for_each(|worker| worker.make_way(own_cpus));
            let _guard = lock(&shared.sleep);
            shared.work.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        shared.wait_for_workers();
        let others = lock(&shared.panic).take();
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        if let Some(payload) = others {
            resume_unwind(payload);
        }
    }

    /// Runs `f` over the items `0..n_items`, cut into ranges of at most `grain` items, each taken by the next
    /// free worker. One range runs on the caller at once.
    pub fn for_each(&self, n_items: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
        let grain = grain.max(1);
        if n_items <= grain || self.n() == 1 {
            if n_items > 0 {
                f(0..n_items);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        self.run(&|_| {
            loop {
                let start = next.fetch_add(grain, Ordering::Relaxed);
                if start >= n_items {
                    return;
                }
                f(start..n_items.min(start + grain));
            }
        });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        {
            let _guard = lock(&self.shared.sleep);
            self.shared.work.notify_all();
        }
        for handle in self.handles.drain(..) {
            // A worker catches the panics of jobs, so there is nothing to learn from its result.
            let _ = handle.join();
        }
    }
}

impl Shared {
    fn work_until_stopped(&self, worker: usize) {
        let mut seen = 0;
        self.workers[worker - 1].enter();
        loop {
            seen = self.wait_for_epoch_after(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the epoch moved after the slot was written, and it is not written again before this
            // worker has counted `n_running` down.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job {
                // SAFETY: `run` keeps the closure alive until `n_running` is 0.
                let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(worker) }));
                if let Err(payload) = result {
                    lock(&self.panic).get_or_insert(payload);
                }
            }
            if self.n_running.fetch_sub(1, Ordering::SeqCst) == 1 && self.caller_asleep.load(Ordering::SeqCst)
            {
                let cpus = lock(&self.sleep);
                // One that has gone on meanwhile is to be left where it is.
                if self.caller_asleep.load(Ordering::SeqCst) {
                    self.caller.make_way(|| *cpus);
                    self.done.notify_one();
                }
            }
        }
    }

    fn wait_for_epoch_after(&self, seen: u32) -> u32 {
        let news = || Some(self.epoch.load(Ordering::SeqCst)).filter(|epoch| *epoch != seen);
        if let Some(epoch) = spin_for(news) {
            return epoch;
        }
        let mut guard = lock(&self.sleep);
        self.n_asleep.fetch_add(1, Ordering::SeqCst);
        let epoch = loop {
            if let Some(epoch) = news() {
                break epoch;
            }
            guard = self.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.n_asleep.fetch_sub(1, Ordering::SeqCst);
        epoch
    }

    fn wait_for_workers(&self) {
        let idle = || (self.n_running.load(Ordering::SeqCst) == 0).then_some(());
        if spin_for(idle).is_some() {
            return;
        }
        self.caller.enter();
        let cpus = own_cpus();
        let mut guard = lock(&self.sleep);
        *guard = cpus;
        self.caller_asleep.store(true, Ordering::SeqCst);
        while idle().is_none() {
            guard = self.done.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_asleep.store(false, Ordering::SeqCst);
        if let Some(cpus) = cpus.filter(|_| self.caller.is_kept_off()) {
            set_own_cpus(&cpus);
        }
    }
}

/// Looks for something until it is there or [`SPIN`] is over.
fn spin_for<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let mut since: Option<Instant> = None;
    loop {
        for _ in 0..64 {
            if let Some(found) = look() {
                return Some(found);
            }
            spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed() > SPIN {
            return None;
        }
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `part`-th of `n_parts` nearly equal ranges of `0..n_items`.
pub fn split(n_items: usize, n_parts: usize, part: usize) -> Range<usize> {
    n_items * part / n_parts..n_items * (part + 1) / n_parts
}

/// A mutable slice that workers write in disjoint pieces.
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    _slice: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `range` and `as_ptr`, whose callers keep the pieces of different threads apart.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as above; it is a borrowed `&mut [T]`.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Shares `slice` for as long as it is borrowed.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        SharedMut { start: slice.as_mut_ptr(), len: slice.len(), _slice: PhantomData }
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The address of the first element, for kernels that write strided pieces.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// No two live ranges overlap, in any thread.
    ///
    /// # Panics
    /// When the range ends beyond the slice.
    #[expect(clippy::mut_from_ref, reason = "that is its purpose; the caller keeps the ranges apart")]
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside the slice by the assertion, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_runs_every_job_once() {
        for n in [1, 2, 3, 8] {
            let threads = Threads::new(n);
            let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..500 {
                threads.run(&|worker| {
                    counts[worker].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 500), "{n} workers");
        }
    }

    #[test]
    fn sleeping_workers_wake_for_the_next_job() {
        let threads = Threads::new(3);
        let total = AtomicUsize::new(0);
        for _ in 0..20 {
            while threads.shared.n_asleep.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            threads.run(&|_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(total.into_inner(), 60);
    }

    #[test]
    fn a_caller_that_waits_long_sleeps_and_is_woken() {
        let threads = Threads::new(2);
        let done = AtomicBool::new(false);
        threads.run(&|worker| {
            if worker == 1 {
                while !threads.shared.caller_asleep.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                done.store(true, Ordering::SeqCst);
            }
        });
        assert!(done.into_inner());
    }

    #[test]
    fn a_caller_may_run_afterwards_where_it_might_before() {
        let threads = Threads::new(2);
        let before = own_cpus();
        let cpus: Vec<_> = (0..2000)
            .map(|idx| {
                // About as long as the caller spins: sometimes it sleeps, sometimes it is about to.
                threads.run(&|worker| {
                    let until = Instant::now() + SPIN + Duration::from_nanos(10 * idx);
                    while worker == 1 && Instant::now() < until {
                        spin_loop();
                    }
                });
                own_cpus()
            })
            .collect();
        assert!(cpus.iter().all(|cpus| *cpus == before));
        assert_eq!(own_cpus(), before);
    }

    #[test]
    fn a_panic_in_any_worker_reaches_the_caller_and_the_pool_lives_on() {
        let threads = Threads::new(3);
        for bad in 0..3 {
            let ended = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                threads.run(&|worker| {
                    if worker == bad {
                        resume_unwind(Box::new(bad));
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }));
            assert_eq!(result.unwrap_err().downcast_ref::<usize>(), Some(&bad));
            assert_eq!(ended.into_inner(), 2);
        }
        let n_run = AtomicUsize::new(0);
        threads.run(&|_| {
            n_run.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(n_run.into_inner(), 3);
    }

    #[test]
    fn a_nested_or_concurrent_run_covers_all_indices() {
        let threads = Threads::new(2);
        let count = AtomicUsize::new(0);
        threads.run(&|_| {
            threads.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 4);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        threads.run(&|_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 4 + 600);
    }

    #[test]
    fn ranges_cover_all_items_once() {
        for n in [1, 2, 5] {
            let threads = Threads::new(n);
            for n_items in [0, 1, 7, 64, 1000] {
                let mut seen = vec![0u8; n_items];
                let shared = SharedMut::new(&mut seen);
                threads.for_each(n_items, 3, |range| {
                    // SAFETY: `for_each` hands out disjoint ranges.
                    unsafe { shared.range(range) }.iter_mut().for_each(|x| *x += 1);
                });
                assert!(seen.iter().all(|x| *x == 1));
                let parts: Vec<usize> = (0..n).flat_map(|part| split(n_items, n, part)).collect();
                assert_eq!(parts, (0..n_items).collect::<Vec<_>>());
            }
        }
    }
}
