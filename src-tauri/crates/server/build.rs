//! Build script: puts the window's page, which npm builds into `ui/dist`, into the binary.
//!
//! Where npm has not run, a short page that says so is written there, so that a plain `cargo build` works without
//! node, and so that whoever else embeds that folder finds it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dist = here.join("../../../ui/dist");
    let not_built = here.join("src/page_not_built.html");
    println!("cargo::rerun-if-changed={}", not_built.display());
    println!("cargo::rerun-if-changed=build.rs");

    if !dist.join("index.html").exists() {
        fs::create_dir_all(&dist)?;
        fs::copy(&not_built, dist.join("index.html"))?;
    }
    println!("cargo::rerun-if-changed={}", dist.display());

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    let mut files = Vec::new();
    collect(&dist, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        // A copy, because npm may build anew while the compiler reads.
        let copy = format!("page_file_{number}");
        fs::copy(file, out.join(&copy))?;
        let path = file.strip_prefix(&dist).unwrap_or(file).display();
        let content = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{copy}\"))");
        writeln!(table, "    (\"/{path}\", {content}),").map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(out.join("page_files.rs"), table)
}

/// All files under `folder` but hidden ones, which are npm's and make's own business.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
