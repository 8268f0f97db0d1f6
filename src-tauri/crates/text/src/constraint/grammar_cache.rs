//! Grammars that were built before: clients send one schema with every request, and building its grammar can take as
//! long as reading their prompt.

use std::collections::VecDeque;

use llguidance::Matcher;

/// Grammars that are kept.
const MAX_GRAMMARS: usize = 32;
/// Bytes of what they were built from. What they take in memory grows with that.
const MAX_SOURCE_BYTES: usize = 512 << 10;

/// The grammars that were used last, each before its first token.
#[derive(Default)]
pub(super) struct GrammarCache {
    /// What each was built from, and it; the one that was used last is the last one.
    kept: VecDeque<(String, Matcher)>,
    n_source_bytes: usize,
}

impl GrammarCache {
    /// The grammar of this source, if it is kept: one of its own, which shares nothing with others.
    pub(super) fn get(&mut self, source: &str) -> Option<Matcher> {
        let at = self.kept.iter().position(|(other, _)| other == source)?;
        let entry = self.kept.remove(at)?;
        let matcher = entry.1.deep_clone();
        self.kept.push_back(entry);
        Some(matcher)
    }

    /// Keep a grammar that nothing has been matched with. Those that were not used for longest go.
    pub(super) fn put(&mut self, source: String, matcher: &Matcher) {
        // Another request has built it meanwhile.
        if source.len() > MAX_SOURCE_BYTES || self.kept.iter().any(|(other, _)| *other == source) {
            return;
        }
        self.n_source_bytes += source.len();
        self.kept.push_back((source, matcher.deep_clone()));
        while self.kept.len() > MAX_GRAMMARS || self.n_source_bytes > MAX_SOURCE_BYTES {
            let Some((source, _)) = self.kept.pop_front() else { return };
            self.n_source_bytes -= source.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use llguidance::ParserFactory;
    use llguidance::api::TopLevelGrammar;
    use llguidance::toktrie::ApproximateTokEnv;

    use super::*;

    fn matcher() -> Matcher {
        let factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).unwrap();
        Matcher::new(factory.create_parser(TopLevelGrammar::from_regex("abc")))
    }

    #[test]
    fn what_was_used_last_is_kept_within_both_bounds() {
        let (mut cache, matcher) = (GrammarCache::default(), matcher());
        for i in 0..MAX_GRAMMARS + 8 {
            cache.put(format!("s{i}"), &matcher);
            assert!(cache.get("s0").is_some(), "it is used again and again: {i}");
        }
        assert_eq!(cache.kept.len(), MAX_GRAMMARS);
        assert!(cache.get("s1").is_none() && cache.get(&format!("s{}", MAX_GRAMMARS + 7)).is_some());
        let large = |c: char| c.to_string().repeat(MAX_SOURCE_BYTES / 2);
        cache.put(large('a'), &matcher);
        cache.put(large('b'), &matcher);
        assert_eq!((cache.kept.len(), cache.n_source_bytes), (2, MAX_SOURCE_BYTES));
        cache.put(large('b'), &matcher);
        cache.put("x".repeat(MAX_SOURCE_BYTES + 1), &matcher);
        assert!(cache.get(&large('a')).is_some() && cache.kept.len() == 2);
        cache.put(large('c'), &matcher);
        assert!(cache.get(&large('b')).is_none() && cache.get(&large('a')).is_some());
    }

    #[test]
    fn what_is_matched_with_one_copy_is_not_seen_by_the_next() {
        let mut cache = GrammarCache::default();
        cache.put("s".to_owned(), &matcher());
        let mut first = cache.get("s").unwrap();
        first.consume_tokens(&[u32::from(b'a'), u32::from(b'b')]).unwrap();
        assert!(first.consume_token(u32::from(b'x')).is_err() && first.is_error());
        let mut second = cache.get("s").unwrap();
        assert!(!second.is_error());
        assert_eq!(second.validate_tokens(&[u32::from(b'a'), u32::from(b'b'), u32::from(b'c')]).unwrap(), 3);
    }
}
