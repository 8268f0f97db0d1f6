//! Build script: tells Tauri where the app's parts lie, and which commands the window may call.

#[cfg(feature = "desktop")]
#[macro_use]
#[path = "src/window_commands.rs"]
mod window_commands;

fn main() {
    println!("cargo::rerun-if-changed=src-tauri/build.rs");
    println!("cargo::rerun-if-changed=src-tauri/src/window_commands.rs");
    #[cfg(feature = "desktop")]
    desktop();
}

#[cfg(feature = "desktop")]
fn desktop() {
    macro_rules! names {
        ([$($page:ident),+] [$($problem:ident),+]) => {
            &[$(stringify!($page),)+ $(stringify!($problem)),+]
        };
    }
    let commands = window_commands!(names);
    let attributes = tauri_build::Attributes::new()
        .capabilities_path_pattern("./src-tauri/capabilities/**/*")
        .app_manifest(tauri_build::AppManifest::new().commands(commands));
    if let Err(error) = tauri_build::try_build(attributes) {
        panic!("tauri.conf.json or src-tauri/capabilities: {error:#}");
    }
}
