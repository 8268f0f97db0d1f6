//! Build script: tells Tauri where the app's parts lie, and which commands the window may call.

fn main() {
    println!("cargo::rerun-if-changed=src-tauri/build.rs");
    #[cfg(feature = "desktop")]
    desktop();
}

#[cfg(feature = "desktop")]
fn desktop() {
    let commands = &[
        "api_base",
        "quit",
        "quit_now",
        "cancel_quit",
        "retry_load",
        "open_logs",
        "zoom",
        "port_problem",
        "retry_port",
        "other_port",
    ];
    let attributes = tauri_build::Attributes::new()
        .capabilities_path_pattern("./src-tauri/capabilities/**/*")
        .app_manifest(tauri_build::AppManifest::new().commands(commands));
    if let Err(error) = tauri_build::try_build(attributes) {
        panic!("tauri.conf.json or src-tauri/capabilities: {error:#}");
    }
}
