//! What the window shows: the page that every server sends, and a small one for when there is no server.

use std::borrow::Cow;
use std::net::IpAddr;

use tauri::utils::assets::{AssetKey, AssetsIter, CspHash};
use tauri::utils::config::Csp;
use tauri::{Assets, Runtime};

/// Shown while the server cannot listen.
const PROBLEM: &[(&str, &[u8])] = &[
    ("/problem.html", include_bytes!("problem/problem.html")),
    ("/problem.css", include_bytes!("problem/problem.css")),
    ("/problem.js", include_bytes!("problem/problem.js")),
];

/// The files as Tauri asks for them. There is one copy in the binary, the server's.
pub(crate) struct Page;

fn files() -> impl Iterator<Item = &'static (&'static str, &'static [u8])> {
    server::PAGE_FILES.iter().chain(PROBLEM)
}

impl<R: Runtime> Assets<R> for Page {
    fn get(&self, key: &AssetKey) -> Option<Cow<'_, [u8]>> {
        files().find(|(path, _)| *path == key.as_ref()).map(|(_, content)| Cow::Borrowed(*content))
    }

    fn iter(&self) -> Box<AssetsIter<'_>> {
        Box::new(files().map(|(path, content)| (Cow::Borrowed(*path), Cow::Borrowed(*content))))
    }

    fn csp_hashes(&self, _html_path: &AssetKey) -> Box<dyn Iterator<Item = CspHash<'_>> + '_> {
        Box::new(std::iter::empty())
    }
}

/// The page's policy, which must let it reach the server where that listens elsewhere than on loopback.
pub(crate) fn policy(configured: &str, address: IpAddr) -> Csp {
    const LOOPBACK: &str = "http://127.0.0.1:*";
    let host = match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Csp::Policy(configured.replace(LOOPBACK, &format!("{LOOPBACK} http://{host}:*")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_the_problem_are_both_there() {
        let has = |path: &str| <Page as Assets<tauri::Wry>>::get(&Page, &AssetKey::from(path)).is_some();
        for path in ["index.html", "problem.html", "problem.css", "problem.js"] {
            assert!(has(path), "{path}");
        }
        assert!(!has("nothing.html"));
    }

    #[test]
    fn a_server_on_another_address_may_be_reached_too() {
        let policy =
            |ip: &str| policy("connect-src ipc: http://127.0.0.1:*", ip.parse().unwrap()).to_string();
        assert!(policy("192.168.1.5").ends_with("http://127.0.0.1:* http://192.168.1.5:*"));
        assert!(policy("::1").ends_with("http://127.0.0.1:* http://[::1]:*"));
    }
}
