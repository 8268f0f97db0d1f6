//! Generated ids come back where their text does: sampled splits, stop strings, trimming templates.

use std::convert::Infallible;
use std::ops::Range;

use fastrand::Rng;

use super::sim::{checked, layout};
use crate::{
    AnswerIndex, AnswerToken, NewSequence, PrefixTrail, PromptLogits, Scheduler, SchedulerConfig, SeqId,
    Splice, SpliceStart, SplicedPrompt, StatePoints, TokenId, splice_prompt,
};

/// Every string of one to three of these characters is a token: text has many spellings.
const ALPHABET: [char; 8] = ['a', 'b', 'c', ' ', '\n', 'é', '<', '>'];
const BOS: TokenId = 100_000;

fn token(piece: &str) -> TokenId {
    let digit = |c| ALPHABET.iter().position(|&other| other == c).unwrap() as TokenId + 1;
    piece.chars().fold(0, |id, c| id * 9 + digit(c))
}

fn piece(token: TokenId) -> String {
    if token == BOS {
        return String::new();
    }
    let digits = [token / 81, token / 9 % 9, token % 9];
    digits.iter().filter(|&&d| d > 0).map(|&d| ALPHABET[d as usize - 1]).collect()
}

fn spell(tokens: &[TokenId]) -> String {
    tokens.iter().map(|&t| piece(t)).collect()
}

/// The canonical tokens: three characters at a time, as far as they go.
fn encode(text: &str, is_start: bool) -> Vec<TokenId> {
    let chars: Vec<char> = text.chars().collect();
    let pieces = chars.chunks(3).map(|chunk| token(&chunk.iter().collect::<String>()));
    is_start.then_some(BOS).into_iter().chain(pieces).collect()
}

/// Tokens of `text` as a model at temperature 1 might spell it.
fn sampled(text: &str, rng: &mut Rng) -> Vec<TokenId> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut start = 0;
    while start < chars.len() {
        let end = (start + 1 + rng.usize(..3)).min(chars.len());
        tokens.push(token(&chars[start..end].iter().collect::<String>()));
        start = end;
    }
    tokens
}

fn answer(tokens: &[TokenId]) -> Vec<AnswerToken> {
    tokens.iter().map(|&id| AnswerToken { id, bytes: piece(id).into_bytes() }).collect()
}

/// A template: each message between `<` and `>`, trimmed if asked; also where answers start.
fn render(turns: &[(String, String)], question: &str, trim: fn(&str) -> &str) -> (String, Vec<usize>) {
    let (mut text, mut starts) = (String::new(), Vec::new());
    for (user, assistant) in turns {
        text += &format!("<{user}><");
        starts.push(text.len());
        text += &format!("{}>", trim(assistant));
    }
    text += &format!("<{question}><");
    (text, starts)
}

fn keep(text: &str) -> &str {
    text
}

const SALT: [u8; 32] = [3; 32];

fn index() -> AnswerIndex {
    AnswerIndex::new(SALT, 1 << 20)
}

fn splice(index: &mut AnswerIndex, text: &str, starts: &[usize]) -> SplicedPrompt {
    let encode = &mut |piece: Range<usize>, n_before| Ok(encode(&text[piece], n_before == 0));
    let find = &mut |before: &PrefixTrail, at| index.splice(&before.key(), &text.as_bytes()[at..]);
    spliced(splice_prompt(SALT, text, &answer_starts(starts), encode, find))
}

fn answer_starts(starts: &[usize]) -> Vec<SpliceStart> {
    starts.iter().map(|&at| SpliceStart::Answer(at)).collect()
}

/// What came of an encoder that never fails.
fn spliced(result: Result<SplicedPrompt, Infallible>) -> SplicedPrompt {
    let Ok(prompt) = result;
    prompt
}

