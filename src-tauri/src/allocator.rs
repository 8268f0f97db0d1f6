//! The system's allocator, told to give large buffers back.
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
