//! The key of the owner's own programs: the window, and the commands that talk to a server on this machine. A server
//! makes a new one when it starts and leaves it in its data folder, so that who may read that folder is let in beside
//! whatever keys were given to others, and what an earlier server left opens nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::small_file;

/// Bytes that the file may have.
const MAX_BYTES: u64 = 512;

/// A key that nobody has had before.
pub(crate) fn random() -> String {
    format!("sk-own-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// Leave the key in the data folder for the owner's commands. Where that cannot be, they need a key that was given to
/// them.
pub(crate) fn leave_in(data: &Path, key: &str) {
    if let Err(error) = write(data, key) {
        let path = path(data);
        tracing::warn!(
            "commands are not let in without a key where others need one, {}: {error}",
            path.display()
        );
    }
}

/// The key that the server on this data folder has left.
pub(crate) fn of(data: &Path) -> Option<String> {
    let text = small_file::read_text(&path(data), MAX_BYTES).ok()?;
    let key = text.trim();
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic())).then(|| key.to_owned())
}

fn path(data: &Path) -> PathBuf {
    data.join("own-key")
}

fn write(data: &Path, key: &str) -> io::Result<()> {
    fs::create_dir_all(data)?;
    small_file::replace(&path(data), &format!("{key}\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_server_leaves_a_new_key_that_only_its_owner_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert_eq!(of(&data), None);
        let first = random();
        leave_in(&data, &first);
        assert_eq!(of(&data).as_ref(), Some(&first));
        let mode = fs::metadata(path(&data)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = random();
        leave_in(&data, &second);
        assert_ne!(first, second);
        assert_eq!(of(&data), Some(second));
    }

    #[test]
    fn a_folder_that_takes_nothing_costs_the_commands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        leave_in(&file, &random());
        assert_eq!(of(&file), None);
    }
}