#[test]
fn an_answer_that_was_sampled_oddly_is_put_back_as_it_was_generated() {
    let mut index = index();
    let prompt = encode("<abc><", true);
    let generated: Vec<TokenId> = ["a", "ab", "c", "c b"].map(token).to_vec();
    index.record(&prompt, &answer(&generated));
    let (text, starts) = render(&[("abc".into(), "aabcc b".into())], "b", keep);
    let spliced = splice(&mut index, &text, &starts);
    assert_eq!(spliced.tokens, [prompt, generated.clone(), encode("><b><", false)].concat());
    assert_eq!((spliced.n_spliced, spliced.answer_positions), (4, vec![3]));
    assert_ne!(encode("aabcc b", false), generated, "else the test shows nothing");
}

#[test]
fn a_token_that_a_stop_string_cut_is_spelt_anew() {
    let mut index = index();
    let prompt = encode("<a><", true);
    // The stop string is "\n<": the client saw "ab c" only, which ends within the third token.
    index.record(&prompt, &answer(&["a", "b ", "c\n<"].map(token)));
    let (text, starts) = render(&[("a".into(), "ab c".into())], "b", keep);
    let spliced = splice(&mut index, &text, &starts);
    assert_eq!(spliced.tokens, [prompt, vec![token("a"), token("b ")], encode("c><b><", false)].concat());
    assert_eq!(spliced.n_spliced, 2);
}

#[test]
fn a_template_that_trims_keeps_what_it_leaves_of_the_end_but_cannot_shift_the_start() {
    let mut index = index();
    let prompt = encode("<a><", true);
    index.record(&prompt, &answer(&["ab", "c ", "\n"].map(token)));
    let (text, starts) = render(&[("a".into(), "abc \n".into())], "b", str::trim);
    let spliced = splice(&mut index, &text, &starts);
    assert_eq!(spliced.n_spliced, 1);
    assert_eq!(spell(&spliced.tokens), text);

    index.record(&prompt, &answer(&[" a", "b"].map(token)));
    let (text, starts) = render(&[("a".into(), " cb".into())], "b", str::trim);
    let spliced = splice(&mut index, &text, &starts);
    assert_eq!(spliced.n_spliced, 0);
    assert_eq!(spell(&spliced.tokens), text);
}

#[test]
fn an_answer_that_was_gone_on_with_is_put_back_in_its_parts() {
    let mut index = index();
    let prompt = encode("<a><", true);
    let [first, second] = [["a", "b"], ["c", "a"]].map(|pieces| pieces.map(token));
    index.record(&prompt, &answer(&first));
    index.record(&[&prompt[..], &first].concat(), &answer(&second));
    let (text, starts) = render(&[("a".into(), "abca".into())], "b", keep);
    let spliced = splice(&mut index, &text, &starts);
    assert_eq!(spliced.tokens, [&prompt[..], &first, &second, &encode("><b><", false)].concat());
    assert_eq!(spliced.n_spliced, 4);
}

#[test]
fn an_edited_answer_is_kept_up_to_the_edit() {
    let mut index = index();
    let prompt = encode("<a><", true);
    index.record(&prompt, &answer(&["ab", "ca", "b", "aaa"].map(token)));
    let splice = index.splice(&index.key(&prompt), b"abcacc>").unwrap();
    assert_eq!((splice.tokens, splice.n_bytes), (vec![token("ab"), token("ca")], 4));
}

#[test]
fn another_prompt_another_model_or_another_text_gets_nothing() {
    let mut index = index();
    let prompt = encode("<a><", true);
    index.record(&prompt, &answer(&[token("abc")]));
    let key = index.key(&prompt);
    assert_eq!(index.splice(&key, b"ab"), None);
    assert_eq!(index.splice(&key, b""), None);
    let other = index.key(&encode("<b><", true));
    assert_eq!(index.splice(&other, b"abc"), None);
    assert_ne!(AnswerIndex::new([4; 32], 1000).key(&prompt), key);
}

