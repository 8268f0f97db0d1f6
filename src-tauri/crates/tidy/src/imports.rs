//! Which file of a package imports from which, read from the text of its Rust files.
//!
//! A name that a room's front re-exports leads to the file that defines it, so that a circle cannot hide behind a
//! `pub use`; the re-export itself is no import.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{is_test_path, outside_tests};
use crate::tree::File;

/// A file of a package.
#[derive(Debug)]
pub struct Module {
    /// Its path from the root of the repository.
    pub path: String,
    /// Its module path from the package's root, which is empty for the root itself.
    pub segments: Vec<String>,
    /// Indices of the files it imports from, with the names that it takes.
    pub imports: BTreeMap<usize, BTreeSet<String>>,
    /// Traits that it declares.
    traits: BTreeSet<String>,
}

impl Module {
    /// The first part of its module path: the room, or the name of a file beside the rooms.
    pub fn room(&self) -> &str {
        self.segments.first().map_or("", String::as_str)
    }

    /// Whether `self`'s module holds `other`'s.
    fn holds(&self, other: &Module) -> bool {
        other.segments.len() > self.segments.len() && other.segments.starts_with(&self.segments)
    }
}

/// The folders of Rust sources among `files`, each that of one package.
pub fn source_folders(files: &[File]) -> BTreeSet<String> {
    let folder = |path: &str| {
        let at = path.find("/src/")?;
        path.ends_with(".rs").then(|| path[..at + "/src/".len()].to_owned())
    };
    files.iter().filter_map(|file| folder(&file.path)).collect()
}

/// The files of one package, but those of its tests.
pub fn modules(files: &[File], folder: &str) -> Vec<Module> {
    let texts: Vec<(&File, Vec<String>, String)> = files
        .iter()
        .filter(|file| file.path.starts_with(folder) && file.path.ends_with(".rs"))
        .filter(|file| folder.contains("/tidy/") || !is_test_path(&file.path))
        .filter(|file| !file.path.ends_with("/testing.rs"))
        .map(|file| (file, segments_of(&file.path[folder.len()..]), code_of(&file.text)))
        .collect();
    let index: BTreeMap<&[String], usize> =
        texts.iter().enumerate().map(|(i, (_, segments, _))| (segments.as_slice(), i)).collect();
    let parsed: Vec<Parsed> = texts.iter().map(|(_, segments, code)| parse(code, segments, &index)).collect();
    let import = |importer: usize, path: &[String]| {
        let target = target_of(path, &index, &parsed, 0)?;
        (target != importer).then(|| (target, path.last().cloned().unwrap_or_default()))
    };
    texts
        .iter()
        .enumerate()
        .map(|(i, (file, segments, code))| {
            let mut imports: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
            for (target, name) in parsed[i].imported.iter().filter_map(|path| import(i, path)) {
                imports.entry(target).or_default().insert(name);
            }
            let traits = words_after(code, "trait").map(str::to_owned).collect();
            Module { path: file.path.clone(), segments: segments.clone(), imports, traits }
        })
        .collect()
}

/// Complaints about files that import from each other in a circle. A trait in a file above those that implement it
/// makes none.
pub fn circle_complaints(modules: &[Module]) -> Vec<String> {
    let next = |from: usize| {
        let own = &modules[from];
        own.imports.iter().filter(move |(to, names)| {
            let above = &modules[**to];
            !(above.holds(own) && names.iter().all(|name| above.traits.contains(name)))
        })
    };
    let reach: Vec<BTreeSet<usize>> = (0..modules.len())
        .map(|start| {
            let mut found = BTreeSet::new();
            let mut open = vec![start];
            while let Some(at) = open.pop() {
                open.extend(next(at).map(|(to, _)| *to).filter(|to| found.insert(*to)));
            }
            found
        })
        .collect();
    let mut complaints = Vec::new();
    let mut told = BTreeSet::new();
    for start in 0..modules.len() {
        if told.contains(&start) || !reach[start].contains(&start) {
            continue;
        }
        let circle: BTreeSet<usize> =
            reach[start].iter().copied().filter(|other| reach[*other].contains(&start)).collect();
        let mut edges = Vec::new();
        for &from in &circle {
            for (to, names) in next(from).filter(|(to, _)| circle.contains(to)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let (from, to) = (&modules[from].path, &modules[*to].path);
                edges.push(format!("{from} takes {} from {to}", names.join(", ")));
            }
        }
        complaints.push(format!("a circle of imports: {}", edges.join("; ")));
        told.extend(circle);
    }
    complaints
}

