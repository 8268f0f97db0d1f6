//! The API key's file: one line that only its owner may read.

use std::io::Read;
use std::path::Path;

/// Bytes that a key may have.
const MAX_KEY_BYTES: usize = 512;

/// Bytes that its file may have.
const MAX_FILE_BYTES: u64 = 4096;

/// Read the key.
///
/// # Errors
/// The file cannot be read, others may read it, or there is no usable key in it; the line never quotes the key.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let fail = |what: String| format!("API key file {}: {what}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(fail(format!("others may use it (mode {mode:o}); chmod 600 it")));
        }
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(fail("it is too long for a key".to_owned()));
    }
    // A pipe is as good as a file: shells give keys that way. Not even that may be read without end.
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    let key = text.trim();
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fail(format!("one line of 1 to {MAX_KEY_BYTES} visible ASCII characters is wanted")));
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, mode: u32, want: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let got = read(&path).map_err(|line| line.replace(&path.display().to_string(), "*"));
        assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn the_key_is_the_line_without_its_end() {
        check("secret\n", 0o600, Ok("secret"));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        check("secret\n", 0o644, Err("API key file *: others may use it (mode 644); chmod 600 it"));
    }

    #[test]
    fn no_key_and_two_keys_are_refused_without_being_quoted() {
        let wanted = "API key file *: one line of 1 to 512 visible ASCII characters is wanted";
        check("\n", 0o600, Err(wanted));
        check("one\ntwo\n", 0o600, Err(wanted));
    }
}