#[test]
fn a_splice_never_ends_within_a_character() {
    let mut index = index();
    let [first, second] = [0, 1].map(|i| AnswerToken { id: 7 + i as u32, bytes: vec!["é".as_bytes()[i]] });
    index.record(&[1], &[AnswerToken { id: 6, bytes: b"x".to_vec() }, first.clone(), second.clone()]);
    let key = index.key(&[1]);
    assert_eq!(index.splice(&key, "xé!".as_bytes()).unwrap().tokens, [6, 7, 8]);
    // "è" shares its first byte with "é".
    assert_eq!(index.splice(&key, "xè!".as_bytes()).unwrap().tokens, [6]);
    let encode = &mut |piece: Range<usize>, _| Ok(vec![piece.len() as u32]);
    let find = &mut |before: &PrefixTrail, at| index.splice(&before.key(), &"xèxé".as_bytes()[at..]);
    let prompt = splice_prompt(SALT, "xèxé", &answer_starts(&[1, 2]), encode, find);
    assert_eq!(spliced(prompt).tokens, [1, 5], "2 is within è");
}

#[test]
fn what_starts_within_an_answer_is_put_in_place_and_what_lies_in_that_is_passed_over() {
    let mut asked = Vec::new();
    let starts = [
        SpliceStart::Answer(2),
        SpliceStart::Within(4),
        SpliceStart::Within(6),
        SpliceStart::Answer(7),
        SpliceStart::Within(8),
    ];
    let prompt = splice_prompt(
        SALT,
        "abcabcabc",
        &starts,
        &mut |piece, _| Ok(vec![1; piece.len()]),
        &mut |before, at| {
            asked.push((before.key(), at));
            (at == 4).then(|| Splice { tokens: vec![7, 8], n_bytes: 3 })
        },
    );
    let prompt = spliced(prompt);
    assert_eq!(prompt.tokens, [1, 1, 1, 1, 7, 8, 1, 1]);
    assert_eq!((prompt.spliced.len(), &prompt.spliced[0], prompt.answer_positions), (1, &(4..6), vec![2, 6]));
    let key = |tokens: &[TokenId]| PrefixTrail::of(SALT, tokens).key();
    let want = [
        (key(&[1, 1]), 2),
        (key(&[1, 1, 1, 1]), 4),
        // Once after what was put in place, and once more because an answer starts there.
        (key(&[1, 1, 1, 1, 7, 8]), 7),
        (key(&[1, 1, 1, 1, 7, 8]), 7),
        (key(&[1, 1, 1, 1, 7, 8, 1]), 8),
    ];
    assert_eq!(asked, want);
}

#[test]
fn an_encoder_that_gives_up_ends_the_work_and_its_reason_is_told() {
    let mut n_asked = 0;
    let result = splice_prompt(
        SALT,
        "abcabcabc",
        &answer_starts(&[2, 4, 6]),
        &mut |piece, n_before| {
            n_asked += 1;
            if n_before >= 4 { Err("enough") } else { Ok(vec![0; piece.len()]) }
        },
        &mut |_, _| None,
    );
    assert_eq!((result, n_asked), (Err("enough"), 3));
}

#[test]
fn of_several_answers_the_one_that_covers_most_wins() {
    let mut index = index();
    for pieces in [["a", "b"], ["a", "bc"], ["ab", "cc"]] {
        index.record(&[1], &answer(&pieces.map(token)));
    }
    let key = index.key(&[1]);
    assert_eq!(index.splice(&key, b"abcb").unwrap().tokens, ["a", "bc"].map(token));
    assert_eq!(index.splice(&key, b"abcc").unwrap().tokens, ["ab", "cc"].map(token));
}

#[test]
fn any_conversation_keeps_its_earlier_prompts_and_answers_as_a_prefix() {
    let mut rng = Rng::with_seed(11);
    let words =
        |rng: &mut Rng, n| -> String { (0..1 + rng.usize(..n)).map(|_| ALPHABET[rng.usize(..6)]).collect() };
    for round in 0..300 {
        let mut index = index();
        let trim: fn(&str) -> &str = if round % 2 == 0 { keep } else { str::trim_end };
        let mut turns: Vec<(String, String)> = Vec::new();
        let mut earlier: Vec<TokenId> = Vec::new();
        for _ in 0..5 {
            let question = words(&mut rng, 12);
            let (text, starts) = render(&turns, &question, trim);
            let spliced = splice(&mut index, &text, &starts);
            assert_eq!(spell(&spliced.tokens), text, "what is put in place spells what was sent");
            assert!(spliced.tokens.starts_with(&earlier), "the last turn is a prefix of this one");
            let text = words(&mut rng, 20);
            let generated = sampled(&text, &mut rng);
            index.record(&spliced.tokens, &answer(&generated));
            // What the template trims away is not there to be reused.
            let n_kept = trim(&text).len();
            let mut n_bytes = 0;
            let is_kept = |id: &&TokenId| {
                n_bytes += piece(**id).len();
                n_bytes <= n_kept
            };
            earlier = spliced.tokens;
            earlier.extend(generated.iter().take_while(is_kept));
            turns.push((question, text));
        }
    }
}

