//! Which agent a request belongs to: the conversation's name, as the client gave it.

/// Longest name in the API.
const MAX_LEN: usize = 256;

/// Whether `name` may name an agent in a path or in `X-Session-ID`: `^[A-Za-z0-9._-]{1,256}$`, not `.` or `..`.
pub(crate) fn is_agent_name(name: &str) -> bool {
    (1..=MAX_LEN).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && name != "."
        && name != ".."
}

/// The first of a body's names that is there. Clients put anything into these fields, JSON too:
/// what does not have the form of a name is hashed to one.
pub(crate) fn from_body(names: [Option<String>; 3]) -> Option<String> {
    let name = names.into_iter().flatten().find(|name| !name.is_empty())?;
    if is_agent_name(&name) {
        return Some(name);
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    Some(format!("h-{}", &digest[..32]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_dots_underscores_and_hyphens() {
        for good in ["a", "research", "A.b_c-9", "...", &"x".repeat(256)] {
            assert!(is_agent_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0", &"x".repeat(257)] {
            assert!(!is_agent_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_first_name_of_a_body_wins_and_odd_ones_are_hashed() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(from_body([None, None, None]), None);
        assert_eq!(from_body([some(""), some("b"), some("c")]), some("b"));
        let json = from_body([None, None, some("{\"device\":1}")]).unwrap();
        assert!(is_agent_name(&json) && json.starts_with("h-"));
        assert_eq!(from_body([some("{\"device\":1}"), None, None]), Some(json.clone()));
        assert_ne!(from_body([some("{\"device\":2}"), None, None]), Some(json));
    }
}
