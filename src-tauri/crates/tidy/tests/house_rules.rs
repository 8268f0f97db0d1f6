//! The house rules, held against this repository.

use tidy::tree::{self, File};
use tidy::{imports, manifests, names, page, prose, rooms, sources};

fn files() -> Vec<File> {
    tree::files(&tree::root()).expect("the repository is a git checkout")
}

fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}", complaints.join("\n  "));
}

#[test]
fn the_tree_is_found() {
    let files = files();
    assert!(files.iter().any(|f| f.path == "src-tauri/ARCHITECTURE.md"), "{} files", files.len());
}

#[test]
fn the_top_level_is_fixed() {
    none(prose::top_level_complaints(&tree::top_level(&files())));
}

#[test]
fn packages_depend_only_along_the_drawn_edges() {
    none(manifests::complaints(&files()));
}

#[test]
fn sources_keep_the_house_rules() {
    none(sources::complaints(&files()));
}

#[test]
fn files_of_a_package_import_in_no_circle() {
    let files = files();
    let folders = imports::source_folders(&files);
    assert!(folders.len() >= manifests::EDGES.len(), "{folders:?}");
    none(folders.iter().flat_map(|f| imports::circle_complaints(&imports::modules(&files, f))).collect());
}

#[test]
fn no_file_imports_from_a_room_above_its_own() {
    let files = files();
    let of_package = |(folder, rooms): &(&str, &[&str])| {
        let modules = imports::modules(&files, folder);
        assert!(modules.len() > 20, "{} files in {folder}", modules.len());
        rooms::complaints(rooms, &modules)
    };
    none(rooms::ROOMS.iter().flat_map(of_package).collect());
}

#[test]
fn no_dialect_knows_the_engine() {
    none(rooms::stranger_complaints(&files()));
}

#[test]
fn files_of_the_page_are_not_too_long() {
    none(page::complaints(&files()));
}

#[test]
fn the_names_of_an_enum_stand_in_one_list() {
    none(names::complaints(&files()));
}

#[test]
fn documents_name_only_paths_that_exist() {
    none(prose::path_complaints(&tree::root(), &files()));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    none(prose::machine_complaints(&files()));
}

#[test]
fn the_map_names_every_package() {
    let files = files();
    let map = files.iter().find(|f| f.path == "src-tauri/ARCHITECTURE.md").expect("there is a map");
    for (name, _) in manifests::EDGES {
        assert!(map.text.contains(&format!("`{name}`")), "the map does not name `{name}`");
    }
}