/// What is imported and what is passed on, as module paths from the package's root.
#[derive(Debug, Default)]
struct Parsed {
    imported: Vec<Vec<String>>,
    passed_on: BTreeMap<String, Vec<String>>,
}

/// Module path of a file by its path in the source folder.
fn segments_of(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if segments.last().is_some_and(|last| last == "mod") || matches!(path, "lib.rs" | "main.rs") {
        segments.pop();
    }
    segments
}

/// A file's code without its tests and comments.
fn code_of(text: &str) -> String {
    let code = outside_tests(text).lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

fn parse(code: &str, own: &[String], index: &BTreeMap<&[String], usize>) -> Parsed {
    let absolute = |path: &[&str]| -> Option<Vec<String>> {
        let n_up = path.iter().take_while(|segment| **segment == "super").count();
        let rest = |from: usize| path[from..].iter().map(|segment| (*segment).to_owned());
        match *path.first()? {
            "crate" => Some(rest(1).collect()),
            "super" => Some(own[..own.len().checked_sub(n_up)?].iter().cloned().chain(rest(n_up)).collect()),
            "self" => Some(own.iter().cloned().chain(rest(1)).collect()),
            first => {
                let child: Vec<String> = own.iter().cloned().chain([first.to_owned()]).collect();
                index.contains_key(child.as_slice()).then(|| own.iter().cloned().chain(rest(0)).collect())
            }
        }
    };
    let mut parsed = Parsed::default();
    let mut other = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some((is_public, start)) = use_of(line.trim_start()) else {
            other.push_str(line);
            other.push('\n');
            continue;
        };
        let mut tree = start.to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        let tree = tree.split(';').next().unwrap_or_default();
        let mut leaves = Vec::new();
        expand(&mut Vec::new(), tree, &mut leaves);
        for (path, name) in leaves {
            let Some(path) = absolute(&path) else { continue };
            if is_public {
                parsed.passed_on.insert(name.to_owned(), path);
            } else {
                parsed.imported.push(path);
            }
        }
    }
    parsed.imported.extend(inline_paths(&other).iter().filter_map(|path| absolute(path)));
    parsed
}

/// What stands behind `use`, and whether it is passed on.
fn use_of(line: &str) -> Option<(bool, &str)> {
    if let Some(tree) = line.strip_prefix("use ") {
        return Some((false, tree));
    }
    let rest = line.strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    Some((true, rest.trim_start().strip_prefix("use ")?))
}

/// The leaves of a use tree: their paths, and the names by which they are known.
fn expand<'a>(prefix: &mut Vec<&'a str>, tree: &'a str, leaves: &mut Vec<(Vec<&'a str>, &'a str)>) {
    let n_before = prefix.len();
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head, Some(group.trim_end().strip_suffix('}').unwrap_or(group))),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").unwrap_or((head, ""));
    prefix.extend(head.split("::").map(str::trim).filter(|segment| !segment.is_empty()));
    match group {
        Some(group) => {
            let (mut depth, mut start) = (0_usize, 0);
            for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    ',' if depth == 0 => {
                        if !group[start..at].trim().is_empty() {
                            expand(prefix, group[start..at].trim(), leaves);
                        }
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        }
        None => {
            if prefix.len() > 1 && prefix.last() == Some(&"self") {
                prefix.pop();
            }
            let name =
                if alias.is_empty() { prefix.last().copied().unwrap_or_default() } else { alias.trim() };
            leaves.push((prefix.clone(), name));
        }
    }
    prefix.truncate(n_before);
}

/// Paths of more than one segment that are written out in the code.
fn inline_paths(code: &str) -> Vec<Vec<&str>> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let mut paths = Vec::new();
    let mut rest = code;
    let mut before = ' ';
    while let Some(start) = rest.find(is_part) {
        if let Some(c) = rest[..start].chars().next_back() {
            before = c;
        }
        let word = &rest[start..];
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let path: Vec<&str> = word[..end].split("::").filter(|segment| !segment.is_empty()).collect();
        let is_path = word[..end].contains("::") && !word.starts_with(':') && before != '.';
        // A macro stands at the package's root, wherever its text does.
        let is_path = is_path && !word[end..].starts_with('!');
        if is_path && path.iter().all(|segment| !segment.contains(':')) && path.len() > 1 {
            paths.push(path);
        }
        before = word[..end].chars().next_back().unwrap_or(' ');
        rest = &word[end..];
    }
    paths
}

