//! The rooms of the packages that have some, from the bottom up: no file imports from a room above its own.

use crate::imports::Module;
use crate::sources::outside_tests;
use crate::tree::File;

/// Folders and single files of a package's sources; each may import from those that stand before it.
pub const ROOMS: &[(&str, &[&str])] = &[
    (
        "src-tauri/crates/engine/src/",
        &[
            "clock",
            "hold_points",
            "panic_text",
            "permit",
            "told",
            "config",
            "inbox",
            "sampling",
            "keeping",
            "shared",
            "tally",
            "lifecycle",
            "stepping",
            "models",
            "thread",
            "outside",
        ],
    ),
    (
        "src-tauri/crates/server/src/",
        &[
            "calls",
            "config",
            "keys",
            "name_lists",
            "dialects",
            "kept",
            "page_files",
            "edge",
            "app",
            "agents",
            "generate",
            "embed",
            "models",
            "page",
            "watch",
            "openapi",
            "router",
            "listen",
            "fuzzing",
        ],
    ),
    ("src-tauri/crates/model/src/", &["error", "options", "plan", "file", "families", "run", "cpu", "gpu"]),
];

/// Folders whose files know nothing of a package.
pub const STRANGERS: &[(&str, &str)] = &[("src-tauri/crates/server/src/dialects/", "engine")];

/// Complaints about files that name a package which is a stranger to them.
pub fn stranger_complaints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (folder, package) in STRANGERS {
        for file in files.iter().filter(|file| file.path.starts_with(folder)) {
            let names = |line: &str| {
                let code = line.split("//").next().unwrap_or_default();
                code.match_indices(&format!("{package}::")).any(|(at, _)| {
                    !code[..at]
                        .ends_with(|before: char| before.is_alphanumeric() || matches!(before, '_' | ':'))
                })
            };
            if outside_tests(&file.text).lines().any(names) {
                complaints.push(format!("{}: nothing here knows `{package}`", file.path));
            }
        }
    }
    complaints
}

/// Complaints about files that import from above, or stand in no room of the list.
pub fn complaints(rooms: &[&str], modules: &[Module]) -> Vec<String> {
    let floor = |module: &Module| rooms.iter().position(|room| *room == module.room());
    let mut complaints = Vec::new();
    for module in modules.iter().filter(|module| !module.segments.is_empty()) {
        let path = &module.path;
        let Some(own) = floor(module) else {
            complaints.push(format!("{path}: `{}` is no room of tidy's list", module.room()));
            continue;
        };
        for (to, names) in &module.imports {
            let above = &modules[*to];
            if floor(above).is_none_or(|theirs| theirs > own) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                complaints.push(format!("{path}: {} comes from above, {}", names.join(", "), above.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::tests::package;

    fn check(files: &[(&str, &str)], wanted: &[&str]) {
        let complaints = complaints(&["low", "high"], &package(files));
        assert_eq!(complaints.len(), wanted.len(), "{complaints:?}");
        for (complaint, wanted) in complaints.iter().zip(wanted) {
            assert!(complaint.contains(wanted), "{complaints:?} lacks {wanted}");
        }
    }

    #[test]
    fn an_import_from_above_is_found() {
        let with = |path: &'static str, text: &'static str| {
            [
                ("lib.rs", "mod low;\nmod high;\npub use high::b::B;\n"),
                ("low.rs", "pub mod a;\n"),
                ("low/a.rs", "pub struct A;\n"),
                ("high.rs", "pub mod b;\n"),
                ("high/b.rs", "use crate::low::a::A;\npub struct B;\n"),
                (path, text),
            ]
        };
        check(&with("low/c.rs", "use super::a::A;\n"), &[]);
        let upward = "a/src/low/c.rs: B comes from above, a/src/high/b.rs";
        check(&with("low/c.rs", "use crate::high::b::B;\n"), &[upward]);
        // By way of the package's root, and written out.
        check(&with("low/c.rs", "use crate::B;\n"), &[upward]);
        check(&with("low/c.rs", "fn c() -> crate::high::b::B { made() }\n"), &[upward]);
        check(&with("low/c.rs", "use crate::Own;\n"), &["Own comes from above, a/src/lib.rs"]);
    }

    #[test]
    fn a_dialect_that_knows_the_engine_is_found() {
        let n_complaints = |path: &str, text: &str| {
            stranger_complaints(&[File { path: path.to_owned(), text: text.to_owned() }]).len()
        };
        let dialect = "src-tauri/crates/server/src/dialects/new/call.rs";
        for (text, n) in [
            ("use engine::Refusal;\n", 1),
            ("fn a() -> engine::Refusal { b() }\n", 1),
            ("// engine::Refusal\nuse crate::calls::engine::Of;\nuse other_engine::Of;\n", 0),
            ("#[cfg(test)]\nmod tests {\n    use engine::Refusal;\n}\n", 0),
        ] {
            assert_eq!(n_complaints(dialect, text), n, "{text}");
        }
        assert_eq!(n_complaints("src-tauri/crates/server/src/calls/run.rs", "use engine::Refusal;\n"), 0);
    }

    #[test]
    fn a_room_that_is_not_in_the_list_is_found() {
        check(&[("low.rs", "mod a;\n"), ("attic/c.rs", "pub struct C;\n")], &["`attic` is no room"]);
    }
}
