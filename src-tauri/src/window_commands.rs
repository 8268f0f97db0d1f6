//! What the window may ask of the app, listed once: the app's handler, the build script's manifest and the page's types
//! are made from this list, and tests hold to it what else names them.

/// Hands `$take` the commands of the page, and those of the window that says why nothing is served.
macro_rules! window_commands {
    ($take:ident) => {
        $take! {
            [api_base, quit, quit_now, cancel_quit, retry_load, open_logs, zoom]
            [port_problem, retry_port, other_port]
        }
    };
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    macro_rules! names {
        ([$($page:ident),+] [$($problem:ident),+]) => {
            (&[$(stringify!($page)),+], &[$(stringify!($problem)),+])
        };
    }

    const NAMES: (&[&str], &[&str]) = window_commands!(names);

    fn all() -> Vec<&'static str> {
        [NAMES.0, NAMES.1].concat()
    }

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    #[test]
    fn the_window_is_allowed_every_command_and_nothing_else() {
        let capability: serde_json::Value =
            serde_json::from_str(&read("src-tauri/capabilities/window.json")).unwrap();
        let allowed: Vec<&str> =
            capability["permissions"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        let wanted: Vec<String> =
            all().iter().map(|name| format!("allow-{}", name.replace('_', "-"))).collect();
        assert_eq!(allowed, wanted);
    }

    #[test]
    fn the_map_names_the_commands_of_the_page() {
        let quoted: Vec<String> = NAMES.0.iter().map(|name| format!("`{name}`")).collect();
        let (last, others) = quoted.split_last().unwrap();
        let sentence = format!("is the commands {} and {last}.", others.join(", "));
        assert!(read("src-tauri/ARCHITECTURE.md").contains(&sentence), "ARCHITECTURE.md lacks: {sentence}");
    }

    #[test]
    fn scripts_outside_the_page_ask_for_commands_that_there_are() {
        for (path, wanted) in [
            ("src-tauri/src/desktop/problem/problem.js", &[NAMES.1, &["quit"]].concat()[..]),
            ("src-tauri/src/desktop/window.rs", &["quit"]),
        ] {
            let text = read(path);
            let mut asked: Vec<&str> = ["invoke('", "attempt('"]
                .iter()
                .flat_map(|call| text.split(call).skip(1).filter_map(|rest| rest.split('\'').next()))
                .collect();
            asked.sort_unstable();
            asked.dedup();
            let mut wanted = wanted.to_vec();
            wanted.sort_unstable();
            assert_eq!(asked, wanted, "{path}");
        }
    }
}
