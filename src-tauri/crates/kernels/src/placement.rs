//! Which CPU a thread is on. A virtual machine's kernel takes a CPU that has halted for one that is not to be had, and
//! wakes a thread on the CPU of the one that wakes it; there the two wait for each other.

/// The CPU that the calling thread is on, where the system tells.
pub(crate) fn current_cpu() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return Some(rustix::thread::sched_getcpu());
    #[cfg(not(target_os = "linux"))]
    None
}

/// Move the calling thread to another CPU than `cpu`, if it may run on another. Afterwards it may run where it might
/// before.
#[cfg(target_os = "linux")]
pub(crate) fn leave(cpu: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    if cpu >= CpuSet::MAX_CPU {
        return;
    }
    let Ok(all) = sched_getaffinity(None) else { return };
    let mut others = all;
    others.unset(cpu);
    if others.count() > 0 {
        // Where the system refuses, the thread stays where it is, as it would have.
        let _ = sched_setaffinity(None, &others);
        let _ = sched_setaffinity(None, &all);
    }
}

/// Move the calling thread to another CPU than `cpu`, if it may run on another.
#[cfg(not(target_os = "linux"))]
pub(crate) fn leave(_cpu: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_leaves_a_cpu_and_may_come_back() {
        let allowed = || rustix::thread::sched_getaffinity(None).unwrap();
        let before = allowed();
        let cpu = current_cpu().unwrap();
        assert!(before.is_set(cpu));
        leave(cpu);
        assert!(allowed() == before);
        leave(usize::MAX);
        assert!(allowed() == before);
    }
}
