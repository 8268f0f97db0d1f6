//! Generated answers as parts (thoughts, text, calls), found again by what each part says.
//!
//! ```text
//!  generated   [ thoughts ][glue][ text ][glue][ call ][glue][ call ][rest]     ids, and where parts begin and end
//!  sent back                     [ text ]······[ call ]······[ call ]           by a template that leaves thoughts out
//!  taken                         [ text   glue   call   glue   call   rest]     one run
//! ```
//!
//! A run is as long as parts follow each other in both, with nothing but the same glue between them; it brings the ids
//! of its glue with it. Its ends must be ends of tokens.

use std::collections::{BTreeMap, HashMap};

use scheduler::{AnswerKey, PrefixTrail, TokenId};
use text::{AnswerParts, PartDigest};

/// Answers with a part of one and the same value, beside those that follow the very tokens that are looked at.
const MAX_OF_A_VALUE: usize = 16;
/// What an answer costs beside its ids and parts, and a part beside its glue, roughly.
const OVERHEAD_BYTES: usize = 256;

/// Parts as they are sent back: what they say, and what stands between them.
#[derive(Debug, Default)]
pub(super) struct SentParts {
    pub(super) parts: Vec<SentPart>,
    pub(super) rest: String,
}

/// One of them.
#[derive(Debug)]
pub(super) struct SentPart {
    pub(super) digest: PartDigest,
    pub(super) glue: String,
}

/// An answer with its parts.
#[derive(Debug)]
struct Kept {
    key: AnswerKey,
    marks: Box<[u64]>,
    ids: Box<[TokenId]>,
    parts: Box<[KeptPart]>,
    rest: Box<str>,
    /// Its place in the order of use.
    last_used: u64,
}

#[derive(Debug)]
struct KeptPart {
    digest: PartDigest,
    glue: Box<str>,
    /// Where its ids begin and end, if tokens do there.
    start: Option<usize>,
    end: Option<usize>,
}

/// A run of parts as it was generated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) ids: Vec<TokenId>,
    /// Whether it begins with the answer, and with what stands before the first part.
    pub(super) from_start: bool,
    /// The last of the parts sent that it stands for.
    pub(super) last: usize,
    /// Whether it ends with the answer, and with what stands after the last part.
    pub(super) to_end: bool,
    /// Whether it was generated after these very tokens.
    pub(super) is_exact: bool,
}

/// Where in an answer that was sent a run may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunStart {
    /// Where the answer does.
    Answer,
    /// At this part, and nothing before it.
    Part(usize),
}

/// Remembers answers within a bound of bytes; the least recently used go first.
#[derive(Debug)]
pub(super) struct KeptParts {
    max_bytes: usize,
    n_bytes: usize,
    answers: HashMap<u64, Kept>,
    by_key: HashMap<AnswerKey, Vec<u64>>,
    /// Answers that have a part, the oldest first.
    by_digest: HashMap<PartDigest, Vec<u64>>,
    by_use: BTreeMap<u64, u64>,
    n_uses: u64,
    next_id: u64,
}

impl KeptParts {
    pub(super) fn new(max_bytes: usize) -> KeptParts {
        KeptParts {
            max_bytes,
            n_bytes: 0,
            answers: HashMap::new(),
            by_key: HashMap::new(),
            by_digest: HashMap::new(),
            by_use: BTreeMap::new(),
            n_uses: 0,
            next_id: 0,
        }
    }

