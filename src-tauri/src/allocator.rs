//! The system's allocator: told to give large buffers back, and asked how much it has given out.
#![allow(unsafe_code)]

/// Buffers from here on are mapped, each on its own, and unmapped when freed.
///
/// glibc raises its own threshold to the largest buffer that was freed, and keeps such buffers in heaps that never
/// shrink again: a burst of blocks on their way to the disk would stay in the process's size for good.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM_BYTES: libc::c_int = 128 << 10;

/// The most memory that this process has had at once.
#[cfg(target_os = "macos")]
pub(crate) fn peak_resident_bytes() -> u64 {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of the right type that lives for the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    // macOS counts bytes here, other systems kilobytes.
    if answer == 0 { usage.ru_maxrss.try_into().unwrap_or(0) } else { 0 }
}

/// Set it up; before there are other threads.
pub(crate) fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: no precondition; a refusal leaves the allocator as it was.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES) };
}

/// Bytes that the process has allocated and not freed, of all threads' heaps, of what is mapped on its own and of the
/// packed weights; none where the system does not say. A free buffer that a thread has put by for itself counts as allocated: some dozens of
/// kilobytes a thread at most.
pub(crate) fn allocated_bytes() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: no precondition; it takes the heaps' locks one after the other and reads.
        let counts = unsafe { libc::mallinfo2() };
        // What a thread's heap was given beyond what is free in it, and the mapped ones.
        let allocated = counts.uordblks + counts.hblkhd;
        Some((allocated + kernels::weights::allocated_bytes()) as u64)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::hint::black_box;
    use std::sync::mpsc::channel;

    use super::*;

    /// Other tests of this process allocate meanwhile; what is looked for is far more than that.
    const N_BYTES: u64 = 64 << 20;

    #[test]
    fn what_another_thread_allocates_is_counted_until_it_is_freed() {
        for piece in [64_usize, 1 << 10, 60 << 10, 1 << 20] {
            let n_pieces = N_BYTES as usize / piece;
            let (to_test, allocated) = channel();
            let (go_on, released) = channel::<()>();
            let before = allocated_bytes().unwrap();
            let other = std::thread::spawn(move || {
                let held: Vec<Vec<u8>> = (0..n_pieces).map(|_| Vec::with_capacity(piece)).collect();
                to_test.send(()).unwrap();
                released.recv().unwrap();
                drop(black_box(held));
            });
            allocated.recv().unwrap();
            let with = allocated_bytes().unwrap();
            go_on.send(()).unwrap();
            other.join().unwrap();
            let after = allocated_bytes().unwrap();
            let least = N_BYTES * 3 / 4;
            assert!(with >= before + least, "pieces of {piece}: {before}, then {with}");
            assert!(after + least <= with, "pieces of {piece}: {with}, then {after} when they were freed");
        }
    }
}
