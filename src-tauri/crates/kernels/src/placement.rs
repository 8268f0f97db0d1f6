//! Which CPU a thread is on. A virtual machine's kernel takes a CPU that has halted for one that is not to be had, and
//! wakes a thread on the CPU of the one that wakes it; there the two wait for each other.
#![allow(unsafe_code)]

/// The CPU that the calling thread is on, where the system tells.
#[cfg(target_os = "linux")]
pub(crate) fn current_cpu() -> Option<usize> {
    // SAFETY: it takes nothing and touches nothing of ours.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// The CPU that the calling thread is on, where the system tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn current_cpu() -> Option<usize> {
    None
}

/// Move the calling thread to another CPU than `cpu`, if it may run on another. Afterwards it may run where it might
/// before.
#[cfg(target_os = "linux")]
pub(crate) fn leave(cpu: usize) {
    let n_bytes = size_of::<libc::cpu_set_t>();
    if cpu >= 8 * n_bytes {
        return;
    }
    // SAFETY: an array of integers, of which zeros are the empty set.
    let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes `n_bytes` at most; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, n_bytes, &raw mut all) } != 0 {
        return;
    }
    let mut others = all;
    // SAFETY: `cpu` is less than the set's bits.
    let n_others = unsafe {
        libc::CPU_CLR(cpu, &mut others);
        libc::CPU_COUNT(&others)
    };
    if n_others == 0 {
        return;
    }
    // SAFETY: the kernel reads `n_bytes`. Where it refuses, the thread stays where it is, as it would have.
    unsafe {
        libc::sched_setaffinity(0, n_bytes, &raw const others);
        libc::sched_setaffinity(0, n_bytes, &raw const all);
    }
}

/// Move the calling thread to another CPU than `cpu`, if it may run on another.
#[cfg(not(target_os = "linux"))]
pub(crate) fn leave(_cpu: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        // SAFETY: as above.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
            (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect()
        }
    }

    #[test]
    fn a_thread_leaves_a_cpu_and_may_come_back() {
        let before = allowed();
        let cpu = current_cpu().unwrap();
        assert!(before.contains(&cpu));
        leave(cpu);
        assert_eq!(allowed(), before);
        leave(usize::MAX);
        assert_eq!(allowed(), before);
    }
}