    /// Whether an answer to exactly these tokens is remembered.
    pub(super) fn knows(&self, key: &AnswerKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether a run from this part on is remembered, after whatever tokens.
    pub(super) fn has_run_from(&self, part: &SentPart) -> bool {
        let answers = self.by_digest.get(&part.digest).into_iter().flatten();
        let mut kept = answers.filter_map(|id| self.answers.get(id)).flat_map(|kept| &kept.parts);
        kept.any(|kept| kept.digest == part.digest && kept.start.is_some() && kept.end.is_some())
    }

    /// Remember an answer to the tokens of `before`. The text of its ids, as a reader is shown it, has these `parts`, and
    /// tokens end at `ends` in it.
    pub(super) fn record(
        &mut self,
        before: &PrefixTrail,
        ids: &[TokenId],
        ends: &[usize],
        parts: &AnswerParts,
    ) {
        let key = before.key();
        let mut known = self.by_key.get(&key).into_iter().flatten().copied();
        let is_same = |id: &u64| self.answers.get(id).is_some_and(|kept| *kept.ids == *ids);
        if let Some(same) = known.find(is_same) {
            return self.touch(same);
        }
        let border = |at: usize| {
            let n = ends.partition_point(|&end| end <= at);
            (at == n.checked_sub(1).map_or(0, |last| ends[last])).then_some(n)
        };
        let kept_parts = parts.parts.iter().map(|part| KeptPart {
            digest: part.digest(),
            glue: part.glue.as_str().into(),
            start: border(part.span.start),
            end: border(part.span.end),
        });
        let kept = Kept {
            key,
            marks: before.marks().into(),
            ids: ids.into(),
            parts: kept_parts.collect(),
            rest: parts.rest.as_str().into(),
            last_used: 0,
        };
        let n_bytes = kept.n_bytes();
        if kept.parts.is_empty() || n_bytes > self.max_bytes {
            return;
        }
        while self.n_bytes + n_bytes > self.max_bytes {
            let Some(oldest) = self.by_use.first_key_value().map(|(_, id)| *id) else { return };
            self.remove(oldest);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.n_bytes += n_bytes;
        self.by_key.entry(key).or_default().push(id);
        for part in &kept.parts {
            let of_value = self.by_digest.entry(part.digest).or_default();
            if of_value.last() != Some(&id) {
                of_value.push(id);
            }
            if of_value.len() > MAX_OF_A_VALUE {
                of_value.remove(0);
            }
        }
        self.answers.insert(id, kept);
        self.touch(id);
    }

    /// The ids that were generated for parts as they were sent, `from` there on. Of several that one is taken whose
    /// answer has most tokens before it in common with `before`, and of those the longest.
    pub(super) fn find(&mut self, before: &PrefixTrail, sent: &SentParts, from: RunStart) -> Option<Run> {
        let first = match from {
            RunStart::Answer => 0,
            RunStart::Part(first) => first,
        };
        let part = sent.parts.get(first)?;
        let key = before.key();
        let exact = self.by_key.get(&key).filter(|_| from == RunStart::Answer);
        let of_value = self.by_digest.get(&part.digest);
        let candidates = exact.into_iter().chain(of_value).flatten().copied();
        let runs = candidates.filter_map(|id| {
            let kept = self.answers.get(&id)?;
            let mut run = kept.longest_run(sent, from, first)?;
            run.is_exact = run.from_start && kept.key == key;
            Some((
                (run.is_exact, before.n_common(&kept.marks), run.last, run.to_end, run.from_start),
                id,
                run,
            ))
        });
        let (_, id, run) = runs.max_by_key(|(rank, id, _)| (*rank, *id))?;
        self.touch(id);
        Some(run)
    }

    fn touch(&mut self, id: u64) {
        let Some(kept) = self.answers.get_mut(&id) else { return };
        self.by_use.remove(&kept.last_used);
        self.n_uses += 1;
        kept.last_used = self.n_uses;
        self.by_use.insert(self.n_uses, id);
    }

    fn remove(&mut self, id: u64) {
        let Some(kept) = self.answers.remove(&id) else { return };
        self.by_use.remove(&kept.last_used);
        self.n_bytes -= kept.n_bytes();
        forget(&mut self.by_key, &kept.key, id);
        for part in &kept.parts {
            forget(&mut self.by_digest, &part.digest, id);
        }
    }

    /// Check the bookkeeping.
    #[cfg(test)]
    fn check_integrity(&self) {
        let n_bytes: usize = self.answers.values().map(Kept::n_bytes).sum();
        assert_eq!(n_bytes, self.n_bytes);
        assert!(n_bytes <= self.max_bytes);
        assert_eq!(self.by_use.len(), self.answers.len());
        assert!(self.by_use.iter().all(|(used, id)| self.answers[id].last_used == *used));
        assert_eq!(self.by_key.values().map(Vec::len).sum::<usize>(), self.answers.len());
        let of_values = self.by_digest.values();
        assert!(of_values.clone().all(|ids| !ids.is_empty() && ids.len() <= MAX_OF_A_VALUE));
        assert!(of_values.flatten().all(|id| self.answers.contains_key(id)));
    }
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<u64>>, key: &K, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

impl Kept {
    fn n_bytes(&self) -> usize {
        let of_parts: usize =
            self.parts.iter().map(|part| size_of::<KeptPart>() + part.glue.len() + OVERHEAD_BYTES / 4).sum();
        size_of_val(&*self.marks) + size_of_val(&*self.ids) + of_parts + self.rest.len() + OVERHEAD_BYTES
    }

    /// The longest run of these parts, the first of which is `first`.
    fn longest_run(&self, sent: &SentParts, from: RunStart, first: usize) -> Option<Run> {
        let starts = (0..self.parts.len()).filter(|&at| self.parts[at].digest == sent.parts[first].digest);
        starts.filter_map(|at| self.run(sent, from, first, at)).max_by_key(|run| (run.last, run.to_end))
    }

    fn run(&self, sent: &SentParts, from: RunStart, first: usize, at: usize) -> Option<Run> {
        let from_start =
            from == RunStart::Answer && at == 0 && *self.parts[at].glue == *sent.parts[first].glue;
        let start = if from_start { 0 } else { self.parts[at].start? };
        let pairs = self.parts[at..].iter().zip(&sent.parts[first..]);
        let n_equal = pairs
            .enumerate()
            .take_while(|(n, (kept, sent))| {
                kept.digest == sent.digest && (*n == 0 || *kept.glue == *sent.glue)
            })
            .count();
        let is_whole = at + n_equal == self.parts.len() && first + n_equal == sent.parts.len();
        if is_whole && *self.rest == *sent.rest {
            let ids = self.ids[start..].to_vec();
            return (!ids.is_empty()).then_some(Run {
                ids,
                from_start,
                last: first + n_equal - 1,
                to_end: true,
                is_exact: false,
            });
        }
        let mut ends = (0..n_equal).rev().filter_map(|n| Some((n, self.parts[at + n].end?)));
        let (n, end) = ends.find(|(_, end)| *end > start)?;
        let ids = self.ids[start..end].to_vec();
        Some(Run { ids, from_start, last: first + n, to_end: false, is_exact: false })
    }
}

#[cfg(test)]
mod tests {
    use text::{AnswerPart, PartValue};

    use super::*;

    const SALT: [u8; 32] = [5; 32];

    /// Parts of text, one after the other, each followed by a byte of glue: `a.b.c` without the dots as glue text.
    fn parts(texts: &[&str]) -> (AnswerParts, Vec<TokenId>, Vec<usize>) {
        let mut at = 0;
        let parts = texts.iter().map(|text| {
            let span = at..at + text.len();
            at = span.end + 1;
            AnswerPart {
                value: PartValue::Text((*text).to_owned()),
                span,
                glue: String::new(),
                is_begun: false,
            }
        });
        let parts = AnswerParts { parts: parts.collect(), rest: String::new() };
        let ids = (0..at as TokenId).collect();
        (parts, ids, (1..=at).collect())
    }

    fn sent(texts: &[&str]) -> SentParts {
        let (parts, ..) = parts(texts);
        let parts =
            parts.parts.iter().map(|part| SentPart { digest: part.digest(), glue: part.glue.clone() });
        SentParts { parts: parts.collect(), rest: String::new() }
    }

    fn before(tokens: &[TokenId]) -> PrefixTrail {
        PrefixTrail::of(SALT, tokens)
    }

    fn record(kept: &mut KeptParts, tokens: &[TokenId], texts: &[&str], first_id: TokenId) {
        let (parts, ids, ends) = parts(texts);
        let ids: Vec<TokenId> = ids.iter().map(|id| id + first_id).collect();
        kept.record(&before(tokens), &ids, &ends, &parts);
        kept.check_integrity();
    }

    fn ids(run: Option<Run>) -> Vec<TokenId> {
        run.map_or_else(Vec::new, |run| run.ids)
    }

    #[test]
    fn a_run_brings_the_glue_between_its_parts_and_at_the_answers_ends() {
        let mut kept = KeptParts::new(1 << 20);
        record(&mut kept, &[1], &["aa", "b", "ccc"], 100);
        let whole = kept.find(&before(&[1]), &sent(&["aa", "b", "ccc"]), RunStart::Answer).unwrap();
        assert_eq!(whole.ids, (100..109).collect::<Vec<_>>());
        assert!(whole.from_start && whole.to_end && whole.last == 2);
        // What the template leaves out is left out.
        let run = kept.find(&before(&[9]), &sent(&["b", "ccc"]), RunStart::Answer).unwrap();
        assert_eq!((run.ids, run.from_start, run.to_end), ((103..109).collect(), false, true));
        // A part that is another one ends the run, with the part's own last token.
        let run = kept.find(&before(&[1]), &sent(&["aa", "b", "ccd"]), RunStart::Answer).unwrap();
        assert_eq!((run.ids, run.last, run.to_end), ((100..104).collect(), 1, false));
        assert_eq!(
            ids(kept.find(&before(&[1]), &sent(&["aa", "x", "ccc"]), RunStart::Part(2))),
            [105, 106, 107, 108]
        );
        assert_eq!(kept.find(&before(&[1]), &sent(&["x"]), RunStart::Answer), None);
    }

    #[test]
    fn another_glue_ends_a_run() {
        let mut kept = KeptParts::new(1 << 20);
        record(&mut kept, &[1], &["aa", "b"], 100);
        let mut other = sent(&["aa", "b"]);
        other.parts[1].glue = "]".to_owned();
        let run = kept.find(&before(&[1]), &other, RunStart::Answer).unwrap();
        assert_eq!((run.ids, run.to_end), (vec![100, 101], false));
        let mut other = sent(&["aa", "b"]);
        other.rest = "]".to_owned();
        assert_eq!(ids(kept.find(&before(&[1]), &other, RunStart::Answer)), [100, 101, 102, 103]);
        let mut other = sent(&["aa", "b"]);
        other.parts[0].glue = "[".to_owned();
        let run = kept.find(&before(&[1]), &other, RunStart::Answer).unwrap();
        assert!(!run.from_start && run.to_end);
    }

    #[test]
    fn a_part_whose_ids_do_not_end_at_its_own_border_is_not_taken_alone() {
        let mut kept = KeptParts::new(1 << 20);
        let (parts, ..) = parts(&["aa", "b"]);
        // The glue is in one token with the text before it, and the text after it.
        kept.record(&before(&[1]), &[7, 8], &[1, 5], &parts);
        assert_eq!(kept.find(&before(&[1]), &sent(&["aa"]), RunStart::Answer), None);
        assert!(!kept.has_run_from(&sent(&["b"]).parts[0]));
        assert_eq!(kept.find(&before(&[1]), &sent(&["b"]), RunStart::Answer), None);
        assert_eq!(ids(kept.find(&before(&[1]), &sent(&["aa", "b"]), RunStart::Answer)), [7, 8]);
    }

    #[test]
    fn of_several_answers_the_one_with_most_before_it_in_common_is_taken() {
        let prompt: Vec<TokenId> = (0..400).collect();
        let mut other = prompt.clone();
        other[200] = 999;
        let mut kept = KeptParts::new(1 << 20);
        record(&mut kept, &prompt, &["a"], 100);
        record(&mut kept, &other, &["a"], 200);
        record(&mut kept, &[5], &["a"], 300);
        let mut first =
            |tokens: &[TokenId]| ids(kept.find(&before(tokens), &sent(&["a"]), RunStart::Answer))[0];
        assert_eq!(first(&prompt), 100);
        assert_eq!(first(&other), 200);
        assert_eq!(first(&[5]), 300);
        assert_eq!(first(&prompt[..390]), 100);
        assert_eq!(first(&[&other[..], &[1, 2, 3]].concat()), 200);
    }

    #[test]
    fn an_answer_to_the_very_same_tokens_is_found_among_any_number_of_equal_ones() {
        let mut kept = KeptParts::new(1 << 20);
        for n in 0..100 {
            record(&mut kept, &[n], &["done"], 1000 * n);
        }
        for n in 0..100 {
            assert_eq!(ids(kept.find(&before(&[n]), &sent(&["done"]), RunStart::Answer))[0], 1000 * n);
        }
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let mut kept = KeptParts::new(8000);
        record(&mut kept, &[0], &["used"], 0);
        for n in 1..500 {
            let text = format!("answer {n}");
            record(&mut kept, &[n], &[&text, "the same"], 10 * n);
            assert!(kept.find(&before(&[0]), &sent(&["used"]), RunStart::Answer).is_some(), "{n}");
            kept.check_integrity();
        }
        assert!(kept.n_bytes > 6000);
        assert_eq!(kept.find(&before(&[1]), &sent(&["answer 1"]), RunStart::Answer), None);
        let (parts, ..) = parts(&["x"]);
        kept.record(&before(&[7777]), &[1; 9000], &[1; 9000], &parts);
        kept.check_integrity();
        assert!(!kept.knows(&before(&[7777]).key()));
    }
}
