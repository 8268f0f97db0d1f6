//! The files of the window's page, which are part of the binary.

/// Path and content of every file, made by the build script; whoever else shows the page takes it from here.
pub static PAGE_FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

/// Whether `path` is part of the page. It says nothing that the public source does not, so it needs no key.
pub(crate) fn has(path: &str) -> bool {
    PAGE_FILES.iter().any(|(file, _)| route(file) == path)
}

/// Where a file is served.
pub(crate) fn route(path: &str) -> &str {
    if path == "/index.html" { "/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_whether_or_not_npm_has_built_it() {
        assert!(has("/") && !has("/index.html") && !has("/nothing"));
    }
}
