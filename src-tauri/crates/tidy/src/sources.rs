//! Rules about Rust source files.

use crate::tree::File;

/// Files that may contain `unsafe`, with the reason; a trailing `/` names a folder.
pub const UNSAFE_FILES: &[(&str, &str)] = &[
    ("src-tauri/crates/kernels/", "SIMD, the worker pool, aligned memory"),
    ("src-tauri/src/allocator.rs", "a setting of the allocator, which std lacks"),
    (
        "src-tauri/src/signals.rs",
        "whether a signal is ignored, and a variable for the web view, which std lacks",
    ),
    ("src-tauri/src/desktop/macos.rs", "Objective-C, which only macOS speaks"),
    ("src-tauri/crates/store/src/free_space.rs", "the one call for free disk space, which std lacks"),
    (
        "src-tauri/crates/store/src/backup.rs",
        "the one call for an extended attribute on macOS, which std lacks",
    ),
];

/// Files that may read the environment.
pub const ENV_FILES: &[&str] = &[
    "src-tauri/src/settings.rs",
    "src-tauri/src/settings/",
    // Cargo tells build scripts where to write through the environment.
    "src-tauri/build.rs",
    "src-tauri/crates/server/build.rs",
];

/// Lines a source file may have outside tests.
pub const MAX_LINES: usize = 600;

/// Words that name nothing.
const EMPTY_WORDS: &[&str] =
    &["Manager", "Service", "Helper", "Util", "Utils", "Processor", "Common", "Misc"];

pub(crate) fn is_test_path(path: &str) -> bool {
    path.contains("/tests/")
        || path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/testing/")
        || path.contains("/examples/")
        || path.contains("/fuzz/")
        || path.contains("/crates/tidy/")
}

/// The part of a source file before its unit tests.
pub fn outside_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

fn in_list(path: &str, list: &str) -> bool {
    if list.ends_with('/') { path.starts_with(list) } else { path == list }
}

/// Complaints about the Rust files among `files`.
pub fn complaints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with(".rs")) {
        let path = file.path.as_str();
        let product = outside_tests(&file.text);
        let mut say = |what: String| complaints.push(format!("{path}: {what}"));

        if !file.text.starts_with("//!") {
            say("the first line must say in `//!` what the file is for".into());
        }
        let n_lines = product.lines().count();
        if n_lines > MAX_LINES && !is_test_path(path) {
            say(format!("{n_lines} lines outside tests; is it one noun? (at most {MAX_LINES})"));
        }
        if !path.contains("/crates/tidy/") {
            for (number, line) in file.text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let says_unsafe =
                    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
                if says_unsafe && !UNSAFE_FILES.iter().any(|(list, _)| in_list(path, list)) {
                    say(format!("line {}: `unsafe` outside the list in tidy", number + 1));
                }
                if code.contains("#[ignore") {
                    say(format!("line {}: a test that is ignored tests nothing", number + 1));
                }
            }
        }
        if !is_test_path(path) && !ENV_FILES.iter().any(|list| in_list(path, list)) {
            for word in ["env::var", "env::vars", "env::var_os", "option_env!"] {
                if product.contains(word) {
                    say(format!("`{word}`: only settings read the environment"));
                    break;
                }
            }
        }
        for line in product.lines().filter(|_| !path.contains("/crates/tidy/")) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            while let Some(word) = words.next() {
                if !matches!(word, "struct" | "enum" | "trait") {
                    continue;
                }
                let name = words.next().unwrap_or_default();
                if let Some(empty) = EMPTY_WORDS.iter().find(|empty| name.ends_with(**empty)) {
                    say(format!("`{name}`: `{empty}` says nothing"));
                }
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, want: &str) {
        let got = complaints(&[File { path: path.into(), text: text.into() }]);
        if want.is_empty() {
            assert!(got.is_empty(), "{got:?}");
        } else {
            assert!(got.len() == 1 && got[0].contains(want), "{got:?} lacks {want}");
        }
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_found() {
        check("src-tauri/src/a.rs", "fn a() {}\n", "what the file is for");
        check("src-tauri/src/a.rs", "//! A.\nfn a() {}\n", "");
    }

    #[test]
    fn unsafe_code_outside_the_list_is_found() {
        check("src-tauri/crates/engine/src/a.rs", "//! A.\nunsafe fn a() {}\n", "outside the list");
        check("src-tauri/crates/kernels/src/a.rs", "//! A.\nunsafe fn a() {}\n", "");
        check("src-tauri/crates/engine/src/a.rs", "//! A.\n// not unsafe\nfn is_unsafe_now() {}\n", "");
    }

    #[test]
    fn an_environment_read_outside_settings_is_found() {
        let text = "//! A.\nfn a() { std::env::var(\"A\").ok(); }\n";
        check("src-tauri/crates/engine/src/a.rs", text, "only settings");
        check("src-tauri/src/settings.rs", text, "");
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let text = format!("//! A.\n{}", "fn a() {}\n".repeat(MAX_LINES));
        check("src-tauri/src/a.rs", &text, "one noun");
        let tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn a() {}\n".repeat(MAX_LINES));
        check("src-tauri/src/a.rs", &tests, "");
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        check("src-tauri/src/a.rs", "//! A.\npub struct ModelManager;\n", "says nothing");
    }

    #[test]
    fn an_ignored_test_is_found() {
        let text = "//! A.\n#[ignore]\nfn a() {}\n";
        check("src-tauri/crates/engine/src/a.rs", text, "tests nothing");
    }
}
