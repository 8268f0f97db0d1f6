//! Which GGUF file is meant: by path, by name, or as the only one there. Of a model that was cut into several files it
//! is the first.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use engine::{Failure, FailureKind};
use model::PartName;

/// The file that `wanted` means: a path, or a name (with or without `.gguf`, and of a model in several files without the
/// number of the part) in the folder `models`; without it the first file there in the order of names.
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
    let there = if is_name { names_in(models) } else { Vec::new() };
    if let Some(first) = there.iter().map(|name| models.join(name)).find(|path| is_first_of(path, wanted)) {
        return Ok(first);
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

/// What a model is called in the API: its file's name without the ending, and of a model in several files what their
/// names have in common.
pub(crate) fn name_of(path: &Path) -> String {
    PartName::of(path).map_or_else(|| stem_of(path), |part| part.model())
}

/// What it may be called as well: its file's whole name, and that of a part without the ending.
pub(crate) fn aliases_of(path: &Path) -> Vec<String> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = PartName::of(path).map(|_| stem_of(path));
    std::iter::once(file_name).chain(stem).collect()
}

fn stem_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether `path` is the first part of the model called `name`.
fn is_first_of(path: &Path, name: &str) -> bool {
    PartName::of(path).is_some_and(|part| part.number() == 1 && part.model() == name)
}

/// The GGUF files of a folder, sorted; none when it cannot be read. Parts of a model whose first part is there too are
/// left out.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.to_lowercase().ends_with(".gguf") && folder.join(name).is_file())
        .filter(|name| !is_after_the_first(&folder.join(name)))
        .collect();
    names.sort();
    names
}

fn is_after_the_first(path: &Path) -> bool {
    PartName::of(path).is_some_and(|part| part.number() > 1 && part.sibling(path, 1).is_file())
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
    fn a_model_in_several_files_is_one_model_found_by_what_their_names_have_in_common() {
        let parts = ["big-00002-of-00002.gguf", "big-00001-of-00002.gguf", "c.gguf"];
        let first = "*/big-00001-of-00002.gguf";
        for wanted in ["big", "big-00001-of-00002", "big-00001-of-00002.gguf"] {
            check(&parts, Some(wanted), first);
        }
        check(&parts, None, first);
        check(&parts, Some("c"), "*/c.gguf");
        check(
            &parts,
            Some("x"),
            "error: model x: no such file, and the models folder * has big-00001-of-00002.gguf, c.gguf",
        );
        // A file of the very name comes first, and one that was asked for is looked at, which says more.
        check(&["big-00001-of-00002.gguf", "big.gguf"], Some("big"), "*/big.gguf");
        check(&parts, Some("big-00002-of-00002"), "*/big-00002-of-00002.gguf");
        // Where the first is missing, the others are all that there is to speak of.
        check(&["big-00002-of-00002.gguf"], None, "*/big-00002-of-00002.gguf");
        check(
            &["big-00002-of-00002.gguf"],
            Some("big"),
            "error: model big: no such file, and the models folder * has big-00002-of-00002.gguf",
        );
    }

    #[test]
    fn a_model_in_several_files_has_one_name_and_answers_to_that_of_its_file() {
        let names = |path: &str| (name_of(Path::new(path)), aliases_of(Path::new(path)));
        let owned = |aliases: &[&str]| aliases.iter().map(|&alias| alias.to_owned()).collect::<Vec<_>>();
        let first = "big-00001-of-00002.gguf";
        assert_eq!(
            names(&format!("/models/{first}")),
            ("big".to_owned(), owned(&[first, "big-00001-of-00002"]))
        );
        assert_eq!(names("/models/a.Q4.gguf"), ("a.Q4".to_owned(), owned(&["a.Q4.gguf"])));
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
