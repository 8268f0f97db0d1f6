//! What the binary itself is made of.

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
