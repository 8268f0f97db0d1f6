//! Where a thread runs that another one wakes. A virtual machine's kernel takes a CPU that has halted for one that is
//! not to be had, and wakes a thread on the CPU of the one that wakes it; there the two wait for each other, operation
//! by operation.

/// CPUs that a thread may run on.
#[cfg(target_os = "linux")]
pub(crate) type Cpus = rustix::thread::CpuSet;
#[cfg(not(target_os = "linux"))]
pub(crate) type Cpus = ();

/// Those of the calling thread, where the system tells.
pub(crate) fn own_cpus() -> Option<Cpus> {
    #[cfg(target_os = "linux")]
    return rustix::thread::sched_getaffinity(None).ok();
    #[cfg(not(target_os = "linux"))]
    None
}

/// Give the calling thread back what [`own_cpus`] said before it slept.
pub(crate) fn set_own_cpus(cpus: &Cpus) {
    // Where the system refuses, it runs where it was put.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::sched_setaffinity(None, cpus);
    #[cfg(not(target_os = "linux"))]
    let _ = cpus;
}

/// A thread as those see it that wake it; they may all run on the same CPUs.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    /// What the system calls it; 0 until it has come, and where it has no such name.
    #[cfg(target_os = "linux")]
    id: std::sync::atomic::AtomicI32,
    /// The CPU that it is kept off, plus one.
    #[cfg(target_os = "linux")]
    kept_off: std::sync::atomic::AtomicUsize,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::Ordering::Relaxed;

    use rustix::thread::{CpuSet, Pid, gettid, sched_getcpu, sched_setaffinity};

    use super::{Cpus, Sleeper};

    impl Sleeper {
        /// The calling thread is the one that will sleep, and may run where it may run now.
        pub(crate) fn enter(&self) {
            self.kept_off.store(0, Relaxed);
            self.id.store(gettid().as_raw_pid(), Relaxed);
        }

        /// Keep it off the CPU of the calling thread, which is about to wake it, if there are others in `cpus`.
        pub(crate) fn make_way(&self, cpus: impl FnOnce() -> Option<Cpus>) {
            let cpu = sched_getcpu();
            let Some(thread) = Pid::from_raw(self.id.load(Relaxed)) else { return };
            if cpu >= CpuSet::MAX_CPU || self.kept_off.load(Relaxed) == cpu + 1 {
                return;
            }
            let Some(mut others) = cpus() else { return };
            others.unset(cpu);
            if others.count() > 0 && sched_setaffinity(Some(thread), &others).is_ok() {
                self.kept_off.store(cpu + 1, Relaxed);
            }
        }

        /// Whether it is kept off some CPU.
        pub(crate) fn is_kept_off(&self) -> bool {
            self.kept_off.load(Relaxed) > 0
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Sleeper {
    pub(crate) fn enter(&self) {}

    pub(crate) fn make_way(&self, _cpus: impl FnOnce() -> Option<Cpus>) {}

    pub(crate) fn is_kept_off(&self) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn one_that_is_woken_is_kept_off_the_cpu_of_the_one_that_wakes_it_and_gets_its_own_back() {
        let all = own_cpus().unwrap();
        if all.count() < 2 {
            // There is nowhere to go.
            return check_that_one_stays();
        }
        let sleeper = Sleeper::default();
        let (asleep, woken) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleeper.enter();
                asleep.wait();
                woken.wait();
                let kept = own_cpus().unwrap();
                assert!(sleeper.is_kept_off());
                assert_eq!(kept.count(), all.count() - 1);
                set_own_cpus(&all);
                assert!(own_cpus().unwrap() == all);
                sleeper.enter();
                assert!(!sleeper.is_kept_off());
            });
            asleep.wait();
            // The calling thread stays where it is meanwhile.
            let cpu = rustix::thread::sched_getcpu();
            let mut here = Cpus::new();
            here.set(cpu);
            set_own_cpus(&here);
            sleeper.make_way(|| Some(all));
            set_own_cpus(&all);
            woken.wait();
        });
    }

    #[test]
    fn who_has_one_cpu_alone_stays_there() {
        check_that_one_stays();
    }

    fn check_that_one_stays() {
        let sleeper = Sleeper::default();
        sleeper.make_way(own_cpus);
        assert!(!sleeper.is_kept_off(), "nobody has come");
        sleeper.enter();
        let mut here = Cpus::new();
        here.set(rustix::thread::sched_getcpu());
        let all = own_cpus().expect("the system says on which CPUs a thread may run");
        set_own_cpus(&here);
        sleeper.make_way(own_cpus);
        sleeper.make_way(|| None);
        let is_kept_off = sleeper.is_kept_off();
        set_own_cpus(&all);
        assert!(!is_kept_off);
    }
}
