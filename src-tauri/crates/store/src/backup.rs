//! Keeps Time Machine away from the store: what it holds can be computed again, and it changes all the time.

use std::io;
use std::path::Path;

/// The attribute that `tmutil addexclusion` sets on a folder; it stays with the folder when that is moved.
#[cfg(any(test, target_os = "macos"))]
const ATTRIBUTE: &str = "com.apple.metadata:com_apple_backup_excludeItem";

/// Its value: the string `com.apple.backupd` as a binary property list.
///
/// ```text
///  "bplist00"  5F 10 11 "com.apple.backupd"  08  00×6 01 01  00×7 01  00×8  00×7 1C
///  magic       ASCII, 17 bytes               ^ where object 0 is; sizes, 1 object, the top one is 0, table at 28
/// ```
#[cfg(any(test, target_os = "macos"))]
fn value() -> Vec<u8> {
    let mut value = b"bplist00".to_vec();
    let name = b"com.apple.backupd";
    value.extend([0x5f, 0x10, name.len() as u8]);
    value.extend(name);
    let table = value.len() as u64;
    value.extend([8, 0, 0, 0, 0, 0, 0, 1, 1]);
    value.extend(1u64.to_be_bytes());
    value.extend(0u64.to_be_bytes());
    value.extend(table.to_be_bytes());
    value
}

/// Exclude a folder from backups. It has been compiled for macOS and not been run there.
///
/// # Errors
/// The file system refused.
#[cfg(target_os = "macos")]
pub(crate) fn exclude(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::setxattr(dir, ATTRIBUTE, &value(), rustix::fs::XattrFlags::empty())?)
}

/// Elsewhere nobody backs up without being asked.
#[cfg(not(target_os = "macos"))]
pub(crate) fn exclude(_dir: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_is_the_property_list_that_macos_writes() {
        let hex: String = value().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = "636f6d2e6170706c652e6261636b757064";
        let trailer = "000000000000010100000000000000010000000000000000000000000000001c";
        assert_eq!(hex, format!("62706c6973743030{}{name}08{trailer}", "5f1011"));
        assert_eq!(ATTRIBUTE, "com.apple.metadata:com_apple_backup_excludeItem");
    }
}
