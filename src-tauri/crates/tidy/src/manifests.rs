//! Rules about manifests: who may depend on whom, and where versions live.

use crate::tree::File;

/// The inner edges that are allowed: the drawing in `src-tauri/ARCHITECTURE.md`.
pub const EDGES: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("scheduler", &["address"]),
    ("kernels", &[]),
    ("model", &["scheduler", "kernels"]),
    ("text", &[]),
    ("store", &["address"]),
    ("engine", &["scheduler", "text", "store", "kernels"]),
    ("server", &["engine", "text"]),
    ("tidy", &[]),
    ("samovar", &["scheduler", "kernels", "model", "text", "store", "engine", "server"]),
];

/// Edges for tests only.
pub const DEV_EDGES: &[(&str, &[&str])] = &[("server", &["scheduler", "store"]), ("kernels", &[])];

/// Dependencies that are heavy or tie a package to a world: each lives in one manifest.
pub const HEAVY: &[(&str, &[&str])] = &[
    ("candle-core", &["model"]),
    ("candle-metal-kernels", &["model"]),
    ("objc2-metal", &["model"]),
    ("tokenizers", &["text"]),
    ("minijinja", &["text"]),
    ("llguidance", &["text"]),
    ("axum", &["server"]),
    ("utoipa", &["server"]),
    ("tauri", &["samovar"]),
    ("tauri-build", &["samovar"]),
    ("tauri-plugin-single-instance", &["samovar"]),
    ("gtk", &["samovar"]),
    ("arboard", &["samovar"]),
    ("zbus", &["samovar"]),
    ("clap", &["samovar"]),
    ("toml", &["samovar"]),
    ("directories", &["samovar"]),
    ("memmap2", &["kernels", "store"]),
];

/// Packages whose dependencies are all named here.
pub const LEAN: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("scheduler", &["address", "blake3", "bytemuck", "thiserror"]),
    ("kernels", &["half", "memmap2", "rustix", "thiserror"]),
    ("store", &["address", "blake3", "twox-hash", "thiserror", "memmap2", "rustix", "tracing"]),
    ("tidy", &[]),
];

/// A manifest's name and dependencies, as far as these rules look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// `[package] name`.
    pub name: String,
    /// Names in `[dependencies]` and its target-specific kin.
    pub dependencies: Vec<String>,
    /// Names in `[dev-dependencies]`.
    pub dev_dependencies: Vec<String>,
    /// Dependencies with a version of their own.
    pub own_versions: Vec<String>,
}

/// Read the parts of a `Cargo.toml` that the rules need.
pub fn parse(text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let name = key.trim().split('.').next().unwrap_or_default().to_owned();
        let inherited = key.trim().ends_with(".workspace") || value.contains("workspace = true");
        if section == "package" && name == "name" {
            manifest.name = value.trim().trim_matches('"').to_owned();
        } else if section.ends_with("dev-dependencies") {
            manifest.dev_dependencies.push(name.clone());
        } else if section.ends_with("build-dependencies")
            || section == "dependencies"
            || section.ends_with(".dependencies")
        {
            if section == "workspace.dependencies" {
                continue;
            }
            manifest.dependencies.push(name.clone());
        } else {
            continue;
        }
        let is_dependency = section.ends_with("dependencies");
        if is_dependency && !inherited {
            manifest.own_versions.push(name);
        }
    }
    manifest
}

fn allowed<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> &'a [&'a str] {
    table.iter().find(|(package, _)| *package == name).map_or(&[], |(_, list)| list)
}

/// Complaints about the manifests among `files`.
pub fn complaints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let ours: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    for file in files.iter().filter(|f| f.path.ends_with("Cargo.toml") && !f.path.contains("/fuzz/")) {
        let manifest = parse(&file.text);
        let name = manifest.name.as_str();
        if !ours.contains(&name) {
            complaints.push(format!("{}: package `{name}` has no place in tidy's EDGES", file.path));
            continue;
        }
        for dependency in &manifest.dependencies {
            let inner = ours.contains(&dependency.as_str());
            if inner && !allowed(EDGES, name).contains(&dependency.as_str()) {
                complaints.push(format!("{}: `{name}` must not depend on `{dependency}`", file.path));
            }
            if let Some((_, homes)) = HEAVY.iter().find(|(heavy, _)| heavy == dependency)
                && !homes.contains(&name)
            {
                complaints.push(format!("{}: `{dependency}` belongs to {homes:?} alone", file.path));
            }
            if let Some((_, lean)) = LEAN.iter().find(|(package, _)| *package == name)
                && !inner
                && !lean.contains(&dependency.as_str())
            {
                complaints.push(format!("{}: `{name}` stays lean: no `{dependency}`", file.path));
            }
        }
        for dependency in &manifest.dev_dependencies {
            let inner = ours.contains(&dependency.as_str());
            let known = allowed(EDGES, name).contains(&dependency.as_str())
                || allowed(DEV_EDGES, name).contains(&dependency.as_str());
            if inner && !known {
                complaints
                    .push(format!("{}: tests of `{name}` must not depend on `{dependency}`", file.path));
            }
        }
        for dependency in &manifest.own_versions {
            complaints
                .push(format!("{}: version of `{dependency}` belongs into the root manifest", file.path));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[&str]) {
        let file = File { path: "Cargo.toml".into(), text: text.into() };
        let got = complaints(&[file]);
        assert_eq!(got.len(), want.len(), "{got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.contains(want), "{got} lacks {want}");
        }
    }

    #[test]
    fn an_edge_against_the_design_is_found() {
        check("[package]\nname = \"engine\"\n[dependencies]\nmodel.workspace = true\n", &["must not depend"]);
        check("[package]\nname = \"engine\"\n[dependencies]\ntext.workspace = true\n", &[]);
    }

    #[test]
    fn a_heavy_dependency_outside_its_home_is_found() {
        check("[package]\nname = \"engine\"\n[dependencies]\naxum.workspace = true\n", &["belongs to"]);
    }

    #[test]
    fn a_lean_package_that_grows_is_found() {
        check("[package]\nname = \"scheduler\"\n[dependencies]\nserde.workspace = true\n", &["stays lean"]);
    }

    #[test]
    fn a_version_outside_the_root_is_found() {
        check("[package]\nname = \"text\"\n[dependencies]\nserde = \"1\"\n", &["root manifest"]);
    }

    #[test]
    fn a_package_without_a_place_is_found() {
        check("[package]\nname = \"utils\"\n", &["no place"]);
    }
}
