//! Which GGUF file is meant: by path, by name, or as the only one there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use engine::{Failure, FailureKind};

/// The file that `wanted` means: a path, or a name (with or without `.gguf`) in the folder `models`; without it the
/// first file there in the order of names.
///
/// # Errors
/// The kind, and one line that says where was looked and what to do.
pub(crate) fn find(wanted: Option<&str>, models: &Path) -> Result<PathBuf, Failure> {
    let Some(wanted) = wanted else {
        return names_in(models).into_iter().next().map(|name| models.join(name)).ok_or_else(|| {
            let text = format!(
                "no model: there is no GGUF file in {}; run `make models` or say --model PATH",
                models.display()
            );
            Failure::new(FailureKind::NoModel, text)
        });
    };
    let as_path = Path::new(wanted);
    if as_path.is_file() {
        return Ok(as_path.to_owned());
    }
    // A name is one plain component, so that it cannot lead out of the folder.
    let is_name = as_path.components().count() == 1 && as_path.file_name().is_some_and(|name| name == wanted);
    let named = [wanted.to_owned(), format!("{wanted}.gguf")].map(|name| models.join(name));
    let named = if is_name { &named[..] } else { &[] };
    if let Some(path) = named.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let places = std::iter::once(as_path).chain(named.iter().map(PathBuf::as_path));
    if let Some((path, (kind, what))) = places.filter_map(|path| Some((path, what_else(path)?))).next() {
        let text = format!("model {}: {what}; a GGUF file is wanted", path.display());
        return Err(Failure::new(kind, text));
    }
    let no_such_file = |text: String| Err(Failure::new(FailureKind::NoSuchFile, text));
    if !is_name {
        return no_such_file(format!("model {wanted}: there is no such file"));
    }
    let there = names_in(models);
    let there = if there.is_empty() { "no model".to_owned() } else { there.join(", ") };
    no_such_file(format!(
        "model {wanted}: no such file, and the models folder {} has {there}",
        models.display()
    ))
}

/// What is there that is no file; none when nothing is.
fn what_else(path: &Path) -> Option<(FailureKind, String)> {
    let (kind, what) = match std::fs::metadata(path) {
        Ok(there) if there.is_file() => return None,
        Ok(there) if there.is_dir() => (FailureKind::Unsupported, "it is a folder".to_owned()),
        Ok(_) => {
            let what = "it is not a regular file but a device, a pipe or a socket";
            (FailureKind::Unsupported, what.to_owned())
        }
        Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
            (FailureKind::NoSuchFile, "it is a link to what is not there".to_owned())
        }
        // A folder on the way that is a file, for one.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return None,
        Err(error) => (FailureKind::Unreadable, format!("it cannot be looked at ({error})")),
    };
    Some((kind, what))
}

/// What a model is called in the API: its file's name without the ending.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// What it may be called as well: its file's whole name.
pub(crate) fn alias_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The GGUF files of a folder, sorted; none when it cannot be read.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.to_lowercase().ends_with(".gguf") && folder.join(name).is_file())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A models folder with these files, and what `wanted` finds there (`*` stands for the folder).
    fn check(files: &[&str], wanted: Option<&str>, want: &str) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), b"").unwrap();
        }
        let got = match find(wanted, folder.path()) {
            Ok(path) => path.display().to_string(),
            Err(failure) => format!("error: {}", failure.text),
        };
        assert_eq!(got.replace(&folder.path().display().to_string(), "*"), want);
    }

    #[test]
    fn a_name_is_found_with_and_without_its_ending() {
        check(&["a.gguf", "b.gguf"], Some("b"), "*/b.gguf");
        check(&["a.gguf", "b.gguf"], Some("b.gguf"), "*/b.gguf");
    }

    #[test]
    fn without_a_name_the_first_file_is_taken() {
        check(&["b.gguf", "a.GGUF", "notes.txt"], None, "*/a.GGUF");
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        check(
            &[],
            None,
            "error: no model: there is no GGUF file in *; run `make models` or say --model PATH",
        );
        check(&["a.gguf"], Some("c"), "error: model c: no such file, and the models folder * has a.gguf");
        check(&[], Some("c"), "error: model c: no such file, and the models folder * has no model");
        check(&[], Some("no/such.gguf"), "error: model no/such.gguf: there is no such file");
    }

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        check(&["a.gguf"], Some("../a"), "error: model ../a: there is no such file");
        check(&["a.gguf"], Some(".."), "error: model ..: it is a folder; a GGUF file is wanted");
    }
    #[test]
    fn what_is_there_and_no_file_is_said_to_be_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(at("a.gguf")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("b.gguf")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("c.gguf")).unwrap();
        std::fs::write(at("file"), b"").unwrap();
        let line = |wanted: &str| find(Some(wanted), folder.path()).unwrap_err().text;
        let special = "it is not a regular file but a device, a pipe or a socket; a GGUF file is wanted";
        for (wanted, path, what) in [
            ("/dev/null", "/dev/null", special),
            ("/dev/zero", "/dev/zero", special),
            ("c", &at("c.gguf"), special),
            (&at("c.gguf"), &at("c.gguf"), special),
            ("a", &at("a.gguf"), "it is a folder; a GGUF file is wanted"),
            ("/", "/", "it is a folder; a GGUF file is wanted"),
            ("b", &at("b.gguf"), "it is a link to what is not there; a GGUF file is wanted"),
        ] {
            assert_eq!(line(wanted), format!("model {path}: {what}"));
        }
        assert_eq!(line(&at("file/x")), format!("model {}: there is no such file", at("file/x")));
        // None of them is taken for the only model there.
        assert!(find(None, folder.path()).unwrap_err().text.starts_with("no model"));
        // An empty file is a file; what is wrong with it is said when it is read.
        assert!(find(Some("file"), folder.path()).is_ok());
    }
}
