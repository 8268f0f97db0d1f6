//! What the binary itself is made of, and what it takes.

/// The headless build is the Linux server artefact: it must start on a machine without a desktop.
#[cfg(all(target_os = "linux", not(feature = "desktop")))]
#[test]
fn a_build_without_the_desktop_needs_no_gtk() {
    let output = std::process::Command::new("ldd").arg(crate::harness::server::BINARY).output().expect("ldd");
    let libraries = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(libraries.contains("libc.so"), "ldd says nothing of use: {libraries}");
    for word in ["gtk", "gdk", "webkit", "ayatana", "libX11", "libwayland"] {
        assert!(!libraries.to_lowercase().contains(&word.to_lowercase()), "{word} in:\n{libraries}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_loaded_model_takes_no_more_than_1_3_times_its_file_and_the_pool() {
    use crate::harness::{GEMMA3, SMOLLM2, Setup, model};
    const POOL: u64 = 32 << 20;
    for name in [SMOLLM2, GEMMA3] {
        let server = Setup::new(name).with("--kv-pool", "32MiB").ready();
        let file = std::fs::metadata(model(name)).expect("the model").len();
        let resident = server.resident_bytes();
        assert!(resident > file / 2, "{name}: {resident} bytes cannot be all");
        assert!(resident * 10 <= file * 13 + POOL * 10, "{name}: {resident} bytes for a file of {file}");
    }
}
