//! Which GGUF file is meant: by path, by name, or as the only one there.

use std::path::{Path, PathBuf};

/// The file that `wanted` means: a path, or a name (with or without `.gguf`) in the folder `models`; without it the
/// first file there in the order of names.
///
/// # Errors
/// One line that says where was looked and what to do.
pub(crate) fn find(wanted: Option<&str>, models: &Path) -> Result<PathBuf, String> {
    let Some(wanted) = wanted else {
        return names_in(models).into_iter().next().map(|name| models.join(name)).ok_or_else(|| {
            format!(
                "no model: there is no GGUF file in {}; run `make models` or say --model PATH",
                models.display()
            )
        });
    };
    let as_path = Path::new(wanted);
    if as_path.is_file() {
        return Ok(as_path.to_owned());
    }
    // A name is one plain component, so that it cannot lead out of the folder.
    let is_name = as_path.components().count() == 1 && as_path.file_name().is_some_and(|name| name == wanted);
    if is_name {
        for name in [wanted.to_owned(), format!("{wanted}.gguf")] {
            let path = models.join(name);
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    if as_path.is_dir() {
        return Err(format!("model {wanted} is a folder; a GGUF file is wanted"));
    }
    if as_path.exists() {
        return Err(format!("model {wanted} is no plain file; a GGUF file is wanted"));
    }
    if !is_name {
        return Err(format!("model {wanted}: there is no such file"));
    }
    let there = names_in(models);
    let there = if there.is_empty() { "no model".to_owned() } else { there.join(", ") };
    Err(format!("model {wanted}: no such file, and the models folder {} has {there}", models.display()))
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
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file())?.file_name().into_string().ok())
        .filter(|name| name.to_lowercase().ends_with(".gguf"))
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
            Err(line) => format!("error: {line}"),
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
        check(&["a.gguf"], Some(".."), "error: model .. is a folder; a GGUF file is wanted");
    }
}
