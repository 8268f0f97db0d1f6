//! Where a link leads: the window shows the app's own page and nothing else, and the browser what is on the web.

use tauri::Url;

/// Whether the window may go there.
pub(crate) fn is_ours(url: &Url) -> bool {
    url.scheme() == "tauri" || url.as_str() == "about:blank"
}

/// Open a link of an answer where the user's links open. Anything but the web and mail is nobody's business.
pub(crate) fn open_outside(url: &Url) {
    if !is_for_browsers(url) {
        tracing::warn!(scheme = url.scheme(), "a link of this kind is not followed");
    } else if let Err(error) = open::that_detached(url.as_str()) {
        tracing::warn!(%error, "no browser could be opened");
    }
}

fn is_for_browsers(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https" | "mailto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_stays_on_its_page_and_only_web_and_mail_leave_it() {
        let rows = [
            ("tauri://localhost/index.html", true, false),
            ("about:blank", true, false),
            ("https://example.com/", false, true),
            ("http://127.0.0.1:8642/", false, true),
            ("mailto:a@example.com", false, true),
            ("file:///etc/passwd", false, false),
            ("about:config", false, false),
            ("data:text/html,x", false, false),
            ("javascript:alert(1)", false, false),
        ];
        for (url, ours, browsers) in rows {
            let parsed = url.parse().unwrap();
            assert_eq!((is_ours(&parsed), is_for_browsers(&parsed)), (ours, browsers), "{url}");
        }
    }
}
