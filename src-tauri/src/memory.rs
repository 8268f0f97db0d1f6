//! How much memory this machine can give, and how much this process has.
//!
//! Asked of the system directly although there is a crate: that one counts, on macOS, pages that programs are using as
//! available, which a pool sized by it would push out to swap.

use std::sync::Arc;

use engine::MemoryLimit;

/// Memory left to the system and to everything else, whatever models take.
pub(crate) const RESERVE_BYTES: u64 = 1 << 30;

/// What models may take in all: what this process has and what it can still have, beyond a reserve.
pub(crate) fn memory_limit() -> MemoryLimit {
    Arc::new(|| Some((available_bytes()? + resident_bytes()).saturating_sub(RESERVE_BYTES)))
}

/// Memory that this process has now; 0 when the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let n_pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    n_pages.saturating_mul(rustix::param::page_size() as u64)
}

/// Memory that this process has now; 0 when the system does not say. It is the most that it has had, which for what
/// is bounded by it comes to the same.
#[cfg(target_os = "macos")]
pub(crate) fn resident_bytes() -> u64 {
    crate::allocator::peak_resident_bytes()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn resident_bytes() -> u64 {
    0
}

/// Bytes that programs can have without swapping; nothing when the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn available_bytes() -> Option<u64> {
    available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemAvailable` of `/proc/meminfo`, which counts what caches would give back.
#[cfg(any(target_os = "linux", test))]
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes that programs can have without swapping; nothing when the system does not say.
///
/// `vm_stat` prints what the kernel's host statistics hold, in pages; free, inactive, speculative and purgeable
/// pages can all be had.
#[cfg(target_os = "macos")]
pub(crate) fn available_bytes() -> Option<u64> {
    let output = std::process::Command::new("/usr/bin/vm_stat").output().ok()?;
    available_of(&String::from_utf8_lossy(&output.stdout))
}

/// What [`available_bytes`] makes of `vm_stat`'s text.
#[cfg(any(target_os = "macos", test))]
fn available_of(vm_stat: &str) -> Option<u64> {
    let page_bytes: u64 = vm_stat.split("page size of ").nth(1)?.split(' ').next()?.parse().ok()?;
    let pages = |name: &str| -> Option<u64> {
        let line = vm_stat.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches('.').parse().ok()
    };
    let n_pages = pages("Pages free")?
        + pages("Pages inactive")?
        + pages("Pages speculative").unwrap_or(0)
        + pages("Pages purgeable").unwrap_or(0);
    n_pages.checked_mul(page_bytes)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn available_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_and_macos_say_what_is_available() {
        assert_eq!(available_in("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available_in("MemTotal: 9 kB\n"), None);
        let vm_stat = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n\
            Pages free:                               10.\n\
            Pages active:                             99.\n\
            Pages inactive:                            5.\n\
            Pages speculative:                         1.\n";
        assert_eq!(available_of(vm_stat), Some(16 * 16384));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says_what_is_available() {
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }
}
