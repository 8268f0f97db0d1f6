//! Rules about what the repository says: paths that exist, nothing of the machines it was written on.

use std::path::Path;

use crate::tree::File;

/// Names that may stand at the root, besides dotfiles.
pub const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "clippy.toml",
    "docs",
    "icons",
    "package.json",
    "package-lock.json",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "src-tauri",
    "tauri.conf.json",
    "tests",
    "ui",
];

/// Complaints about names at the root that have no place there.
pub fn top_level_complaints(names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: the top level is fixed"))
        .collect()
}

/// Paths in back ticks in a Markdown text, as far as they look like paths of this repository.
pub fn quoted_paths(text: &str) -> Vec<&str> {
    let mut in_fence = false;
    let mut paths = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        for quoted in line.split('`').skip(1).step_by(2) {
            let roots = ["src-tauri/", "tests/", "ui/", "icons/", "docs/", ".ci/"];
            let plain = !quoted.contains([' ', '*', '{', '<', '…']);
            if plain && roots.iter().any(|root| quoted.starts_with(root)) {
                paths.push(quoted);
            }
        }
    }
    paths
}

/// Complaints about documents that name paths which do not exist.
pub fn path_complaints(root: &Path, files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with(".md")) {
        for path in quoted_paths(&file.text) {
            if !root.join(path).exists() {
                complaints.push(format!("{}: `{path}` does not exist", file.path));
            }
        }
    }
    complaints
}

/// Complaints about text that belongs to the machine it was written on.
pub fn machine_complaints(files: &[File]) -> Vec<String> {
    // Put together here, so that this file does not contain what it looks for.
    let words = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/home/", "user/"].concat()];
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| !f.path.ends_with(".lock")) {
        for word in &words {
            if file.text.contains(word.as_str()) {
                complaints.push(format!("{}: `{word}` is a path of one machine", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_name_at_the_root_is_found() {
        assert_eq!(top_level_complaints(&["notes.txt".into(), "ui".into(), ".ci".into()]).len(), 1);
    }

    #[test]
    fn only_paths_of_this_repository_are_looked_at() {
        let text = "see `src-tauri/src/app.rs`, `make test`, `a/b`\n```\n`ui/none`\n```\n";
        assert_eq!(quoted_paths(text), vec!["src-tauri/src/app.rs"]);
    }

    #[test]
    fn a_document_that_names_a_missing_path_is_found() {
        let files = [File { path: "README.md".into(), text: "`docs/none.md`".into() }];
        assert_eq!(path_complaints(Path::new("/nonexistent"), &files).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let files = [File { path: "README.md".into(), text: ["cd /ro", "ot/x"].concat() }];
        assert_eq!(machine_complaints(&files).len(), 1);
    }
}