/// The file that a path leads to: the longest part of it that is one, and on from there where it passes the name on.
fn target_of(
    path: &[String],
    index: &BTreeMap<&[String], usize>,
    parsed: &[Parsed],
    n_passed: usize,
) -> Option<usize> {
    let n = (0..=path.len()).rev().find(|n| index.contains_key(&path[..*n]))?;
    let file = index[&path[..n]];
    match path.get(n).and_then(|name| parsed[file].passed_on.get(name)) {
        Some(onwards) if n_passed < 10 => {
            let onwards: Vec<String> = onwards.iter().chain(&path[n + 1..]).cloned().collect();
            target_of(&onwards, index, parsed, n_passed + 1)
        }
        _ => Some(file),
    }
}

/// The words that follow `keyword`.
fn words_after<'a>(code: &'a str, keyword: &str) -> impl Iterator<Item = &'a str> {
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    std::iter::from_fn(move || {
        words.find(|word| *word == keyword)?;
        words.next()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A package of the given files.
    pub(crate) fn package(files: &[(&str, &str)]) -> Vec<Module> {
        let file = |(path, text): &(&str, &str)| File { path: format!("a/src/{path}"), text: (*text).into() };
        let files: Vec<File> = files.iter().map(file).collect();
        assert_eq!(source_folders(&files), BTreeSet::from(["a/src/".to_owned()]));
        modules(&files, "a/src/")
    }

    fn check(files: &[(&str, &str)], wanted: &[&str]) {
        let complaints = circle_complaints(&package(files));
        assert_eq!(complaints.len(), usize::from(!wanted.is_empty()), "{complaints:?}");
        for words in wanted {
            assert!(complaints[0].contains(words), "{complaints:?} lacks {words}");
        }
    }

    #[test]
    fn files_that_import_from_each_other_are_found() {
        let two = ("b.rs", "use crate::c::C;\npub struct B;\n");
        check(&[two, ("c.rs", "use crate::b::B;\npub struct C;\n")], &["takes B from a/src/b.rs", "takes C"]);
        check(&[two, ("c.rs", "pub struct C;\n")], &[]);
        // Over more files, by paths that are written out, by `super` and from within a group.
        check(
            &[
                two,
                ("c.rs", "fn c() { crate::d::deep::call(); }\n"),
                ("d.rs", "mod deep;\n"),
                ("d/deep.rs", "use super::super::b::{self, B};\n"),
            ],
            &["a/src/d/deep.rs takes", "a/src/c.rs takes call from a/src/d/deep.rs"],
        );
        check(&[two, ("c.rs", "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n")], &[]);
        check(&[two, ("c.rs", "// use crate::b::B;\nlet b = x.crate::b::B;\n")], &[]);
    }

    #[test]
    fn a_circle_does_not_hide_behind_a_re_export() {
        let front = ("d.rs", "mod e;\nmod f;\npub(crate) use e::E;\npub use f::{F as G};\n");
        let (e, f) =
            (("d/e.rs", "use super::G;\npub struct E;\n"), ("d/f.rs", "use crate::d::E;\npub struct F;\n"));
        check(&[front, e, f], &["a/src/d/e.rs takes G from a/src/d/f.rs", "takes E from a/src/d/e.rs"]);
        check(&[front, e, ("d/f.rs", "pub struct F;\n")], &[]);
        // A front that uses its own room is in the circle itself.
        check(
            &[("d.rs", "mod e;\nuse e::E;\npub struct D;\n"), ("d/e.rs", "use super::D;\n")],
            &["takes D", "takes E"],
        );
    }

    #[test]
    fn a_trait_may_stand_above_those_that_implement_it_and_call_them() {
        let front = ("d.rs", "mod e;\nuse e::E;\npub(crate) trait Shape {}\npub const N: usize = 3;\n");
        check(&[front, ("d/e.rs", "use super::Shape;\npub struct E;\nimpl Shape for E {}\n")], &[]);
        check(
            &[front, ("d/e.rs", "use super::{N, Shape};\npub struct E;\n")],
            &["takes N, Shape from a/src/d.rs"],
        );
        // Beside them it is an import like any other.
        let beside = ("b.rs", "use crate::c::C;\npub trait Shape {}\n");
        check(&[beside, ("c.rs", "use crate::b::Shape;\npub struct C;\n")], &["takes Shape"]);
    }
}
