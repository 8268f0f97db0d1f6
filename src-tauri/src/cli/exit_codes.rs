//! What the process ends with.

/// All went well.
pub(crate) const CLEAN: u8 = 0;
/// It did not work, and one line on stderr says why.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// Drained, but something was interrupted.
pub(crate) const INTERRUPTED: u8 = 3;
