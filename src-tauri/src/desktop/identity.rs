//! Who we are to other instances: one per data folder.
//!
//! So one instance runs per data folder, and a second launch shows the first one's window.

use std::path::Path;

/// The app's identifier for the data folder `data`. Instances with two folders have two identifiers, and with them
/// everything that the system keeps by identifier.
pub(crate) fn of(identifier: &str, data: &Path) -> String {
    let folder = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let digest = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    // An element of a D-Bus name must not begin with a digit.
    format!("{identifier}.d{}", &digest[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_has_one_identifier_however_it_is_written_and_another_folder_another() {
        let folder = tempfile::tempdir().unwrap();
        let one = of("dev.samovar.desktop", folder.path());
        assert_eq!(of("dev.samovar.desktop", &folder.path().join(".")), one);
        assert_ne!(of("dev.samovar.desktop", Path::new("/nonexistent")), one);
        let is_valid = |element: &str| {
            element.starts_with(|c: char| c.is_ascii_alphabetic())
                && element.chars().all(|c| c.is_ascii_alphanumeric())
        };
        assert!(one.split('.').all(is_valid), "{one}");
    }
}
