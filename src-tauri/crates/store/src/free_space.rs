//! How much room a file system has left for this user: the one call that std lacks.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that an unprivileged process may still write on the file system of `path`.
///
/// # Errors
/// The path does not exist, or the file system does not answer.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a C string that lives through the call, and `found` is memory of the right size and
    // alignment for what the call writes.
    let status = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and so has filled the structure in.
    let found = unsafe { found.assume_init() };
    // The widths of these fields differ between systems; on Linux both are 64 bits already.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    Ok((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}