#[test]
fn the_next_turn_of_a_sampled_answer_computes_only_what_is_new() {
    let mut scheduler = Scheduler::new(&layout(8, &[None]), 64, SchedulerConfig::new(1000, [3; 32]));
    let mut index = index();
    let prompt = encode("<abc abc abc><", true);
    let generated: Vec<TokenId> = ["b", "b", "ca", "\n", "b"].map(token).to_vec();
    let new = |id, prompt: &[TokenId]| NewSequence {
        id: SeqId(id),
        agent: None,
        prompt: checked(prompt.to_vec()),
        max_new_tokens: generated.len(),
        kept_windows: Vec::new(),
        state_points: StatePoints::default(),
        answer_ends: Vec::new(),
        prompt_logits: PromptLogits::Last,
        former: None,
    };
    scheduler.submit(new(1, &prompt)).unwrap();
    for &next in &generated {
        let plan = scheduler.plan(&|keys| vec![false; keys.len()]);
        scheduler.commit(&plan.step, &[(SeqId(1), next)]);
    }
    scheduler.finish(SeqId(1));
    index.record(&prompt, &answer(&generated));

    let (text, starts) = render(&[("abc abc abc".into(), "bbca\nb".into())], "c", keep);
    let spliced = splice(&mut index, &text, &starts);
    scheduler.submit(new(2, &spliced.tokens)).unwrap();
    let admitted = scheduler.plan(&|keys| vec![false; keys.len()]).admitted[0];
    // The last generated token was sampled and never computed.
    assert_eq!(admitted.n_reused, prompt.len() + generated.len() - 1);
    assert_eq!(admitted.n_to_compute, 1 + encode("><c><", false).len());
}

#[test]
fn offsets_that_make_no_sense_are_passed_over() {
    let mut index = index();
    index.record(&encode("é<", true), &answer(&[token("abc")]));
    let spliced = splice(&mut index, "é<abcé", &[1, 3, 0, 4, 99, 7]);
    assert_eq!((spliced.n_spliced, spell(&spliced.tokens)), (1, "é<abcé".to_owned()));
    index.record(&[BOS], &answer(&[token("abc")]));
    assert_eq!(splice(&mut index, "abcé", &[0]).tokens, [BOS, token("abc"), token("é")]);
    let empty = splice(&mut index, "", &[0, 1]);
    assert_eq!((empty.tokens, empty.n_spliced), (vec![BOS], 0));
}

#[test]
fn the_bound_holds_over_random_answers_and_the_least_recently_used_go() {
    let mut rng = Rng::with_seed(5);
    let mut index = AnswerIndex::new([0; 32], 4000);
    for n in 0..3000 {
        let before = [rng.usize(..12) as TokenId];
        if rng.usize(..3) == 0 {
            let key = index.key(&before);
            index.splice(&key, b"abcabc");
        } else {
            let text: String = (0..rng.usize(..60)).map(|_| ALPHABET[rng.usize(..3)]).collect();
            index.record(&before, &answer(&sampled(&text, &mut rng)));
        }
        index.check_integrity().unwrap();
        if n % 100 == 0 {
            index.record(&[77], &answer(&[token("abc"), token("bca")]));
        }
        let kept = index.key(&[77]);
        assert!(index.splice(&kept, b"abcbca").is_some(), "what is used stays");
    }
    let huge = answer(&vec![token("abc"); 1000]);
    index.record(&[1], &huge);
    index.check_integrity().unwrap();
    assert!(index.n_bytes() > 2000);
}
