//! Build script: nothing to do for the headless server.

fn main() {
    println!("cargo::rerun-if-changed=src-tauri/build.rs");
    // The desktop shell is a feature of later builds; code and tests name it already.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"desktop\"))");
}
