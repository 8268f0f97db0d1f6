//! Rules about the page's source files.

use crate::tree::File;

/// Lines that a file of the page may have.
pub const MAX_LINES: usize = 500;

/// Complaints about the page's files among `files`.
pub fn complaints(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.path.starts_with("ui/src/"))
        .filter(|file| file.path.ends_with(".ts") || file.path.ends_with(".svelte"))
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, n_lines)| *n_lines > MAX_LINES)
        .map(|(file, n_lines)| {
            format!("{}: {n_lines} lines; is it one noun? (at most {MAX_LINES})", file.path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_found_and_a_test_may_be_as_long_as_it_likes() {
        let file = |path: &str, n_lines| File { path: path.into(), text: "x\n".repeat(n_lines) };
        assert_eq!(complaints(&[file("ui/src/lib/a.svelte.ts", MAX_LINES)]), Vec::<String>::new());
        assert_eq!(complaints(&[file("ui/src/lib/a.svelte.ts", MAX_LINES + 1)]).len(), 1);
        assert_eq!(complaints(&[file("ui/src/A.svelte", MAX_LINES + 1)]).len(), 1);
        assert_eq!(complaints(&[file("ui/tests/a.test.ts", MAX_LINES + 1)]), Vec::<String>::new());
    }
}
