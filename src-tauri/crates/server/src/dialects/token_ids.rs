//! Lists of token ids, which may be as long as a body.

use std::fmt;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use text::TokenId;

/// The JSON of a list of token ids as these, in just the memory that they need.
pub(crate) fn token_ids(json: &str) -> Option<Vec<TokenId>> {
    struct Ids {
        n_at_most: usize,
    }
    impl<'de> DeserializeSeed<'de> for Ids {
        type Value = Vec<TokenId>;

        fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    impl<'de> Visitor<'de> for Ids {
        type Value = Vec<TokenId>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of token ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut ids = Vec::new();
            while let Some(id) = seq.next_element()? {
                if ids.is_empty() {
                    // A list that grew would have twice what it needs, and at times thrice.
                    ids.reserve_exact(self.n_at_most);
                }
                ids.push(id);
            }
            Ok(ids)
        }
    }
    let n_at_most = json.bytes().filter(|byte| *byte == b',').count() + 1;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let ids = Ids { n_at_most }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ids_takes_the_memory_of_its_ids() {
        assert_eq!(token_ids(" [1, 2,\n3 ] "), Some(vec![1, 2, 3]));
        assert_eq!(token_ids("[]"), Some(vec![]));
        let many = format!("[{}7]", "5,".repeat(100_000));
        let ids = token_ids(&many).unwrap();
        assert_eq!((ids.len(), ids.capacity()), (100_001, 100_001));
        for no_list in [
            "7",
            "[1,]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[\"a\"]",
            "[[1]]",
            "[null]",
            "{}",
            "[1] 2",
            "[1",
            "",
        ] {
            assert_eq!(token_ids(no_list), None, "{no_list}");
        }
    }
}
