//! The rule that the names of an enum's values stand in one list.
//!
//! The list is what `names! { … }` takes, or the arms of a function `name`. Whoever shows a name asks for it there: two
//! names of one list that stand elsewhere as texts are a second list, which the compiler does not keep in step.

use std::collections::BTreeSet;

use crate::sources::{is_test_path, outside_tests};
use crate::tree::File;

/// Complaints about second lists among `files`.
pub fn complaints(files: &[File]) -> Vec<String> {
    let sources: Vec<(&File, Parts<'_>)> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !is_test_path(&file.path))
        .map(|file| (file, parts(outside_tests(&file.text))))
        .collect();
    let mut complaints = Vec::new();
    for (home, names) in
        sources.iter().flat_map(|(file, parts)| parts.lists.iter().map(move |list| (file, list)))
    {
        for (file, parts) in &sources {
            let said: Vec<&str> = names.iter().copied().filter(|name| parts.others.contains(name)).collect();
            if said.len() > 1 {
                complaints.push(format!("{}: {said:?} are names of {}", file.path, home.path));
            }
        }
    }
    complaints
}

/// The texts in quotes of a source file.
struct Parts<'a> {
    /// Those of each list of names.
    lists: Vec<BTreeSet<&'a str>>,
    /// All others.
    others: BTreeSet<&'a str>,
}

fn parts(text: &str) -> Parts<'_> {
    let mut parts = Parts { lists: Vec::new(), others: BTreeSet::new() };
    let mut rest = text;
    while let Some((at, end)) = next_list(rest) {
        parts.others.extend(quoted(&rest[..at]));
        let names: BTreeSet<&str> = quoted(&rest[at..end]).collect();
        if names.len() > 1 {
            parts.lists.push(names);
        }
        rest = &rest[end..];
    }
    parts.others.extend(quoted(rest));
    parts
}

/// Where the next list begins and ends: at the first line that closes it, with as little before it as its beginning has.
fn next_list(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let code = line.trim_start();
        let is_list = code.starts_with("engine::names! {")
            || code.starts_with("crate::names! {")
            || code.starts_with("kinds! {")
            || (code.contains("fn name(") && code.contains("&'static str"));
        if is_list {
            let indent = &line[..line.len() - code.len()];
            let close = format!("\n{indent}}}");
            let end = text[at..].find(&close).map_or(text.len(), |length| at + length);
            return Some((at, end));
        }
        at += line.len();
    }
    None
}

/// The texts in quotes, but for comments; of those that hold quotes themselves only parts are seen.
fn quoted(code: &str) -> impl Iterator<Item = &str> {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "//! A.\nengine::names! {\n    pub Tea {\n        Black => \"black\",\n        Green => \"green\",\n    }\n}\n";

    fn check(path: &str, text: &str, want: usize) {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let got = complaints(&[file("a/tea.rs", HOME), file(path, text)]);
        assert_eq!(got.len(), want, "{got:?}");
    }

    #[test]
    fn a_second_list_of_names_is_found_whatever_it_looks_like() {
        check("a/b.rs", "const NAMES: [&str; 2] = [\"black\", \"green\"];\n", 1);
        check("a/b.rs", "match tea {\n    Tea::Black => \"black\",\n    Tea::Green => \"green\",\n}\n", 1);
        check("a/b.rs", "if word == \"green\" {}\nelse if word == \"black\" {}\n", 1);
        check("a/tea2.rs", &format!("{HOME}const NAMES: [&str; 2] = [\"black\", \"green\"];\n"), 2);
    }

    #[test]
    fn one_word_a_comment_a_test_and_another_enum_with_the_same_words_are_none() {
        check("a/b.rs", "say(\"green\");\n", 0);
        check("a/b.rs", "// \"green\" and \"black\"\n", 0);
        check("a/tests.rs", "[\"black\", \"green\"]\n", 0);
        check(
            "a/b.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests { const A: [&str; 2] = [\"black\", \"green\"]; }\n",
            0,
        );
        check("a/b.rs", HOME, 0);
        let by_hand = "impl Tea {\n    fn name(self) -> &'static str {\n        match self {\n            \
                       A => \"black\",\n            B => \"green\",\n        }\n    }\n}\n";
        check("a/b.rs", by_hand, 0);
    }
}
