//! The key that thinking is signed with which is given out: in a file of the data folder, so that conversations which
//! began before a restart are known after it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use server::SigningKey;

use crate::small_file;

const N_BYTES: u64 = 32;

/// The key in the data folder, or a new one that is put there. Where it can be neither read nor written, this process
/// has one of its own: thinking from before it is then left out of conversations, and nothing else is lost.
pub(crate) fn in_folder(data: &Path) -> SigningKey {
    let path = data.join("signing-key");
    if let Some(key) = read(&path) {
        return key;
    }
    let key = SigningKey::random();
    match write(&path, &key) {
        // Another server on this folder may have been faster.
        Ok(()) => read(&path).unwrap_or(key),
        Err(error) => {
            tracing::warn!("the key for signing thinking is not kept, {}: {error}", path.display());
            key
        }
    }
}

fn read(path: &Path) -> Option<SigningKey> {
    let bytes = small_file::read(path, N_BYTES).ok()?;
    bytes.try_into().ok().map(SigningKey::new)
}

fn write(path: &Path, key: &SigningKey) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(small_file::OPEN_FLAGS);
    let mut file = options.open(&temporary)?;
    file.write_all(&key.bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let key = in_folder(&data).bytes();
        assert_eq!(in_folder(&data).bytes(), key);
        let mode = fs::metadata(data.join("signing-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(in_folder(other.path()).bytes(), key);
    }

    #[test]
    fn a_file_that_is_no_key_gives_way_to_a_new_one_and_one_that_cannot_be_written_to_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-key");
        fs::write(&path, "short").unwrap();
        let key = in_folder(folder.path()).bytes();
        assert_eq!(fs::read(&path).unwrap(), key);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_ne!(in_folder(folder.path()).bytes(), in_folder(folder.path()).bytes());
    }
}
