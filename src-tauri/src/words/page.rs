//! The lists and words of this side as the page's TypeScript, which is checked in as `ui/src/lib/kinds.ts`: the page
//! goes by them, and does not compile where it lacks one.
//!
//! Our own although there are crates that write types as TypeScript: here values are written too, the words, and the
//! types follow from them.

use std::fmt::{Display, Write};
use std::fs;
use std::path::{Path, PathBuf};

use engine::{
    After, Backend, DifferenceReason, FailureKind, GpuRefusalKind, NotReadyReason, Outcome, Phase, Purpose,
    State, Tier, Trouble,
};
use server::{FaultKind, Scope};

use super::{
    Condition, FINISHING_MANY, FINISHING_NOTHING, FINISHING_ONE, LEFT, Mark, Offer, SAVING, of_backend,
    of_failure, of_gpu_refusal,
};

macro_rules! of_the_page {
    ([$($page:ident),+] [$($problem:ident),+]) => {
        &[$(stringify!($page)),+]
    };
}

const COMMANDS: &[&str] = window_commands!(of_the_page);

const HEAD: &str = "\
// What the server and the app have names for, and the words for what users see of it. Made from the lists beside the
// enums in Rust and from `src-tauri/src/words.rs` by the test `the_page_has_the_lists_and_words_of_this_side`, which
// says how to make it anew.
";

fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    let lists = [
        ("States of the engine.", "State", State::NAMES.to_vec()),
        ("Why requests are not taken.", "NotReadyReason", NotReadyReason::NAMES.to_vec()),
        ("What a drain leads to.", "After", After::NAMES.to_vec()),
        ("Why a model is not there.", "FailureKind", FailureKind::NAMES.to_vec()),
        ("What a model is for.", "Purpose", Purpose::NAMES.to_vec()),
        ("What computes a model.", "Backend", Backend::NAMES.to_vec()),
        ("Why a GPU does not serve a model.", "GpuRefusalKind", GpuRefusalKind::NAMES.to_vec()),
        ("What a request in flight is doing.", "RequestPhase", Phase::NAMES.to_vec()),
        ("Why a request ended.", "Outcome", Outcome::NAMES.to_vec()),
        ("Why not all of a prompt was in memory.", "DifferenceReason", DifferenceReason::NAMES.to_vec()),
        ("Where an agent's context is.", "Tier", Tier::NAMES.to_vec()),
        ("Why the disk takes nothing.", "Trouble", Trouble::ALL.map(Trouble::name).to_vec()),
        ("Codes of the API's errors.", "FaultCode", FaultKind::ALL.iter().map(|kind| kind.name()).collect()),
        ("What a key is for.", "Scope", Scope::NAMES.to_vec()),
        ("What users see the server do.", "Condition", Condition::NAMES.to_vec()),
        ("Shapes that tell conditions apart.", "Mark", Mark::NAMES.to_vec()),
        ("Ways out of a condition.", "Offer", Offer::NAMES.to_vec()),
        ("What the window may ask of the app.", "Command", COMMANDS.to_vec()),
    ];
    for (what, name, words) in lists {
        let words = words.into_iter().map(|word| format!("\n  | {}", quoted(word))).collect::<String>();
        say(&mut out, format_args!("\n/** {what} */\nexport type {name} ={words};\n"));
    }
    say(
        &mut out,
        "\nexport interface Words {\n  mark: Mark;\n  word: string;\n  \
         /** The last one is what most will want. */\n  offers: readonly Offer[];\n}\n",
    );
    table(&mut out, "CONDITIONS", "Condition, Words", &Condition::ALL, |condition| {
        let words = condition.words();
        let offers: Vec<String> = words.offers.iter().map(|offer| quoted(offer.name())).collect();
        let (mark, word) = (quoted(words.mark.name()), quoted(words.word));
        (condition.name(), format!("{{ mark: {mark}, word: {word}, offers: [{}] }}", offers.join(", ")))
    });
    table(&mut out, "OFFERS", "Offer, string", &Offer::ALL, |offer| (offer.name(), quoted(offer.label())));
    table(
        &mut out,
        "FAILURES",
        "FailureKind, { what: string; meaning: string }",
        &FailureKind::ALL,
        |kind| {
            let words = of_failure(*kind);
            let (what, meaning) = (quoted(words.what), quoted(words.meaning));
            (kind.name(), format!("{{ what: {what}, meaning: {meaning} }}"))
        },
    );
    table(&mut out, "BACKENDS", "Backend, string", &Backend::ALL, |backend| {
        (backend.name(), quoted(of_backend(*backend)))
    });
    table(&mut out, "GPU_REFUSALS", "GpuRefusalKind, string", &GpuRefusalKind::ALL, |kind| {
        (kind.name(), quoted(of_gpu_refusal(*kind)))
    });
    let scopes: Vec<String> = Scope::NAMES.iter().map(|scope| quoted(scope)).collect();
    say(&mut out, format_args!("\nexport const SCOPES: readonly Scope[] = [{}];\n", scopes.join(", ")));
    let commands: Vec<String> = COMMANDS.iter().map(|command| quoted(command)).collect();
    say(&mut out, format_args!("\nexport const COMMANDS: readonly Command[] = [{}];\n", commands.join(", ")));
    say(&mut out, "\n/** What a drain is doing; `{}` is the number. */\nexport const DRAIN = {\n");
    for (name, words) in [
        ("nothing", FINISHING_NOTHING),
        ("one", FINISHING_ONE),
        ("many", FINISHING_MANY),
        ("left", LEFT),
        ("saving", SAVING),
    ] {
        say(&mut out, format_args!("  {name}: {},\n", quoted(words)));
    }
    say(&mut out, "} as const;\n");
    out
}

/// One line for each value: its name, and what there is to say about it.
fn table<T>(
    out: &mut String,
    name: &str,
    types: &str,
    all: &[T],
    row: impl Fn(&T) -> (&'static str, String),
) {
    say(out, format_args!("\nexport const {name}: Readonly<Record<{types}>> = {{\n"));
    for value in all {
        let (key, words) = row(value);
        say(out, format_args!("  {key}: {words},\n"));
    }
    say(out, "};\n");
}

fn say(out: &mut String, text: impl Display) {
    write!(out, "{text}").expect("a string takes any text");
}

/// A text as TypeScript writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[test]
fn the_page_has_the_lists_and_words_of_this_side() {
    const FILE: &str = "ui/src/lib/kinds.ts";
    let made = page();
    if fs::read_to_string(in_tree(FILE)).unwrap_or_default() != made {
        let new = in_tree("target/kinds.ts");
        fs::create_dir_all(in_tree("target")).expect("the tree takes a folder");
        fs::write(&new, made).expect("the build's folder takes files");
        panic!("{FILE} is not what the lists say: run `cp target/kinds.ts {FILE}` and read the diff");
    }
}
